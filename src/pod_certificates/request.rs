//! Pure: what does a PodCertificateRequest ask for, and is it for us to answer?

use std::time::Duration;

use k8s_openapi::api::certificates::v1::PodCertificateRequest;
use time::OffsetDateTime;

use crate::attest::ClaimedPod;
use crate::pod_certificates::times::LONGEST_LIFE;
use crate::pod_certificates::times::SHORTEST_LIFE;

/// The API server's default for `spec.maxExpirationSeconds`.
const DEFAULT_EXPIRATION: i32 = 86_400;
/// Annotation keys that are remembered, to be named in a denial.
const KEYS: usize = 4;

/// A request that waits for our answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PodRequest {
    /// Its name; its namespace is the pod's.
    pub(super) name: String,
    /// Its UID.
    pub(super) uid: String,
    /// The version that an answer replaces.
    pub(super) version: String,
    /// When it was made.
    pub(super) created: OffsetDateTime,
    /// What it says of its pod.
    pub(super) pod: ClaimedPod,
    /// A PKCS#10 request in DER; empty if an old kubelet sent none.
    pub(super) stub: Vec<u8>,
    /// The longest life that it allows, backdate included.
    pub(super) max_expiration: Duration,
    /// The first keys of its annotations.
    pub(super) annotation_keys: Vec<String>,
}

/// What there is to do about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// To answer it.
    Pending(Box<PodRequest>),
    /// Nothing: it has been answered, by us or by another, or is being deleted.
    Settled,
    /// Nothing: it is another signer's.
    NotOurs,
    /// Nothing can be: a field that every object has is not in it.
    Malformed(&'static str),
}

impl PodRequest {
    /// `namespace/name`, for people.
    pub(super) fn full_name(&self) -> String {
        format!("{}/{}", self.pod.namespace, self.name)
    }

    /// Its name in the audit trail: the object is removed after a quarter of an hour, and then only this tells whose it was.
    pub(super) fn audit_id(&self) -> String {
        format!("{}/{}/{}", self.pod.namespace, self.name, self.uid)
    }

    /// The fields of `object` that matter to the signer `signer_name`.
    pub(super) fn read(object: PodCertificateRequest, signer_name: &str) -> Reading {
        let (metadata, spec) = (object.metadata, object.spec);
        if spec.signer_name != signer_name {
            return Reading::NotOurs;
        }
        let conditions = object.status.and_then(|status| status.conditions).unwrap_or_default();
        // The API server allows three types of conditions, and each of them is the end.
        if !conditions.is_empty() || metadata.deletion_timestamp.is_some() {
            return Reading::Settled;
        }
        let (Some(name), Some(namespace)) = (metadata.name, metadata.namespace) else {
            return Reading::Malformed("metadata.name or metadata.namespace");
        };
        let (Some(uid), Some(version)) = (metadata.uid, metadata.resource_version) else {
            return Reading::Malformed("metadata.uid or metadata.resourceVersion");
        };
        let created = metadata.creation_timestamp.map(|time| time.0.as_second());
        let Some(created) = created.and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok()) else {
            return Reading::Malformed("metadata.creationTimestamp");
        };
        let seconds = u64::try_from(spec.max_expiration_seconds.unwrap_or(DEFAULT_EXPIRATION)).unwrap_or(0);
        let max_expiration = Duration::from_secs(seconds);
        if !(SHORTEST_LIFE..=LONGEST_LIFE).contains(&max_expiration) {
            return Reading::Malformed("spec.maxExpirationSeconds between 3600 and 7862400");
        }
        let annotations = spec.unverified_user_annotations.unwrap_or_default();
        Reading::Pending(Box::new(PodRequest {
            name,
            uid,
            version,
            created,
            pod: ClaimedPod {
                namespace,
                name: spec.pod_name,
                uid: spec.pod_uid,
                service_account: spec.service_account_name,
                node: spec.node_name,
            },
            stub: spec.stub_pkc_s10_request.0,
            max_expiration,
            annotation_keys: annotations.into_keys().take(KEYS).collect(),
        }))
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
