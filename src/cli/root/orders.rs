//! What is ordered of the CA, and what the operator hears of it.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::bail;

use crate::authority::load_plugged;
use crate::authority::part;
use crate::cli::console::Console;
use crate::cli::ending::Ending;
use crate::cli::reach::Heard;
use crate::cli::reach::Reach;
use crate::cli::reach::ReachError;
use crate::cli::root::breakage;
use crate::cli::root::follow::Followed;
use crate::cli::root::follow::Interrupt;
use crate::cli::root::follow::follow;
use crate::cli::root::force::Force;
use crate::cli::root::force::Forced;
use crate::cli::root::progress::Ended;
use crate::cli::root::progress::Goal;
use crate::cli::root::progress::Watching;
use crate::cli::root::status;
use crate::cli::words;
use crate::clock::Clock;
use crate::clock::Stopwatch;
use crate::config::HumanDuration;
use crate::config::Output;
use crate::identity::TrustDomain;
use crate::proto::admin::New;
use crate::proto::admin::Nothing;
use crate::proto::admin::Step;
use crate::proto::admin::Taint;
use crate::proto::admin::step::What;
use crate::rotation::report::Report;
use crate::signer::Issuer;

/// How long it is tried to have an order taken, or to find out whether it was.
const ATTEMPTS: u32 = 12;

/// How soon a step is tried again that was refused although nobody is waited for; each time later.
const RETRY: Duration = Duration::from_millis(50);

/// How a rotation is to go.
#[derive(Clone, Debug, Default)]
pub(super) struct Rotate<'a> {
    pub(super) window: Option<Duration>,
    pub(super) from: Option<&'a Path>,
    pub(super) cross_sign: bool,
    pub(super) timeout: Option<HumanDuration>,
    pub(super) force: bool,
    pub(super) yes: bool,
    pub(super) detach: bool,
}

/// A step that needs evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gated {
    /// The prepared authority signs.
    Activate,
    /// The old root leaves.
    Retire,
}

/// How somebody means to get past a gate.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Past {
    pub(super) wait: bool,
    pub(super) timeout: Option<HumanDuration>,
    pub(super) force: bool,
    pub(super) yes: bool,
}

/// Files of a CA that an operator brings, looked at here before a key is sent anywhere.
#[derive(Debug)]
pub(super) struct Brought {
    pub(super) issuer: Issuer,
    files: HashMap<String, Vec<u8>>,
}

impl Brought {
    /// Reads and checks the files in `directory`.
    pub(super) fn read(directory: &Path, report: &Report) -> anyhow::Result<Self> {
        let trust_domain: TrustDomain = report.trust_domain.parse()?;
        let issuer = load_plugged(directory, &trust_domain, Clock::system().now())?;
        let names = [part::CERTIFICATE, part::KEY, part::ROOTS, part::CHAIN];
        let read = |name: &str| {
            let path = directory.join(name);
            let bytes =
                std::fs::read(&path).map_err(|error| anyhow::anyhow!("`{}`: {error}", path.display()))?;
            anyhow::Ok((name.to_owned(), bytes))
        };
        Ok(Self { issuer, files: names.into_iter().map(read).collect::<Result<_, _>>()? })
    }
}

/// Orders a rotation, and watches it.
pub(super) async fn rotate(
    reach: &mut Reach,
    console: &mut Console,
    how: Rotate<'_>,
    interrupt: Interrupt<'_>,
) -> anyhow::Result<Ending> {
    let before = reach.status().await?;
    if let Some(rotation) = &before.report.rotation {
        // What is meant for a new one would be passed over in silence.
        if how.from.is_some() || how.cross_sign || how.window.is_some() {
            console.refuse(&format!(
                "a rotation is under way: ordered by {}, and in phase `{}`; --from, --cross-sign and --window are for one that begins: leave them out to have this one go on by itself, or end it first",
                rotation.by, rotation.phase
            ));
            return Ok(Ending::NotDone);
        }
        console.tell(
            "a rotation is under way already: it goes on by itself from now on, and no other one is begun\n",
        );
    }
    let what = What::Rotate(new(how.from, how.cross_sign, how.window, &before.report)?);
    let mut heard = match order_surely(reach, step(console, what), &before.report).await {
        Ok(heard) => heard,
        Err(error) => return refused(console, error),
    };
    let mut force = how.force.then_some(Force { yes: how.yes });
    // A rotation that was under way has been looked at; one that has just begun gives readers their time.
    let stands = before.report.rotation.is_some()
        && heard.report.rotation.as_ref().is_some_and(|one| one.waiting_total > 0);
    if let Some(force) = force.as_mut().filter(|_| stands) {
        let report = heard.report.clone();
        match force.go_on_without(reach, console, &report).await {
            Forced::Done(after) => heard = *after,
            Forced::NotYet => {}
            Forced::Declined => return conclude(console, Followed::Declined, None, None),
        }
    }
    if how.detach {
        return Ok(ordered(console, &heard));
    }
    watch_to_the_end(reach, console, heard, how.timeout, force, interrupt).await
}

/// Watches the rotation that is under way, or tells how the last one ended.
pub(super) async fn watch(
    reach: &mut Reach,
    console: &mut Console,
    timeout: Option<HumanDuration>,
    interrupt: Interrupt<'_>,
) -> anyhow::Result<Ending> {
    let heard = reach.status().await?;
    if heard.report.rotation.is_some() {
        return watch_to_the_end(reach, console, heard, timeout, None, interrupt).await;
    }
    let last = heard.report.last.as_ref();
    console.show(
        || match last {
            Some(past) => {
                format!("no rotation is under way; the last one: {}\n", words::past(past, &heard.report.at))
            }
            None => "no rotation is under way, and there has been none\n".to_owned(),
        },
        &heard.json,
    );
    Ok(match last {
        Some(past) if past.outcome == "done" => Ending::Done,
        _ => Ending::NotDone,
    })
}

/// Prepares an authority; with `wait`, until every reader has its root.
pub(super) async fn prepare(
    reach: &mut Reach,
    console: &mut Console,
    from: Option<&Path>,
    cross_sign: bool,
    past: Past,
    interrupt: Interrupt<'_>,
) -> anyhow::Result<Ending> {
    let before = reach.status().await?;
    let what = What::Prepare(new(from, cross_sign, None, &before.report)?);
    let heard = match reach.act(step(console, what)).await {
        Ok(heard) => heard,
        Err(error) => return refused(console, uncertain(error)),
    };
    let id = at_stage(&heard.report, "prepared").to_owned();
    let sequence = heard.report.bundle.sequence;
    let next = "it signs after `burgrave root activate`";
    let said = format!("authority `{id}` is prepared: its root is trusted (bundle {sequence}); {next}\n");
    if !past.wait {
        console.show(|| said + &under_way(&heard.report), &heard.json);
        return Ok(Ending::Done);
    }
    console.tell(&said);
    let began_at = heard.report.rotation.as_ref().map(|one| one.began_at.clone());
    let mut watching = Watching::new(Goal::Evidence("distribute"), began_at);
    let timeout = past.timeout.map(|timeout| timeout.0);
    let followed = follow(reach, console, &mut watching, Some(heard), timeout, None, interrupt).await;
    if let Followed::Ended(Ended::Evidence) = followed {
        console.tell("every reader has the new root; go on by `burgrave root activate`\n");
        return Ok(Ending::Done);
    }
    conclude(console, followed, Some(&watching), past.timeout)
}

/// Takes a step that needs evidence.
pub(super) async fn gated(
    reach: &mut Reach,
    console: &mut Console,
    which: Gated,
    past: Past,
    mut interrupt: Interrupt<'_>,
) -> anyhow::Result<Ending> {
    if past.force {
        return forced(reach, console, which, past.yes).await;
    }
    let since = Stopwatch::start();
    let mut watching = None;
    let mut refused_in_vain = 0;
    loop {
        let sentence = match reach.act(step(console, which.what())).await {
            Ok(heard) => {
                console.show(|| which.done(&heard.report) + &under_way(&heard.report), &heard.json);
                return Ok(Ending::Done);
            }
            Err(ReachError::Refused(sentence)) => sentence,
            Err(error) => return refused(console, uncertain(error)),
        };
        let heard = reach.status().await?;
        let rotation = heard.report.rotation.as_ref().filter(|one| one.phase == which.phase());
        // If nobody is waited for and it is refused all the same, time does not help; but the CA may see evidence a moment
        // later than it tells it.
        let is_a_matter_of_time = rotation.is_some_and(|one| one.waiting_total > 0);
        refused_in_vain = if is_a_matter_of_time { 0 } else { refused_in_vain + 1 };
        let is_in_vain =
            rotation.is_none() || refused_in_vain > 10 || (watching.is_none() && !is_a_matter_of_time);
        if !past.wait || is_in_vain {
            console.refuse(&sentence);
            if let Some(rotation) = rotation.filter(|one| one.waiting_total > 0) {
                let all = words::all_waiting(
                    &rotation.waiting,
                    rotation.waiting_total,
                    &heard.report.at,
                    usize::MAX,
                );
                console.remark(&format!("it waits for {}:\n{all}", rotation.waiting_total));
                console.remark(
                    "--wait waits for them; --force goes on without them, and says first what that breaks\n",
                );
            }
            if console.output == Output::Json {
                console.result(&format!("{}\n", heard.json.trim_end()));
            }
            return Ok(Ending::NotDone);
        }
        let began_at = rotation.map(|one| one.began_at.clone());
        let watching = watching.get_or_insert_with(|| Watching::new(Goal::Evidence(which.phase()), began_at));
        watching.go_on();
        let left = past.timeout.map(|timeout| timeout.0.saturating_sub(since.elapsed()));
        let followed = follow(reach, console, watching, Some(heard), left, None, interrupt.as_mut()).await;
        match followed {
            Followed::Ended(Ended::Evidence) => {}
            other => return conclude(console, other, Some(watching), past.timeout),
        }
        tokio::time::sleep(RETRY * refused_in_vain).await;
    }
}

async fn forced(reach: &mut Reach, console: &mut Console, which: Gated, yes: bool) -> anyhow::Result<Ending> {
    let heard = reach.status().await?;
    if let Some(rotation) = heard.report.rotation.as_ref().filter(|one| one.phase == which.phase()) {
        console.tell(&breakage::of_phase(rotation, &heard.report.at));
        if rotation.waiting_total > 0 && !yes && !console.agrees(&breakage::question(rotation)).await {
            console.remark("nothing was done\n");
            return Ok(Ending::NotDone);
        }
    }
    match reach.act(Step { force: true, ..step(console, which.what()) }).await {
        Ok(heard) => {
            console.show(|| which.done(&heard.report) + &under_way(&heard.report), &heard.json);
            Ok(Ending::Done)
        }
        Err(error) => refused(console, uncertain(error)),
    }
}

/// Withdraws the prepared authority.
pub(super) async fn abort(reach: &mut Reach, console: &mut Console) -> anyhow::Result<Ending> {
    match reach.act(step(console, What::Abort(Nothing {}))).await {
        Ok(heard) => {
            let report = &heard.report;
            let said = format!(
                "the prepared authority is withdrawn, root and key; `{}` signs as before (bundle {})\n",
                report.active, report.bundle.sequence
            );
            console.show(|| said + &under_way(report), &heard.json);
            Ok(Ending::Done)
        }
        Err(error) => refused(console, uncertain(error)),
    }
}

/// Makes the authority before the active one again.
pub(super) async fn roll_back(reach: &mut Reach, console: &mut Console) -> anyhow::Result<Ending> {
    match reach.act(step(console, What::RollBack(Nothing {}))).await {
        Ok(heard) => {
            let said = format!(
                "authority `{}` signs again; the other one leaves when nobody needs it any more: `burgrave root rotate --watch` shows it\n",
                heard.report.active
            );
            console.show(|| said + &under_way(&heard.report), &heard.json);
            Ok(Ending::Done)
        }
        Err(error) => refused(console, uncertain(error)),
    }
}

/// Says that a key is not to be trusted any more, and watches its replacement.
pub(super) async fn taint(
    reach: &mut Reach,
    console: &mut Console,
    id: Option<&str>,
    how: Rotate<'_>,
    interrupt: Interrupt<'_>,
) -> anyhow::Result<Ending> {
    let before = reach.status().await?;
    let (_, readers) = reach.readers().await?;
    let id = match id {
        None => before.report.active.clone(),
        Some(given) => full_id(given, &before.report)?,
    };
    console.tell(&breakage::of_taint_text(&readers, &id));
    let question = format!("Taint `{id}`, and replace all its certificates now?");
    if !how.yes && !console.agrees(&question).await {
        console.remark("nothing was done\n");
        return Ok(Ending::NotDone);
    }
    let heard = match reach.act(step(console, What::Taint(Taint { authority: id.clone() }))).await {
        Ok(heard) => heard,
        Err(error) => return refused(console, uncertain(error)),
    };
    if heard.report.rotation.is_none() {
        let said = format!("authority `{id}` is gone; `{}` signs\n", heard.report.active);
        console.show(|| said, &heard.json);
        return Ok(Ending::Done);
    }
    if how.detach {
        return Ok(ordered(console, &heard));
    }
    let force = how.force.then_some(Force { yes: how.yes });
    watch_to_the_end(reach, console, heard, how.timeout, force, interrupt).await
}

/// The authority whose id begins so.
fn full_id(given: &str, report: &Report) -> anyhow::Result<String> {
    let fitting: Vec<_> = report.authorities.iter().filter(|one| one.id.starts_with(given)).collect();
    match fitting.as_slice() {
        [one] => Ok(one.id.clone()),
        [] => {
            let known: Vec<_> = report.authorities.iter().map(|one| format!("`{}`", one.id)).collect();
            bail!("there is no authority `{given}`; there are {}", known.join(", "))
        }
        _ => bail!("`{given}` is the beginning of several authorities' ids; give more of it"),
    }
}

async fn watch_to_the_end(
    reach: &mut Reach,
    console: &mut Console,
    first: Heard,
    timeout: Option<HumanDuration>,
    force: Option<Force>,
    interrupt: Interrupt<'_>,
) -> anyhow::Result<Ending> {
    // Where nobody is to be waited for, it may be over by the time that the answer is there.
    let began_at = match (&first.report.rotation, &first.report.last) {
        (Some(rotation), _) => Some(rotation.began_at.clone()),
        (None, Some(past)) => Some(past.began_at.clone()),
        (None, None) => None,
    };
    let mut watching = Watching::new(Goal::End, began_at);
    let limit = timeout.map(|timeout| timeout.0);
    let followed = follow(reach, console, &mut watching, Some(first), limit, force, interrupt).await;
    conclude(console, followed, Some(&watching), timeout)
}

/// What the operator hears last, and the exit code.
fn conclude(
    console: &mut Console,
    followed: Followed,
    watching: Option<&Watching>,
    timeout: Option<HumanDuration>,
) -> anyhow::Result<Ending> {
    const PICK_UP: &str =
        "what is under way goes on in the CA; `burgrave root rotate --watch` picks it up again";
    match followed {
        Followed::Ended(Ended::Done(past)) => {
            if console.output == Output::Text {
                let active = watching.map(Watching::active).unwrap_or_default();
                let gone: Vec<_> = past.removed.iter().map(|id| format!("`{id}`")).collect();
                let gone = match gone.is_empty() {
                    true => String::new(),
                    false => format!(", and {} is gone, key and all", gone.join(", ")),
                };
                let phases = match words::phases(&past) {
                    phases if phases.is_empty() => phases,
                    phases => format!(" ({phases})"),
                };
                console.result(&format!(
                    "{:<12}in {}{phases}: `{active}` signs{gone}\n",
                    past.outcome,
                    words::took(past.took_s)
                ));
            }
            Ok(Ending::Done)
        }
        Followed::Ended(Ended::Otherwise(past)) => {
            let active = watching.map(Watching::active).unwrap_or_default();
            console.refuse(&format!(
                "the rotation was not carried out: it ended as `{}`, by {}, at {}; `{active}` signs",
                past.outcome, past.by, past.ended_at
            ));
            Ok(Ending::NotDone)
        }
        Followed::Ended(Ended::Passed(phase)) => {
            console.refuse(&format!(
                "somebody else has taken the step: the rotation is in phase `{phase}` by now; `burgrave root status` shows it"
            ));
            Ok(Ending::NotDone)
        }
        Followed::Ended(Ended::Untold | Ended::Evidence) => bail!(
            "the rotation is not under way any more, and it is not the last one that ended; `burgrave root status` shows how things stand"
        ),
        Followed::TimedOut => {
            let after = timeout.map(|timeout| format!(" after {timeout}")).unwrap_or_default();
            match watching
                .and_then(Watching::latest)
                .and_then(|report| Some((report, report.rotation.as_ref()?)))
            {
                Some((report, rotation)) if rotation.waiting_total > 0 => {
                    console.refuse(&format!(
                        "not over{after}: `{}` waits for {}:",
                        rotation.phase, rotation.waiting_total
                    ));
                    let all =
                        words::all_waiting(&rotation.waiting, rotation.waiting_total, &report.at, usize::MAX);
                    console.remark(&all);
                }
                _ => console.refuse(&format!("not over{after}")),
            }
            console.remark(&format!("{PICK_UP}; --force goes on without those it waits for\n"));
            Ok(Ending::NotDone)
        }
        Followed::Interrupted => {
            console.remark(&format!("\nyou do not watch any longer; {PICK_UP}\n"));
            Ok(Ending::Interrupted)
        }
        Followed::Declined => {
            console.remark(&format!("nothing was forced; {PICK_UP}\n"));
            Ok(Ending::NotDone)
        }
        Followed::Failed(error) => bail!("{error}; {PICK_UP}"),
    }
}

fn ordered(console: &mut Console, heard: &Heard) -> Ending {
    let said = "it is ordered, and goes on in the CA; `burgrave root rotate --watch` shows it\n";
    console.show(|| said.to_owned() + &under_way(&heard.report), &heard.json);
    Ending::Done
}

fn under_way(report: &Report) -> String {
    report.rotation.as_ref().map(|one| status::of_rotation(one, &report.at)).unwrap_or_default()
}

fn at_stage<'a>(report: &'a Report, stage: &str) -> &'a str {
    let found = report.authorities.iter().find(|one| one.stage == stage);
    found.map(|one| one.id.as_str()).unwrap_or_default()
}

impl Gated {
    fn what(self) -> What {
        match self {
            Self::Activate => What::Activate(Nothing {}),
            Self::Retire => What::Retire(Nothing {}),
        }
    }

    /// The phase that it ends.
    fn phase(self) -> &'static str {
        match self {
            Self::Activate => "distribute",
            Self::Retire => "reissue",
        }
    }

    fn done(self, report: &Report) -> String {
        match self {
            Self::Activate => {
                format!(
                    "authority `{}` signs; workloads move to it, then `burgrave root retire`\n",
                    report.active
                )
            }
            Self::Retire => format!(
                "the old root is trusted no more (bundle {}); its key is destroyed as soon as every reader has heard of it\n",
                report.bundle.sequence
            ),
        }
    }
}

fn step(console: &Console, what: What) -> Step {
    Step { by: console.operator.clone(), force: false, what: Some(what) }
}

fn new(
    from: Option<&Path>,
    cross_sign: bool,
    window: Option<Duration>,
    report: &Report,
) -> anyhow::Result<New> {
    let files = match from {
        Some(directory) => Brought::read(directory, report)?.files,
        None => HashMap::new(),
    };
    let window_ms = window.map_or(0, |window| u64::try_from(window.as_millis()).unwrap_or(u64::MAX));
    Ok(New { files, cross_sign, window_ms })
}

/// Has a rotation ordered once, even if the CA goes away in the middle: when it is back, a look tells whether the order was
/// taken.
async fn order_surely(reach: &mut Reach, step: Step, before: &Report) -> Result<Heard, ReachError> {
    let mut wait = Duration::from_millis(100);
    let mut last = match reach.act(step.clone()).await {
        Err(error) if error.may_pass() => error,
        answer => return answer,
    };
    for _ in 0..ATTEMPTS {
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(5));
        let seen = match reach.status().await {
            Ok(seen) => seen,
            Err(error) if error.may_pass() => {
                last = error;
                continue;
            }
            Err(error) => return Err(error),
        };
        if was_taken(before, &seen.report) {
            return Ok(seen);
        }
        match reach.act(step.clone()).await {
            Err(error) if error.may_pass() => last = error,
            answer => return answer,
        }
    }
    Err(uncertain(last))
}

/// Whether a rotation has begun since. One that was under way before takes the order any number of times.
fn was_taken(before: &Report, after: &Report) -> bool {
    let began = |report: &Report| report.last.as_ref().map(|past| past.began_at.clone());
    before.rotation.is_none() && (after.rotation.is_some() || began(after) != began(before))
}

/// An order without an answer may have been taken.
fn uncertain(error: ReachError) -> ReachError {
    const LOOK: &str = "whether it has taken the order is not known, and `burgrave root status` tells";
    match error {
        ReachError::Lost(why) => ReachError::Lost(format!("{why}; {LOOK}")),
        ReachError::NotAble(why) => ReachError::NotAble(format!("{why}; {LOOK}")),
        other => other,
    }
}

/// What cannot be done now is no failure of ours.
fn refused(console: &mut Console, error: ReachError) -> anyhow::Result<Ending> {
    match error {
        ReachError::Refused(sentence) => {
            console.refuse(&sentence);
            Ok(Ending::NotDone)
        }
        other => Err(other.into()),
    }
}
