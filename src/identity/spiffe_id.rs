//! Pure: is this text a SPIFFE ID, and which one does a Kubernetes service account have? (SPIFFE-ID section 2)

use std::fmt;
use std::str::FromStr;

use crate::identity::InvalidTrustDomain;
use crate::identity::TrustDomain;

/// The longest SPIFFE ID in bytes that is accepted or made (SPIFFE-ID section 2.3).
const MAX_LENGTH: usize = 2048;
const SCHEME: &str = "spiffe://";

/// A SPIFFE ID: `spiffe://<trust domain>` and a path of zero or more segments.
///
/// ```
/// use burgrave::identity::SpiffeId;
///
/// let id: SpiffeId = "spiffe://cluster.local/ns/shop/sa/web".parse()?;
/// assert_eq!(id.trust_domain().as_str(), "cluster.local");
/// assert_eq!(id.path(), "/ns/shop/sa/web");
/// # Ok::<(), burgrave::identity::InvalidSpiffeId>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    trust_domain: TrustDomain,
    /// Empty, or starting with `/` and not ending with it.
    path: String,
}

/// Why a text is not a SPIFFE ID.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSpiffeId {
    /// It does not begin with `spiffe://`.
    #[error("`{0}` does not begin with `spiffe://`")]
    Scheme(String),
    /// It is longer than the standard allows.
    #[error("the SPIFFE ID has {0} bytes; the standard allows at most {MAX_LENGTH}")]
    TooLong(usize),
    /// Its host is not a trust domain.
    #[error("the SPIFFE ID's trust domain is not valid: {0}")]
    TrustDomain(#[from] InvalidTrustDomain),
    /// A segment of its path is empty, `.` or `..`, or has a character that is not allowed.
    #[error(
        "SPIFFE ID `{id}`: path segment `{segment}` is not allowed; use a-z, A-Z, 0-9, `.`, `-` and `_`, and neither empty, `.` nor `..`"
    )]
    Segment {
        /// The text as given.
        id: String,
        /// The first segment that is not allowed.
        segment: String,
    },
}

impl SpiffeId {
    /// The identity of a Kubernetes service account, in the form that Istio gave it:
    /// `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
    ///
    /// # Errors
    /// If a name could not stand in a path, which a Kubernetes name always can.
    pub fn of_service_account(
        trust_domain: &TrustDomain,
        namespace: &str,
        service_account: &str,
    ) -> Result<Self, InvalidSpiffeId> {
        let path = format!("/ns/{namespace}/sa/{service_account}");
        let id = Self { trust_domain: trust_domain.clone(), path };
        let length = SCHEME.len() + id.trust_domain.as_str().len() + id.path.len();
        match [namespace, service_account].into_iter().find(|name| !allowed_segment(name)) {
            Some(segment) => {
                Err(InvalidSpiffeId::Segment { id: id.to_string(), segment: segment.to_owned() })
            }
            None if length > MAX_LENGTH => Err(InvalidSpiffeId::TooLong(length)),
            None => Ok(id),
        }
    }

    /// The identity of a trust domain itself, which only a signing certificate may carry (X-4).
    pub fn of_trust_domain(trust_domain: &TrustDomain) -> Self {
        Self { trust_domain: trust_domain.clone(), path: String::new() }
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The path with its leading slash; empty for a trust domain's own ID.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether this names a workload: a leaf's ID must have a path (X-2).
    pub fn is_workload(&self) -> bool {
        !self.path.is_empty()
    }
}

impl FromStr for SpiffeId {
    type Err = InvalidSpiffeId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > MAX_LENGTH {
            return Err(InvalidSpiffeId::TooLong(text.len()));
        }
        // The scheme compares without case (ID-6); the path does not.
        let rest = match text.split_at_checked(SCHEME.len()) {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case(SCHEME) => rest,
            _ => return Err(InvalidSpiffeId::Scheme(text.to_owned())),
        };
        let (host, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let trust_domain = host.parse()?;
        if let Some(segment) = path.split('/').skip(1).find(|s| !allowed_segment(s)) {
            return Err(InvalidSpiffeId::Segment { id: text.to_owned(), segment: segment.to_owned() });
        }
        Ok(Self { trust_domain, path: path.to_owned() })
    }
}

fn allowed_segment(segment: &str) -> bool {
    !matches!(segment, "" | "." | "..")
        && segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}{}", self.trust_domain, self.path)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_the_standard_allows_is_read() {
        for (text, path) in [
            ("spiffe://td", ""),
            ("SPIFFE://TD/a", "/a"),
            ("spiffe://td/ns/A.b-c_9/sa/x", "/ns/A.b-c_9/sa/x"),
            ("spiffe://td/...", "/..."),
        ] {
            let id: SpiffeId = text.parse().unwrap();
            assert_eq!((id.trust_domain().as_str(), id.path()), ("td", path));
        }
    }

    #[test]
    fn what_the_standard_forbids_is_refused() {
        for bad in [
            "",
            "spiffe:",
            "spiffe://",
            "http://td/a",
            "spiffe:///a",
            "spiffe://td/",
            "spiffe://td//a",
            "spiffe://td/a/",
            "spiffe://td/.",
            "spiffe://td/../a",
            "spiffe://td/a?x",
            "spiffe://td/a#x",
            "spiffe://td:80/a",
            "spiffe://u@td/a",
            "spiffe://td/%41",
            "spiffe://td/ä",
            "spiffe://td/a b",
            "spiffe://td/a\0",
            " spiffe://td/a",
            "späffe://td",
        ] {
            assert!(bad.parse::<SpiffeId>().is_err(), "{bad:?} was taken");
        }
        let long = format!("spiffe://td/{}", "a".repeat(MAX_LENGTH));
        assert!(matches!(long.parse::<SpiffeId>(), Err(InvalidSpiffeId::TooLong(_))));
    }

    #[test]
    fn a_service_account_has_the_id_that_its_names_read_as() {
        let domain: TrustDomain = "td".parse().unwrap();
        let id = SpiffeId::of_service_account(&domain, "shop", "web").unwrap();
        assert_eq!("spiffe://td/ns/shop/sa/web".parse(), Ok(id));
        for bad in ["", ".", "..", "a/b", "a b"] {
            assert!(SpiffeId::of_service_account(&domain, bad, "web").is_err());
            assert!(SpiffeId::of_service_account(&domain, "shop", bad).is_err());
        }
        let long = SpiffeId::of_service_account(&domain, "shop", &"a".repeat(MAX_LENGTH));
        assert!(matches!(long, Err(InvalidSpiffeId::TooLong(_))));
    }

    proptest! {
        #[test]
        fn reading_never_panics_and_printing_round_trips(text in ".{0,80}", tail in "[a-z/.:%-]{0,40}") {
            let _ = text.parse::<SpiffeId>();
            if let Ok(id) = format!("spiffe://{tail}").parse::<SpiffeId>() {
                prop_assert_eq!(id.to_string().parse::<SpiffeId>(), Ok(id));
            }
        }
    }
}
