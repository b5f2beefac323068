//! Pure: which bytes are signed for a leaf, or for a root's key that another root certifies? (RFC 5280 section 4.1)
//!
//! A template rather than a builder: the issuer's name and the subject's key are copied byte for byte.
//! Builders re-encode both, and lose a repeated name attribute or mistake a key's curve on the way.

use std::net::IpAddr;

use ring::digest;
use time::OffsetDateTime;

use crate::x509::certificate::SerialNumber;
use crate::x509::der::Malformed;
use crate::x509::der::element;
use crate::x509::der::primitive;
use crate::x509::der::tag;
use crate::x509::key::KeyAlgorithm;
use crate::x509::key::public_bits;

/// `id-ce-…`: the object identifiers of the extensions we write, as DER content.
pub mod oid {
    #![expect(missing_docs, reason = "the names are RFC 5280's own")]
    pub const SUBJECT_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x0e];
    pub const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
    pub const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
    pub const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
    pub const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x23];
    pub const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
    pub const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
    pub const CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];
}

/// Everything a leaf says.
#[derive(Clone, Debug)]
pub struct Leaf<'a> {
    /// Serial number; positive, at most 20 octets.
    pub serial: &'a SerialNumber,
    /// AlgorithmIdentifier of the issuer's signatures, as DER.
    pub signature_algorithm: &'a [u8],
    /// Subject name of the issuer's certificate, as DER.
    pub issuer: &'a [u8],
    /// SubjectKeyIdentifier of the issuer's certificate, if it has one.
    pub issuer_key_id: Option<&'a [u8]>,
    /// First second of validity.
    pub not_before: OffsetDateTime,
    /// Last second of validity.
    pub not_after: OffsetDateTime,
    /// SubjectPublicKeyInfo, as DER.
    pub spki: &'a [u8],
    /// URI names.
    pub uris: &'a [String],
    /// DNS names.
    pub dns_names: &'a [String],
    /// IP addresses.
    pub ip_addresses: &'a [IpAddr],
    /// Whether it may be used as a TLS client too.
    pub client_auth: bool,
}

impl Leaf<'_> {
    /// The TBSCertificate in DER.
    ///
    /// # Errors
    /// If the SubjectPublicKeyInfo is not well-formed.
    pub fn to_der(&self) -> Result<Vec<u8>, Malformed> {
        let subject_key_id = key_id(self.spki)?;
        // RFC 5280 section 4.2.1.3 gives key transport a bit of its own; only RSA can do it.
        let key_usage: u8 = match KeyAlgorithm::of_spki(self.spki) {
            Some(KeyAlgorithm::Rsa) => 0b1010_0000,
            _ => 0b1000_0000,
        };
        let mut out = Vec::with_capacity(640);
        element(&mut out, tag::SEQUENCE, |out| {
            out.extend_from_slice(&[tag::CONTEXT_0, 3, tag::INTEGER, 1, 2]);
            primitive(out, tag::INTEGER, self.serial.as_bytes());
            out.extend_from_slice(self.signature_algorithm);
            out.extend_from_slice(self.issuer);
            element(out, tag::SEQUENCE, |out| {
                moment(out, self.not_before);
                moment(out, self.not_after);
            });
            // An empty subject: the identity stands in the alternative names, which are then critical.
            out.extend_from_slice(&[tag::SEQUENCE, 0]);
            out.extend_from_slice(self.spki);
            element(out, tag::CONTEXT_3, |out| {
                element(out, tag::SEQUENCE, |out| {
                    extension(out, oid::KEY_USAGE, true, |out| {
                        let unused = key_usage.trailing_zeros() as u8;
                        primitive(out, tag::BIT_STRING, &[unused, key_usage]);
                    });
                    extension(out, oid::EXTENDED_KEY_USAGE, false, |out| {
                        element(out, tag::SEQUENCE, |out| {
                            primitive(out, tag::OID, oid::SERVER_AUTH);
                            if self.client_auth {
                                primitive(out, tag::OID, oid::CLIENT_AUTH);
                            }
                        });
                    });
                    extension(out, oid::BASIC_CONSTRAINTS, true, |out| {
                        out.extend_from_slice(&[tag::SEQUENCE, 0]);
                    });
                    extension(out, oid::SUBJECT_KEY_IDENTIFIER, false, |out| {
                        primitive(out, tag::OCTET_STRING, &subject_key_id);
                    });
                    if let Some(id) = self.issuer_key_id {
                        extension(out, oid::AUTHORITY_KEY_IDENTIFIER, false, |out| {
                            element(out, tag::SEQUENCE, |out| primitive(out, 0x80, id));
                        });
                    }
                    extension(out, oid::SUBJECT_ALT_NAME, true, |out| {
                        element(out, tag::SEQUENCE, |out| self.names(out));
                    });
                });
            });
        });
        Ok(out)
    }

    fn names(&self, out: &mut Vec<u8>) {
        for uri in self.uris {
            primitive(out, 0x86, uri.as_bytes());
        }
        for name in self.dns_names {
            primitive(out, 0x82, name.as_bytes());
        }
        for address in self.ip_addresses {
            match address {
                IpAddr::V4(address) => primitive(out, 0x87, &address.octets()),
                IpAddr::V6(address) => primitive(out, 0x87, &address.octets()),
            }
        }
    }
}

/// Everything a certificate says by which one root certifies the key of another.
#[derive(Clone, Debug)]
pub struct Cross<'a> {
    /// Serial number; positive, at most 20 octets.
    pub serial: &'a SerialNumber,
    /// AlgorithmIdentifier of the issuer's signatures, as DER.
    pub signature_algorithm: &'a [u8],
    /// Subject name of the issuer's certificate, as DER.
    pub issuer: &'a [u8],
    /// Identifier of the issuer's key.
    pub issuer_key_id: &'a [u8],
    /// Subject name of the certified root, as DER.
    pub subject: &'a [u8],
    /// Identifier of its key.
    pub subject_key_id: &'a [u8],
    /// First second of validity.
    pub not_before: OffsetDateTime,
    /// Last second of validity.
    pub not_after: OffsetDateTime,
    /// Its SubjectPublicKeyInfo, as DER.
    pub spki: &'a [u8],
    /// Its URI names.
    pub uris: &'a [String],
}

impl Cross<'_> {
    /// The TBSCertificate in DER.
    pub fn to_der(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(640);
        element(&mut out, tag::SEQUENCE, |out| {
            out.extend_from_slice(&[tag::CONTEXT_0, 3, tag::INTEGER, 1, 2]);
            primitive(out, tag::INTEGER, self.serial.as_bytes());
            out.extend_from_slice(self.signature_algorithm);
            out.extend_from_slice(self.issuer);
            element(out, tag::SEQUENCE, |out| {
                moment(out, self.not_before);
                moment(out, self.not_after);
            });
            out.extend_from_slice(self.subject);
            out.extend_from_slice(self.spki);
            element(out, tag::CONTEXT_3, |out| element(out, tag::SEQUENCE, |out| self.extensions(out)));
        });
        out
    }

    fn extensions(&self, out: &mut Vec<u8>) {
        extension(out, oid::KEY_USAGE, true, |out| {
            // keyCertSign and cRLSign, as a root has them.
            primitive(out, tag::BIT_STRING, &[1, 0b0000_0110]);
        });
        extension(out, oid::BASIC_CONSTRAINTS, true, |out| {
            element(out, tag::SEQUENCE, |out| out.extend_from_slice(&[tag::BOOLEAN, 1, 0xff]));
        });
        extension(out, oid::SUBJECT_KEY_IDENTIFIER, false, |out| {
            primitive(out, tag::OCTET_STRING, self.subject_key_id);
        });
        extension(out, oid::AUTHORITY_KEY_IDENTIFIER, false, |out| {
            element(out, tag::SEQUENCE, |out| primitive(out, 0x80, self.issuer_key_id));
        });
        if !self.uris.is_empty() {
            extension(out, oid::SUBJECT_ALT_NAME, false, |out| {
                element(out, tag::SEQUENCE, |out| {
                    self.uris.iter().for_each(|uri| primitive(out, 0x86, uri.as_bytes()));
                });
            });
        }
    }
}

/// Joins what was signed, how, and the signature to a certificate.
pub fn certificate(tbs: &[u8], signature_algorithm: &[u8], signature: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(tbs.len() + signature.len() + 32);
    element(&mut out, tag::SEQUENCE, |out| {
        out.extend_from_slice(tbs);
        out.extend_from_slice(signature_algorithm);
        element(out, tag::BIT_STRING, |out| {
            out.push(0);
            out.extend_from_slice(signature);
        });
    });
    out
}

/// The identifier of a public key: the first 160 bits of SHA-256 over its bits (RFC 7093 section 2, method 1).
///
/// # Errors
/// If `spki` is not a SubjectPublicKeyInfo.
pub fn key_id(spki: &[u8]) -> Result<[u8; 20], Malformed> {
    let hash = digest::digest(&digest::SHA256, public_bits(spki)?);
    hash.as_ref().first_chunk().copied().ok_or(Malformed)
}

fn extension(out: &mut Vec<u8>, oid: &[u8], critical: bool, value: impl FnOnce(&mut Vec<u8>)) {
    element(out, tag::SEQUENCE, |out| {
        primitive(out, tag::OID, oid);
        if critical {
            out.extend_from_slice(&[tag::BOOLEAN, 1, 0xff]);
        }
        element(out, tag::OCTET_STRING, value);
    });
}

/// UTCTime until the end of 2049, GeneralizedTime from 2050 (RFC 5280 section 4.1.2.5).
fn moment(out: &mut Vec<u8>, at: OffsetDateTime) {
    let at = at.to_offset(time::UtcOffset::UTC);
    let year = at.year();
    let short = (1950..2050).contains(&year);
    let tag = if short { tag::UTC_TIME } else { tag::GENERALIZED_TIME };
    element(out, tag, |out| {
        if !short {
            two_digits(out, (year / 100).unsigned_abs() as u8);
        }
        two_digits(out, (year % 100).unsigned_abs() as u8);
        for part in [u8::from(at.month()), at.day(), at.hour(), at.minute(), at.second()] {
            two_digits(out, part);
        }
        out.push(b'Z');
    });
}

fn two_digits(out: &mut Vec<u8>, number: u8) {
    out.push(b'0' + number / 10 % 10);
    out.push(b'0' + number % 10);
}
