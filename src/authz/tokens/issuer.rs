//! Pure: whose tokens are taken, and what becomes of them?

use std::sync::Arc;

use crate::authz::jwt_issuer;
use crate::authz::jwt_issuer::JwtIssuer;
use crate::authz::jwt_issuer::TokenPlace;
use crate::authz::tokens::key_book::KeyBook;
use crate::authz::tokens::key_book::Published;
use crate::authz::tokens::key_set::KeySet;
use crate::authz::tokens::place::Place;

/// Where an issuer tells what there is to know of it, behind its name (OpenID Connect Discovery).
pub(super) const CONFIGURATION: &str = "/.well-known/openid-configuration";

/// An issuer whose tokens a workload takes, ready to be asked.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// Its name: the token's `iss`, letter by letter.
    pub name: Box<str>,
    /// A token must be for one of these (`aud`); without any, it may be for anybody.
    pub audiences: Vec<Box<str>>,
    /// What its tokens are verified by.
    pub keys: Keys,
    /// Where its tokens are looked for.
    pub places: Vec<Place>,
    /// Whether the token goes on to the workload.
    pub forward: bool,
    /// The header that the payload goes on in, as base64url; its name is in lower case.
    pub payload_header: Option<Box<str>>,
    /// Headers that claims go on in: name in lower case, and claim, with dots where it is nested.
    pub claim_headers: Vec<(Box<str>, Box<str>)>,
}

/// Where the keys of an issuer come from.
#[derive(Clone, Debug)]
pub enum Keys {
    /// They stand in the policy.
    Inline(Arc<KeySet>),
    /// They are fetched.
    Published(Arc<Published>),
    /// There are none, as what stands in the policy cannot be read: no token of this issuer is good.
    None,
}

impl Issuer {
    /// An issuer with the usual places and nothing else.
    pub fn new(name: &str, keys: Keys) -> Self {
        Self {
            name: name.into(),
            audiences: Vec::new(),
            keys,
            places: Place::usual().to_vec(),
            forward: false,
            payload_header: None,
            claim_headers: Vec::new(),
        }
    }

    /// The issuer that a rule of a `RequestAuthentication` names. Where its keys are published, `book` has them.
    pub fn of(rule: &JwtIssuer, book: &KeyBook) -> Self {
        let keys = match &rule.keys {
            jwt_issuer::Keys::Inline(text) => {
                KeySet::parse(text).map_or(Keys::None, |keys| Keys::Inline(Arc::new(keys)))
            }
            jwt_issuer::Keys::At(uri) => Keys::Published(book.follow(uri)),
            jwt_issuer::Keys::Discovered => {
                let name = rule.issuer.trim_end_matches('/');
                Keys::Published(book.follow(&format!("{name}{CONFIGURATION}")))
            }
            jwt_issuer::Keys::None => Keys::None,
        };
        let places: Vec<Place> = rule.places.iter().map(Place::from).collect();
        let in_lower_case = |name: &str| name.to_ascii_lowercase().into();
        Self {
            name: rule.issuer.as_str().into(),
            audiences: rule.audiences.iter().map(|one| one.as_str().into()).collect(),
            keys,
            places: if places.is_empty() { Place::usual().to_vec() } else { places },
            forward: rule.is_forwarded,
            payload_header: rule.payload_header.as_deref().map(in_lower_case),
            claim_headers: rule
                .claim_headers
                .iter()
                .map(|(header, claim)| (in_lower_case(header), claim.as_str().into()))
                .collect(),
        }
    }

    /// The headers that this issuer's tokens are handed on in; what a client sends under these names is not.
    pub fn handed_on(&self) -> impl Iterator<Item = &str> {
        self.payload_header.iter().chain(self.claim_headers.iter().map(|(name, _)| name)).map(|name| &**name)
    }
}

impl From<&TokenPlace> for Place {
    fn from(place: &TokenPlace) -> Self {
        match place {
            TokenPlace::Header { name, prefix } => {
                Self::Header { name: name.to_ascii_lowercase().into(), prefix: prefix.as_str().into() }
            }
            TokenPlace::Parameter(name) => Self::Parameter(name.as_str().into()),
            TokenPlace::Cookie(name) => Self::Cookie(name.as_str().into()),
        }
    }
}
