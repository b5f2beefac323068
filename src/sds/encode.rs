//! Pure: how a secret looks to Envoy. The one road by which a private key leaves the process: over a socket of this node,
//! to the proxy it was made for.

use zeroize::Zeroize;

use crate::proto::envoy::Any;
use crate::proto::envoy::CertificateValidationContext;
use crate::proto::envoy::DataSource;
use crate::proto::envoy::GenericSecret;
use crate::proto::envoy::Secret;
use crate::proto::envoy::SecretType;
use crate::proto::envoy::Specifier;
use crate::proto::envoy::TlsCertificate;
use crate::sds::discovery::Resources;
use crate::sds::secret::Identity;
use crate::sds::secret::Secrets;
use crate::sds::secret::Trust;
use crate::sds::secret::names;
use crate::sds::subscription::Offer;

/// Type URL of a secret.
pub const SECRET_TYPE: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

impl Resources for Secrets {
    const TYPE: &'static str = SECRET_TYPE;
    const NOUN: &'static str = "secret";

    fn offer(&self) -> Offer {
        Secrets::offer(self)
    }

    fn resource(&self, name: &str) -> Option<Any> {
        resource(self, name)
    }
}

fn resource(secrets: &Secrets, name: &str) -> Option<Any> {
    use prost::Message;
    let content = match name {
        names::IDENTITY => tls_certificate(secrets.identity.as_ref()?),
        names::TRUST => validation_context(secrets.trust.as_ref()?),
        names::ISSUER => generic(secrets.notice.as_ref()?.to_json()),
        _ => return None,
    };
    let mut secret = Secret { name: name.to_owned(), r#type: Some(content) };
    let value = secret.encode_to_vec();
    wipe_key(&mut secret);
    Some(Any { type_url: SECRET_TYPE.to_owned(), value })
}

fn tls_certificate(identity: &Identity) -> SecretType {
    SecretType::TlsCertificate(TlsCertificate {
        certificate_chain: inline(identity.chain().to_pem().into_bytes()),
        private_key: inline(identity.key().secret_pem().as_bytes().to_vec()),
        ..TlsCertificate::default()
    })
}

fn validation_context(trust: &Trust) -> SecretType {
    SecretType::ValidationContext(CertificateValidationContext {
        trusted_ca: inline(trust.bundle().to_pem().into_bytes()),
        ..CertificateValidationContext::default()
    })
}

fn generic(bytes: Vec<u8>) -> SecretType {
    SecretType::GenericSecret(GenericSecret { secret: inline(bytes), ..GenericSecret::default() })
}

/// The message holds a copy of the key; what is left is the encoded one, which is on its way out.
fn wipe_key(secret: &mut Secret) {
    if let Some(SecretType::TlsCertificate(certificate)) = &mut secret.r#type
        && let Some(key) = &mut certificate.private_key
        && let Some(Specifier::InlineBytes(bytes)) = &mut key.specifier
    {
        bytes.zeroize();
    }
}

fn inline(bytes: Vec<u8>) -> Option<DataSource> {
    Some(DataSource { specifier: Some(Specifier::InlineBytes(bytes)), ..DataSource::default() })
}
