use k8s_openapi::api::rbac::v1::PolicyRule;
use serde_json::json;

use super::*;
use crate::install::facts::reading;
use crate::install::objects::APPLY;
use crate::install::rules;
use crate::install::rules::Permission;
use crate::install::test_support::NOW;
use crate::install::test_support::set;
use crate::install::test_support::told;
use crate::install::test_support::well;
use crate::install::test_support::wrong;

#[test]
fn where_all_is_well_every_object_is_told_and_nothing_is_wrong() {
    let report = report(&well(), NOW);
    assert!(report.is_ok(), "{}", report.to_text());
    // The platform has four, and of what the authority does there are three.
    assert_eq!(report.findings.len(), 4 + 20 + 3);
}

#[test]
fn whatever_permission_a_role_lacks_the_report_names_it_and_nothing_else() {
    let well = well();
    for (at, (role, _)) in well.objects.iter().enumerate() {
        let all = rules::permissions(&role.rules());
        for gone in &all {
            let left: Vec<PolicyRule> = all.iter().filter(|one| *one != gone).map(rule).collect();
            let mut facts = well.clone();
            let Look::There(live) = &mut facts.objects[at].1 else { panic!("it is there") };
            live["rules"] = json!(left);
            let found = wrong(&facts);
            assert_eq!(found.len(), 1, "{}: {gone}", role.subject);
            assert_eq!((&found[0].subject, &found[0].permission), (&role.subject, &Some(gone.clone())));
            assert_eq!(found[0].says, format!("may not {gone}"));
            assert_eq!(found[0].fix.as_deref(), Some(APPLY));
        }
    }
}

fn rule(permission: &Permission) -> PolicyRule {
    PolicyRule {
        api_groups: Some(vec![permission.group.clone()]),
        resources: Some(vec![permission.resource.clone()]),
        resource_names: permission.name.clone().map(|name| vec![name]),
        verbs: vec![permission.verb.clone()],
        ..PolicyRule::default()
    }
}

#[test]
fn whatever_object_is_missing_or_may_not_be_looked_at_it_is_named_once() {
    let well = well();
    for at in 0..well.objects.len() {
        let mut facts = well.clone();
        let subject = facts.objects[at].0.subject.clone();
        facts.objects[at].1 = Look::Absent;
        let found = wrong(&facts);
        assert_eq!(found.len(), 1, "{subject}");
        assert_eq!((found[0].state, &found[0].subject), (State::Missing, &subject));
        facts.objects[at].1 = Look::Forbidden;
        let found = wrong(&facts);
        assert_eq!((found.len(), found[0].state), (1, State::CannotLook), "{subject}");
        assert_eq!(found[0].permission, Some(facts.objects[at].0.reading()));
    }
}

#[test]
fn before_it_is_installed_everything_is_missing_and_nothing_is_in_the_way() {
    let mut facts = well();
    facts.objects.iter_mut().for_each(|(_, look)| *look = Look::Absent);
    facts.pods = Look::There(Vec::new());
    facts.lease = Look::Absent;
    facts.config_maps = Look::There(Vec::new());
    facts.trust_bundle = Look::Absent;
    let found = wrong(&facts);
    assert_eq!(found.len(), 20 + 3);
    assert!(found.iter().all(|one| one.state == State::Missing), "{:?}", told(&facts));
}

#[test]
fn an_object_that_was_changed_is_named_with_the_change() {
    const LABEL: &str = "/spec/selector/app.kubernetes.io~1name";
    for (object, pointer, value, said) in [
        (
            "ClusterRoleBinding burgrave-issuer",
            "/roleRef/name",
            json!("view"),
            "binds ClusterRole `view` instead",
        ),
        (
            "RoleBinding burgrave-system/burgrave-controller",
            "/subjects",
            json!([]),
            "does not bind ServiceAccount `burgrave-system/burgrave-ca`",
        ),
        (
            "RoleBinding burgrave-system/burgrave-controller",
            "/subjects/0/namespace",
            json!("other"),
            "does not bind ServiceAccount `burgrave-system/burgrave-ca`",
        ),
        (
            "Service burgrave-system/burgrave-ca",
            LABEL,
            json!("other"),
            "it selects {\"app.kubernetes.io/name\":\"other\"} instead of {\"app.kubernetes.io/name\":\"burgrave-ca\"}",
        ),
        (
            "Service burgrave-system/burgrave-ca",
            "/spec/ports/0/port",
            json!(443),
            "its port 15012 does not lead to the pods' port \"https-ca\"",
        ),
        (
            "ValidatingWebhookConfiguration burgrave-policies",
            "/webhooks/0/name",
            json!("other.example.org"),
            "it has no entry of ours",
        ),
        (
            "ValidatingWebhookConfiguration burgrave-policies",
            "/webhooks/0/clientConfig/service/namespace",
            json!("other"),
            "it does not lead the API server to the authority's Service",
        ),
        (
            "ValidatingWebhookConfiguration burgrave-policies",
            "/webhooks/0/rules/0/resources",
            json!(["authorizationpolicies"]),
            "it asks about other objects",
        ),
        (
            "Deployment burgrave-system/burgrave-ca",
            "/spec/template/spec/serviceAccountName",
            json!("default"),
            "its pods run as service account \"default\" instead of \"burgrave-ca\"",
        ),
    ] {
        let mut facts = well();
        set(&mut facts, object, pointer, value);
        assert_eq!(told(&facts), [format!("Differs {object}: {said}")]);
    }
}

#[test]
fn an_api_server_that_does_not_answer_is_the_only_thing_told() {
    let mut facts = well();
    facts.version = Look::Failed("refused".to_owned());
    assert_eq!(report(&facts, NOW).findings.len(), 1);
    assert!(!report(&facts, NOW).is_ok());
}

#[test]
fn a_viewer_may_read_what_is_looked_at_and_nothing_else_and_an_operator_no_less() {
    let facts = well();
    let rules = |kind: &str, name: &str| {
        let is_it = |one: &Expected| one.subject.kind == kind && one.subject.name == name;
        facts.objects.iter().find(|(one, _)| is_it(one)).unwrap().0.rules()
    };
    let objects = |is_narrow: bool| {
        let all = facts.objects.iter().map(|(one, _)| one);
        all.filter(move |one| one.subject.namespace.is_some() == is_narrow).map(Expected::reading)
    };
    let wide = [reading::nodes(), reading::namespaces(), reading::config_maps(), reading::trust_bundle()];
    let narrow = [reading::pods(), reading::lease()];
    for (kind, reads) in [
        ("ClusterRole", objects(false).chain(wide).collect::<Vec<_>>()),
        ("Role", objects(true).chain(narrow).collect()),
    ] {
        let reads: Vec<_> = reads.iter().map(rule).collect();
        let viewer = rules(kind, "burgrave-viewer");
        assert_eq!(rules::missing(&reads, &viewer), [], "{kind}");
        let spare: Vec<_> = rules::missing(&viewer, &reads).iter().map(ToString::to_string).collect();
        // A namespace that is not the usual one has to be looked at too; and the authority itself may be asked how it stands.
        let expected: &[&str] = match kind {
            "ClusterRole" => &["`get` `namespaces`", "`get` `authorities.burgrave.dev`"],
            _ => &[],
        };
        assert_eq!(spare, expected);
        assert_eq!(rules::missing(&viewer, &rules(kind, "burgrave-operator")), [], "{kind}");
    }
}
