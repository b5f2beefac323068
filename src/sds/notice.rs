//! Pure: which authority ought leaves to be signed by, and how soon must those under another one move over?

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::sds::version::Version;
use crate::x509::Certificate;
use crate::x509::certificate::InvalidCertificate;
use crate::x509::pem;

/// The longest window that an agent keeps to, whatever it is told: a day.
const LONGEST_WINDOW: Duration = Duration::from_secs(24 * 3600);

/// What the CA tells its agents under the name `burgrave.dev/issuer`.
///
/// Its version is the authority, so an agent that acknowledges it says: all that my proxies use is signed by this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The authority, by its id.
    pub authority: String,
    /// The certificate whose key signs.
    pub certificate: Certificate,
    /// Whoever holds a leaf of another authority asks for a new one at a random moment within this time.
    pub window: Duration,
}

/// Why bytes are not a notice.
#[derive(Debug, thiserror::Error)]
pub enum InvalidNotice {
    /// They are not the JSON of one.
    #[error("the CA's notice of its authority is not the JSON that this agent knows: {0}")]
    Json(#[from] serde_json::Error),
    /// The certificate in it is no PEM of one.
    #[error("the certificate in the CA's notice of its authority: {0}")]
    Pem(#[from] pem::InvalidPem),
    /// The certificate in it cannot be read.
    #[error("the certificate in the CA's notice of its authority: {0}")]
    Certificate(#[from] InvalidCertificate),
    /// There is none in it.
    #[error("the CA's notice of its authority names no certificate")]
    NoCertificate,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    authority: String,
    certificate: String,
    window_ms: u64,
}

impl Notice {
    /// The authority, as the version of this resource.
    pub fn version(&self) -> Version {
        Version::from(self.authority.as_str())
    }

    /// The notice as JSON.
    pub fn to_json(&self) -> Vec<u8> {
        let wire = Wire {
            authority: self.authority.clone(),
            certificate: pem::certificate(self.certificate.der()),
            window_ms: u64::try_from(self.window.as_millis()).unwrap_or(u64::MAX),
        };
        // Two texts and a number always are JSON.
        serde_json::to_vec(&wire).unwrap_or_default()
    }

    /// Reads a notice; a window beyond a day is cut to one.
    ///
    /// # Errors
    /// If it is not JSON of this form, or its certificate cannot be read.
    pub fn from_json(bytes: &[u8]) -> Result<Self, InvalidNotice> {
        let wire: Wire = serde_json::from_slice(bytes)?;
        let ders = pem::certificates(wire.certificate.as_bytes())?;
        let der = ders.into_iter().next().ok_or(InvalidNotice::NoCertificate)?;
        Ok(Self {
            authority: wire.authority,
            certificate: Certificate::from_der(der)?,
            window: Duration::from_millis(wire.window_ms).min(LONGEST_WINDOW),
        })
    }

    /// Whether `leaf` is signed by the authority that this names.
    pub fn covers(&self, leaf: &Certificate) -> bool {
        leaf.is_signed_by(&self.certificate)
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::x509::PrivateKey;
    use crate::x509::root;

    #[test]
    fn a_notice_reads_back_and_what_is_none_is_refused() {
        let (key, domain) = (PrivateKey::generate().unwrap(), "td".parse().unwrap());
        let at = datetime!(2030-01-01 0:00 UTC);
        let certificate = root::self_signed(&key, &domain, at, Duration::from_secs(3600)).unwrap();
        let notice = Notice { authority: "a1".to_owned(), certificate, window: Duration::from_secs(30) };
        assert_eq!(Notice::from_json(&notice.to_json()).unwrap(), notice);
        assert_eq!(notice.version().as_str(), "a1");
        let long = Notice { window: Duration::MAX, ..notice };
        assert_eq!(Notice::from_json(&long.to_json()).unwrap().window, LONGEST_WINDOW);
        for bad in ["", "{}", r#"{"authority":"a","certificate":"","window_ms":1}"#] {
            assert!(Notice::from_json(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
