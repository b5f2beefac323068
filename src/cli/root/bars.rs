//! What moves on a terminal while a rotation goes on.

use indicatif::MultiProgress;
use indicatif::ProgressBar;
use indicatif::ProgressDrawTarget;
use indicatif::ProgressStyle;

use crate::cli::root::progress::Picture;

/// Bars, and lines below them. They go away when they are dropped.
#[derive(Debug)]
pub(super) struct Bars {
    screen: MultiProgress,
    phases: Vec<ProgressBar>,
    below: Vec<ProgressBar>,
    shown: Picture,
}

impl Bars {
    /// Nothing is shown yet.
    pub(super) fn new() -> Self {
        let screen = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        Self { screen, phases: Vec::new(), below: Vec::new(), shown: Picture::default() }
    }

    /// Shows that.
    pub(super) fn show(&mut self, picture: &Picture) {
        if self.shown == *picture {
            return;
        }
        self.shown = picture.clone();
        for (at, bar) in picture.bars.iter().enumerate() {
            if self.phases.len() <= at {
                let new = ProgressBar::no_length().with_style(style("{prefix:<12}[{bar:30}] {msg}"));
                self.phases.push(self.screen.insert(at, new));
            }
            if let Some(shown) = self.phases.get(at) {
                shown.set_prefix(bar.name.clone());
                shown.set_length(bar.total);
                shown.set_position(bar.done);
                shown.set_message(bar.said.clone());
            }
        }
        while self.below.len() > picture.below.len() {
            if let Some(surplus) = self.below.pop() {
                surplus.finish_and_clear();
                self.screen.remove(&surplus);
            }
        }
        for (at, line) in picture.below.iter().enumerate() {
            if self.below.len() <= at {
                let new = ProgressBar::no_length().with_style(style("{msg}"));
                self.below.push(self.screen.add(new));
            }
            if let Some(shown) = self.below.get(at) {
                shown.set_message(line.clone());
            }
        }
    }

    /// Runs `print` with nothing in its way; what was shown is shown again at the next [`Bars::show`].
    pub(super) fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        self.screen.suspend(print)
    }

    /// Takes everything away.
    pub(super) fn clear(&mut self) {
        for one in self.phases.drain(..).chain(self.below.drain(..)) {
            one.finish_and_clear();
        }
        self.shown = Picture::default();
        let _ = self.screen.clear();
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ")
}
