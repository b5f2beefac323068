//! Pure: exactly what will be signed?
//!
//! A [`Prepared`] certificate is complete, down to the byte, and linted; signing consumes it.

use std::sync::Arc;

use time::Duration;
use time::OffsetDateTime;

use crate::issuance::grant::Grant;
use crate::issuance::profile::Profile;
use crate::signer::Issuer;
use crate::signer::SignError;
use crate::x509::SerialNumber;
use crate::x509::VerifiedCsr;
use crate::x509::der::Malformed;
use crate::x509::der::Reader;
use crate::x509::der::tag;
use crate::x509::pem;
use crate::x509::tbs;
use crate::x509::tbs::Leaf;

/// A certificate that has everything but its signature. It can be signed at most once.
#[derive(Debug)]
pub struct Prepared {
    tbs: Vec<u8>,
    issuer: Arc<Issuer>,
    serial: SerialNumber,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    clamped: bool,
}

/// Why nothing can be signed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotPrepared {
    /// The issuer's certificates have run out.
    #[error(
        "the issuer's certificates expired at {0}; nothing can be issued until the CA has a valid root and intermediates"
    )]
    IssuerExpired(OffsetDateTime),
    /// The clock is before the issuer's time.
    #[error("the issuer's certificates are not valid before {0}; check this machine's clock")]
    IssuerNotYetValid(OffsetDateTime),
    /// The lint found something. This is a defect of ours; better no certificate than this one.
    #[error("the prepared certificate breaks a rule, and is not signed: {0}")]
    Lint(&'static str),
    /// The request's key is not well-formed.
    #[error("the public key of the request is not well-formed DER")]
    Key(#[from] Malformed),
}

impl NotPrepared {
    /// A short name for logs and metrics, from a closed set.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::IssuerExpired(_) => "issuer_expired",
            Self::IssuerNotYetValid(_) => "issuer_not_yet_valid",
            Self::Lint(_) => "lint",
            Self::Key(_) => "csr_malformed",
        }
    }
}

/// Joins the request's key and what was granted to a leaf under `issuer`, valid from shortly before `now`.
///
/// The leaf never outlives its issuer: what is granted beyond that is cut off, and [`Prepared::is_clamped`]
/// tells so.
///
/// # Errors
/// If the issuer has expired, or the lint finds a broken rule.
pub fn prepare(
    csr: VerifiedCsr,
    grant: Grant,
    profile: &Profile,
    issuer: Arc<Issuer>,
    serial: SerialNumber,
    now: OffsetDateTime,
) -> Result<Prepared, NotPrepared> {
    // A certificate tells whole seconds.
    let now = now.replace_nanosecond(0).unwrap_or(now);
    let (begin, end) = (issuer.not_before(), issuer.not_after());
    if end <= now {
        return Err(NotPrepared::IssuerExpired(end));
    }
    if now < begin {
        return Err(NotPrepared::IssuerNotYetValid(begin));
    }
    let wanted = now.saturating_add(Duration::try_from(grant.lifetime()).unwrap_or(Duration::MAX));
    let not_after = wanted.min(end);
    let not_before = (now - profile.backdate()).max(begin);
    let uri = grant.spiffe_id().to_string();
    let leaf = Leaf {
        serial: &serial,
        signature_algorithm: issuer.signer().signature_algorithm(),
        issuer: &issuer.certificate().facts().subject,
        issuer_key_id: Some(issuer.key_id()),
        not_before,
        not_after,
        spki: csr.spki(),
        uris: std::slice::from_ref(&uri),
        dns_names: &[],
        ip_addresses: &[],
        client_auth: true,
    };
    let tbs = leaf.to_der()?;
    lint(&tbs, &leaf, &uri)?;
    Ok(Prepared { tbs, serial, not_before, not_after, clamped: not_after < wanted, issuer })
}

impl Prepared {
    /// The serial number.
    pub fn serial(&self) -> &SerialNumber {
        &self.serial
    }

    /// The first second of its life.
    pub fn not_before(&self) -> OffsetDateTime {
        self.not_before
    }

    /// The last second of its life.
    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    /// Whether its life was cut to its issuer's.
    pub fn is_clamped(&self) -> bool {
        self.clamped
    }

    /// The issuer that will sign it.
    pub fn issuer(&self) -> &Arc<Issuer> {
        &self.issuer
    }

    /// Signs it and returns the chain as Istio's CA answers: leaf, intermediates, then all roots as one text.
    ///
    /// # Errors
    /// If the key cannot be used.
    pub fn sign(self) -> Result<Vec<String>, SignError> {
        let signer = self.issuer.signer();
        let signature = signer.sign(&self.tbs)?;
        let leaf = tbs::certificate(&self.tbs, signer.signature_algorithm(), &signature);
        let above = self.issuer.pem_after_leaf();
        let mut chain = Vec::with_capacity(above.len() + 1);
        chain.push(pem::certificate(&leaf));
        chain.extend_from_slice(above);
        Ok(chain)
    }
}

/// Walks the bytes that will be signed, as a reader who knows only what was meant, and stops at the first thing
/// that is not so. It shares no code with the template but the tags.
fn lint(bytes: &[u8], meant: &Leaf<'_>, uri: &str) -> Result<(), NotPrepared> {
    let walk = || -> Result<Option<&'static str>, Malformed> {
        let mut outer = Reader::new(bytes);
        let mut tbs = outer.enter(tag::SEQUENCE)?;
        outer.finish()?;
        if tbs.expect(tag::CONTEXT_0)?.content != [tag::INTEGER, 1, 2] {
            return Ok(Some("it is not version 3"));
        }
        let serial = tbs.expect(tag::INTEGER)?.content;
        let positive = serial.first().is_some_and(|first| (1..0x80).contains(first));
        if !positive || !(8..=20).contains(&serial.len()) {
            return Ok(Some("its serial number is not a positive integer of 8 to 20 octets"));
        }
        if tbs.next_element()?.raw != meant.signature_algorithm {
            return Ok(Some("its signature algorithm is not the issuer's"));
        }
        if tbs.next_element()?.raw != meant.issuer {
            return Ok(Some("its issuer is not the issuer's name, byte for byte"));
        }
        tbs.expect(tag::SEQUENCE)?;
        if !tbs.expect(tag::SEQUENCE)?.content.is_empty() {
            return Ok(Some("its subject is not empty"));
        }
        if tbs.next_element()?.raw != meant.spki {
            return Ok(Some("its key is not the request's, byte for byte"));
        }
        let mut extensions = tbs.enter(tag::CONTEXT_3)?.enter(tag::SEQUENCE)?;
        tbs.finish()?;
        lint_extensions(&mut extensions, uri)
    };
    let found = match walk() {
        Ok(found) => found,
        Err(Malformed) => Some("it is not well-formed DER"),
    };
    found.map_or(Ok(()), |broken| Err(NotPrepared::Lint(broken)))
}

fn lint_extensions(extensions: &mut Reader<'_>, uri: &str) -> Result<Option<&'static str>, Malformed> {
    let (mut key_usage, mut purposes, mut constraints, mut names) = (false, false, false, false);
    while !extensions.is_empty() {
        let mut extension = extensions.enter(tag::SEQUENCE)?;
        let oid = extension.expect(tag::OID)?.content;
        let critical = extension.peek() == Some(tag::BOOLEAN);
        if critical {
            extension.expect(tag::BOOLEAN)?;
        }
        let value = extension.expect(tag::OCTET_STRING)?.content;
        extension.finish()?;
        match oid {
            tbs::oid::KEY_USAGE => {
                let bits = Reader::new(value).expect(tag::BIT_STRING)?.content;
                // digitalSignature, perhaps keyEncipherment, and nothing that signs certificates or lists.
                key_usage = critical && matches!(bits, [_, bits] if bits & 0x80 != 0 && bits & 0x5f == 0);
            }
            tbs::oid::EXTENDED_KEY_USAGE => {
                let mut list = Reader::new(value).enter(tag::SEQUENCE)?;
                let first = list.expect(tag::OID)?.content;
                let second = list.expect(tag::OID)?.content;
                purposes =
                    list.is_empty() && [first, second] == [tbs::oid::SERVER_AUTH, tbs::oid::CLIENT_AUTH];
            }
            tbs::oid::BASIC_CONSTRAINTS => {
                constraints = critical && Reader::new(value).expect(tag::SEQUENCE)?.content.is_empty();
            }
            tbs::oid::SUBJECT_ALT_NAME => {
                let mut list = Reader::new(value).enter(tag::SEQUENCE)?;
                let only = list.next_element()?;
                names = critical && list.is_empty() && only.tag == 0x86 && only.content == uri.as_bytes();
            }
            tbs::oid::SUBJECT_KEY_IDENTIFIER | tbs::oid::AUTHORITY_KEY_IDENTIFIER => {}
            _ => return Ok(Some("it has an extension that no profile of ours has")),
        }
    }
    Ok(match (key_usage, purposes, constraints, names) {
        (false, ..) => Some("its key usage is not critical digitalSignature (X-8, X-10)"),
        (_, false, ..) => Some("its extended key usage is not serverAuth and clientAuth (X-11)"),
        (_, _, false, _) => Some("it is not marked as a leaf (X-6)"),
        (.., false) => Some("its only name is not the granted SPIFFE ID (X-1, X-3)"),
        (true, true, true, true) => None,
    })
}

#[cfg(test)]
#[path = "prepare_tests.rs"]
mod tests;
