//! Pure: does anybody trust another root than the one we are about to sign with?

use std::collections::BTreeSet;
use std::fmt;

use futures_util::future::BoxFuture;

use crate::k8s::Trouble;

/// Roots that somebody trusts already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trusted {
    /// Where it says so, in words for people: ``ConfigMap `shop/istio-ca-root-cert` ``.
    pub place: String,
    /// Fingerprints of the roots.
    pub roots: BTreeSet<String>,
}

/// Looks for roots that are trusted already: published bundles, and processes that hold one.
pub trait Witness: fmt::Debug + Send + Sync {
    /// A sample of what is trusted; empty only if nothing is, anywhere.
    ///
    /// # Errors
    /// If it cannot be found out: then nothing is known, which is not the same as nothing.
    fn look(&self) -> BoxFuture<'_, Result<Vec<Trusted>, Trouble>>;
}

/// Nobody trusts the root in one directory but those who were given it from there.
#[derive(Clone, Copy, Debug)]
pub struct NoWitness;

impl Witness for NoWitness {
    fn look(&self) -> BoxFuture<'_, Result<Vec<Trusted>, Trouble>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
}

/// What speaks against signing with a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// The roots that are trusted instead, shortened.
    pub trusted: String,
    /// Where.
    pub places: String,
}

/// Whether `root` (a fingerprint; `None` for one that is still to be made) may be signed with, given what is `trusted`.
///
/// # Errors
/// If something is trusted, and `root` is nowhere among it.
pub(super) fn weigh(root: Option<&str>, trusted: &[Trusted]) -> Result<(), Contradiction> {
    let knows = |one: &Trusted| root.is_some_and(|root| one.roots.contains(root));
    if trusted.is_empty() || trusted.iter().any(knows) {
        return Ok(());
    }
    let roots: BTreeSet<_> = trusted.iter().flat_map(|one| &one.roots).map(|root| short(root)).collect();
    let mut places: Vec<_> = trusted.iter().map(|one| one.place.as_str()).take(3).collect();
    if trusted.len() > places.len() {
        places.push("…");
    }
    let roots: Vec<_> = roots.into_iter().collect();
    Err(Contradiction { trusted: roots.join(", "), places: places.join(", ") })
}

/// The beginning of a fingerprint: enough to find it by.
pub fn short(fingerprint: &str) -> String {
    fingerprint.chars().take(16).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusted(place: &str, roots: &[&str]) -> Trusted {
        Trusted { place: place.to_owned(), roots: roots.iter().map(|root| (*root).to_owned()).collect() }
    }

    #[test]
    fn a_root_may_sign_if_nobody_trusts_anything_or_somebody_trusts_it() {
        assert_eq!(weigh(None, &[]), Ok(()));
        assert_eq!(weigh(Some("a"), &[]), Ok(()));
        assert_eq!(weigh(Some("a"), &[trusted("x", &["b"]), trusted("y", &["b", "a"])]), Ok(()));
    }

    #[test]
    fn a_root_that_nobody_trusts_may_not_sign_where_another_is_trusted() {
        let found = [trusted("x", &["b"]), trusted("y", &["c"]), trusted("z", &["b"]), trusted("w", &[])];
        let why = weigh(Some("a"), &found).unwrap_err();
        assert_eq!((why.trusted.as_str(), why.places.as_str()), ("b, c", "x, y, z, …"));
        assert!(weigh(None, &found).is_err());
        // A bundle that cannot be read speaks against a new root too: it held something.
        assert!(weigh(None, &[trusted("x", &[])]).is_err());
    }
}
