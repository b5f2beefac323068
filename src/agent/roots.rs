//! Follows the mounted root file: what is published there reaches the proxies without waiting for the next renewal.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::sds::Identity;
use crate::sds::Trust;
use crate::x509::TrustBundle;

/// How often the file is looked at. A mounted ConfigMap is swapped by a symbolic link several levels up, which a look finds
/// and a watch of the file does not.
const LOOK: Duration = Duration::from_secs(2);

/// What to do about a changed root file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Follow {
    /// Nothing: it says what is in use.
    Nothing,
    /// Use its roots.
    Publish,
    /// Ask the CA, whose answer carries the roots that go with a new certificate.
    AskTheCa,
}

/// What to do about roots that now stand in the file, while `trust` and `identity` are in use.
///
/// Roots that share none with those in use are not followed by themselves: the file may be of another PKI, one that only the
/// CA's own certificate is verified by; and if it is not, then our own leaf is under none of them, and a new one is due first.
pub(super) fn follow(file: &TrustBundle, trust: &Trust, identity: Option<&Identity>) -> Follow {
    if file == trust.bundle() {
        return Follow::Nothing;
    }
    let shares_one = file.roots().iter().any(|root| trust.bundle().contains(root));
    let covers_us = identity.is_none_or(|identity| {
        let leaf = identity.chain().leaf().facts();
        identity.chain().verify(file, leaf.not_before).is_ok()
    });
    match shares_one && covers_us {
        true => Follow::Publish,
        false => Follow::AskTheCa,
    }
}

/// Sends the roots in the file at `path` whenever they have changed since the start, until `stop` is cancelled. What cannot be
/// read is as good as unchanged: each request to the CA says what is wrong with it.
pub async fn watch_file(path: PathBuf, changed: watch::Sender<Option<TrustBundle>>, stop: CancellationToken) {
    let mut known = tokio::fs::read(&path).await.unwrap_or_default();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let Ok(text) = tokio::fs::read(&path).await else { continue };
        if text == known {
            continue;
        }
        match TrustBundle::from_pem(&text) {
            Ok(roots) => drop(changed.send_replace(Some(roots))),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the root file has changed to something that is no bundle, and is not followed");
            }
        }
        known = text;
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;
    use time::macros::datetime;

    use super::*;
    use crate::x509::Certificate;
    use crate::x509::PrivateKey;
    use crate::x509::root;

    const NOW: OffsetDateTime = datetime!(2030-01-01 0:00 UTC);

    fn root() -> Certificate {
        let (key, domain) = (PrivateKey::generate().unwrap(), "td".parse().unwrap());
        root::self_signed(&key, &domain, NOW, Duration::from_secs(3600)).unwrap()
    }

    #[test]
    fn roots_are_followed_step_by_step_and_a_leap_asks_the_ca() {
        let (a, b) = (root(), root());
        let bundle =
            |roots: &[&Certificate]| TrustBundle::new(roots.iter().copied().cloned().collect()).unwrap();
        let trust = Trust::new(bundle(&[&a]), NOW).unwrap();
        assert_eq!(follow(&bundle(&[&a]), &trust, None), Follow::Nothing);
        assert_eq!(follow(&bundle(&[&a, &b]), &trust, None), Follow::Publish);
        assert_eq!(follow(&bundle(&[&b]), &trust, None), Follow::AskTheCa);
        let both = Trust::new(bundle(&[&a, &b]), NOW).unwrap();
        assert_eq!(follow(&bundle(&[&b]), &both, None), Follow::Publish);
    }
}
