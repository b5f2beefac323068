//! Pure: a certificate in words, for people.

use std::fmt::Write;

use time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::x509::certificate::Certificate;

/// One line: who, by whom, how long.
pub fn line(certificate: &Certificate, now: OffsetDateTime) -> String {
    let facts = certificate.facts();
    let who = match (facts.uris.first(), facts.dns_names.first(), facts.subject_text.as_str()) {
        (Some(uri), _, subject) if facts.is_ca && !subject.is_empty() => format!("{subject} ({uri})"),
        (Some(uri), _, _) => uri.clone(),
        (None, Some(name), "") => name.clone(),
        (None, None, "") => "nobody".to_owned(),
        (None, _, subject) => subject.to_owned(),
    };
    let kind = match (facts.is_ca, certificate.is_self_signed()) {
        (true, true) => "root",
        (true, false) => "intermediate CA",
        (false, _) => "leaf",
    };
    format!("{kind} for {who}, {}", validity(certificate, now))
}

/// Several indented lines: everything that matters.
pub fn paragraph(certificate: &Certificate, now: OffsetDateTime) -> String {
    let facts = certificate.facts();
    let mut out = String::new();
    let mut say = |what: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "  {what:<12}{value}");
    };
    say("subject", if facts.subject_text.is_empty() { "(empty)" } else { &facts.subject_text });
    say("issuer", if facts.issuer_text.is_empty() { "(empty)" } else { &facts.issuer_text });
    for uri in &facts.uris {
        say("URI", uri);
    }
    for name in &facts.dns_names {
        say("DNS", name);
    }
    for address in &facts.ip_addresses {
        say("IP", &address.to_string());
    }
    say("valid", &validity(certificate, now));
    say("from", &moment(facts.not_before));
    say("to", &moment(facts.not_after));
    let key = facts.key_algorithm.map_or("of a kind not known here".to_owned(), |kind| kind.to_string());
    say("key", &key);
    say("may", &uses(certificate));
    say("serial", &facts.serial.to_string());
    say("SHA-256", &certificate.fingerprint());
    out
}

/// How far the present is from the certificate's life.
pub fn validity(certificate: &Certificate, now: OffsetDateTime) -> String {
    let facts = certificate.facts();
    if now < facts.not_before {
        format!("not valid yet, for another {}", span(facts.not_before - now))
    } else if now > facts.not_after {
        format!("EXPIRED {} ago", span(now - facts.not_after))
    } else {
        format!("for another {} of {}", span(facts.not_after - now), span(facts.not_after - facts.not_before))
    }
}

/// A time span in its two largest units.
pub fn span(span: Duration) -> String {
    let seconds = span.whole_seconds().unsigned_abs();
    let units = [("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)];
    let Some(first) = units.iter().position(|(_, size)| seconds >= *size) else {
        return "0 s".to_owned();
    };
    let mut left = seconds;
    let mut parts = Vec::new();
    for (name, size) in units.iter().skip(first).take(2) {
        if left >= *size {
            parts.push(format!("{} {name}", left / size));
            left %= size;
        }
    }
    parts.join(" ")
}

fn moment(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_else(|_| at.to_string())
}

fn uses(certificate: &Certificate) -> String {
    let facts = certificate.facts();
    let mut uses = Vec::new();
    if facts.is_ca {
        uses.push(match facts.path_length {
            Some(length) => format!("be a CA with {length} CAs below it"),
            None => "be a CA".to_owned(),
        });
    }
    if let Some(usage) = facts.key_usage {
        for (allowed, name) in [
            (usage.digital_signature, "sign"),
            (usage.key_encipherment, "encipher keys"),
            (usage.key_cert_sign, "sign certificates"),
            (usage.crl_sign, "sign revocation lists"),
        ] {
            if allowed {
                uses.push(name.to_owned());
            }
        }
    }
    if let Some(usage) = facts.extended_key_usage {
        for (allowed, name) in [
            (usage.any, "serve any purpose"),
            (usage.server_auth, "be a TLS server"),
            (usage.client_auth, "be a TLS client"),
        ] {
            if allowed {
                uses.push(name.to_owned());
            }
        }
    }
    if uses.is_empty() { "do anything: it sets no limits".to_owned() } else { uses.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_told_in_their_two_largest_units() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3661, "1 h 1 min"),
            (90_000, "1 d 1 h"),
            (86_401, "1 d"),
        ] {
            assert_eq!(span(Duration::seconds(seconds)), text);
        }
    }
}
