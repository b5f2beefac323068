//! Pure: is this request signed by a key that we allow? (PKCS#10, RFC 2986)
//!
//! A [`VerifiedCsr`] is proof of possession and nothing else: of the request only the public key
//! lives on. Names and extensions that it asks for are never looked at again, so nobody can be
//! granted them by accident; a request that wants to be a CA is refused outright.

use rustls_pki_types::SignatureVerificationAlgorithm;
use webpki::ring as algorithms;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;

use crate::x509::der::Reader;
use crate::x509::der::tag;
use crate::x509::key::KeyAlgorithm;
use crate::x509::pem;

/// The largest request that is looked at, in bytes of PEM. A request for RSA-4096 has 1.7 KB.
pub const MAX_PEM_LENGTH: usize = 16 * 1024;

/// Key and signature algorithms a request may use. SHA-1 and everything that ring cannot verify are
/// left out, and RSA keys are 2048 to 8192 bits by the definition of the algorithms themselves.
static ALLOWED: [&dyn SignatureVerificationAlgorithm; 8] = [
    algorithms::ECDSA_P256_SHA256,
    algorithms::ECDSA_P256_SHA384,
    algorithms::ECDSA_P384_SHA256,
    algorithms::ECDSA_P384_SHA384,
    algorithms::ED25519,
    algorithms::RSA_PKCS1_2048_8192_SHA256,
    algorithms::RSA_PKCS1_2048_8192_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA512,
];

/// A request that parses. Nothing is known of who made it.
#[derive(Debug)]
pub struct Csr {
    /// CertificationRequestInfo as it was signed.
    signed: Vec<u8>,
    /// SubjectPublicKeyInfo, byte for byte.
    spki: Vec<u8>,
    key_algorithm_id: Vec<u8>,
    public_key: Vec<u8>,
    signature_algorithm_id: Vec<u8>,
    signature: Vec<u8>,
    wants_to_be_a_ca: bool,
}

/// A request whose sender holds the private key, of an allowed kind. Made only by [`Csr::verify`].
#[derive(Debug)]
pub struct VerifiedCsr {
    spki: Vec<u8>,
    algorithm: KeyAlgorithm,
}

/// Why a request is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCsr {
    /// Larger than [`MAX_PEM_LENGTH`].
    #[error("the request has {0} bytes; at most {MAX_PEM_LENGTH} are looked at")]
    TooLarge(usize),
    /// Not a PEM block.
    #[error("the request is not PEM: {0}")]
    Pem(#[from] pem::InvalidPem),
    /// Not PKCS#10.
    #[error("the request is not a PKCS#10 certification request, or has bytes after its end")]
    Malformed,
    /// Its key or signature algorithm is not allowed.
    #[error(
        "the request's key or signature algorithm is not allowed; use P-256, P-384, Ed25519 or RSA of 2048 to 8192 bits, signed with SHA-256 or better"
    )]
    Algorithm,
    /// The signature is not by the key in the request.
    #[error("the request is not signed by its own key, or its RSA key is shorter than 2048 bits")]
    Signature,
    /// BasicConstraints asks for a CA certificate.
    #[error(
        "the request asks for a CA certificate (basicConstraints CA:TRUE); workloads get leaf certificates only"
    )]
    WantsToBeACa,
}

impl InvalidCsr {
    /// A short name for logs and metrics, from a closed set.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooLarge(_) => "csr_too_large",
            Self::Pem(_) | Self::Malformed => "csr_malformed",
            Self::Algorithm => "csr_algorithm",
            Self::Signature => "csr_signature",
            Self::WantsToBeACa => "csr_wants_to_be_a_ca",
        }
    }
}

impl Csr {
    /// Reads a request from its PEM form.
    ///
    /// # Errors
    /// If it is too large, not PEM, or not PKCS#10.
    pub fn from_pem(text: &[u8]) -> Result<Self, InvalidCsr> {
        if text.len() > MAX_PEM_LENGTH {
            return Err(InvalidCsr::TooLarge(text.len()));
        }
        Self::from_der(&pem::csr(text)?)
    }

    /// Reads a request from its DER form.
    ///
    /// # Errors
    /// If it is not exactly one PKCS#10 request.
    pub fn from_der(der: &[u8]) -> Result<Self, InvalidCsr> {
        let (rest, parsed) = X509CertificationRequest::from_der(der).map_err(|_| InvalidCsr::Malformed)?;
        if !rest.is_empty() {
            return Err(InvalidCsr::Malformed);
        }
        let info = &parsed.certification_request_info;
        let asks_for_ca = |extension: &ParsedExtension<'_>| matches!(extension, ParsedExtension::BasicConstraints(constraints) if constraints.ca);
        let mut csr = Self {
            signed: info.raw.to_vec(),
            spki: info.subject_pki.raw.to_vec(),
            key_algorithm_id: Vec::new(),
            public_key: info.subject_pki.subject_public_key.data.to_vec(),
            signature_algorithm_id: Vec::new(),
            signature: parsed.signature_value.data.to_vec(),
            wants_to_be_a_ca: parsed.requested_extensions().is_some_and(|mut wanted| wanted.any(asks_for_ca)),
        };
        let unread = |_| InvalidCsr::Malformed;
        let mut spki = Reader::new(info.subject_pki.raw).enter(tag::SEQUENCE).map_err(unread)?;
        csr.key_algorithm_id = spki.expect(tag::SEQUENCE).map_err(unread)?.content.to_vec();
        let mut outer = Reader::new(der).enter(tag::SEQUENCE).map_err(unread)?;
        outer.expect(tag::SEQUENCE).map_err(unread)?;
        csr.signature_algorithm_id = outer.expect(tag::SEQUENCE).map_err(unread)?.content.to_vec();
        Ok(csr)
    }

    /// Checks that the sender holds the private key, and that the key is of an allowed kind.
    ///
    /// # Errors
    /// If the algorithm is not allowed, the signature does not verify, or a CA is asked for.
    pub fn verify(self) -> Result<VerifiedCsr, InvalidCsr> {
        if self.wants_to_be_a_ca {
            return Err(InvalidCsr::WantsToBeACa);
        }
        let algorithm = ALLOWED
            .iter()
            .find(|allowed| {
                allowed.public_key_alg_id().as_ref() == self.key_algorithm_id
                    && allowed.signature_alg_id().as_ref() == self.signature_algorithm_id
            })
            .ok_or(InvalidCsr::Algorithm)?;
        algorithm
            .verify_signature(&self.public_key, &self.signed, &self.signature)
            .map_err(|_| InvalidCsr::Signature)?;
        Ok(VerifiedCsr {
            algorithm: KeyAlgorithm::of_spki(&self.spki).ok_or(InvalidCsr::Algorithm)?,
            spki: self.spki,
        })
    }
}

impl VerifiedCsr {
    /// The public key as the request has it: a DER SubjectPublicKeyInfo.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// What kind of key it is.
    pub fn key_algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }
}
