//! Pure: does anybody trust another root than the one we are about to sign with?

use std::collections::BTreeSet;
use std::fmt;

use futures_util::future::BoxFuture;

use crate::k8s::Trouble;

/// Roots that somebody trusts already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trusted {
    /// Who.
    pub by: TrustedBy,
    /// Where it says so, in words for people: ``ConfigMap `shop/istio-ca-root-cert` ``.
    pub place: String,
    /// Fingerprints of the roots; none if what is there cannot be read.
    pub roots: BTreeSet<String>,
}

/// Who trusts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustedBy {
    /// All who read what is published for the cluster.
    Cluster,
    /// Those in one namespace.
    Namespace,
    /// A process that holds the root in memory and signs with it.
    Leader,
}

/// Looks for roots that are trusted already: published bundles, and processes that hold one.
pub trait Witness: fmt::Debug + Send + Sync {
    /// A sample of what is trusted; empty only if nothing is, anywhere.
    ///
    /// # Errors
    /// If it cannot be found out: then nothing is known, which is not the same as nothing.
    fn look(&self) -> BoxFuture<'_, Result<Vec<Trusted>, Trouble>>;

    /// How an operator takes away all that is trusted, to begin anew.
    fn how_to_forget(&self) -> String;
}

/// Nobody trusts the root in one directory but those who were given it from there.
#[derive(Clone, Copy, Debug)]
pub struct NoWitness;

impl Witness for NoWitness {
    fn look(&self) -> BoxFuture<'_, Result<Vec<Trusted>, Trouble>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn how_to_forget(&self) -> String {
        "there is nothing to take away".to_owned()
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
/// It may if nothing is trusted at all; or if what is published for the cluster has it, and more than half of the namespaces
/// that were looked at: a few may have been edited, or may not have it yet. A process that holds a root counts only where
/// nothing published can be read.
///
/// # Errors
/// If something is trusted, and `root` is not sufficiently among it.
pub(super) fn weigh(root: Option<&str>, trusted: &[Trusted]) -> Result<(), Contradiction> {
    let is_known = root.is_some_and(|root| {
        let of = |who: TrustedBy| trusted.iter().filter(move |one| one.by == who && !one.roots.is_empty());
        let knows = |one: &&Trusted| one.roots.contains(root);
        let namespaces = of(TrustedBy::Namespace).count();
        match of(TrustedBy::Cluster).count() + namespaces {
            0 => of(TrustedBy::Leader).any(|one| knows(&one)),
            _ => {
                of(TrustedBy::Cluster).all(|one| knows(&one))
                    && (namespaces == 0 || of(TrustedBy::Namespace).filter(knows).count() * 2 > namespaces)
            }
        }
    });
    if trusted.is_empty() || is_known {
        return Ok(());
    }
    let roots: BTreeSet<_> = trusted.iter().flat_map(|one| &one.roots).map(|root| short(root)).collect();
    let roots = match roots.is_empty() {
        true => "in a bundle that cannot be read".to_owned(),
        false => roots.into_iter().collect::<Vec<_>>().join(", "),
    };
    let mut places: Vec<_> = trusted.iter().map(|one| one.place.as_str()).take(3).collect();
    if trusted.len() > places.len() {
        places.push("…");
    }
    Err(Contradiction { trusted: roots, places: places.join(", ") })
}

/// The beginning of a fingerprint: enough to find it by.
pub fn short(fingerprint: &str) -> String {
    fingerprint.chars().take(16).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusted(by: TrustedBy, place: &str, roots: &[&str]) -> Trusted {
        let roots = roots.iter().map(|root| (*root).to_owned()).collect();
        Trusted { by, place: place.to_owned(), roots }
    }

    fn namespace(roots: &[&str]) -> Trusted {
        trusted(TrustedBy::Namespace, "namespace", roots)
    }

    #[test]
    fn a_root_may_sign_if_nothing_is_trusted_or_if_it_is_trusted_nearly_everywhere() {
        let cluster = |roots: &[&str]| trusted(TrustedBy::Cluster, "cluster", roots);
        let leader = |root: &str| trusted(TrustedBy::Leader, "leader", &[root]);
        for (root, found, may) in [
            (None, vec![], true),
            (Some("a"), vec![], true),
            (Some("a"), vec![leader("a")], true),
            (Some("a"), vec![leader("b")], false),
            (Some("a"), vec![cluster(&["a", "b"])], true),
            // One namespace is edited, another one's bundle cannot be read, and a leader is about to move.
            (Some("a"), vec![namespace(&["a"]), namespace(&["a"]), namespace(&["b"]), namespace(&[])], true),
            (Some("a"), vec![cluster(&["a"]), namespace(&["a", "b"]), leader("b")], true),
            // It has only begun to be published, or one stale place still has it.
            (Some("a"), vec![cluster(&["a"]), namespace(&["a"]), namespace(&["b"])], false),
            (Some("a"), vec![cluster(&["b"]), namespace(&["a"])], false),
            // A new root, where there is anything at all, even if it cannot be read.
            (None, vec![cluster(&["b"])], false),
            (None, vec![namespace(&[])], false),
            (None, vec![leader("b")], false),
            (Some("a"), vec![namespace(&[])], false),
        ] {
            assert_eq!(weigh(root, &found).is_ok(), may, "{root:?} {found:?}");
        }
    }

    #[test]
    fn what_is_trusted_instead_is_told_with_some_of_the_places() {
        let found = [namespace(&["b"]), namespace(&["c"]), namespace(&["b"]), namespace(&[])];
        let why = weigh(Some("a"), &found).unwrap_err();
        assert_eq!(why.trusted, "b, c");
        assert_eq!(why.places, "namespace, namespace, namespace, …");
        let why = weigh(None, &[namespace(&[])]).unwrap_err();
        assert_eq!(why.trusted, "in a bundle that cannot be read");
    }
}
