//! Pure: what of a proxy's error message may be written down?
//!
//! When a response fails Envoy's validation its NACK quotes the whole resource, private key included. So only the
//! beginning of a message is kept, up to the first sign of quoted content.

const LONGEST: usize = 300;
/// Where quoted content begins.
const SIGNS: [&str; 6] = ["-----", "{", "\n", "inline_", "private_key:", "\\n"];
/// More letters of base64 in a row than any word has.
const RUN: usize = 40;

/// The beginning of `message`, without anything that could be key material.
pub fn redact(message: &str) -> String {
    let quoted = SIGNS.iter().filter_map(|sign| message.find(sign)).chain(base64_run(message)).min();
    let end = quoted.unwrap_or(message.len()).min(LONGEST);
    let end = (0..=end).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
    match message.split_at_checked(end) {
        Some((kept, "")) => kept.to_owned(),
        Some((kept, _)) => format!("{}…", kept.trim_end()),
        None => "…".to_owned(),
    }
}

fn base64_run(message: &str) -> Option<usize> {
    let mut start = 0;
    for (at, c) in message.char_indices().chain([(message.len(), ' ')]) {
        if !(c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '-' | '_')) {
            if at - start >= RUN {
                return Some(start);
            }
            start = at + c.len_utf8();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_messages_are_kept() {
        for message in ["", "Failed to load certificate chain from <inline>", "KEY_VALUES_MISMATCH"] {
            assert_eq!(redact(message), message);
        }
    }

    #[test]
    fn a_quoted_resource_is_cut_off_before_it_begins() {
        for message in [
            "Proto constraint validation failed (x): name: \"default\" tls_certificate { private_key { inline_string: \"-----BEGIN PRIVATE KEY-----\\nMIG\" } }",
            "bad: inline_bytes: \"MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg\"",
            "bad MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg",
            "bad -----BEGIN EC PRIVATE KEY-----\nMIG",
        ] {
            let kept = redact(message);
            assert!(!kept.contains("MIG") && kept.ends_with('…'), "{kept}");
        }
    }

    proptest! {
        #[test]
        fn no_key_survives_wherever_it_stands(before in ".{0,60}", key in "[A-Za-z0-9+/]{64}", after in ".{0,60}") {
            let kept = redact(&format!("{before} {key} {after}"));
            prop_assert!(!kept.contains(&key));
        }
    }
}
