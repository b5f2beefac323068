//! The wire: `istio.v1.auth.IstioCertificateService`, as Istio's agents and ztunnel call it.
//!
//! A refusal is opaque outside, with a request id; the reason stands in the log and in a metric under the same id.

use std::sync::Arc;

use prost_types::value::Kind;
use ring::rand::SecureRandom;
use tonic::Code;
use tonic::Response;
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::attest::Credentials;
use crate::attest::NotAttested;
use crate::issuance::grant::NotGranted;
use crate::issuance::pipeline::Pipeline;
use crate::issuance::pipeline::Refused;
use crate::issuance::pipeline::Request;
use crate::proto::istio::IstioCertificateRequest;
use crate::proto::istio::IstioCertificateResponse;
use crate::proto::istio::istio_certificate_service_server::IstioCertificateService;
use crate::proto::istio::istio_certificate_service_server::IstioCertificateServiceServer;
use crate::x509::certificate::hex;

/// The largest message that is read, in bytes; an RSA-4096 request with its headers has under 3 KB.
const MAX_MESSAGE: usize = 64 * 1024;

/// Answers Istio's certificate service from a [`Pipeline`].
#[derive(Clone, Debug)]
pub struct CertificateService(Arc<Pipeline>);

impl CertificateService {
    /// The gRPC service, ready to be added to a server.
    pub fn server(pipeline: Arc<Pipeline>) -> IstioCertificateServiceServer<Self> {
        IstioCertificateServiceServer::new(Self(pipeline)).max_decoding_message_size(MAX_MESSAGE)
    }
}

#[tonic::async_trait]
impl IstioCertificateService for CertificateService {
    async fn create_certificate(
        &self,
        request: tonic::Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let id = request_id();
        let credentials = Credentials { token: bearer_token(request.metadata()) };
        let message = request.into_inner();
        let asked = Request {
            id: id.clone(),
            credentials,
            for_another: for_another(&message),
            csr: message.csr,
            lifetime: message.validity_duration,
        };
        match self.0.issue(asked).await {
            Ok(issued) => Ok(Response::new(IstioCertificateResponse { cert_chain: issued.chain })),
            Err(refused) => Err(opaque(&refused, &id)),
        }
    }
}

/// What a stranger may know of a refusal: its kind, and the id by which its reason is found in our log.
fn opaque(refused: &Refused, id: &str) -> Status {
    let (code, message) = match refused {
        // `Unavailable` makes agents come again by themselves; `Unauthenticated` does not.
        Refused::Attest(NotAttested::Unavailable(_)) => {
            (Code::Unavailable, "the caller cannot be authenticated at the moment")
        }
        Refused::Attest(_) => (Code::Unauthenticated, "request authenticate failure"),
        Refused::Grant(NotGranted::ForAnother) => {
            (Code::Unauthenticated, "request impersonation authentication failure")
        }
        Refused::Csr(_) | Refused::Grant(_) => (Code::InvalidArgument, "the certificate request was refused"),
        // Another replica may well do it.
        Refused::Sign(_) => (Code::Unavailable, "the certificate could not be issued"),
        Refused::Prepare(_) => (Code::Internal, "the certificate could not be issued"),
    };
    let mut status = Status::new(code, format!("{message} (request {id}; the CA's log has the reason)"));
    if let Ok(id) = id.parse() {
        status.metadata_mut().insert("x-request-id", id);
    }
    status
}

/// Whether the message asks for somebody else's identity.
fn for_another(message: &IstioCertificateRequest) -> bool {
    let asked = message.metadata.as_ref().and_then(|metadata| metadata.fields.get("ImpersonatedIdentity"));
    match asked.and_then(|value| value.kind.as_ref()) {
        None | Some(Kind::NullValue(_)) => false,
        Some(Kind::StringValue(name)) => !name.is_empty(),
        Some(_) => true,
    }
}

/// The bearer token that came with a call, if one did.
pub fn bearer_token(metadata: &MetadataMap) -> Option<String> {
    let value = metadata.get("authorization")?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}

fn request_id() -> String {
    let mut octets = [0; 8];
    // An id that is all zeros still answers the request; issuing itself will fail for want of randomness.
    let _ = ring::rand::SystemRandom::new().fill(&mut octets);
    hex(&octets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x509::csr::InvalidCsr;

    #[test]
    fn all_bad_tokens_look_the_same_outside() {
        let messages: std::collections::BTreeSet<_> =
            [NotAttested::NoToken, NotAttested::Expired, NotAttested::PodGone, NotAttested::UnknownSigner]
                .into_iter()
                .map(|why| opaque(&Refused::Attest(why), "id"))
                .map(|status| (status.code() as i32, status.message().to_owned()))
                .collect();
        assert_eq!(messages.len(), 1, "{messages:?}");
    }

    #[test]
    fn the_status_names_the_request_and_not_the_reason() {
        let status = opaque(&Refused::Csr(InvalidCsr::Signature), "0123");
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("0123") && !status.message().contains("signed"));
        assert_eq!(status.metadata().get("x-request-id").unwrap(), "0123");
    }

    #[test]
    fn a_request_for_another_is_noticed() {
        let with = |kind: Option<Kind>| {
            let value = prost_types::Value { kind };
            let fields = [("ImpersonatedIdentity".to_owned(), value)].into_iter().collect();
            let metadata = Some(prost_types::Struct { fields });
            for_another(&IstioCertificateRequest { metadata, ..IstioCertificateRequest::default() })
        };
        assert!(!for_another(&IstioCertificateRequest::default()));
        assert!(!with(None) && !with(Some(Kind::StringValue(String::new()))));
        assert!(with(Some(Kind::StringValue("spiffe://td/ns/a/sa/b".to_owned()))));
        assert!(with(Some(Kind::BoolValue(true))));
    }

    #[test]
    fn only_a_bearer_token_is_taken() {
        let of = |value: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("authorization", value.parse().unwrap());
            bearer_token(&metadata)
        };
        assert_eq!(of("Bearer abc"), Some("abc".to_owned()));
        assert_eq!(of("bearer abc "), Some("abc".to_owned()));
        assert_eq!(of("Basic abc"), None);
        assert_eq!(of("abc"), None);
        assert_eq!(bearer_token(&MetadataMap::new()), None);
    }
}
