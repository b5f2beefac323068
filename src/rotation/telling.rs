//! Pure: the state and the evidence, told as reports.

use std::collections::BTreeMap;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::authority;
use crate::authority::Evidence;
use crate::authority::Gate;
use crate::authority::Publication;
use crate::authority::State;
use crate::rotation::bulletin::moment;
use crate::rotation::merge;
use crate::rotation::merge::Known;
use crate::rotation::merge::Merged;
use crate::rotation::report;

/// How long roots take to reach agents and be acknowledged, as a rule; for estimates only.
const FAN_OUT: time::Duration = time::Duration::seconds(2);

/// What a report is made of, besides state and evidence.
#[derive(Clone, Debug)]
pub(super) struct Circumstances {
    pub(super) trust_domain: String,
    pub(super) place: String,
    pub(super) can_rotate: bool,
    pub(super) next_scheduled: Option<OffsetDateTime>,
    pub(super) troubles: Vec<String>,
}

/// A moment as RFC 3339, to the millisecond.
pub(super) fn text(at: OffsetDateTime) -> String {
    let at = at.replace_millisecond(at.millisecond()).unwrap_or(at);
    at.format(&Rfc3339).unwrap_or_else(|_| at.to_string())
}

/// How things stand.
pub(super) fn report(
    state: &State,
    evidence: &Evidence,
    about: &Circumstances,
    now: OffsetDateTime,
) -> report::Report {
    let gate = authority::present_gate(state, evidence, now);
    let mut readers = BTreeMap::<_, usize>::new();
    for reader in &evidence.readers {
        *readers.entry(reader.kind.name()).or_default() += 1;
    }
    report::Report {
        at: text(now),
        trust_domain: about.trust_domain.clone(),
        place: about.place.clone(),
        can_rotate: about.can_rotate,
        bundle: bundle(state),
        active: state.active().id.to_string(),
        authorities: state.authorities().iter().map(|one| authority(one, evidence, now)).collect(),
        rotation: gate.as_ref().and_then(|gate| rotation(state, gate, now)),
        last: state.past().last().map(past),
        replicas: evidence.replicas.iter().map(replica).collect(),
        readers: readers.into_iter().map(|(kind, count)| (kind.to_owned(), count)).collect(),
        published: match evidence.publication {
            Publication::NotNeeded => "not needed",
            Publication::Pending { .. } => "pending",
            Publication::Done { .. } => "done",
        }
        .to_owned(),
        next_scheduled: about.next_scheduled.map(text),
        troubles: about.troubles.clone(),
    }
}

fn bundle(state: &State) -> report::Bundle {
    let bundle = state.bundle();
    let root = |root: &crate::x509::Certificate| report::Root {
        fingerprint: root.fingerprint(),
        subject: root.facts().subject_text.clone(),
        expires_at: text(root.facts().not_after),
        authority: state.authorities().iter().find(|one| one.root == *root).map(|one| one.id.to_string()),
    };
    report::Bundle {
        sequence: state.sequence(),
        digest: bundle.digest(),
        roots: bundle.roots().iter().map(root).collect(),
        pem: bundle.to_pem(),
    }
}

fn authority(one: &authority::Authority, evidence: &Evidence, now: OffsetDateTime) -> report::Authority {
    let leaves = evidence.readers.iter().filter_map(|reader| {
        let ends = reader.leaves.iter().filter(|(id, until)| *id == one.id && *until > now);
        ends.map(|(_, until)| *until).max()
    });
    report::Authority {
        id: one.id.to_string(),
        subject: one.certificate().facts().subject_text.clone(),
        stage: one.stage.name().to_owned(),
        tainted_at: one.tainted.map(text),
        root: one.root.fingerprint(),
        cross_signed: one.cross.is_some(),
        expires_at: text(one.not_after()),
        prepared_at: text(one.prepared_at),
        activated_at: one.activated_at.map(text),
        retiring_since: one.retiring_since.map(text),
        in_use_by: leaves.clone().count(),
        last_leaf_expires_at: leaves.max().map(text),
    }
}

fn replica(one: &authority::Replica) -> report::Replica {
    report::Replica { name: one.name.clone(), sequence: one.sequence, signs_with: one.signs_with.to_string() }
}

fn rotation(state: &State, gate: &Gate, now: OffsetDateTime) -> Option<report::Rotation> {
    let rotation = state.rotation()?;
    let phase = authority::phase(state)?;
    Some(report::Rotation {
        kind: rotation.kind.name().to_owned(),
        by: rotation.by.clone(),
        automatic: rotation.automatic,
        rolled_back: rotation.rolled_back,
        window_s: rotation.window.as_secs_f64(),
        began_at: text(rotation.began_at),
        phase: phase.to_owned(),
        phases: phases(rotation, phase, gate, now),
        waiting: gate.waiting.iter().map(waiting).collect(),
        waiting_total: gate.waits_for(),
        forced: rotation.forced.clone(),
        estimate: estimate(state, phase, gate, now).map(text),
    })
}

/// The phases in their order: those before the present one are done, those after it are to come.
fn phases(
    rotation: &authority::Rotation,
    present: &str,
    gate: &Gate,
    now: OffsetDateTime,
) -> Vec<report::Phase> {
    let names = ["distribute", "reissue", "withdraw"];
    let began = [Some(rotation.began_at), rotation.activated_at, rotation.retired_at];
    let at = names.iter().position(|name| *name == present).unwrap_or(0);
    let phase = |number: usize, name: &str| {
        let begin = began.get(number).copied().flatten();
        let end = began.get(number + 1).copied().flatten();
        let seconds = |end: OffsetDateTime| begin.map(|begin| (end - begin).as_seconds_f64().max(0.0));
        let (state, done, total, took_s) = match number.cmp(&at) {
            std::cmp::Ordering::Less => ("done", 0, 0, end.and_then(seconds)),
            std::cmp::Ordering::Equal => ("now", gate.done(), gate.total, seconds(now)),
            std::cmp::Ordering::Greater => ("later", 0, 0, None),
        };
        report::Phase { name: name.to_owned(), state: state.to_owned(), done, total, took_s }
    };
    names.iter().enumerate().map(|(number, name)| phase(number, name)).collect()
}

/// When it could be over, if everybody who can be asked answers as they mostly do, and the others run out.
fn estimate(state: &State, phase: &str, gate: &Gate, now: OffsetDateTime) -> Option<OffsetDateTime> {
    let rotation = state.rotation()?;
    if gate.is_refused() {
        return None;
    }
    let window = time::Duration::try_from(rotation.window).unwrap_or(time::Duration::ZERO);
    let here = match phase {
        "reissue" => rotation.activated_at.map_or(now, |at| at + window + FAN_OUT),
        _ => now + FAN_OUT,
    };
    let last = gate.until().map_or(here, |until| here.max(until)).max(now);
    Some(match phase {
        "distribute" => last + window + FAN_OUT * 2,
        "reissue" => last + FAN_OUT,
        _ => last,
    })
}

pub(super) fn waiting(one: &authority::Waiting) -> report::Waiting {
    report::Waiting {
        who: one.who.clone(),
        pod: one.pod.clone(),
        node: one.node.clone(),
        kind: one.kind.to_owned(),
        why: one.why.clone(),
        until: one.until.map(text),
    }
}

fn past(one: &authority::Past) -> report::Past {
    let rotation = &one.rotation;
    let seconds = |from: Option<OffsetDateTime>, to: Option<OffsetDateTime>| {
        from.zip(to).map(|(from, to)| (to - from).as_seconds_f64().max(0.0))
    };
    let ended = Some(one.ended_at);
    let distributed = rotation.activated_at.or(ended);
    report::Past {
        kind: rotation.kind.name().to_owned(),
        by: rotation.by.clone(),
        outcome: one.outcome.name().to_owned(),
        began_at: text(rotation.began_at),
        ended_at: text(one.ended_at),
        took_s: (one.ended_at - rotation.began_at).as_seconds_f64().max(0.0),
        distribute_s: seconds(Some(rotation.began_at), distributed),
        reissue_s: seconds(rotation.activated_at, rotation.retired_at.or(ended)),
        withdraw_s: seconds(rotation.retired_at, ended),
        removed: one.removed.iter().map(ToString::to_string).collect(),
        forced: rotation.forced.clone(),
    }
}

/// Who reads the roots and has which certificates.
pub(super) fn readers(state: &State, known: &Known, now: OffsetDateTime) -> report::Readers {
    let digest = state.bundle().digest();
    report::Readers {
        at: text(now),
        sequence: state.sequence(),
        active: state.active().id.to_string(),
        readers: merge::holders(known).iter().map(|one| reader(one, &digest, now)).collect(),
        digest,
    }
}

fn reader(one: &Merged, digest: &str, now: OffsetDateTime) -> report::Reader {
    let holder = &one.holder;
    report::Reader {
        id: holder.id.clone(),
        spiffe_id: holder.spiffe_id.clone(),
        pod: holder.pod.clone(),
        node: holder.node.clone(),
        kind: merge::kind(holder).name().to_owned(),
        connected: !holder.open.is_empty(),
        connected_since: holder.open.iter().map(|one| one.since).min().map(moment).map(text),
        lost_at: holder.lost.filter(|_| holder.open.is_empty() && holder.streams).map(moment).map(text),
        sent: holder
            .open
            .iter()
            .filter_map(|one| one.sent.as_ref())
            .map(|(digest, _)| digest.clone())
            .next_back(),
        is_current: merge::trusted(holder) == Some(digest),
        acknowledged: merge::acknowledged(holder).map(str::to_owned),
        last_nack: holder.open.iter().find_map(|one| one.nack.clone()),
        leaves: one
            .leaves()
            .filter(|(_, span)| moment(span.until) > now)
            .map(|(id, span)| report::Leaf { authority: id.clone(), expires_at: text(moment(span.until)) })
            .collect(),
        replica: one.replica.clone(),
    }
}

/// A gate that is closed, in one sentence: what, how many, and who.
pub(super) fn closed(what: &str, gate: &Gate) -> String {
    let mut names: Vec<_> = gate
        .waiting
        .iter()
        .take(5)
        .map(|one| {
            let pod = one.pod.as_ref().map(|pod| format!(" (pod {pod})")).unwrap_or_default();
            let until = one.until.map(|until| format!(", until {}", text(until))).unwrap_or_default();
            format!("{}{pod} {}{until}", one.who, one.why)
        })
        .collect();
    if gate.waits_for() > names.len() {
        names.push(format!("and {} more", gate.waits_for() - names.len()));
    }
    format!(
        "{what}: {} of {} are waited for: {}; wait (--wait does), or go on without them by --force, which cuts them off",
        gate.waits_for(),
        gate.total,
        names.join("; ")
    )
}
