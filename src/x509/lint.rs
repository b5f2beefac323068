//! Pure: which rules for X509-SVIDs does a certificate break? (SPIFFE X509-SVID, RFC 5280)

use crate::identity::SpiffeId;
use crate::x509::certificate::Certificate;

/// One broken rule, as a sentence with the rule's name in front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule: `X-…` of SPIFFE's X509-SVID, or a section of RFC 5280.
    pub rule: &'static str,
    /// What is wrong.
    pub message: String,
}

/// Every rule for workload leaves that `certificate` breaks; empty when it is a good X509-SVID.
pub fn leaf(certificate: &Certificate) -> Vec<Finding> {
    let facts = certificate.facts();
    let mut found = Findings::default();
    found.unless(facts.version == 3, "RFC 5280 4.1.2.1", "it is not an X.509 version 3 certificate");
    found.serial(certificate);
    match facts.uris.as_slice() {
        [uri] => match uri.parse::<SpiffeId>() {
            Ok(id) => {
                found.unless(id.is_workload(), "X-2", "its SPIFFE ID has no path, so it names no workload")
            }
            Err(error) => found.add("X-1", error.to_string()),
        },
        uris => {
            found.add("X-1", format!("it has {} URI names; a SPIFFE certificate has exactly one", uris.len()))
        }
    }
    let empty_subject = facts.subject == [0x30, 0];
    found.unless(
        !empty_subject || facts.names_critical == Some(true),
        "X-3",
        "its subject is empty, so its alternative names must be critical",
    );
    found.unless(!facts.is_ca, "X-6", "it is a CA certificate");
    match facts.key_usage {
        None => found.add("X-8", "it has no key usage"),
        Some(usage) => {
            found.unless(usage.critical, "X-8", "its key usage is not critical");
            found.unless(usage.digital_signature, "X-10", "its key usage lacks digitalSignature");
            found.unless(
                !usage.key_cert_sign && !usage.crl_sign,
                "X-10",
                "its key usage allows signing certificates or revocation lists",
            );
        }
    }
    match facts.extended_key_usage {
        None => found.add("X-11", "it has no extended key usage"),
        Some(usage) => found.unless(
            usage.any || (usage.server_auth && usage.client_auth),
            "X-11",
            "its extended key usage does not hold both serverAuth and clientAuth",
        ),
    }
    found.unless(facts.subject_key_id.is_some(), "RFC 5280 4.2.1.2", "it has no subject key identifier");
    found.unless(facts.authority_key_id.is_some(), "RFC 5280 4.2.1.1", "it has no authority key identifier");
    found.0
}

/// Every rule for signing certificates that `certificate` breaks.
pub fn signing(certificate: &Certificate) -> Vec<Finding> {
    let facts = certificate.facts();
    let mut found = Findings::default();
    found.unless(facts.is_ca, "X-6", "it is not a CA certificate");
    match facts.key_usage {
        None => found.add("X-8", "it has no key usage"),
        Some(usage) => {
            found.unless(usage.critical, "X-8", "its key usage is not critical");
            found.unless(usage.key_cert_sign, "X-9", "its key usage does not allow signing certificates");
        }
    }
    match facts.uris.as_slice() {
        [] => {}
        [uri] => match uri.parse::<SpiffeId>() {
            Ok(id) => found.unless(
                !id.is_workload(),
                "X-4",
                "its SPIFFE ID has a path; a signing certificate's has none",
            ),
            Err(error) => found.add("X-4", error.to_string()),
        },
        _ => found.add("X-1", "it has more than one URI name"),
    }
    found.unless(facts.subject_key_id.is_some(), "RFC 5280 4.2.1.2", "it has no subject key identifier");
    found.0
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, rule: &'static str, message: impl Into<String>) {
        self.0.push(Finding { rule, message: message.into() });
    }

    fn unless(&mut self, good: bool, rule: &'static str, message: &str) {
        if !good {
            self.add(rule, message);
        }
    }

    fn serial(&mut self, certificate: &Certificate) {
        let serial = certificate.facts().serial.as_bytes();
        let negative = serial.first().is_some_and(|first| first & 0x80 != 0);
        let zero = serial.iter().all(|byte| *byte == 0);
        self.unless(
            !negative && !zero && serial.len() <= 20,
            "RFC 5280 4.1.2.2",
            "its serial number is not a positive integer of at most 20 octets",
        );
    }
}
