//! Pure: what was found, in words for people and as JSON for machines.

use serde::Serialize;
use serde_json::Value;
use serde_json::json;

use crate::install::expected::Subject;
use crate::install::rules::Permission;

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// As it should be.
    Ok,
    /// Something does not work here, or will soon not, and the rest does.
    Warning,
    /// It is not there.
    Missing,
    /// It is there and not as it should be.
    Differs,
    /// It is there, and does not do its work now.
    NotReady,
    /// It could not be looked at.
    CannotLook,
}

impl State {
    /// Whether nothing has to be done.
    pub fn is_fine(self) -> bool {
        matches!(self, Self::Ok | Self::Warning)
    }

    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Missing => "missing",
            Self::Differs => "differs",
            Self::NotReady => "not-ready",
            Self::CannotLook => "cannot-look",
        }
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How it stands.
    pub state: State,
    /// What it is about.
    pub subject: Subject,
    /// What there is to say; may be empty if all is well.
    pub says: String,
    /// The permission that is missing, if that is what is wrong.
    pub permission: Option<Permission>,
    /// What to do.
    pub fix: Option<String>,
}

impl Finding {
    pub(super) fn ok(subject: Subject, says: impl Into<String>) -> Self {
        Self { state: State::Ok, subject, says: says.into(), permission: None, fix: None }
    }

    pub(super) fn wrong(
        state: State,
        subject: Subject,
        says: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { state, subject, says: says.into(), permission: None, fix: Some(fix.into()) }
    }

    pub(super) fn about(mut self, permission: Permission) -> Self {
        self.permission = Some(permission);
        self
    }

    fn line(&self) -> String {
        let mut line = format!("{:<11} {}", self.state.word(), self.subject);
        if !self.says.is_empty() {
            line += &format!(": {}", self.says);
        }
        if let Some(fix) = &self.fix {
            line += &format!("; fix: {fix}");
        }
        line
    }

    fn to_json(&self) -> Value {
        json!({
            "state": self.state,
            "kind": self.subject.kind,
            "namespace": self.subject.namespace,
            "name": self.subject.name,
            "says": self.says,
            "permission": self.permission,
            "fix": self.fix,
        })
    }
}

/// All that was found, in the order in which it is best put right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The authority's namespace.
    pub namespace: String,
    /// What was found.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether nothing has to be done.
    pub fn is_ok(&self) -> bool {
        self.findings.iter().all(|finding| finding.state.is_fine())
    }

    /// One line a finding, and how many there are.
    pub fn to_text(&self) -> String {
        let wrong = self.findings.iter().filter(|finding| !finding.state.is_fine()).count();
        let mut text: String = self.findings.iter().map(|finding| finding.line() + "\n").collect();
        text += &match wrong {
            0 => format!("\nNothing is missing in namespace {}.\n", self.namespace),
            count => format!("\n{count} thing(s) have to be put right.\n"),
        };
        text
    }

    /// For machines; `burgrave install check --help` says what stands in it.
    pub fn to_json(&self) -> Value {
        let findings: Vec<_> = self.findings.iter().map(Finding::to_json).collect();
        json!({ "ok": self.is_ok(), "namespace": self.namespace, "findings": findings })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let permission = Permission::new("", "configmaps", Some("istio-ca-root-cert"), "patch");
        let role = Subject::cluster("ClusterRole", "burgrave-controller");
        let findings = vec![
            Finding::ok(Subject::within("mesh", "ServiceAccount", "burgrave-ca"), ""),
            Finding::wrong(State::Differs, role, format!("may not {permission}"), "kubectl apply -k deploy/")
                .about(permission),
        ];
        Report { namespace: "mesh".to_owned(), findings }
    }

    #[test]
    fn a_finding_is_one_line_with_object_cause_and_fix() {
        let expected = "\
ok          ServiceAccount mesh/burgrave-ca
differs     ClusterRole burgrave-controller: may not `patch` `configmaps` `istio-ca-root-cert`; fix: kubectl apply -k deploy/

1 thing(s) have to be put right.
";
        assert_eq!(report().to_text(), expected);
    }

    #[test]
    fn machines_read_the_same_under_names_that_stay() {
        let expected = json!({
            "ok": false,
            "namespace": "mesh",
            "findings": [
                {
                    "state": "ok", "kind": "ServiceAccount", "namespace": "mesh", "name": "burgrave-ca",
                    "says": "", "permission": null, "fix": null,
                },
                {
                    "state": "differs", "kind": "ClusterRole", "namespace": null, "name": "burgrave-controller",
                    "says": "may not `patch` `configmaps` `istio-ca-root-cert`",
                    "permission": {
                        "group": "", "resource": "configmaps", "name": "istio-ca-root-cert", "verb": "patch",
                    },
                    "fix": "kubectl apply -k deploy/",
                },
            ],
        });
        assert_eq!(report().to_json(), expected);
    }

    #[test]
    fn a_warning_is_told_and_leaves_all_well() {
        let subject = Subject::cluster("Node", "old");
        let findings = vec![Finding::wrong(State::Warning, subject, "is old", "renew it")];
        let report = Report { namespace: "mesh".to_owned(), findings };
        assert!(report.is_ok());
        assert!(
            report.to_text().ends_with("Nothing is missing in namespace mesh.\n"),
            "{}",
            report.to_text()
        );
        for state in [State::Missing, State::Differs, State::NotReady, State::CannotLook] {
            assert!(!state.is_fine(), "{state:?}");
            assert_eq!(json!(state), state.word());
        }
    }
}
