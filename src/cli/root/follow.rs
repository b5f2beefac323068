//! Watches a rotation to its end, through lost connections and replicas that restart.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::chance;
use crate::cli::console::Console;
use crate::cli::reach::Heard;
use crate::cli::reach::Reach;
use crate::cli::reach::ReachError;
use crate::cli::root::bars::Bars;
use crate::cli::root::force::Force;
use crate::cli::root::force::Forced;
use crate::cli::root::progress::Ended;
use crate::cli::root::progress::Watching;
use crate::clock::Stopwatch;
use crate::config::Output;
use crate::rotation::report::Report;

/// How soon a lost connection is tried again at first, and at last.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LAST_WAIT: Duration = Duration::from_secs(5);

/// How often the time that passes is shown.
const TICK: Duration = Duration::from_millis(250);

/// How the watching ends.
#[derive(Debug)]
pub(super) enum Followed {
    /// There is nothing left to watch.
    Ended(Ended),
    /// The time is up.
    TimedOut,
    /// The operator does not watch any longer.
    Interrupted,
    /// The operator does not go on without evidence.
    Declined,
    /// The CA tells nothing, and will not.
    Failed(ReachError),
}

/// What comes from the CA.
enum News {
    Heard(Box<Heard>),
    Lost(ReachError),
    Failed(ReachError),
}

/// Ctrl-C.
pub(super) type Interrupt<'a> = Pin<&'a mut (dyn Future<Output = ()> + Send)>;

/// Watches until `watching` has seen its end, for no longer than `timeout`; if `force` is given, goes on without those that have
/// had their time. `first` is what was heard already.
pub(super) async fn follow(
    reach: &mut Reach,
    console: &mut Console,
    watching: &mut Watching,
    first: Option<Heard>,
    timeout: Option<Duration>,
    mut force: Option<Force>,
    mut interrupt: Interrupt<'_>,
) -> Followed {
    let since = Stopwatch::start();
    let mut show = Show { bars: console.is_live.then(Bars::new), last: None, console };
    let (tell, mut news) = mpsc::channel(16);
    // It ends when nobody listens any more.
    let _listening = AbortOnDropHandle::new(tokio::spawn(listen(reach.clone(), tell)));
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut is_lost = false;
    if let Some(first) = first {
        show.heard(watching, &first, since.elapsed());
    }
    loop {
        if let Some(ended) = watching.ended() {
            return Followed::Ended(ended.clone());
        }
        if timeout.is_some_and(|timeout| since.elapsed() >= timeout) {
            return Followed::TimedOut;
        }
        let came = tokio::select! {
            biased;
            () = &mut interrupt => return Followed::Interrupted,
            came = news.recv() => came,
            _ = ticks.tick() => {
                let at = since.elapsed();
                show.passed(watching, at);
                let Some(force) = force.as_mut().filter(|_| !is_lost) else { continue };
                let Some(report) = watching.may_be_forced(at).and(watching.latest()).cloned() else { continue };
                show.pause();
                let forced = tokio::select! {
                    () = &mut interrupt => return Followed::Interrupted,
                    forced = force.go_on_without(reach, show.console, &report) => forced,
                };
                match forced {
                    Forced::Done(heard) => {
                        watching.forced(None);
                        show.heard(watching, &heard, since.elapsed());
                    }
                    Forced::Declined => return Followed::Declined,
                    Forced::NotYet => watching.forced(Some(since.elapsed())),
                }
                continue;
            }
        };
        match came {
            Some(News::Heard(heard)) => {
                if std::mem::take(&mut is_lost) {
                    show.remark("the CA answers again\n");
                }
                reach.learn(&heard.report);
                show.heard(watching, &heard, since.elapsed());
            }
            Some(News::Lost(why)) => {
                reach.hang_up();
                if !std::mem::replace(&mut is_lost, true) {
                    show.remark(&format!(
                        "the CA is out of sight ({why}); what is under way goes on there, and is watched again as soon as it answers\n"
                    ));
                }
            }
            Some(News::Failed(why)) => return Followed::Failed(why),
            None => return Followed::Failed(ReachError::Lost("the watching has ended".to_owned())),
        }
    }
}

/// Hears reports for as long as somebody wants them, over as many connections as it takes.
async fn listen(mut reach: Reach, tell: mpsc::Sender<News>) {
    let mut wait = FIRST_WAIT;
    loop {
        let lost = match reach.watch().await {
            Ok(mut reports) => loop {
                match reach.next(&mut reports).await {
                    Ok(Some(heard)) => {
                        wait = FIRST_WAIT;
                        if tell.send(News::Heard(Box::new(heard))).await.is_err() {
                            return;
                        }
                    }
                    Ok(None) => break ReachError::Lost("it has ended the stream".to_owned()),
                    Err(error) => break error,
                }
            },
            Err(error) => error,
        };
        reach.hang_up();
        let news = match lost.may_pass() {
            true => News::Lost(lost),
            false => News::Failed(lost),
        };
        let is_over = matches!(news, News::Failed(_));
        if tell.send(news).await.is_err() || is_over {
            return;
        }
        tokio::time::sleep(wait.mul_f64(0.5 + chance::draw())).await;
        wait = (wait * 2).min(LAST_WAIT);
    }
}

/// What the operator sees: bars, lines, or documents.
struct Show<'a> {
    bars: Option<Bars>,
    /// The last document, without what only time changes.
    last: Option<Report>,
    console: &'a mut Console,
}

impl Show<'_> {
    fn heard(&mut self, watching: &mut Watching, heard: &Heard, at: Duration) {
        let lines = watching.hear(&heard.report, at);
        match self.console.output {
            Output::Text => self.lines(&lines),
            Output::Json => {
                let news = Some(without_time(&heard.report));
                if news != self.last {
                    self.console.result(&format!("{}\n", heard.json.trim_end()));
                    self.last = news;
                }
            }
        }
        self.draw(watching, at);
    }

    fn passed(&mut self, watching: &mut Watching, at: Duration) {
        let lines = watching.tick(at);
        if self.console.output == Output::Text {
            self.lines(&lines);
        }
        self.draw(watching, at);
    }

    /// Beside bars, only what they do not show.
    fn lines(&mut self, lines: &[String]) {
        let is_live = self.bars.is_some();
        for line in lines.iter().filter(|line| !is_live || !is_in_bars(line)) {
            self.aside(|console| console.result(&format!("{line}\n")));
        }
    }

    fn remark(&mut self, text: &str) {
        self.aside(|console| console.remark(text));
    }

    fn aside(&mut self, print: impl FnOnce(&mut Console)) {
        match &self.bars {
            Some(bars) => bars.aside(|| print(self.console)),
            None => print(self.console),
        }
    }

    fn draw(&mut self, watching: &Watching, at: Duration) {
        if let Some(bars) = &mut self.bars {
            bars.show(&watching.picture(at));
        }
    }

    fn pause(&mut self) {
        if let Some(bars) = &mut self.bars {
            bars.clear();
        }
    }
}

/// A report without what changes by itself as time passes.
fn without_time(report: &Report) -> Report {
    let mut still = Report { at: String::new(), ..report.clone() };
    if let Some(rotation) = &mut still.rotation {
        rotation.estimate = None;
        rotation.phases.iter_mut().filter(|one| one.state == "now").for_each(|one| one.took_s = None);
    }
    still
}

/// Whether a line tells of a phase, as the bars do.
fn is_in_bars(line: &str) -> bool {
    ["distribute  ", "reissue     ", "withdraw    "].iter().any(|phase| line.starts_with(phase))
}
