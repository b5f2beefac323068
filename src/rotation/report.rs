//! Pure: how things stand, as operators and programs read it. These are the documents of `--output json`.
//!
//! Moments are RFC 3339 texts in UTC, times are seconds. What an older program does not tell is empty to a newer one.

use serde::Deserialize;
use serde::Serialize;

/// How the authorities stand, and how far a rotation is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// When this was so.
    pub at: String,
    /// The trust domain.
    pub trust_domain: String,
    /// Where the authorities are kept.
    pub place: String,
    /// Whether they can be rotated here; `false` for a CA that only reads files.
    pub can_rotate: bool,
    /// What is trusted.
    pub bundle: Bundle,
    /// The id of the authority that signs.
    pub active: String,
    /// All authorities, oldest first.
    pub authorities: Vec<Authority>,
    /// The rotation under way.
    pub rotation: Option<Rotation>,
    /// The last rotation that ended.
    pub last: Option<Past>,
    /// The processes that sign and serve.
    pub replicas: Vec<Replica>,
    /// How many readers there are, by kind: `agent`, `client`, `pod`, `unheard`.
    pub readers: std::collections::BTreeMap<String, usize>,
    /// Where the roots are published: `not needed`, `pending`, `done`.
    pub published: String,
    /// When a rotation begins by itself, if one does.
    pub next_scheduled: Option<String>,
    /// What is wrong now.
    pub troubles: Vec<String>,
}

/// What is trusted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bundle {
    /// Grows with each change.
    pub sequence: u64,
    /// Names this set of roots; the version under which proxies have it.
    pub digest: String,
    /// The roots.
    pub roots: Vec<Root>,
    /// The roots as PEM.
    pub pem: String,
}

/// A trusted root.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Root {
    /// SHA-256 of the certificate.
    pub fingerprint: String,
    /// Its subject.
    pub subject: String,
    /// When it expires.
    pub expires_at: String,
    /// The authority it belongs to; `None` for one that an operator trusts beside them.
    pub authority: Option<String>,
}

/// An authority.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Authority {
    /// Its id.
    pub id: String,
    /// Subject of its signing certificate.
    pub subject: String,
    /// `prepared`, `active`, `retiring`, `retired`.
    pub stage: String,
    /// When it was tainted.
    pub tainted_at: Option<String>,
    /// Fingerprint of its root.
    pub root: String,
    /// Whether its root is certified by the one before.
    pub cross_signed: bool,
    /// When the first certificate on its path expires.
    pub expires_at: String,
    /// When it was made or brought.
    pub prepared_at: String,
    /// When it first signed.
    pub activated_at: Option<String>,
    /// Since when it signs no more.
    pub retiring_since: Option<String>,
    /// How many readers may have a leaf of it in use.
    pub in_use_by: usize,
    /// When the last of those leaves expires.
    pub last_leaf_expires_at: Option<String>,
}

/// A rotation under way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rotation {
    /// `ordered`, `scheduled`, `emergency`.
    pub kind: String,
    /// Who ordered it.
    pub by: String,
    /// Whether it goes on by itself.
    pub automatic: bool,
    /// Whether it was turned back.
    pub rolled_back: bool,
    /// Time within which workloads move.
    pub window_s: f64,
    /// When it began.
    pub began_at: String,
    /// The present phase: `distribute`, `reissue`, `withdraw`.
    pub phase: String,
    /// All phases in order.
    pub phases: Vec<Phase>,
    /// Whom the present phase waits for; at most a hundred.
    pub waiting: Vec<Waiting>,
    /// How many it waits for.
    pub waiting_total: usize,
    /// What was done without evidence, and by whom.
    pub forced: Vec<String>,
    /// When it could be over if all goes well, for want of a better word: an estimate.
    pub estimate: Option<String>,
}

/// A phase of a rotation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Phase {
    /// `distribute`, `reissue`, `withdraw`.
    pub name: String,
    /// `done`, `now`, `later`.
    pub state: String,
    /// How many have done what it waits for.
    pub done: usize,
    /// How many it is about.
    pub total: usize,
    /// How long it has taken so far.
    pub took_s: Option<f64>,
}

/// One whom a phase waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Waiting {
    /// Its SPIFFE ID, or the name of what is missing.
    pub who: String,
    /// Its pod, as `namespace/name`.
    pub pod: Option<String>,
    /// Its node.
    pub node: Option<String>,
    /// `agent`, `client`, `pod`, `unheard`, `replica`, `published`.
    pub kind: String,
    /// What it has not done.
    pub why: String,
    /// When it stops to count, if it does so by itself.
    pub until: Option<String>,
}

/// A rotation that has ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Past {
    /// `ordered`, `scheduled`, `emergency`.
    pub kind: String,
    /// Who ordered it.
    pub by: String,
    /// `done`, `aborted`, `rolled back`.
    pub outcome: String,
    /// When it began.
    pub began_at: String,
    /// When it ended.
    pub ended_at: String,
    /// How long it took.
    pub took_s: f64,
    /// How long each phase took, where it was reached.
    pub distribute_s: Option<f64>,
    /// See above.
    pub reissue_s: Option<f64>,
    /// See above.
    pub withdraw_s: Option<f64>,
    /// Authorities that went with it.
    pub removed: Vec<String>,
    /// What was done without evidence, and by whom.
    pub forced: Vec<String>,
}

/// A process that signs and serves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Replica {
    /// Its name.
    pub name: String,
    /// The number of the roots that it serves.
    pub sequence: u64,
    /// The authority that signs in it.
    pub signs_with: String,
}

/// Who reads the roots and has which certificates: the document of `burgrave proxy list`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Readers {
    /// When this was so.
    pub at: String,
    /// The number of the present roots.
    pub sequence: u64,
    /// Their digest.
    pub digest: String,
    /// The id of the authority that signs.
    pub active: String,
    /// All of them, by name.
    pub readers: Vec<Reader>,
}

/// One reader.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reader {
    /// Names it for `burgrave proxy show`.
    pub id: String,
    /// Its SPIFFE ID.
    pub spiffe_id: String,
    /// Its pod, as `namespace/name`.
    pub pod: Option<String>,
    /// Its node.
    pub node: Option<String>,
    /// `agent`, `client`, `pod`, `unheard`.
    pub kind: String,
    /// Whether it holds a stream open.
    pub connected: bool,
    /// Since when its stream is open.
    pub connected_since: Option<String>,
    /// Since when it is gone, if it had one.
    pub lost_at: Option<String>,
    /// Digest of the roots that were last sent to it.
    pub sent: Option<String>,
    /// Digest of the roots that it is known to trust.
    pub acknowledged: Option<String>,
    /// Whether those are the present ones.
    pub is_current: bool,
    /// Why it last refused something.
    pub last_nack: Option<String>,
    /// Its leaves that may be in use.
    pub leaves: Vec<Leaf>,
    /// The replica that knows it, if it is another one than the one asked.
    pub replica: Option<String>,
}

/// A leaf that may be in use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Leaf {
    /// Who signed it.
    pub authority: String,
    /// When it expires.
    pub expires_at: String,
}
