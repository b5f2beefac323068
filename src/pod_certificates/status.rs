//! Pure: what is written into a request? One status, whole, at once.

use k8s_openapi::api::certificates::v1::PodCertificateRequestStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Serialize;
use time::OffsetDateTime;

use crate::issuance::Issued;
use crate::k8s::moment;
use crate::pod_certificates::decide::Denial;
use crate::pod_certificates::request::PodRequest;
use crate::pod_certificates::times::refresh_at;

/// An object with nothing but what a write of the status reads: the API server keeps its own spec and metadata. Version and
/// UID make the write a comparison too: it goes through only if the object is still the one that was decided on.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Update<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata<'a>,
    status: &'a PodCertificateRequestStatus,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    name: &'a str,
    namespace: &'a str,
    uid: &'a str,
    resource_version: &'a str,
}

/// The certificate's. `draw` is random, from 0 up to but not including 1.
pub(super) fn issued(certificate: &Issued, now: OffsetDateTime, draw: f64) -> PodCertificateRequestStatus {
    let (not_before, not_after) = (certificate.not_before, certificate.not_after);
    let at = |at| Some(Time(moment(at)));
    PodCertificateRequestStatus {
        conditions: Some(vec![condition("Issued", "Issued", "the certificate was issued", now)]),
        certificate_chain: Some(certificate.without_roots().concat()),
        not_before: at(not_before),
        not_after: at(not_after),
        begin_refresh_at: at(refresh_at(not_before, not_after, draw)),
    }
}

/// The denial's; everything else stays empty.
pub(super) fn denied(denial: &Denial, now: OffsetDateTime) -> PodCertificateRequestStatus {
    PodCertificateRequestStatus {
        conditions: Some(vec![condition("Denied", denial.reason, &denial.message, now)]),
        ..PodCertificateRequestStatus::default()
    }
}

fn condition(type_: &str, reason: &str, message: &str, now: OffsetDateTime) -> Condition {
    Condition {
        type_: type_.to_owned(),
        status: "True".to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: Time(moment(now)),
        observed_generation: None,
    }
}

/// The body of the write.
///
/// # Errors
/// If JSON cannot say it, which it can.
pub(super) fn body(
    request: &PodRequest,
    status: &PodCertificateRequestStatus,
) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Update {
        api_version: "certificates.k8s.io/v1",
        kind: "PodCertificateRequest",
        metadata: Metadata {
            name: &request.name,
            namespace: &request.pod.namespace,
            uid: &request.uid,
            resource_version: &request.version,
        },
        status,
    })
}
