//! What was asked, by whom, and what became of it: the audit trail, one structured event a fact.
//!
//! The target `audit` and its field names are a contract with those who keep the logs. No token, no request and
//! no certificate is written, only what names them.

use crate::attest::Attested;
use crate::issuance::prepare::Prepared;
use crate::x509::SerialNumber;

/// A certificate is about to be signed.
pub(super) fn intended(request_id: &str, caller: &Attested, spiffe_id: &str, prepared: &Prepared) {
    tracing::info!(
        target: "audit",
        event = "intended",
        request_id,
        spiffe_id,
        serial = %prepared.serial(),
        expires_at = %prepared.not_after(),
        clamped_to_issuer = prepared.is_clamped(),
        pod = caller.pod().map(|pod| pod.name.as_str()),
        pod_uid = caller.pod().map(|pod| pod.uid.as_str()),
        node = caller.node().map(|node| node.name.as_str()),
        credential_id = caller.credential_id(),
        "a certificate will be signed"
    );
    if prepared.is_clamped() {
        tracing::warn!(
            request_id,
            expires_at = %prepared.not_after(),
            "the leaf's life was cut to its issuer's; renew the issuer"
        );
    }
}

/// It was signed.
pub(super) fn issued(request_id: &str, serial: &SerialNumber) {
    tracing::info!(target: "audit", event = "issued", request_id, %serial, "a certificate was signed");
}

/// It was not; `reason` is from a closed set, `error` says more.
pub(super) fn refused(request_id: &str, reason: &'static str, error: &dyn std::error::Error) {
    tracing::warn!(target: "audit", event = "refused", request_id, reason, error = %error, "a request was refused");
}
