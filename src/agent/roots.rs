//! Pure: which roots do the proxies get? What the CA's stream says; before it has said anything, what its answers and the
//! mounted root file say together.

use time::OffsetDateTime;

use crate::sds::Identity;
use crate::sds::Trust;
use crate::x509::CertificateChain;
use crate::x509::TrustBundle;
use crate::x509::bundle::InvalidBundle;

/// What to do about roots that are new to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Follow {
    /// Nothing: they are in use.
    Nothing,
    /// Use them.
    Publish,
    /// Ask the CA, whose answer carries the roots that go with a new certificate.
    AskTheCa,
}

/// What to do about roots that now stand in the file, while `trust` and `identity` are in use.
///
/// Roots that share none with those in use are not followed by themselves: the file may be of another PKI, one that only the
/// CA's own certificate is verified by; and if it is not, then our own leaf is under none of them, and a new one is due first.
pub(super) fn follow(file: &TrustBundle, trust: &Trust, identity: Option<&Identity>) -> Follow {
    let shares_one = file.roots().iter().any(|root| trust.bundle().contains(root));
    match file == trust.bundle() {
        true => Follow::Nothing,
        false if shares_one && covers(file, identity) => Follow::Publish,
        false => Follow::AskTheCa,
    }
}

/// What to do about roots that the CA's stream has brought. The CA has been verified, so they may be any; but roots that do
/// not cover our leaf are used only once there is a leaf that they cover. Until then [`meanwhile`] are.
pub(super) fn obey(told: &TrustBundle, trust: Option<&Trust>, identity: Option<&Identity>) -> Follow {
    match trust.is_some_and(|trust| trust.bundle() == told) {
        true => Follow::Nothing,
        false if covers(told, identity) => Follow::Publish,
        false => Follow::AskTheCa,
    }
}

/// The roots to use while some go and others come: those in use, and the new ones.
pub(super) fn meanwhile(held: Option<&Trust>, coming: &TrustBundle) -> TrustBundle {
    held.map_or_else(|| coming.clone(), |held| union(held.bundle(), coming))
}

/// The roots that go with a chain which came with `answer`.
///
/// What the stream has told is right, as long as it covers the chain. If it does not, the replica that answered knows what
/// the one that tells us does not, or the other way round: both are right until they agree.
///
/// # Errors
/// As [`TrustBundle::new`].
pub(super) fn beside(
    chain: &CertificateChain,
    answer: TrustBundle,
    told: Option<&Trust>,
    file: Option<TrustBundle>,
    now: OffsetDateTime,
) -> Result<TrustBundle, InvalidBundle> {
    match told.map(Trust::bundle) {
        Some(told) if chain.verify(told, now).is_ok() => Ok(told.clone()),
        Some(told) => Ok(union(told, &answer)),
        None => merged(answer, file),
    }
}

/// The roots to use after an answer of the CA, given what the file was last changed to, if it was.
///
/// The replica that answered may not know yet what is published, or the file may be late: whoever of the two knows more is
/// right until the next change of either. A file that shares no root with the answer is of another PKI.
fn merged(answer: TrustBundle, published: Option<TrustBundle>) -> Result<TrustBundle, InvalidBundle> {
    match published {
        Some(published) if published.roots().iter().any(|root| answer.contains(root)) => {
            TrustBundle::new(answer.roots().iter().chain(published.roots()).cloned().collect())
        }
        _ => Ok(answer),
    }
}

/// All roots of both, those of `one` first.
pub(super) fn union(one: &TrustBundle, other: &TrustBundle) -> TrustBundle {
    let all = one.roots().iter().chain(other.roots()).cloned().collect();
    // Roots of two bundles always make one; if not, the first is still right.
    TrustBundle::new(all).unwrap_or_else(|_| one.clone())
}

fn covers(roots: &TrustBundle, identity: Option<&Identity>) -> bool {
    identity.is_none_or(|identity| {
        let leaf = identity.chain().leaf().facts();
        identity.chain().verify(roots, leaf.not_before).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::test_support::Authority;
    use crate::agent::test_support::NOW;

    #[test]
    fn a_changed_root_file_is_followed_step_by_step_and_a_leap_asks_the_ca() {
        let (a, b) = (Authority::new(), Authority::new());
        let (both, b_alone) = (a.with(&b), b.bundle());
        assert_eq!(follow(&a.bundle(), &a.trust(), None), Follow::Nothing);
        assert_eq!(follow(both.bundle(), &a.trust(), None), Follow::Publish);
        assert_eq!(follow(&b_alone, &a.trust(), None), Follow::AskTheCa);
        assert_eq!(follow(&b_alone, &both, None), Follow::Publish);
        assert_eq!(follow(&b_alone, &both, Some(&a.identity())), Follow::AskTheCa);
    }

    #[test]
    fn what_the_stream_says_is_used_at_once_unless_our_own_leaf_would_be_left_outside() {
        let (a, b) = (Authority::new(), Authority::new());
        let (both, mine) = (a.with(&b), a.identity());
        let obeyed = |told: &Trust, held: Option<&Trust>, identity| obey(told.bundle(), held, identity);
        assert_eq!(obeyed(&both, Some(&both), Some(&mine)), Follow::Nothing);
        assert_eq!(obeyed(&both, Some(&a.trust()), Some(&mine)), Follow::Publish);
        assert_eq!(obeyed(&a.trust(), Some(&both), Some(&mine)), Follow::Publish);
        assert_eq!(obeyed(&b.trust(), Some(&both), Some(&mine)), Follow::AskTheCa);
        // A leap is no reason to doubt: the CA was verified before it spoke.
        assert_eq!(obeyed(&b.trust(), Some(&a.trust()), None), Follow::Publish);
        assert_eq!(obeyed(&b.trust(), None, None), Follow::Publish);
    }

    #[test]
    fn meanwhile_nothing_is_taken_away() {
        let (a, b) = (Authority::new(), Authority::new());
        assert_eq!(meanwhile(Some(&a.trust()), &b.bundle()), *a.with(&b).bundle());
        assert_eq!(meanwhile(Some(&a.with(&b)), &b.bundle()), *a.with(&b).bundle());
        assert_eq!(meanwhile(None, &b.bundle()), b.bundle());
    }

    #[test]
    fn beside_a_chain_stand_the_roots_that_were_told_and_no_others_if_they_cover_it() {
        let (a, b) = (Authority::new(), Authority::new());
        let chain = a.identity().chain().clone();
        let of = |answer: &Trust, told: Option<&Trust>, file: Option<&Trust>| {
            let file = file.map(|file| file.bundle().clone());
            beside(&chain, answer.bundle().clone(), told, file, NOW).unwrap()
        };
        let both = a.with(&b);
        assert_eq!(of(&both, Some(&a.trust()), Some(&both)), a.bundle());
        assert_eq!(of(&a.trust(), Some(&b.trust()), None), *b.with(&a).bundle());
        // Before anything is told: a replica that is late takes nothing away, and another PKI's file adds nothing.
        assert_eq!(of(&a.trust(), None, Some(&both)), *both.bundle());
        assert_eq!(of(&a.trust(), None, Some(&b.trust())), a.bundle());
        assert_eq!(of(&a.trust(), None, None), a.bundle());
    }
}
