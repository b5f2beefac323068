//! Pure: which authorities are there, which one signs, and which roots are trusted?
//!
//! What is trusted and what signs are two lists under one state. A root is trusted from the moment it is prepared until it
//! is retired; it signs only while it is active:
//!
//! ```text
//!            trusted ───────────────────────────────┐
//! prepared ── activate ─► active ── activate ─► retiring ── retire ─► retired ── remove ─► (gone, key and all)
//!     │                  the next one │  ▲                 not trusted, key kept
//!     └── abort ─► (gone)             └──┘ roll back
//! ```

use std::fmt;
use std::time::Duration;

use time::OffsetDateTime;

use crate::x509::Certificate;
use crate::x509::TrustBundle;
use crate::x509::bundle::InvalidBundle;

/// How many finished rotations are remembered.
const REMEMBERED: usize = 8;

/// Names an authority: the beginning of its signing certificate's fingerprint.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AuthorityId(String);

impl AuthorityId {
    /// The id of the authority that signs with `certificate`'s key.
    pub fn of(certificate: &Certificate) -> Self {
        Self(certificate.fingerprint().chars().take(16).collect())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for AuthorityId {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for AuthorityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AuthorityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where an authority is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Its root is trusted, and it signs nothing yet.
    Prepared,
    /// It signs.
    Active,
    /// It signs no more, and its root is still trusted.
    Retiring,
    /// Its root is no longer trusted; the key is still there.
    Retired,
}

impl Stage {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Active => "active",
            Self::Retiring => "retiring",
            Self::Retired => "retired",
        }
    }

    fn is_trusted(self) -> bool {
        self != Self::Retired
    }
}

/// A signing key's certificates, and where they are in their life. The key itself is kept beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// Its name.
    pub id: AuthorityId,
    /// The certificate of the signing key first, then those above it without the root; for a root that signs leaves itself,
    /// that root alone.
    pub chain: Vec<Certificate>,
    /// The root that the chain leads to.
    pub root: Certificate,
    /// The signing root's key certified by the authority before it, for readers that cannot be asked.
    pub cross: Option<Certificate>,
    /// Where it is.
    pub stage: Stage,
    /// When somebody said that its key cannot be trusted any more.
    pub tainted: Option<OffsetDateTime>,
    /// When it was made or brought.
    pub prepared_at: OffsetDateTime,
    /// When it first signed.
    pub activated_at: Option<OffsetDateTime>,
    /// Since when it signs no more.
    pub retiring_since: Option<OffsetDateTime>,
}

impl Authority {
    /// A new one, prepared at `now`.
    pub fn new(chain: Vec<Certificate>, root: Certificate, now: OffsetDateTime) -> Self {
        let id = AuthorityId::of(chain.first().unwrap_or(&root));
        Self {
            id,
            chain,
            root,
            cross: None,
            stage: Stage::Prepared,
            tainted: None,
            prepared_at: now,
            activated_at: None,
            retiring_since: None,
        }
    }

    /// The certificate whose key signs.
    pub fn certificate(&self) -> &Certificate {
        self.chain.first().unwrap_or(&self.root)
    }

    /// What stands between a leaf and a trusted root while `bundle` is trusted, signing certificate first. The
    /// cross-certificate only while its own root is: then everybody who knows either root can verify the leaf.
    pub fn path(&self, bundle: &TrustBundle) -> Vec<Certificate> {
        match &self.cross {
            Some(cross)
                if bundle.roots().iter().any(|root| *root != self.root && cross.is_signed_by(root)) =>
            {
                vec![cross.clone()]
            }
            _ => self.chain.clone(),
        }
    }

    /// When the first certificate on its path expires.
    pub fn not_after(&self) -> OffsetDateTime {
        let ends = self.chain.iter().chain([&self.root]).map(|one| one.facts().not_after);
        ends.min().unwrap_or(self.root.facts().not_after)
    }
}

/// Why a rotation began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Somebody asked for it.
    Ordered,
    /// The active authority had reached its age.
    Scheduled,
    /// A key was tainted: who cannot be asked is not waited for.
    Emergency,
}

impl Kind {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ordered => "ordered",
            Self::Scheduled => "scheduled",
            Self::Emergency => "emergency",
        }
    }
}

/// A rotation under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Why.
    pub kind: Kind,
    /// Who ordered it.
    pub by: String,
    /// Whether its steps are taken as soon as there is evidence for them, or each by an operator.
    pub automatic: bool,
    /// Workloads move to the active authority within this time.
    pub window: Duration,
    /// When it was prepared.
    pub began_at: OffsetDateTime,
    /// When the new authority first signed.
    pub activated_at: Option<OffsetDateTime>,
    /// When the old root left the bundle.
    pub retired_at: Option<OffsetDateTime>,
    /// Whether it was turned back after the new authority had signed.
    pub rolled_back: bool,
    /// What was done without evidence, and by whom.
    pub forced: Vec<String>,
}

/// How a rotation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The old key is gone.
    Done,
    /// It was withdrawn before the new authority had signed anything.
    Aborted,
    /// The old authority signs again, and the new one is gone.
    RolledBack,
}

impl Outcome {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Aborted => "aborted",
            Self::RolledBack => "rolled back",
        }
    }
}

/// A rotation that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// The rotation.
    pub rotation: Rotation,
    /// How it ended.
    pub outcome: Outcome,
    /// When.
    pub ended_at: OffsetDateTime,
    /// Which authorities went with it.
    pub removed: Vec<AuthorityId>,
}

/// The state of all authorities of a cluster. Every value of this type is sound: see [`State::check`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Grows with each change of the trusted roots, and never otherwise.
    pub(super) sequence: u64,
    /// Grows with each step: of two states of one store, whichever has taken more is the later one.
    pub(super) steps: u64,
    /// Oldest first.
    pub(super) authorities: Vec<Authority>,
    /// Roots that an operator trusts beside those of the authorities.
    pub(super) extra: Vec<Certificate>,
    pub(super) rotation: Option<Rotation>,
    /// Oldest first.
    pub(super) past: Vec<Past>,
}

/// Why a state is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsound {
    /// Not one authority signs, but none or several.
    #[error("{0} authorities are active, and exactly one must be")]
    Active(usize),
    /// More than one is prepared.
    #[error("{0} authorities are prepared, and at most one may be")]
    Prepared(usize),
    /// Two have the same key and certificate.
    #[error("authority `{0}` is there twice")]
    Twice(AuthorityId),
    /// An authority is on its way, and no rotation is.
    #[error("authority `{0}` is on its way in or out, and no rotation is under way")]
    Stray(AuthorityId),
    /// Its roots are no bundle.
    #[error(transparent)]
    Bundle(#[from] InvalidBundle),
}

impl State {
    /// The state of a first start: one authority, which signs.
    pub fn first(authority: Authority, now: OffsetDateTime) -> Self {
        let authority = Authority { stage: Stage::Active, activated_at: Some(now), ..authority };
        Self {
            sequence: 1,
            steps: 0,
            authorities: vec![authority],
            extra: vec![],
            rotation: None,
            past: vec![],
        }
    }

    /// Joins the parts of a state.
    ///
    /// # Errors
    /// If they are not sound together.
    pub fn of(
        (sequence, steps): (u64, u64),
        authorities: Vec<Authority>,
        extra: Vec<Certificate>,
        rotation: Option<Rotation>,
        past: Vec<Past>,
    ) -> Result<Self, Unsound> {
        let state = Self { sequence, steps, authorities, extra, rotation, past };
        state.check()?;
        Ok(state)
    }

    /// Whether it is sound: exactly one authority signs, at most one is prepared, none is there twice, whatever is on its
    /// way belongs to a rotation, and the roots are a bundle.
    ///
    /// # Errors
    /// The first of these that does not hold.
    pub fn check(&self) -> Result<(), Unsound> {
        let at = |stage| self.authorities.iter().filter(|one| one.stage == stage).count();
        match (at(Stage::Active), at(Stage::Prepared)) {
            (1, 0 | 1) => {}
            (1, several) => return Err(Unsound::Prepared(several)),
            (other, _) => return Err(Unsound::Active(other)),
        }
        for (place, one) in self.authorities.iter().enumerate() {
            if self.authorities.iter().take(place).any(|other| other.id == one.id) {
                return Err(Unsound::Twice(one.id.clone()));
            }
            if one.stage != Stage::Active && self.rotation.is_none() {
                return Err(Unsound::Stray(one.id.clone()));
            }
        }
        TrustBundle::new(self.roots())?;
        Ok(())
    }

    /// The number of this set of roots.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// How many steps have led to it. Unlike [`State::sequence`], this also tells apart states that trust the same roots.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// All authorities, oldest first.
    pub fn authorities(&self) -> &[Authority] {
        &self.authorities
    }

    /// The authority that signs.
    pub fn active(&self) -> &Authority {
        let active = self.authorities.iter().find(|one| one.stage == Stage::Active);
        active.expect("INVARIANT: `check` found exactly one, and every step is checked")
    }

    /// The authority that is prepared, if one is.
    pub fn prepared(&self) -> Option<&Authority> {
        self.at(Stage::Prepared).next()
    }

    /// The authorities at that stage, oldest first.
    pub fn at(&self, stage: Stage) -> impl Iterator<Item = &Authority> {
        self.authorities.iter().filter(move |one| one.stage == stage)
    }

    /// The authority of that name.
    pub fn authority(&self, id: &AuthorityId) -> Option<&Authority> {
        self.authorities.iter().find(|one| one.id == *id)
    }

    /// The authority that the CA's own listener shows itself by: the one that signs, or the retiring one for as long as it is
    /// trusted. So clients whose root file is late know the CA until the old root goes, and by then have had both for long.
    pub fn serving(&self) -> &Authority {
        self.at(Stage::Retiring).find(|one| one.tainted.is_none()).unwrap_or_else(|| self.active())
    }

    /// The rotation under way.
    pub fn rotation(&self) -> Option<&Rotation> {
        self.rotation.as_ref()
    }

    /// Finished rotations, oldest first.
    pub fn past(&self) -> &[Past] {
        &self.past
    }

    /// Roots that are trusted beside those of the authorities.
    pub fn extra(&self) -> &[Certificate] {
        &self.extra
    }

    /// The trusted roots.
    pub fn bundle(&self) -> TrustBundle {
        TrustBundle::new(self.roots()).expect("INVARIANT: `check` has made one of the same roots")
    }

    /// Whether this is the root of an authority that is trusted.
    pub fn is_of_authority(&self, root: &Certificate) -> bool {
        self.authorities.iter().any(|one| one.stage.is_trusted() && one.root == *root)
    }

    fn roots(&self) -> Vec<Certificate> {
        let own = self.authorities.iter().filter(|one| one.stage.is_trusted()).map(|one| &one.root);
        own.chain(&self.extra).cloned().collect()
    }

    /// The same with these roots beside those of the authorities; a change of the roots has a new number.
    ///
    /// # Errors
    /// If that is not sound.
    pub(super) fn with_extra(self, extra: Vec<Certificate>) -> Result<Self, Unsound> {
        let before = self.bundle();
        let mut next = Self { extra, ..self };
        next.check()?;
        if next.bundle() != before {
            next.sequence = next.sequence.saturating_add(1);
            next.steps = next.steps.saturating_add(1);
        }
        Ok(next)
    }

    /// The same under other numbers.
    pub(super) fn numbered(self, sequence: u64, steps: u64) -> Self {
        Self { sequence, steps, ..self }
    }

    pub(super) fn remember(&mut self, past: Past) {
        self.past.push(past);
        let surplus = self.past.len().saturating_sub(REMEMBERED);
        self.past.drain(..surplus);
    }
}
