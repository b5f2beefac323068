//! Pure: which roots are trusted, in words, and what does a file of roots lack or have too much?

use std::fmt::Write;

use serde_json::Value;
use serde_json::json;
use time::format_description::well_known::Rfc3339;

use crate::cli::words;
use crate::rotation::report::Bundle;
use crate::rotation::report::Report;
use crate::rotation::report::Root;
use crate::x509::TrustBundle;

/// What is trusted, in words.
pub(super) fn text(report: &Report) -> String {
    let bundle = &report.bundle;
    let mut out = format!("bundle {}, digest {}\n\n", bundle.sequence, bundle.digest);
    for root in &bundle.roots {
        let _ = writeln!(out, "{}", root.subject);
        let whose = match &root.authority {
            Some(id) => {
                let stage = report.authorities.iter().find(|one| one.id == *id).map(|one| one.stage.as_str());
                format!("of authority {id}{}", stage.map(|stage| format!(", {stage}")).unwrap_or_default())
            }
            None => "of no authority: an operator has put it there".to_owned(),
        };
        let _ = writeln!(out, "  expires   {}", words::until_when(&root.expires_at, &report.at));
        let _ = writeln!(out, "  SHA-256   {}", root.fingerprint);
        let _ = writeln!(out, "  {whose}");
    }
    out
}

/// How a file differs from what is trusted.
#[derive(Debug, PartialEq)]
pub(super) struct Difference {
    sequence: u64,
    digest: String,
    missing: Vec<Root>,
    surplus: Vec<Root>,
}

impl Difference {
    /// Compares; the order does not matter.
    pub(super) fn of(trusted: &Bundle, held: &TrustBundle) -> Self {
        let held: Vec<Root> = held
            .roots()
            .iter()
            .map(|one| Root {
                fingerprint: one.fingerprint(),
                subject: one.facts().subject_text.clone(),
                expires_at: one.facts().not_after.format(&Rfc3339).unwrap_or_default(),
                authority: None,
            })
            .collect();
        let lacks = |list: &[Root], root: &Root| !list.iter().any(|one| one.fingerprint == root.fingerprint);
        Self {
            sequence: trusted.sequence,
            digest: trusted.digest.clone(),
            missing: trusted.roots.iter().filter(|root| lacks(&held, root)).cloned().collect(),
            surplus: held.iter().filter(|root| lacks(&trusted.roots, root)).cloned().collect(),
        }
    }

    /// Whether both are the same.
    pub(super) fn is_none(&self) -> bool {
        self.missing.is_empty() && self.surplus.is_empty()
    }

    /// In words.
    pub(super) fn to_text(&self, now: &str) -> String {
        let against = format!("bundle {}, digest {}", self.sequence, self.digest);
        if self.is_none() {
            return format!("the file has exactly the roots that are trusted ({against})\n");
        }
        let mut out = format!("the file differs from what is trusted ({against})\n");
        for (mark, what, roots) in [
            ("-", "trusted, and missing in the file", &self.missing),
            ("+", "in the file, and not trusted", &self.surplus),
        ] {
            for root in roots {
                let expires = words::from_now(&root.expires_at, now);
                let whose =
                    root.authority.as_ref().map(|id| format!(", of authority {id}")).unwrap_or_default();
                let _ = write!(
                    out,
                    "{mark} {}: {what}\n    expires {expires}{whose}, SHA-256 {}\n",
                    root.subject, root.fingerprint
                );
            }
        }
        out
    }

    /// For machines.
    pub(super) fn to_json(&self) -> Value {
        let surplus: Vec<_> = self
            .surplus
            .iter()
            .map(|root| {
                json!({"fingerprint": root.fingerprint, "subject": root.subject, "expires_at": root.expires_at})
            })
            .collect();
        json!({
            "same": self.is_none(),
            "sequence": self.sequence,
            "digest": self.digest,
            "missing": self.missing,
            "surplus": surplus,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use time::macros::datetime;

    use crate::authority::Record;
    use crate::cli::test_support::report_at_rest;

    use super::*;

    fn root() -> TrustBundle {
        let day = Duration::from_secs(86_400);
        let record = Record::new_root(&"td".parse().unwrap(), day, datetime!(2026-10-01 12:00 UTC));
        record.unwrap().state.bundle()
    }

    fn told(held: &TrustBundle) -> Bundle {
        let roots = Difference::of(&Bundle::default(), held).surplus;
        Bundle { sequence: 3, digest: held.digest(), roots, pem: held.to_pem() }
    }

    #[test]
    fn the_same_roots_do_not_differ_in_whatever_order_and_others_do_both_ways() {
        let (one, two) = (root(), root());
        let both = |first: &TrustBundle, second: &TrustBundle| {
            TrustBundle::from_pem((first.to_pem() + &second.to_pem()).as_bytes()).unwrap()
        };
        let same = Difference::of(&told(&both(&one, &two)), &both(&two, &one));
        assert!(same.is_none());
        assert!(
            same.to_text("")
                .starts_with("the file has exactly the roots that are trusted (bundle 3, digest ")
        );

        let differs = Difference::of(&told(&one), &two);
        let text = differs.to_text("2026-10-01T12:00:00Z");
        let lines: Vec<_> = text.lines().collect();
        assert!(
            lines[1].starts_with("- ") && lines[1].ends_with(": trusted, and missing in the file"),
            "{text}"
        );
        assert!(lines[2].contains("expires in 1 d, SHA-256 "), "{text}");
        assert!(lines[3].starts_with("+ ") && lines[3].ends_with(": in the file, and not trusted"), "{text}");
        let json = differs.to_json();
        assert_eq!(json["same"], false);
        assert_eq!(json["surplus"][0]["fingerprint"], two.roots()[0].fingerprint());
    }

    #[test]
    fn the_roots_are_told_with_the_authorities_they_belong_to() {
        let mut report = report_at_rest();
        report.bundle.roots.push(Root { authority: None, subject: "CN=other".to_owned(), ..Root::default() });
        assert_eq!(
            text(&report),
            "\
bundle 7, digest d7

O=cluster.local
  expires   2027-10-01T12:00:00Z (in 365 d)
  SHA-256   0123456789abcdefroot
  of authority 0123456789abcdef, active
CN=other
  expires   
  SHA-256   
  of no authority: an operator has put it there
"
        );
    }
}
