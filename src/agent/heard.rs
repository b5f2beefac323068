//! Pure: what does the CA say on its stream?

use prost::Message;
use time::OffsetDateTime;

use crate::agent::policies::InvalidPolicies;
use crate::agent::policies::Policies;
use crate::proto::envoy::DiscoveryResponse;
use crate::proto::envoy::Secret;
use crate::proto::envoy::SecretType;
use crate::proto::envoy::Specifier;
use crate::sds::InvalidNotice;
use crate::sds::Notice;
use crate::sds::Trust;
use crate::sds::UnfitSecret;
use crate::x509::CertificateChain;
use crate::x509::TrustBundle;
use crate::x509::bundle::InvalidBundle;

/// What the CA has said last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The roots that are to be trusted. Once they are here, they alone are.
    pub trust: Option<Trust>,
    /// The authority that leaves ought to be signed by.
    pub notice: Option<Notice>,
    /// The policies of the workload.
    pub policies: Option<Policies>,
}

/// Why something that the CA said is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum InvalidPush {
    /// The resource is not in it.
    #[error("the CA's message has no secret `{0}` with inline bytes of the type that this name stands for")]
    NotThere(String),
    /// It is no bundle.
    #[error(transparent)]
    Bundle(#[from] InvalidBundle),
    /// It is a bundle that must not be served.
    #[error(transparent)]
    Unfit(#[from] UnfitSecret),
    /// It is no notice.
    #[error(transparent)]
    Notice(#[from] InvalidNotice),
    /// They are no policies that can be followed.
    #[error(transparent)]
    Policies(#[from] Box<InvalidPolicies>),
}

/// How well a chain suits what the CA has told, worst first: it is more important to be under the roots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Fitness {
    is_trusted: bool,
    is_of_the_authority: bool,
}

impl Heard {
    /// How well `chain` suits; what has not been told, everything suits.
    pub(super) fn fitness(&self, chain: &CertificateChain, now: OffsetDateTime) -> Fitness {
        Fitness {
            is_trusted: self.trust.as_ref().is_none_or(|trust| chain.verify(trust.bundle(), now).is_ok()),
            is_of_the_authority: self.notice.as_ref().is_none_or(|notice| notice.covers(chain.leaf())),
        }
    }
}

impl Fitness {
    /// Whether nothing is left to be wished.
    pub(super) fn is_perfect(self) -> bool {
        self.is_trusted && self.is_of_the_authority
    }
}

/// The roots in a message, under `name`.
pub(super) fn trust(
    message: &DiscoveryResponse,
    name: &str,
    now: OffsetDateTime,
) -> Result<Trust, InvalidPush> {
    let pem = inline(message, name, |secret| match secret {
        SecretType::ValidationContext(found) => found.trusted_ca?.specifier,
        _ => None,
    })?;
    Ok(Trust::new(TrustBundle::from_pem(&pem)?, now)?)
}

/// The notice in a message, under `name`.
pub(super) fn notice(message: &DiscoveryResponse, name: &str) -> Result<Notice, InvalidPush> {
    let json = inline(message, name, |secret| match secret {
        SecretType::GenericSecret(found) => found.secret?.specifier,
        _ => None,
    })?;
    Ok(Notice::from_json(&json)?)
}

fn inline(
    message: &DiscoveryResponse,
    name: &str,
    source: impl Fn(SecretType) -> Option<Specifier>,
) -> Result<Vec<u8>, InvalidPush> {
    let secrets = message.resources.iter().filter_map(|any| Secret::decode(any.value.as_slice()).ok());
    let mut found = secrets.filter(|secret| secret.name == name).filter_map(|secret| source(secret.r#type?));
    match found.next() {
        Some(Specifier::InlineBytes(bytes)) => Ok(bytes),
        Some(Specifier::InlineString(text)) => Ok(text.into_bytes()),
        _ => Err(InvalidPush::NotThere(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::agent::test_support::Authority;
    use crate::agent::test_support::NOW;
    use crate::proto::envoy::Any;
    use crate::proto::envoy::CertificateValidationContext;
    use crate::proto::envoy::DataSource;
    use crate::proto::envoy::GenericSecret;

    fn message(name: &str, content: SecretType) -> DiscoveryResponse {
        let secret = Secret { name: name.to_owned(), r#type: Some(content) };
        let any = Any { value: secret.encode_to_vec(), ..Any::default() };
        DiscoveryResponse { resources: vec![any], ..DiscoveryResponse::default() }
    }

    fn source(bytes: &[u8]) -> Option<DataSource> {
        Some(DataSource { specifier: Some(Specifier::InlineBytes(bytes.to_vec())), ..DataSource::default() })
    }

    fn roots(pem: &[u8]) -> DiscoveryResponse {
        let context = CertificateValidationContext {
            trusted_ca: source(pem),
            ..CertificateValidationContext::default()
        };
        message("r", SecretType::ValidationContext(context))
    }

    #[test]
    fn roots_are_taken_only_if_there_is_one_that_is_valid() {
        let one = Authority::new();
        let pem = one.bundle().to_pem();
        assert_eq!(trust(&roots(pem.as_bytes()), "r", NOW).unwrap(), one.trust());
        assert!(matches!(trust(&roots(pem.as_bytes()), "other", NOW), Err(InvalidPush::NotThere(_))));
        assert!(matches!(trust(&DiscoveryResponse::default(), "r", NOW), Err(InvalidPush::NotThere(_))));
        assert!(matches!(trust(&roots(b""), "r", NOW), Err(InvalidPush::Bundle(_))));
        let late = NOW + Duration::from_secs(100 * 24 * 3600);
        assert!(matches!(trust(&roots(pem.as_bytes()), "r", late), Err(InvalidPush::Unfit(_))));
    }

    #[test]
    fn a_notice_is_taken_under_its_name_and_type_alone() {
        let told = Authority::new().notice(Duration::ZERO);
        let secret = GenericSecret { secret: source(&told.to_json()), ..GenericSecret::default() };
        let message = message("i", SecretType::GenericSecret(secret));
        assert_eq!(notice(&message, "i").unwrap(), told);
        assert!(matches!(trust(&message, "i", NOW), Err(InvalidPush::NotThere(_))));
        assert!(matches!(notice(&roots(b""), "r"), Err(InvalidPush::NotThere(_))));
    }

    #[test]
    fn a_chain_is_fit_if_it_is_of_the_authority_and_above_all_under_the_roots_that_were_told() {
        let (old, new) = (Authority::new(), Authority::new());
        let chain = old.identity().chain().clone();
        let told = |trust: &Authority, notice: &Authority| Heard {
            trust: Some(trust.trust()),
            notice: Some(notice.notice(Duration::ZERO)),
            policies: None,
        };
        let [nothing, perfect, untrusted, late, foreign] =
            [Heard::default(), told(&old, &old), told(&new, &old), told(&old, &new), told(&new, &new)]
                .map(|heard| heard.fitness(&chain, NOW));
        assert!(nothing.is_perfect() && perfect.is_perfect());
        assert!(foreign < untrusted && untrusted < late && late < perfect);
        assert!(!late.is_perfect() && !untrusted.is_perfect());
    }
}
