//! Pure: what is wrong with these certificates, taken together?

use time::OffsetDateTime;

use crate::x509::bundle::TrustBundle;
use crate::x509::certificate::Certificate;
use crate::x509::chain::CertificateChain;
use crate::x509::describe;
use crate::x509::lint;
use crate::x509::lint::Finding;

/// Something wrong, and with which certificate, counted from 0.
pub type Problem = (usize, Finding);

/// Everything wrong with a chain: each certificate by itself, the order, the links, and, if `roots` are given, the whole
/// path as a peer would check it.
pub fn chain(certificates: &[Certificate], roots: Option<&TrustBundle>, now: OffsetDateTime) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (at, one) in certificates.iter().enumerate() {
        let broken = if one.facts().is_ca { lint::signing(one) } else { lint::leaf(one) };
        problems.extend(broken.into_iter().map(|finding| (at, finding)));
        if !one.is_valid_at(now) {
            problems.push((at, finding("validity", describe::validity(one, now))));
        }
        if at > 0 && !one.facts().is_ca {
            problems.push((
                at,
                finding("order", "a leaf stands here; it must come first, and there is one a chain"),
            ));
        }
    }
    for (at, pair) in certificates.windows(2).enumerate() {
        if let [lower, upper] = pair
            && !lower.is_signed_by(upper)
            && !lower.is_self_signed()
        {
            problems.push((at, finding("link", "it is not signed by the certificate after it")));
        }
    }
    if let Some(roots) = roots {
        let verified =
            CertificateChain::new(certificates.to_vec()).and_then(|chain| chain.verify(roots, now));
        if let Err(error) = verified {
            problems.push((0, finding("path", error.to_string())));
        }
    }
    problems
}

/// Everything wrong with a set of roots.
pub fn roots(certificates: &[Certificate], now: OffsetDateTime) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (at, one) in certificates.iter().enumerate() {
        problems.extend(lint::signing(one).into_iter().map(|finding| (at, finding)));
        if !one.is_valid_at(now) {
            problems.push((at, finding("validity", describe::validity(one, now))));
        }
    }
    problems
}

fn finding(rule: &'static str, message: impl Into<String>) -> Finding {
    Finding { rule, message: message.into() }
}
