//! Pure: who is at the other end, as Envoy tells it?
//!
//! With `include_peer_certificate` the certificate tells: all its URI names count. Without, `source.principal` is the first name that
//! Envoy finds in it, and counts if it is a SPIFFE ID; then a certificate without URI names, but with a DNS name that looks like one,
//! would be taken for it. No proxy may accept peers whose certificates it has not verified: nothing in the question tells.

use rustls_pki_types::CertificateDer;

use crate::authz::check::malformed::MalformedCheck;
use crate::x509::Certificate;
use crate::x509::pem;

/// The longest certificate that is read, in bytes of its URL-encoded PEM.
const MAX_LENGTH: usize = 64 * 1024;

/// The URI names of the peer; `None` if it showed no certificate.
pub(super) fn uris(principal: &str, certificate: &str) -> Result<Option<Vec<String>>, MalformedCheck> {
    let uris = match (certificate.is_empty(), principal.is_empty()) {
        (false, _) => of_certificate(certificate).ok_or(MalformedCheck::Certificate)?,
        (true, false) if principal.starts_with("spiffe://") => vec![principal.to_owned()],
        // It showed one, and has no name that policies know.
        (true, false) => Vec::new(),
        (true, true) => return Ok(None),
    };
    // A name that other readers end earlier is nobody's name (CVE-2026-47778).
    match uris.iter().any(|uri| uri.contains(char::is_control)) {
        true => Err(MalformedCheck::Certificate),
        false => Ok(Some(uris)),
    }
}

fn of_certificate(encoded: &str) -> Option<Vec<String>> {
    if encoded.len() > MAX_LENGTH {
        return None;
    }
    let mut found = pem::certificates(&decoded(encoded)?).ok()?.into_iter();
    let (leaf, None): (CertificateDer<'_>, _) = (found.next()?, found.next()) else { return None };
    Some(Certificate::from_der(leaf).ok()?.facts().uris.clone())
}

/// The bytes of a URL-encoded text.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let mut digit =
                    || char::from(bytes.next()?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                digit()? << 4 | digit()?
            }
            byte => byte,
        });
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use time::OffsetDateTime;

    use super::*;
    use crate::x509::PrivateKey;
    use crate::x509::root;

    /// As Envoy does it.
    fn encoded(text: &str) -> String {
        text.bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                    char::from(byte).to_string()
                }
                other => format!("%{other:02X}"),
            })
            .collect()
    }

    #[test]
    fn a_certificate_tells_more_than_the_principal() {
        let key = PrivateKey::generate().unwrap();
        let hour = Duration::from_secs(3600);
        let root = root::self_signed(&key, &"td".parse().unwrap(), OffsetDateTime::UNIX_EPOCH, hour).unwrap();
        let certificate = encoded(&pem::certificate(root.der()));
        let own = root.facts().uris.clone();
        assert!(!own.is_empty());
        assert_eq!(uris("spiffe://other/ns/a/sa/b", &certificate), Ok(Some(own)));
        let twice = format!("{certificate}{certificate}");
        for broken in ["nonsense", "%", "%4", "%zz", &certificate[..certificate.len() / 2], &twice] {
            assert_eq!(
                uris("spiffe://td/ns/a/sa/b", broken),
                Err(MalformedCheck::Certificate),
                "{broken:.40}"
            );
        }
    }

    #[test]
    fn a_principal_counts_only_if_it_is_a_spiffe_id() {
        assert_eq!(uris("", ""), Ok(None));
        assert_eq!(uris("CN=web", ""), Ok(Some(vec![])));
        assert_eq!(uris("web.shop.svc", ""), Ok(Some(vec![])));
        assert_eq!(uris("spiffe://td/a", ""), Ok(Some(vec!["spiffe://td/a".to_owned()])));
        assert_eq!(uris("spiffe://td/a\0b", ""), Err(MalformedCheck::Certificate));
    }
}
