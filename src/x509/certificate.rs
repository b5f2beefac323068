//! Pure: what does this certificate say? (RFC 5280)

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ring::digest;
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;

use crate::x509::key::KeyAlgorithm;

/// A certificate's serial number: its content octets, unsigned and big-endian.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SerialNumber(Vec<u8>);

impl SerialNumber {
    /// Takes the content octets of a DER INTEGER.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The content octets.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A parsed certificate: its bytes, and what they say. Parsing checks no signature. Clones share it.
#[derive(Clone)]
pub struct Certificate(Arc<Parsed>);

struct Parsed {
    der: CertificateDer<'static>,
    facts: Facts,
}

impl PartialEq for Certificate {
    /// The bytes say it all.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.der == other.0.der
    }
}

impl Eq for Certificate {}

/// What a certificate says, each field once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// X.509 version as people count it: 3 for every certificate of today.
    pub version: u32,
    /// Serial number.
    pub serial: SerialNumber,
    /// Issuer name as DER, byte for byte.
    pub issuer: Vec<u8>,
    /// Issuer name for people.
    pub issuer_text: String,
    /// Subject name as DER, byte for byte.
    pub subject: Vec<u8>,
    /// Subject name for people; empty for a SPIFFE leaf.
    pub subject_text: String,
    /// First moment of validity.
    pub not_before: OffsetDateTime,
    /// Last moment of validity.
    pub not_after: OffsetDateTime,
    /// SubjectPublicKeyInfo as DER, byte for byte.
    pub spki: Vec<u8>,
    /// Kind of its key; `None` if it is of no kind that we know.
    pub key_algorithm: Option<KeyAlgorithm>,
    /// BasicConstraints `cA`; false when the extension is absent.
    pub is_ca: bool,
    /// BasicConstraints `pathLenConstraint`.
    pub path_length: Option<u32>,
    /// KeyUsage, if present.
    pub key_usage: Option<KeyUsage>,
    /// ExtendedKeyUsage, if present.
    pub extended_key_usage: Option<ExtendedKeyUsage>,
    /// SubjectKeyIdentifier, if present.
    pub subject_key_id: Option<Vec<u8>>,
    /// AuthorityKeyIdentifier's `keyIdentifier`, if present.
    pub authority_key_id: Option<Vec<u8>>,
    /// URI names.
    pub uris: Vec<String>,
    /// DNS names.
    pub dns_names: Vec<String>,
    /// IP addresses.
    pub ip_addresses: Vec<IpAddr>,
    /// Whether there are names of kinds not listed above.
    pub other_names: bool,
    /// Whether SubjectAltName is marked critical; `None` if it is absent.
    pub names_critical: Option<bool>,
}

/// The KeyUsage bits that matter here (RFC 5280 section 4.2.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyUsage {
    /// Whether the extension is marked critical.
    pub critical: bool,
    /// Signatures in protocols such as TLS.
    pub digital_signature: bool,
    /// RSA key transport.
    pub key_encipherment: bool,
    /// Signatures on certificates.
    pub key_cert_sign: bool,
    /// Signatures on revocation lists.
    pub crl_sign: bool,
}

/// The ExtendedKeyUsage purposes that matter here (RFC 5280 section 4.2.1.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtendedKeyUsage {
    /// Any purpose at all.
    pub any: bool,
    /// TLS server.
    pub server_auth: bool,
    /// TLS client.
    pub client_auth: bool,
}

/// The bytes are not one certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a readable X.509 certificate: {0}")]
pub struct InvalidCertificate(String);

impl Certificate {
    /// Parses exactly one DER certificate.
    ///
    /// # Errors
    /// If the bytes are not a certificate, go on after it, or an extension of it is broken or repeated.
    pub fn from_der(der: CertificateDer<'_>) -> Result<Self, InvalidCertificate> {
        let (rest, parsed) =
            X509Certificate::from_der(&der).map_err(|error| InvalidCertificate(error.to_string()))?;
        if !rest.is_empty() {
            return Err(InvalidCertificate("there are bytes after its end".to_owned()));
        }
        let facts = Facts::of(&parsed)?;
        Ok(Self(Arc::new(Parsed { facts, der: der.into_owned() })))
    }

    /// The certificate as DER.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.0.der
    }

    /// What it says.
    pub fn facts(&self) -> &Facts {
        &self.0.facts
    }

    /// Whether `now` lies in its validity.
    pub fn is_valid_at(&self, now: OffsetDateTime) -> bool {
        (self.0.facts.not_before..=self.0.facts.not_after).contains(&now)
    }

    /// Whether issuer and subject are the same name and its own key signed it.
    pub fn is_self_signed(&self) -> bool {
        self.0.facts.issuer == self.0.facts.subject && self.is_signed_by(self)
    }

    /// Whether `issuer` has the name that this names as its issuer, and its key signed this.
    pub fn is_signed_by(&self, issuer: &Certificate) -> bool {
        if self.0.facts.issuer != issuer.0.facts.subject {
            return false;
        }
        let Ok((_, mine)) = X509Certificate::from_der(&self.0.der) else {
            return false;
        };
        let Ok((_, theirs)) = X509Certificate::from_der(&issuer.0.der) else {
            return false;
        };
        mine.verify_signature(Some(theirs.public_key())).is_ok()
    }

    /// SHA-256 of its DER, in hex: what people compare certificates by.
    pub fn fingerprint(&self) -> String {
        hex(digest::digest(&digest::SHA256, &self.0.der).as_ref())
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Facts { serial, subject_text, uris, .. } = &self.0.facts;
        write!(f, "Certificate({serial} {subject_text} {uris:?})")
    }
}

/// Bytes in lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(out, "{byte:02x}");
    }
    out
}

impl Facts {
    fn of(parsed: &X509Certificate<'_>) -> Result<Self, InvalidCertificate> {
        let validity = parsed.validity();
        let mut facts = Self {
            version: parsed.version().0 + 1,
            serial: SerialNumber::new(parsed.raw_serial().to_vec()),
            issuer: parsed.issuer().as_raw().to_vec(),
            issuer_text: parsed.issuer().to_string(),
            subject: parsed.subject().as_raw().to_vec(),
            subject_text: parsed.subject().to_string(),
            not_before: validity.not_before.to_datetime(),
            not_after: validity.not_after.to_datetime(),
            spki: parsed.public_key().raw.to_vec(),
            key_algorithm: KeyAlgorithm::of_spki(parsed.public_key().raw),
            is_ca: false,
            path_length: None,
            key_usage: None,
            extended_key_usage: None,
            subject_key_id: None,
            authority_key_id: None,
            uris: Vec::new(),
            dns_names: Vec::new(),
            ip_addresses: Vec::new(),
            other_names: false,
            names_critical: None,
        };
        // RFC 5280 section 4.2: no extension more than once.
        parsed
            .extensions_map()
            .map_err(|_| InvalidCertificate("an extension stands in it twice".to_owned()))?;
        for extension in parsed.extensions() {
            facts.take(extension.parsed_extension(), extension.critical)?;
        }
        Ok(facts)
    }

    fn take(&mut self, extension: &ParsedExtension<'_>, critical: bool) -> Result<(), InvalidCertificate> {
        match extension {
            ParsedExtension::BasicConstraints(found) => {
                self.is_ca = found.ca;
                self.path_length = found.path_len_constraint;
            }
            ParsedExtension::KeyUsage(found) => {
                self.key_usage = Some(KeyUsage {
                    critical,
                    digital_signature: found.digital_signature(),
                    key_encipherment: found.key_encipherment(),
                    key_cert_sign: found.key_cert_sign(),
                    crl_sign: found.crl_sign(),
                });
            }
            ParsedExtension::ExtendedKeyUsage(found) => {
                self.extended_key_usage = Some(ExtendedKeyUsage {
                    any: found.any,
                    server_auth: found.server_auth,
                    client_auth: found.client_auth,
                });
            }
            ParsedExtension::SubjectKeyIdentifier(found) => self.subject_key_id = Some(found.0.to_vec()),
            ParsedExtension::AuthorityKeyIdentifier(found) => {
                self.authority_key_id = found.key_identifier.as_ref().map(|id| id.0.to_vec());
            }
            ParsedExtension::SubjectAlternativeName(found) => {
                self.names_critical = Some(critical);
                for name in &found.general_names {
                    self.take_name(name)?;
                }
            }
            ParsedExtension::ParseError { error } => {
                return Err(InvalidCertificate(format!("an extension cannot be read: {error}")));
            }
            _ => {}
        }
        Ok(())
    }

    fn take_name(&mut self, name: &GeneralName<'_>) -> Result<(), InvalidCertificate> {
        match name {
            GeneralName::URI(uri) => self.uris.push((*uri).to_owned()),
            GeneralName::DNSName(name) => self.dns_names.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => self.ip_addresses.push(ip_address(bytes).ok_or_else(|| {
                InvalidCertificate("an IP address in it has neither 4 nor 16 bytes".to_owned())
            })?),
            GeneralName::Invalid(..) => {
                return Err(InvalidCertificate("one of its alternative names cannot be read".to_owned()));
            }
            _ => self.other_names = true,
        }
        Ok(())
    }
}

fn ip_address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}
