//! Pure: PEM in and out (RFC 7468), for certificates and requests; private keys are read by `key`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use zeroize::Zeroizing;

const LINE: usize = 64;

/// Why a text is not the PEM that was expected.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPem {
    /// No block of the wanted kind.
    #[error("no `-----BEGIN {0}-----` block in it")]
    Missing(&'static str),
    /// A block that cannot be read.
    #[error("a PEM block in it cannot be read; check that it is complete and its base64 whole")]
    Broken,
}

/// Writes one certificate as a PEM block that ends with a newline.
pub fn certificate(der: &[u8]) -> String {
    std::mem::take(&mut *block("CERTIFICATE", der))
}

/// Writes any PEM block. What is written on the way to it is wiped: it may be a private key.
pub(crate) fn block(label: &str, der: &[u8]) -> Zeroizing<String> {
    let base64 = Zeroizing::new(STANDARD.encode(der));
    // Sized beforehand: growing would leave copies behind.
    let length = base64.len() + base64.len() / LINE + 2 * label.len() + 40;
    let mut out = Zeroizing::new(String::with_capacity(length));
    out.push_str("-----BEGIN ");
    out.push_str(label);
    out.push_str("-----\n");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE));
        out.push_str(line);
        out.push('\n');
        rest = after;
    }
    out.push_str("-----END ");
    out.push_str(label);
    out.push_str("-----\n");
    out
}

/// Reads every certificate of `text`, in order; text between the blocks is passed over.
///
/// # Errors
/// If there is none, or one of the blocks is broken.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, InvalidPem> {
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(text).collect::<Result<_, _>>().map_err(|_| InvalidPem::Broken)?;
    match found.is_empty() {
        true => Err(InvalidPem::Missing("CERTIFICATE")),
        false => Ok(found),
    }
}

/// Reads the first certificate signing request of `text`.
///
/// # Errors
/// If there is none, or it is broken.
pub fn csr(text: &[u8]) -> Result<CertificateSigningRequestDer<'static>, InvalidPem> {
    match CertificateSigningRequestDer::from_pem_slice(text) {
        Ok(der) => Ok(der),
        Err(rustls_pki_types::pem::Error::NoItemsFound) => Err(InvalidPem::Missing("CERTIFICATE REQUEST")),
        Err(_) => Err(InvalidPem::Broken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_reads_back_as_it_was_written() {
        for length in [0, 1, 47, 48, 49, 500] {
            let der = vec![0x5a; length];
            let text = certificate(&der);
            assert!(text.lines().all(|line| line.len() <= LINE));
            assert_eq!(certificates(text.as_bytes()).unwrap(), [CertificateDer::from(der)]);
        }
    }

    #[test]
    fn what_is_missing_or_broken_is_said() {
        assert_eq!(certificates(b"hello"), Err(InvalidPem::Missing("CERTIFICATE")));
        assert_eq!(csr(b""), Err(InvalidPem::Missing("CERTIFICATE REQUEST")));
        let broken = "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n";
        assert_eq!(certificates(broken.as_bytes()), Err(InvalidPem::Broken));
        let cut = "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n";
        assert_eq!(csr(cut.as_bytes()), Err(InvalidPem::Broken));
    }
}
