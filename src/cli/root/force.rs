//! Goes on without evidence: says first who will be cut off, and asks.

use crate::cli::console::Console;
use crate::cli::reach::Heard;
use crate::cli::reach::Reach;
use crate::cli::root::breakage;
use crate::proto::admin::New;
use crate::proto::admin::Nothing;
use crate::proto::admin::Step;
use crate::proto::admin::step::What;
use crate::rotation::report::Report;

/// An operator's will to go on without evidence.
#[derive(Debug)]
pub(super) struct Force {
    /// Whether it is not asked any more.
    pub(super) yes: bool,
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Forced {
    /// The step is taken.
    Done(Box<Heard>),
    /// The operator would not.
    Declined,
    /// The CA would not now.
    NotYet,
}

impl Force {
    /// Ends the phase that `report` stands at.
    pub(super) async fn go_on_without(
        &mut self,
        reach: &mut Reach,
        console: &mut Console,
        report: &Report,
    ) -> Forced {
        let Some(rotation) = &report.rotation else { return Forced::NotYet };
        console.tell(&breakage::of_phase(rotation, &report.at));
        if !self.yes && !console.agrees(&breakage::question(rotation)).await {
            return Forced::Declined;
        }
        match reach.act(forced(&rotation.phase, &console.operator)).await {
            Ok(heard) => Forced::Done(Box::new(heard)),
            Err(error) => {
                console.remark(&format!("not forced: {error}\n"));
                Forced::NotYet
            }
        }
    }
}

/// The step that ends `phase` without evidence. It is named where it has a name: if somebody was faster and it stands at the
/// next phase by now, nothing is forced that was not shown.
fn forced(phase: &str, by: &str) -> Step {
    let what = match phase {
        "distribute" => What::Activate(Nothing {}),
        "reissue" => What::Retire(Nothing {}),
        _ => What::Rotate(New::default()),
    };
    Step { by: by.to_owned(), force: true, what: Some(what) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forced_step_names_the_phase_that_was_shown() {
        assert!(matches!(forced("distribute", "a").what, Some(What::Activate(_))));
        assert!(matches!(forced("reissue", "a").what, Some(What::Retire(_))));
        assert!(matches!(forced("withdraw", "a"), Step { force: true, what: Some(What::Rotate(_)), .. }));
    }
}
