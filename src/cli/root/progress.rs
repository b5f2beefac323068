//! Pure: what does somebody who watches a rotation have to be told, what is shown meanwhile, and is it over?

use std::time::Duration;

use crate::cli::root::status::next_by_hand;
use crate::cli::words;
use crate::rotation::report::Past;
use crate::rotation::report::Phase;
use crate::rotation::report::Report;
use crate::rotation::report::Rotation;

/// How often the same phase is told anew: thousands of readers answer within a moment.
const PACE: Duration = Duration::from_secs(1);

/// How long readers have to answer before anything goes on without them: that long an agent waits for its proxies, and then
/// says which one has not answered.
const GRACE: Duration = Duration::from_secs(16);

/// How many of those who are waited for are shown below the bars.
const SHOWN: usize = 3;

/// What is watched for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// The end of the rotation.
    End,
    /// Enough evidence to end this phase.
    Evidence(&'static str),
}

/// Why there is nothing left to watch.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Ended {
    /// The rotation is over, as it was ordered.
    Done(Past),
    /// It is over, but not as it was ordered.
    Otherwise(Past),
    /// It is neither under way nor the last one; more is not known.
    Untold,
    /// Nobody is waited for any more.
    Evidence,
    /// The phase is over already: somebody else took the step.
    Passed(String),
}

/// What is shown while it goes on.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Picture {
    /// One for each phase.
    pub(super) bars: Vec<Bar>,
    /// Lines below them: whom it waits for.
    pub(super) below: Vec<String>,
}

/// How far a phase is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bar {
    /// Its name.
    pub(super) name: String,
    /// How many have done what it waits for.
    pub(super) done: u64,
    /// Of how many.
    pub(super) total: u64,
    /// What stands behind it.
    pub(super) said: String,
}

/// Watches one rotation. It hears reports, and says lines.
#[derive(Clone, Debug)]
pub(super) struct Watching {
    goal: Goal,
    /// When the rotation began, which tells it from others; none until the first report that has one.
    began_at: Option<String>,
    /// Whether it had been turned back when we came.
    was_turned_back: Option<bool>,
    is_turned_back: bool,
    /// The largest number of the roots; a replica that is late says a smaller one.
    sequence: u64,
    /// Who signs.
    active: String,
    latest: Option<Report>,
    heard_at: Duration,
    told_done: Vec<String>,
    told_forced: usize,
    /// The phase's last line, and when it was said.
    told: Option<(String, Duration, String)>,
    /// The phase that was forced; and when, if the CA would not then.
    forced: Option<(String, Option<Duration>)>,
    ended: Option<Ended>,
}

impl Watching {
    /// Watches the rotation that began at that moment, or the first one that is heard of.
    pub(super) fn new(goal: Goal, began_at: Option<String>) -> Self {
        Self {
            goal,
            began_at,
            was_turned_back: None,
            is_turned_back: false,
            sequence: 0,
            active: String::new(),
            latest: None,
            heard_at: Duration::ZERO,
            told_done: Vec::new(),
            told_forced: 0,
            told: None,
            forced: None,
            ended: None,
        }
    }

    /// Takes `report` in, `at` so long after the beginning; what is to be said.
    pub(super) fn hear(&mut self, report: &Report, at: Duration) -> Vec<String> {
        if self.ended.is_some() || report.bundle.sequence < self.sequence {
            return Vec::new();
        }
        self.sequence = report.bundle.sequence;
        self.active.clone_from(&report.active);
        let ours = report
            .rotation
            .as_ref()
            .filter(|one| self.began_at.as_ref().is_none_or(|began_at| *began_at == one.began_at));
        let Some(rotation) = ours else { return self.hear_the_end(report) };
        let mut lines = Vec::new();
        if self.latest.is_none() {
            lines.push(introduction(rotation));
        }
        self.began_at.get_or_insert_with(|| rotation.began_at.clone());
        let was_turned_back = *self.was_turned_back.get_or_insert(rotation.rolled_back);
        if rotation.rolled_back != (self.is_turned_back || was_turned_back) && rotation.rolled_back {
            lines.push(format!("rolled back by {}: `{}` signs again", rotation.by, report.active));
        }
        self.is_turned_back = rotation.rolled_back;
        for one in rotation.forced.iter().skip(self.told_forced) {
            lines.push(format!("without evidence: {one}"));
        }
        self.told_forced = rotation.forced.len();
        lines.extend(self.newly_done(&rotation.phases));
        (self.latest, self.heard_at) = (Some(report.clone()), at);
        lines.extend(self.line(at));
        if let Goal::Evidence(phase) = self.goal {
            if rotation.phase != phase {
                self.ended = Some(Ended::Passed(rotation.phase.clone()));
            } else if rotation.waiting_total == 0 {
                self.ended = Some(Ended::Evidence);
            }
        }
        lines
    }

    /// Time has passed; what is to be said that was held back.
    pub(super) fn tick(&mut self, at: Duration) -> Vec<String> {
        self.line(at).into_iter().collect()
    }

    /// How it ended, if it has.
    pub(super) fn ended(&self) -> Option<&Ended> {
        self.ended.as_ref()
    }

    /// The last report of the rotation.
    pub(super) fn latest(&self) -> Option<&Report> {
        self.latest.as_ref()
    }

    /// The authority that signs.
    pub(super) fn active(&self) -> &str {
        &self.active
    }

    /// There was less evidence than it seemed: goes on.
    pub(super) fn go_on(&mut self) {
        self.ended = None;
    }

    /// The rotation, if it stands at a phase in which readers have had their time and some are still waited for.
    pub(super) fn may_be_forced(&self, at: Duration) -> Option<&Rotation> {
        let rotation = self.rotation().filter(|one| one.waiting_total > 0 && self.ended.is_none())?;
        let window = match rotation.phase.as_str() {
            "reissue" => Duration::try_from_secs_f64(rotation.window_s).unwrap_or_default(),
            _ => Duration::ZERO,
        };
        if let Some((_, refused)) = self.forced.as_ref().filter(|(phase, _)| *phase == rotation.phase) {
            return refused.is_some_and(|refused| at >= refused + GRACE).then_some(rotation);
        }
        let stood = rotation.phases.iter().find(|one| one.state == "now").and_then(|one| one.took_s);
        let stood = Duration::try_from_secs_f64(stood.unwrap_or_default()).unwrap_or_default();
        (stood + at.saturating_sub(self.heard_at) >= GRACE + window).then_some(rotation)
    }

    /// The present phase was forced; or was to be, and the CA would not.
    pub(super) fn forced(&mut self, refused: Option<Duration>) {
        self.forced = self.rotation().map(|one| (one.phase.clone(), refused));
    }

    /// What is shown now.
    pub(super) fn picture(&self, at: Duration) -> Picture {
        let (Some(report), Some(rotation)) = (&self.latest, self.rotation()) else {
            return Picture::default();
        };
        let since = at.saturating_sub(self.heard_at).as_secs_f64();
        let bars = rotation.phases.iter().map(|phase| bar(phase, since)).collect();
        let mut below = Vec::new();
        if rotation.waiting_total > 0 {
            below.push(format!("waits for {}:", rotation.waiting_total));
        } else if let Some(next) = next_by_hand(rotation) {
            below.push(format!("nobody is waited for; go on by `burgrave root {next}`"));
        }
        for one in rotation.waiting.iter().take(SHOWN) {
            let (who, why) = words::apart(one, &report.at);
            below.extend([format!("  {who}"), format!("    {why}")]);
        }
        let left = rotation.waiting_total.saturating_sub(SHOWN);
        if left > 0 {
            below.push(format!("  and {left} more"));
        }
        Picture { bars, below }
    }

    fn rotation(&self) -> Option<&Rotation> {
        self.latest.as_ref()?.rotation.as_ref()
    }

    fn hear_the_end(&mut self, report: &Report) -> Vec<String> {
        let Some(began_at) = &self.began_at else {
            self.ended = Some(Ended::Untold);
            return Vec::new();
        };
        let Some(past) = report.last.as_ref().filter(|past| past.began_at == *began_at) else {
            self.ended = Some(Ended::Untold);
            return Vec::new();
        };
        let all =
            [("distribute", past.distribute_s), ("reissue", past.reissue_s), ("withdraw", past.withdraw_s)];
        let phases = all.map(|(name, took_s)| Phase {
            name: name.to_owned(),
            state: if took_s.is_some() { "done" } else { "later" }.to_owned(),
            took_s,
            ..Phase::default()
        });
        // Of one that was given up, no phase is done.
        let mut lines = match past.outcome.as_str() {
            "done" => self.newly_done(&phases),
            _ => Vec::new(),
        };
        for one in past.forced.iter().skip(self.told_forced) {
            lines.push(format!("without evidence: {one}"));
        }
        let is_as_ordered = match past.outcome.as_str() {
            "done" => self.goal == Goal::End,
            "rolled back" => self.goal == Goal::End && self.was_turned_back == Some(true),
            _ => false,
        };
        self.ended = Some(match is_as_ordered {
            true => Ended::Done(past.clone()),
            false => Ended::Otherwise(past.clone()),
        });
        lines
    }

    fn newly_done(&mut self, phases: &[Phase]) -> Vec<String> {
        // Turned back, a phase begins anew.
        self.told_done.retain(|name| phases.iter().any(|one| one.name == *name && one.state == "done"));
        let mut lines = Vec::new();
        for phase in phases.iter().filter(|one| one.state == "done") {
            if !self.told_done.contains(&phase.name) {
                self.told_done.push(phase.name.clone());
                lines.push(format!("{:<12}{}", phase.name, words::far(phase)));
            }
        }
        lines
    }

    /// The present phase's line, if it is another one than before and its time has come.
    fn line(&mut self, at: Duration) -> Option<String> {
        let report = self.latest.as_ref()?;
        let rotation = report.rotation.as_ref().filter(|_| self.ended.is_none())?;
        let phase = rotation.phases.iter().find(|one| one.name == rotation.phase)?;
        let mut line = format!("{:<12}{} of {}", phase.name, phase.done, phase.total);
        if let Some(first) = rotation.waiting.first() {
            line.push_str("   waits for ");
            line.push_str(&words::waiting(first, &report.at));
            let others = rotation.waiting_total.saturating_sub(1);
            if others > 0 {
                line.push_str(&format!("; and for {}", words::count(others, "other")));
            }
        } else if let Some(next) = next_by_hand(rotation) {
            line.push_str(&format!("   nobody is waited for; go on by `burgrave root {next}`"));
        }
        // The distance to a moment changes all the time, and is no news.
        let news =
            format!("{}{}{:?}{}", phase.done, phase.total, rotation.waiting.first(), rotation.waiting_total);
        let is_due = match &self.told {
            Some((told, when, before)) if *told == phase.name => *before != news && at >= *when + PACE,
            _ => true,
        };
        is_due.then(|| {
            self.told = Some((phase.name.clone(), at, news));
            line
        })
    }
}

fn introduction(rotation: &Rotation) -> String {
    let window = words::took(rotation.window_s);
    let how = match rotation.automatic {
        true => format!("; workloads move within {window}"),
        false => "; each step is an operator's".to_owned(),
    };
    format!("rotation    {} by {}, began at {}{how}", rotation.kind, rotation.by, rotation.began_at)
}

fn bar(phase: &Phase, since: f64) -> Bar {
    let (done, total) = match phase.state.as_str() {
        "done" => (1, 1),
        "later" => (0, 1),
        // Nobody is there to wait for, or all have done it.
        _ if phase.total == 0 => (1, 1),
        _ => (phase.done as u64, phase.total as u64),
    };
    let said = match (phase.state.as_str(), phase.took_s) {
        ("now", Some(seconds)) => format!("{}, {}", words::far(phase), words::took(seconds + since)),
        ("later", _) => String::new(),
        _ => words::far(phase),
    };
    Bar { name: phase.name.clone(), done, total, said }
}

#[cfg(test)]
mod tests {
    use crate::cli::test_support::BEGAN;
    use crate::cli::test_support::report_after;
    use crate::cli::test_support::report_at_rest;
    use crate::cli::test_support::report_in;

    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_rotation_is_told_line_by_line_and_its_end_is_known() {
        let mut watching = Watching::new(Goal::End, Some(BEGAN.to_owned()));
        let mut said = watching.hear(&report_in("distribute", 37, 41), s(0));
        said.extend(watching.hear(&report_in("distribute", 41, 41), s(2)));
        said.extend(watching.hear(&report_in("reissue", 40, 41), s(3)));
        said.extend(watching.hear(&report_in("withdraw", 41, 41), s(4)));
        assert_eq!(watching.ended(), None);
        said.extend(watching.hear(&report_after("done"), s(5)));
        assert_eq!(
            said,
            [
                "rotation    ordered by alice, began at 2026-10-01T11:58:00Z; workloads move within 1 min",
                "distribute  37 of 41   waits for spiffe://cluster.local/ns/shop/sa/web (pod shop/web-1 on node n1): was sent the roots and has not acknowledged them; and for 3 others",
                "distribute  41 of 41",
                "distribute  done in 1.2 s",
                "reissue     40 of 41   waits for spiffe://cluster.local/ns/shop/sa/web (pod shop/web-1 on node n1): was sent the roots and has not acknowledged them",
                "reissue     done in 1.2 s",
                "withdraw    41 of 41",
                "withdraw    done in 0.5 s",
            ]
        );
        assert_eq!(watching.ended(), Some(&Ended::Done(report_after("done").last.unwrap())));
    }

    #[test]
    fn readers_that_answer_all_at_once_are_told_once_a_second() {
        let mut watching = Watching::new(Goal::End, None);
        let mut said = Vec::new();
        for done in 0..1000 {
            said.extend(
                watching.hear(&report_in("distribute", done, 1000), Duration::from_millis(done as u64)),
            );
        }
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(watching.tick(Duration::from_millis(999)).is_empty());
        let late = watching.tick(s(1));
        assert!(late[0].starts_with("distribute  999 of 1000   waits for "), "{late:?}");
        assert!(watching.tick(s(9)).is_empty());
    }

    #[test]
    fn an_end_that_came_while_nobody_looked_is_known_by_when_it_began() {
        for (outcome, turned_back, is_done) in [
            ("done", false, true),
            ("aborted", false, false),
            ("rolled back", false, false),
            ("rolled back", true, true),
        ] {
            let mut watching = Watching::new(Goal::End, Some(BEGAN.to_owned()));
            let mut first = report_in("reissue", 1, 41);
            first.rotation.as_mut().unwrap().rolled_back = turned_back;
            watching.hear(&first, s(0));
            watching.hear(&report_after(outcome), s(60));
            let is_as_ordered = matches!(watching.ended(), Some(Ended::Done(_)));
            assert_eq!(is_as_ordered, is_done, "{outcome} {turned_back}");
        }
        let mut watching = Watching::new(Goal::End, Some("2026-10-01T11:00:00Z".to_owned()));
        watching.hear(&report_after("done"), s(60));
        assert_eq!(watching.ended(), Some(&Ended::Untold));
    }

    #[test]
    fn a_replica_that_is_late_is_not_believed_that_there_is_no_rotation() {
        let mut watching = Watching::new(Goal::End, Some(BEGAN.to_owned()));
        watching.hear(&report_in("distribute", 1, 41), s(0));
        assert!(watching.hear(&report_at_rest(), s(1)).is_empty());
        assert_eq!(watching.ended(), None);
    }

    #[test]
    fn a_rotation_that_is_turned_back_is_told_and_its_phase_begins_anew() {
        let mut watching = Watching::new(Goal::End, None);
        watching.hear(&report_in("reissue", 1, 41), s(0));
        watching.hear(&report_in("withdraw", 1, 41), s(2));
        let mut back = report_in("reissue", 2, 41);
        back.bundle.sequence = 10;
        back.rotation.as_mut().unwrap().rolled_back = true;
        let said = watching.hear(&back, s(4));
        assert!(said[0].starts_with("rolled back by alice: `"), "{said:?}");
        assert!(said[1].starts_with("reissue     2 of 41   waits for "), "{said:?}");
        assert!(watching.hear(&back, s(5)).is_empty());
    }

    #[test]
    fn evidence_is_waited_for_until_it_is_there_or_somebody_else_took_the_step() {
        let waiting = || Watching::new(Goal::Evidence("distribute"), Some(BEGAN.to_owned()));
        let mut one = waiting();
        one.hear(&report_in("distribute", 40, 41), s(0));
        assert_eq!(one.ended(), None);
        one.hear(&report_in("distribute", 41, 41), s(1));
        assert_eq!(one.ended(), Some(&Ended::Evidence));
        let mut one = waiting();
        one.hear(&report_in("reissue", 1, 41), s(0));
        assert_eq!(one.ended(), Some(&Ended::Passed("reissue".to_owned())));
        let mut one = waiting();
        one.hear(&report_after("aborted"), s(0));
        assert!(matches!(one.ended(), Some(Ended::Otherwise(_))));
    }

    #[test]
    fn nobody_is_left_behind_who_has_not_had_time_to_answer() {
        let mut watching = Watching::new(Goal::End, None);
        watching.hear(&report_in("distribute", 1, 41), s(0));
        // It had stood for 1.2 s.
        assert!(watching.may_be_forced(s(14)).is_none());
        assert!(watching.may_be_forced(s(15)).is_some());
        watching.forced(Some(s(15)));
        assert!(watching.may_be_forced(s(16)).is_none());
        assert!(watching.may_be_forced(s(31)).is_some(), "it was refused, and is tried again");
        watching.forced(None);
        assert!(watching.may_be_forced(s(1000)).is_none(), "it is done, and is not done twice");
        watching.hear(&report_in("reissue", 1, 41), s(17));
        // Workloads move within a minute.
        assert!(watching.may_be_forced(s(90)).is_none());
        assert!(watching.may_be_forced(s(92)).is_some());
        watching.hear(&report_in("withdraw", 41, 41), s(93));
        assert!(watching.may_be_forced(s(1000)).is_none(), "nobody is waited for");
    }

    #[test]
    fn the_picture_has_a_bar_for_each_phase_and_the_first_who_are_waited_for() {
        let mut watching = Watching::new(Goal::End, None);
        assert_eq!(watching.picture(s(0)), Picture::default());
        watching.hear(&report_in("reissue", 37, 41), s(0));
        let picture = watching.picture(s(3));
        let bars: Vec<_> = picture
            .bars
            .iter()
            .map(|bar| (bar.name.as_str(), bar.done, bar.total, bar.said.as_str()))
            .collect();
        assert_eq!(
            bars,
            [
                ("distribute", 1, 1, "done in 1.2 s"),
                ("reissue", 37, 41, "37 of 41, 4.2 s"),
                ("withdraw", 0, 1, "")
            ]
        );
        assert_eq!(
            picture.below,
            [
                "waits for 4:",
                "  spiffe://cluster.local/ns/shop/sa/web (pod shop/web-1 on node n1)",
                "    was sent the roots and has not acknowledged them",
                "  spiffe://cluster.local/ns/shop/sa/old",
                "    is disconnected; until 2026-10-01T13:00:00Z (in 1 h)",
                "  and 1 more",
            ]
        );
    }
}
