//! What was asked, by whom, and what became of it: the audit trail, one structured event a fact.
//!
//! The target `audit` and its field names are a contract with those who keep the logs. No token, no request and
//! no certificate is written, only what names them.

use time::OffsetDateTime;

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

/// The CA is about to sign the certificate of its own listener.
pub(super) fn intended_for_ourselves(serial: &SerialNumber, expires_at: OffsetDateTime) {
    tracing::info!(target: "audit", event = "intended", purpose = "serving", %serial, %expires_at, "the CA signs its own certificate");
}

/// It was not; `reason` is from a closed set, `error` says more.
pub(crate) fn refused(request_id: &str, reason: &'static str, error: &dyn std::error::Error) {
    let error = one_line(&error.to_string());
    tracing::warn!(target: "audit", event = "refused", request_id, reason, error, "a request was refused");
}

/// A text that may quote a stranger, without what could begin a line of its own.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_stranger_cannot_begin_a_line_of_the_audit_trail() {
        let kept = one_line("unknown variant `X\nissued \u{1b}[0m`");
        assert_eq!(kept, "unknown variant `X\u{fffd}issued \u{fffd}[0m`");
    }
}
