//! Pure: whose tokens are believed at a workload, and what is done with them?

use std::fmt;
use std::time::Duration;

use crate::authz::resource::id::ResourceId;

/// An issuer of tokens, as one rule of a `RequestAuthentication` names it.
///
/// A request without a token passes; that one is needed, policies have to say. A request with a token that is not good is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtIssuer {
    /// The object that names it.
    pub by: ResourceId,
    /// The rule's place in it.
    pub index: usize,
    /// What `iss` has to be.
    pub issuer: String,
    /// What `aud` has to have one of; empty if any will do.
    pub audiences: Vec<String>,
    /// The keys it signs with.
    pub keys: Keys,
    /// Where tokens are looked for; empty for the usual places ([`TokenPlace::USUAL_HEADER`], [`TokenPlace::USUAL_PARAMETER`]).
    pub places: Vec<TokenPlace>,
    /// Whether the token goes on to the workload.
    pub is_forwarded: bool,
    /// A header that the payload goes on in, in base64url.
    pub payload_header: Option<String>,
    /// Claims that go on as headers: header and claim.
    pub claim_headers: Vec<(String, String)>,
    /// How long fetching the keys may take.
    pub timeout: Duration,
}

/// Where the keys of an issuer come from.
#[derive(Clone, PartialEq, Eq)]
pub enum Keys {
    /// This JWKS, which stands in the object.
    Inline(String),
    /// A JWKS at this address.
    At(String),
    /// A JWKS at the address that the issuer's own OpenID configuration tells.
    Discovered,
    /// They cannot be read, or more of the rule cannot: no token of this issuer is good.
    None,
}

/// Where a token may stand in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenPlace {
    /// In a header, behind a prefix.
    Header {
        /// The header's name, in lower case.
        name: String,
        /// What stands before the token; may be empty.
        prefix: String,
    },
    /// In a parameter of the query.
    Parameter(String),
    /// In a cookie.
    Cookie(String),
}

impl TokenPlace {
    /// The usual header and its prefix.
    pub const USUAL_HEADER: (&'static str, &'static str) = ("authorization", "Bearer ");
    /// The usual parameter.
    pub const USUAL_PARAMETER: &'static str = "access_token";
}

impl fmt::Debug for Keys {
    /// Without the keys: there are such that are secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(_) => f.write_str("Inline(…)"),
            Self::At(address) => f.debug_tuple("At").field(address).finish(),
            Self::Discovered => f.write_str("Discovered"),
            Self::None => f.write_str("None"),
        }
    }
}
