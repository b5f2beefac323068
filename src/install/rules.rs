//! Pure: does a role allow what it should? As the API server's own RBAC authorizer reads rules, wildcards included.

use std::fmt;

use k8s_openapi::api::rbac::v1::PolicyRule;
use serde::Serialize;

/// The least that RBAC can allow: one verb on one resource, of one name or of any.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Permission {
    /// API group; empty for the core.
    pub group: String,
    /// Resource, in the plural, with its subresource if it is about one.
    pub resource: String,
    /// The one object that it is about; `None` if it is about any.
    pub name: Option<String>,
    /// Verb.
    pub verb: String,
}

impl Permission {
    pub(super) fn new(group: &str, resource: &str, name: Option<&str>, verb: &str) -> Self {
        Self {
            group: group.to_owned(),
            resource: resource.to_owned(),
            name: name.map(str::to_owned),
            verb: verb.to_owned(),
        }
    }

    fn is_allowed_by(&self, rule: &PolicyRule) -> bool {
        let has = |given: &[String], wanted: &str| given.iter().any(|one| one == "*" || one == wanted);
        let names = rule.resource_names.as_deref().unwrap_or_default();
        let is_named = names.is_empty() || self.name.as_ref().is_some_and(|name| names.contains(name));
        let any_of = self.resource.split_once('/').map(|(_, sub)| format!("*/{sub}"));
        let resources = rule.resources.as_deref().unwrap_or_default();
        let is_resource =
            has(resources, &self.resource) || any_of.is_some_and(|any_of| resources.contains(&any_of));
        let is_group = has(rule.api_groups.as_deref().unwrap_or_default(), &self.group);
        has(&rule.verbs, &self.verb) && is_group && is_resource && is_named
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` `{}", self.verb, self.resource)?;
        match self.group.as_str() {
            "" => f.write_str("`")?,
            group => write!(f, ".{group}`")?,
        }
        self.name.iter().try_for_each(|name| write!(f, " `{name}`"))
    }
}

/// All that `rules` say, one by one, each once.
pub(super) fn permissions(rules: &[PolicyRule]) -> Vec<Permission> {
    let mut all = Vec::new();
    for rule in rules {
        let names: Vec<Option<&String>> = match rule.resource_names.as_deref().unwrap_or_default() {
            [] => vec![None],
            names => names.iter().map(Some).collect(),
        };
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                for name in &names {
                    let one = |verb| Permission::new(group, resource, name.map(String::as_str), verb);
                    all.extend(rule.verbs.iter().map(|verb| one(verb)));
                }
            }
        }
    }
    all.sort();
    all.dedup();
    all
}

/// What `wanted` allows and `given` does not.
pub(super) fn missing(wanted: &[PolicyRule], given: &[PolicyRule]) -> Vec<Permission> {
    let mut wanted = permissions(wanted);
    wanted.retain(|permission| !given.iter().any(|rule| permission.is_allowed_by(rule)));
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::install::expected;

    fn rule(groups: &[&str], resources: &[&str], names: &[&str], verbs: &[&str]) -> PolicyRule {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        PolicyRule {
            api_groups: Some(owned(groups)),
            resources: Some(owned(resources)),
            resource_names: (!names.is_empty()).then(|| owned(names)),
            verbs: owned(verbs),
            ..PolicyRule::default()
        }
    }

    fn single(permission: &Permission) -> PolicyRule {
        let name: Vec<_> = permission.name.iter().map(String::as_str).collect();
        rule(&[&permission.group], &[&permission.resource], &name, &[&permission.verb])
    }

    #[test]
    fn whatever_single_permission_is_taken_from_whatever_role_exactly_that_one_is_missing() {
        let mut taken = 0;
        for role in expected::objects(expected::NAMESPACE) {
            let wanted = role.rules();
            let all: Vec<_> = permissions(&wanted).iter().map(single).collect();
            assert_eq!(missing(&wanted, &all), [], "{}", role.subject);
            for (at, gone) in permissions(&wanted).into_iter().enumerate() {
                let mut given = all.clone();
                given.remove(at);
                assert_eq!(missing(&wanted, &given), [gone], "{}", role.subject);
                taken += 1;
            }
        }
        assert!(taken > 50, "only {taken} permissions were taken away");
    }

    #[test]
    fn a_rule_covers_as_the_api_server_reads_it() {
        let status = rule(&["g"], &["things/status"], &["one"], &["update"]);
        for (given, covers) in [
            (rule(&["g"], &["things/status"], &["one"], &["update"]), true),
            (rule(&["g"], &["things/status"], &[], &["update"]), true),
            (rule(&["g"], &["things/status"], &["two", "one"], &["get", "update"]), true),
            (rule(&["*"], &["*"], &[], &["*"]), true),
            (rule(&["g"], &["*/status"], &[], &["update"]), true),
            (rule(&["g"], &["*/scale"], &[], &["update"]), false),
            (rule(&["g"], &["things"], &[], &["update"]), false),
            (rule(&["g"], &["things/*"], &[], &["update"]), false),
            (rule(&[""], &["things/status"], &[], &["update"]), false),
            (rule(&["g"], &["things/status"], &["two"], &["update"]), false),
            // A name is a name: there is no wildcard among them.
            (rule(&["g"], &["things/status"], &["*"], &["update"]), false),
            (rule(&["g"], &["things/status"], &[], &["patch"]), false),
        ] {
            assert_eq!(
                missing(std::slice::from_ref(&status), std::slice::from_ref(&given)).is_empty(),
                covers,
                "{given:?}"
            );
        }
    }

    #[test]
    fn what_may_be_done_to_any_object_is_not_covered_by_a_rule_for_one() {
        let create = rule(&[""], &["secrets"], &[], &["create"]);
        let named = rule(&[""], &["secrets"], &["one"], &["create"]);
        assert_eq!(missing(&[create], &[named]).len(), 1);
    }

    #[test]
    fn a_permission_reads_as_people_say_it() {
        let said = |group, name| Permission::new(group, "signers", name, "sign").to_string();
        assert_eq!(
            said("certificates.k8s.io", Some("burgrave.dev/workload")),
            "`sign` `signers.certificates.k8s.io` `burgrave.dev/workload`"
        );
        assert_eq!(said("", None), "`sign` `signers`");
    }
}
