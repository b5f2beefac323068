//! Pure: the state as JSON, as it is kept.

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;
use time::OffsetDateTime;

use crate::authority::state::Authority;
use crate::authority::state::AuthorityId;
use crate::authority::state::Kind;
use crate::authority::state::Outcome;
use crate::authority::state::Past;
use crate::authority::state::Rotation;
use crate::authority::state::Stage;
use crate::authority::state::State;
use crate::authority::state::Unsound;
use crate::x509::Certificate;
use crate::x509::certificate::InvalidCertificate;
use crate::x509::pem;

/// The form that this program writes.
const FORM: u32 = 1;

/// Why JSON is not a state.
#[derive(Debug, thiserror::Error)]
pub(super) enum InvalidState {
    /// It is not JSON of this form.
    #[error("it is not the JSON of a state: {0}")]
    Json(#[from] serde_json::Error),
    /// A later program has written it.
    #[error(
        "it is of form {0}, and this program knows form {FORM}; run the program that wrote it, or a later one"
    )]
    Form(u32),
    /// A certificate is not PEM.
    #[error("a certificate in it: {0}")]
    Pem(#[from] pem::InvalidPem),
    /// A certificate cannot be read.
    #[error("a certificate in it: {0}")]
    Certificate(#[from] InvalidCertificate),
    /// There is none where one is needed.
    #[error("authority `{0}` has no certificate")]
    NoCertificate(String),
    /// A moment is beyond what can be told.
    #[error("{0} is no moment in time")]
    Moment(i64),
    /// The name of an authority is not that of its certificate.
    #[error("authority `{named}` has the certificate of `{found}`")]
    Name {
        /// What it is called.
        named: String,
        /// What its certificate is called.
        found: AuthorityId,
    },
    /// Its parts are not sound together.
    #[error(transparent)]
    Unsound(#[from] Unsound),
}

#[derive(Serialize, Deserialize)]
struct Wire {
    form: u32,
    sequence: u64,
    steps: u64,
    authorities: Vec<WireAuthority>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    extra: Vec<String>,
    rotation: Option<WireRotation>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    past: Vec<WirePast>,
}

#[derive(Serialize, Deserialize)]
struct WireAuthority {
    id: String,
    stage: WireStage,
    chain: String,
    root: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cross: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tainted: Option<i64>,
    prepared_at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    activated_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retiring_since: Option<i64>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WireStage {
    Prepared,
    Active,
    Retiring,
    Retired,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WireKind {
    Ordered,
    Scheduled,
    Emergency,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum WireOutcome {
    Done,
    Aborted,
    RolledBack,
}

#[derive(Serialize, Deserialize)]
struct WireRotation {
    kind: WireKind,
    by: String,
    automatic: bool,
    window_ms: u64,
    began_at: i64,
    activated_at: Option<i64>,
    retired_at: Option<i64>,
    rolled_back: bool,
    forced: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct WirePast {
    rotation: WireRotation,
    outcome: WireOutcome,
    ended_at: i64,
    removed: Vec<String>,
}

/// The state as JSON.
pub(super) fn to_json(state: &State) -> String {
    let wire = Wire {
        form: FORM,
        sequence: state.sequence(),
        steps: state.steps(),
        authorities: state.authorities().iter().map(from_authority).collect(),
        extra: state.extra().iter().map(|one| pem::certificate(one.der())).collect(),
        rotation: state.rotation().map(from_rotation),
        past: state.past().iter().map(from_past).collect(),
    };
    // Texts and numbers always are JSON.
    serde_json::to_string_pretty(&wire).unwrap_or_default()
}

/// Reads a state.
///
/// # Errors
/// If it is not JSON of this form, or not sound.
pub(super) fn from_json(json: &[u8]) -> Result<State, InvalidState> {
    let wire: Wire = serde_json::from_slice(json)?;
    if wire.form != FORM {
        return Err(InvalidState::Form(wire.form));
    }
    let all = |texts: Vec<String>| -> Result<Vec<Certificate>, InvalidState> {
        texts.iter().try_fold(Vec::new(), |mut list, text| {
            list.extend(certificates(text)?);
            Ok(list)
        })
    };
    let authorities = wire.authorities.into_iter().map(to_authority).collect::<Result<_, _>>()?;
    let past = wire.past.into_iter().map(to_past).collect::<Result<_, _>>()?;
    let rotation = wire.rotation.map(to_rotation).transpose()?;
    Ok(State::of((wire.sequence, wire.steps), authorities, all(wire.extra)?, rotation, past)?)
}

fn from_authority(one: &Authority) -> WireAuthority {
    WireAuthority {
        id: one.id.to_string(),
        stage: match one.stage {
            Stage::Prepared => WireStage::Prepared,
            Stage::Active => WireStage::Active,
            Stage::Retiring => WireStage::Retiring,
            Stage::Retired => WireStage::Retired,
        },
        chain: one.chain.iter().map(|one| pem::certificate(one.der())).collect(),
        root: pem::certificate(one.root.der()),
        cross: one.cross.as_ref().map(|one| pem::certificate(one.der())),
        tainted: one.tainted.map(milliseconds),
        prepared_at: milliseconds(one.prepared_at),
        activated_at: one.activated_at.map(milliseconds),
        retiring_since: one.retiring_since.map(milliseconds),
    }
}

fn to_authority(wire: WireAuthority) -> Result<Authority, InvalidState> {
    let one = |text: &str| {
        let found = certificates(text)?.into_iter().next();
        found.ok_or_else(|| InvalidState::NoCertificate(wire.id.clone()))
    };
    let authority = Authority::new(certificates(&wire.chain)?, one(&wire.root)?, moment(wire.prepared_at)?);
    if authority.id.as_str() != wire.id {
        return Err(InvalidState::Name { named: wire.id, found: authority.id });
    }
    Ok(Authority {
        cross: wire.cross.as_deref().map(one).transpose()?,
        stage: match wire.stage {
            WireStage::Prepared => Stage::Prepared,
            WireStage::Active => Stage::Active,
            WireStage::Retiring => Stage::Retiring,
            WireStage::Retired => Stage::Retired,
        },
        tainted: wire.tainted.map(moment).transpose()?,
        activated_at: wire.activated_at.map(moment).transpose()?,
        retiring_since: wire.retiring_since.map(moment).transpose()?,
        ..authority
    })
}

fn from_rotation(one: &Rotation) -> WireRotation {
    WireRotation {
        kind: match one.kind {
            Kind::Ordered => WireKind::Ordered,
            Kind::Scheduled => WireKind::Scheduled,
            Kind::Emergency => WireKind::Emergency,
        },
        by: one.by.clone(),
        automatic: one.automatic,
        window_ms: u64::try_from(one.window.as_millis()).unwrap_or(u64::MAX),
        began_at: milliseconds(one.began_at),
        activated_at: one.activated_at.map(milliseconds),
        retired_at: one.retired_at.map(milliseconds),
        rolled_back: one.rolled_back,
        forced: one.forced.clone(),
    }
}

fn to_rotation(wire: WireRotation) -> Result<Rotation, InvalidState> {
    Ok(Rotation {
        kind: match wire.kind {
            WireKind::Ordered => Kind::Ordered,
            WireKind::Scheduled => Kind::Scheduled,
            WireKind::Emergency => Kind::Emergency,
        },
        by: wire.by,
        automatic: wire.automatic,
        window: Duration::from_millis(wire.window_ms),
        began_at: moment(wire.began_at)?,
        activated_at: wire.activated_at.map(moment).transpose()?,
        retired_at: wire.retired_at.map(moment).transpose()?,
        rolled_back: wire.rolled_back,
        forced: wire.forced,
    })
}

fn from_past(one: &Past) -> WirePast {
    WirePast {
        rotation: from_rotation(&one.rotation),
        outcome: match one.outcome {
            Outcome::Done => WireOutcome::Done,
            Outcome::Aborted => WireOutcome::Aborted,
            Outcome::RolledBack => WireOutcome::RolledBack,
        },
        ended_at: milliseconds(one.ended_at),
        removed: one.removed.iter().map(AuthorityId::to_string).collect(),
    }
}

fn to_past(wire: WirePast) -> Result<Past, InvalidState> {
    Ok(Past {
        rotation: to_rotation(wire.rotation)?,
        outcome: match wire.outcome {
            WireOutcome::Done => Outcome::Done,
            WireOutcome::Aborted => Outcome::Aborted,
            WireOutcome::RolledBack => Outcome::RolledBack,
        },
        ended_at: moment(wire.ended_at)?,
        removed: wire.removed.iter().map(|id| AuthorityId::from(id.as_str())).collect(),
    })
}

fn certificates(text: &str) -> Result<Vec<Certificate>, InvalidState> {
    let ders = pem::certificates(text.as_bytes())?;
    ders.into_iter().map(|der| Ok(Certificate::from_der(der)?)).collect()
}

/// The steps of a rotation may be milliseconds apart; what is finer is not kept.
fn milliseconds(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

fn moment(at: i64) -> Result<OffsetDateTime, InvalidState> {
    let nanos = i128::from(at) * 1_000_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos).map_err(|_| InvalidState::Moment(at))
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
