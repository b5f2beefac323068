//! What is kept of the authorities, as named parts, and can the active one sign?
//!
//! A copy of the parts brings everything back. `ca-cert.pem`, `ca-key.pem`, `root-cert.pem` and `cert-chain.pem` are named as
//! those of a plugged-in CA: such a Secret, mounted, is a --ca-dir. `authority.json` has the state, and each further key a part
//! of its own.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::authority::state::Authority;
use crate::authority::state::AuthorityId;
use crate::authority::state::State;
use crate::authority::wire;
use crate::identity::SpiffeId;
use crate::identity::TrustDomain;
use crate::signer::FileSigner;
use crate::signer::Issuer;
use crate::signer::IssuerError;
use crate::signer::NotCrossed;
use crate::signer::cross_certificate;
use crate::x509::Certificate;
use crate::x509::PrivateKey;
use crate::x509::TrustBundle;
use crate::x509::bundle::InvalidBundle;
use crate::x509::key::InvalidKey;
use crate::x509::pem;
use crate::x509::root;

/// How far a new root's NotBefore lies back, so that leaves under it can be backdated too.
const ROOT_BACKDATE: Duration = Duration::from_secs(3600);

/// The parts of a record, by name.
pub mod part {
    /// The active authority's signing certificate.
    pub const CERTIFICATE: &str = "ca-cert.pem";
    /// Its key.
    pub const KEY: &str = "ca-key.pem";
    /// Every root that is trusted.
    pub const ROOTS: &str = "root-cert.pem";
    /// The active authority's certificates, signing certificate first.
    pub const CHAIN: &str = "cert-chain.pem";
    /// The state. A record made before there was a rotation has none.
    pub const STATE: &str = "authority.json";
    /// What the names of further keys begin with.
    pub const FURTHER_KEY: &str = "key-";
}

/// Parts by name.
pub type Parts = BTreeMap<String, Zeroizing<Vec<u8>>>;

/// The authorities and their keys, as they are kept.
pub struct Record {
    /// The authorities.
    pub state: State,
    /// Their keys.
    keys: BTreeMap<AuthorityId, Arc<PrivateKey>>,
    /// Whether the parts were changed by hand since the state was written.
    is_edited: bool,
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record").field("state", &self.state).finish_non_exhaustive()
    }
}

/// Why parts are no record.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{part}`: {what}")]
pub struct Damage {
    part: String,
    what: String,
}

impl Damage {
    pub(super) fn of(part: &str, what: impl ToString) -> Self {
        Self { part: part.to_owned(), what: what.to_string() }
    }
}

/// Why a record cannot sign.
#[derive(Debug, thiserror::Error)]
pub enum UnfitRecord {
    /// The key cannot be used.
    #[error("its private key: {0}")]
    Key(#[from] InvalidKey),
    /// Its parts do not belong together.
    #[error("{0}")]
    Issuer(#[from] IssuerError),
    /// There is no key.
    #[error("the key of authority `{0}` is not there")]
    NoKey(AuthorityId),
    /// The root is of another trust domain.
    #[error(
        "its root is for trust domain `{stored}`, and `{wanted}` was asked for; set --trust-domain to the one it was made for, or choose another store"
    )]
    TrustDomain {
        /// What the root says.
        stored: String,
        /// What the configuration says.
        wanted: TrustDomain,
    },
}

/// Why a new root could not be made.
#[derive(Debug, thiserror::Error)]
pub enum NoNewRoot {
    /// Its key or certificate could not be made.
    #[error(transparent)]
    Root(#[from] root::RootError),
    /// Its key could not be made.
    #[error(transparent)]
    Key(#[from] InvalidKey),
    /// It is no CA certificate.
    #[error(transparent)]
    Bundle(#[from] InvalidBundle),
}

/// A new authority and its key.
#[derive(Debug)]
pub struct NewAuthority {
    /// The authority.
    pub authority: Authority,
    /// Its key.
    pub key: PrivateKey,
}

impl NewAuthority {
    /// A new self-signed root of `trust_domain`.
    ///
    /// # Errors
    /// If there is no randomness, or the lifetime goes beyond what a certificate can say.
    pub fn make(
        trust_domain: &TrustDomain,
        lifetime: Duration,
        now: OffsetDateTime,
    ) -> Result<Self, NoNewRoot> {
        let now = kept_precisely(now);
        let key = PrivateKey::generate()?;
        let not_before = now.replace_nanosecond(0).unwrap_or(now) - ROOT_BACKDATE;
        let certificate = root::self_signed(&key, trust_domain, not_before, lifetime + ROOT_BACKDATE)?;
        Ok(Self { authority: Authority::new(vec![certificate.clone()], certificate, now), key })
    }

    /// An authority that an operator brings.
    pub fn brought(chain: Vec<Certificate>, root: Certificate, key: PrivateKey, now: OffsetDateTime) -> Self {
        Self { authority: Authority::new(chain, root, kept_precisely(now)), key }
    }

    /// The same, with its root's key certified by the authority that signs in `record`: whoever knows only that one's root can
    /// verify leaves of this one.
    ///
    /// # Errors
    /// If it is no self-signed root, or the present authority is not one either.
    pub fn crossed(self, record: &Record) -> Result<Self, NotCrossed> {
        let present = record.state.active();
        let key = record.key(&present.id).ok_or(NotCrossed::NotRoots)?;
        let signer = FileSigner::new(key).map_err(|_| NotCrossed::NotRoots)?;
        if self.authority.certificate() != &self.authority.root || present.certificate() != &present.root {
            return Err(NotCrossed::NotRoots);
        }
        let cross = cross_certificate(&self.authority.root, &present.root, &signer)?;
        Ok(Self { authority: Authority { cross: Some(cross), ..self.authority }, ..self })
    }
}

impl Record {
    /// A new self-signed root of `trust_domain`, which alone is trusted.
    ///
    /// # Errors
    /// If there is no randomness, or the lifetime goes beyond what a certificate can say.
    pub fn new_root(
        trust_domain: &TrustDomain,
        lifetime: Duration,
        now: OffsetDateTime,
    ) -> Result<Self, NoNewRoot> {
        let now = kept_precisely(now);
        let NewAuthority { authority, key } = NewAuthority::make(trust_domain, lifetime, now)?;
        let keys = [(authority.id.clone(), Arc::new(key))].into();
        Ok(Self { state: State::first(authority, now), keys, is_edited: false })
    }

    /// The record that a step leads to: `state`, with `key` for the authority that has come in, if one has. Keys of
    /// authorities that are gone are gone.
    pub fn stepped(&self, state: State, key: Option<(AuthorityId, Arc<PrivateKey>)>) -> Self {
        let mut keys = self.keys.clone();
        keys.extend(key);
        keys.retain(|id, _| state.authority(id).is_some());
        Self { state, keys, is_edited: false }
    }

    /// Whether its parts were changed by hand since the state was written, so that the state is to be written again.
    pub fn is_edited(&self) -> bool {
        self.is_edited
    }

    /// The key of an authority.
    pub fn key(&self, id: &AuthorityId) -> Option<&Arc<PrivateKey>> {
        self.keys.get(id)
    }

    /// The signing root's certificate, or the intermediate's.
    pub fn certificate(&self) -> &Certificate {
        self.state.active().certificate()
    }

    /// The issuer that signs.
    ///
    /// # Errors
    /// If it is of another trust domain, or its parts do not belong together at `now`.
    pub fn issuer(&self, trust_domain: &TrustDomain, now: OffsetDateTime) -> Result<Issuer, UnfitRecord> {
        self.issuer_of(self.state.active(), trust_domain, now)
    }

    /// The issuer that the CA's own listener shows itself by.
    ///
    /// # Errors
    /// As [`Record::issuer`].
    pub fn serving(&self, trust_domain: &TrustDomain, now: OffsetDateTime) -> Result<Issuer, UnfitRecord> {
        self.issuer_of(self.state.serving(), trust_domain, now)
    }

    fn issuer_of(
        &self,
        authority: &Authority,
        trust_domain: &TrustDomain,
        now: OffsetDateTime,
    ) -> Result<Issuer, UnfitRecord> {
        check_trust_domain(authority, trust_domain)?;
        let key = self.keys.get(&authority.id).ok_or_else(|| UnfitRecord::NoKey(authority.id.clone()))?;
        let bundle = self.state.bundle();
        let signer = Arc::new(FileSigner::new(key)?);
        let issuer = Issuer::new(signer, authority.path(&bundle), bundle, now)?;
        Ok(issuer.called(authority.id.as_str()))
    }

    /// The record as parts.
    pub fn to_parts(&self) -> Parts {
        let active = self.state.active();
        let text = |text: String| Zeroizing::new(text.into_bytes());
        let mut parts: Parts = [
            (part::CERTIFICATE.to_owned(), text(pem::certificate(active.certificate().der()))),
            (part::ROOTS.to_owned(), text(self.state.bundle().to_pem())),
            (part::STATE.to_owned(), text(wire::to_json(&self.state))),
        ]
        .into();
        if active.certificate() != &active.root {
            let chain = active.chain.iter().map(|one| pem::certificate(one.der())).collect();
            parts.insert(part::CHAIN.to_owned(), text(chain));
        }
        for (id, key) in &self.keys {
            let name = match *id == active.id {
                true => part::KEY.to_owned(),
                false => format!("{}{id}.pem", part::FURTHER_KEY),
            };
            parts.insert(name, Zeroizing::new(key.secret_pem().as_bytes().to_vec()));
        }
        parts
    }

    /// Reads a record from its parts.
    ///
    /// Somebody may have put another signing key in its place by hand: then the files count, and what `authority.json` says of
    /// an authority that is not among them is passed over.
    ///
    /// # Errors
    /// The first part that is missing, cannot be read, or contradicts the others.
    pub fn from_parts(parts: &Parts) -> Result<Self, Damage> {
        let read = |name: &str| {
            let value = parts.get(name).map(|value| value.as_slice());
            value.ok_or_else(|| Damage::of(name, "is missing"))
        };
        let ders = pem::certificates(read(part::CERTIFICATE)?)
            .map_err(|error| Damage::of(part::CERTIFICATE, error))?;
        let [certificate] = ders.try_into().map_err(|several: Vec<_>| {
            let found = several.len();
            Damage::of(part::CERTIFICATE, format!("holds {found} certificates, and one is needed"))
        })?;
        let certificate =
            Certificate::from_der(certificate).map_err(|error| Damage::of(part::CERTIFICATE, error))?;
        let key = PrivateKey::from_pem(read(part::KEY)?).map_err(|error| Damage::of(part::KEY, error))?;
        let bundle =
            TrustBundle::from_pem(read(part::ROOTS)?).map_err(|error| Damage::of(part::ROOTS, error))?;
        let stated = parts.get(part::STATE).map(|json| wire::from_json(json)).transpose();
        let stated = stated.map_err(|error| Damage::of(part::STATE, error))?;
        match stated {
            Some(state) if state.active().certificate() == &certificate => {
                Self::as_stated(state, key, &bundle, parts)
            }
            other => {
                // Later than whatever it stands in the place of.
                let later = |number: u64| number.saturating_add(1);
                let numbers = other.map_or((1, 0), |state| (later(state.sequence()), later(state.steps())));
                let chain = parts.get(part::CHAIN).map(|text| text.as_slice());
                Self::by_hand(certificate, key, chain, &bundle, numbers)
            }
        }
    }

    fn as_stated(
        state: State,
        active: PrivateKey,
        bundle: &TrustBundle,
        parts: &Parts,
    ) -> Result<Self, Damage> {
        for root in state.bundle().roots().iter().filter(|root| !bundle.contains(root)) {
            if *root == state.active().root {
                return Err(without_signing_root(root));
            }
            let own = state.authorities().iter().find(|one| one.root == *root);
            if let Some(own) = own {
                let what = format!(
                    "lacks the root of authority `{}`, which is {}; a root leaves by `burgrave root retire` or `abort`",
                    own.id,
                    own.stage.name()
                );
                return Err(Damage::of(part::ROOTS, what));
            }
        }
        let mut keys = BTreeMap::from([(state.active().id.clone(), Arc::new(active))]);
        for one in state.authorities().iter().filter(|one| one.id != state.active().id) {
            let name = format!("{}{}.pem", part::FURTHER_KEY, one.id);
            let text = parts.get(&name).ok_or_else(|| Damage::of(&name, "is missing"))?;
            let key = PrivateKey::from_pem(text).map_err(|error| Damage::of(&name, error))?;
            if key.spki() != one.certificate().facts().spki {
                return Err(Damage::of(&name, "does not belong to that authority's certificate"));
            }
            keys.insert(one.id.clone(), Arc::new(key));
        }
        // What stands in the bundle beside the roots of trusted authorities, an operator has put there.
        let extra: Vec<_> =
            bundle.roots().iter().filter(|root| !state.is_of_authority(root)).cloned().collect();
        let is_edited = state.extra() != extra.as_slice();
        let state = match is_edited {
            true => state.with_extra(extra).map_err(|error| Damage::of(part::ROOTS, error))?,
            false => state,
        };
        Ok(Self { state, keys, is_edited })
    }

    fn by_hand(
        certificate: Certificate,
        key: PrivateKey,
        chain: Option<&[u8]>,
        bundle: &TrustBundle,
        (sequence, steps): (u64, u64),
    ) -> Result<Self, Damage> {
        let mut path = vec![certificate.clone()];
        if let Some(text) = chain {
            let ders = pem::certificates(text).map_err(|error| Damage::of(part::CHAIN, error))?;
            for der in ders {
                let one = Certificate::from_der(der).map_err(|error| Damage::of(part::CHAIN, error))?;
                if !path.contains(&one) && !bundle.contains(&one) {
                    path.push(one);
                }
            }
        }
        let last = path.last().unwrap_or(&certificate);
        let root = match bundle.contains(&certificate) {
            true => Some(&certificate),
            false => bundle.roots().iter().find(|root| last.is_signed_by(root)),
        };
        let root = root.ok_or_else(|| without_signing_root(&certificate))?.clone();
        let since = certificate.facts().not_before;
        let authority = Authority::new(path, root.clone(), since);
        let id = authority.id.clone();
        let extra = bundle.roots().iter().filter(|one| **one != root).cloned().collect();
        let state = State::first(authority, since)
            .with_extra(extra)
            .map_err(|error| Damage::of(part::ROOTS, error))?
            .numbered(sequence, steps);
        Ok(Self { state, keys: [(id, Arc::new(key))].into(), is_edited: true })
    }
}

fn without_signing_root(root: &Certificate) -> Damage {
    let what = format!(
        "its trusted roots do not contain the signing root `{}`; nobody would trust what it signs",
        root.facts().subject_text
    );
    Damage::of(part::ROOTS, what)
}

/// A root of ours carries the SPIFFE ID of its trust domain; what an operator has brought may carry none, but no other.
fn check_trust_domain(authority: &Authority, wanted: &TrustDomain) -> Result<(), UnfitRecord> {
    let expected = SpiffeId::of_trust_domain(wanted).to_string();
    let uris = &authority.certificate().facts().uris;
    let is_ours = authority.certificate() == &authority.root;
    let fits = match is_ours {
        true => *uris == [expected],
        false => foreign_id(authority.certificate(), wanted).is_none(),
    };
    match fits {
        true => Ok(()),
        false => Err(UnfitRecord::TrustDomain { stored: uris.join(" "), wanted: wanted.clone() }),
    }
}

/// A moment as finely as it is kept, so that a state is the same before it is written and after it is read.
pub(super) fn kept_precisely(at: OffsetDateTime) -> OffsetDateTime {
    at.replace_millisecond(at.millisecond()).unwrap_or(at)
}

/// A SPIFFE ID in a signing certificate that is not its trust domain's own, if there is one.
pub(super) fn foreign_id<'a>(one: &'a Certificate, wanted: &TrustDomain) -> Option<&'a str> {
    let expected = SpiffeId::of_trust_domain(wanted).to_string();
    let mut ids = one.facts().uris.iter().filter(|uri| uri.to_ascii_lowercase().starts_with("spiffe:"));
    ids.find(|uri| **uri != expected).map(String::as_str)
}
