use super::*;
use crate::authz::apply::apply;
use crate::authz::model::Action;
use crate::authz::request::Request;
use crate::authz::workload::Mesh;
use crate::authz::workload::Workload;

const NOW: Duration = Duration::from_secs(1);

fn policy(namespace: &str, name: &str, blocks: &str, generation: i64) -> Value {
    json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": {
            "name": name, "namespace": namespace, "uid": "u", "resourceVersion": "1", "generation": generation,
            "managedFields": [{ "manager": "somebody" }],
        },
        "spec": { "rules": [{ "from": [{ "source": { "ipBlocks": [blocks] } }] }] },
    })
}

fn id(namespace: &str, name: &str) -> ResourceId {
    let (namespace, name) = (namespace.to_owned(), name.to_owned());
    ResourceId { kind: ResourceKind::AuthorizationPolicy, namespace, name }
}

fn names(desk: &Desk, namespace: &str) -> Vec<String> {
    desk.of(namespace).iter().map(|resource| resource.id.to_string()).collect()
}

#[test]
fn a_policy_is_news_when_it_means_something_new_and_not_when_its_status_was_written() {
    let mut desk = Desk::new("istio-system");
    let mut object = policy("shop", "web", "10.0.0.0/8", 1);
    let Shown::New(resource) = desk.there(object.clone(), NOW) else { panic!("it is new") };
    assert_eq!(resource.to_json().pointer("/metadata/managedFields"), None);
    object["status"] = json!({ "observedGeneration": 1 });
    object["metadata"]["resourceVersion"] = json!("2");
    assert!(matches!(desk.there(object.clone(), NOW), Shown::Same));
    // A dry run is said in an annotation, and annotations make no new generation.
    object["metadata"]["annotations"] = json!({ "istio.io/dry-run": "true" });
    assert!(matches!(desk.there(object.clone(), NOW), Shown::New(_)));
    object["metadata"]["uid"] = json!("another");
    assert!(matches!(desk.there(object, NOW), Shown::New(_)));
}

#[test]
fn what_a_new_list_does_not_show_is_gone() {
    let mut desk = Desk::new("istio-system");
    let kind = ResourceKind::AuthorizationPolicy;
    desk.begins(kind);
    for name in ["a", "b"] {
        desk.there(policy("shop", name, "10.0.0.0/8", 1), NOW);
    }
    assert_eq!(desk.complete(kind), []);
    desk.begins(kind);
    desk.there(policy("shop", "b", "10.0.0.0/8", 1), NOW);
    assert_eq!(desk.complete(kind), [id("shop", "a")]);
    assert_eq!(names(&desk, "shop"), ["AuthorizationPolicy shop/b"]);
    desk.gone(&id("shop", "b"));
    assert_eq!((names(&desk, "shop"), desk.board.behind()), (vec![], 0));
}

#[test]
fn a_kind_that_is_not_served_holds_nobody_up_and_takes_nothing_away() {
    let mut desk = Desk::new("istio-system");
    for kind in ResourceKind::ALL {
        assert!(!desk.is_complete());
        match kind {
            ResourceKind::AuthorizationPolicy => {
                desk.begins(kind);
                desk.there(policy("shop", "web", "10.0.0.0/8", 1), NOW);
                desk.complete(kind);
            }
            absent => {
                assert!(desk.absent(absent));
                assert!(!desk.absent(absent), "it is said once");
            }
        }
    }
    assert!(desk.is_complete());
    // A definition that is gone for a moment takes no policy with it.
    assert!(desk.absent(ResourceKind::AuthorizationPolicy));
    assert_eq!(names(&desk, "shop"), ["AuthorizationPolicy shop/web"]);
    assert!(desk.well(ResourceKind::AuthorizationPolicy));
    assert_eq!(desk.first_trouble(), None);
}

#[test]
fn policies_of_the_root_namespace_concern_all_and_others_their_own() {
    let mut desk = Desk::new("istio-system");
    for (namespace, name) in [("istio-system", "all"), ("shop", "web"), ("bank", "db")] {
        desk.there(policy(namespace, name, "10.0.0.0/8", 1), NOW);
    }
    assert_eq!(
        names(&desk, "shop"),
        ["AuthorizationPolicy istio-system/all", "AuthorizationPolicy shop/web"]
    );
    assert_eq!(names(&desk, "istio-system"), ["AuthorizationPolicy istio-system/all"]);
    let mut dirty = Vec::new();
    while let Some(namespace) = desk.reach.next() {
        dirty.push(namespace);
    }
    assert_eq!(dirty, ["", "bank", "shop"], "the empty one stands for all");
}

#[test]
fn accepted_and_faulty_policies_are_counted_by_kind() {
    let mut desk = Desk::new("istio-system");
    desk.there(policy("shop", "good", "10.0.0.0/8", 1), NOW);
    desk.there(policy("shop", "bad", "10.0.0.0/33", 1), NOW);
    let standing = desk.standing();
    let of = standing["AuthorizationPolicy"];
    assert_eq!((of.accepted, of.faulty, of.errors), (1, 1, 1));
    assert!(matches!(desk.there(json!({ "kind": "Pod" }), NOW), Shown::Unreadable(_)));
}

#[test]
fn an_object_too_deep_to_be_read_denies_all_that_it_could_be_for() {
    let mut desk = Desk::new("istio-system");
    let mut object = policy("shop", "web", "10.0.0.0/8", 1);
    let deep = (0..200).fold(json!(1), |inner, _| json!([inner]));
    object["spec"]["selector"] = json!({ "matchLabels": { "app": "web" }, "deep": deep });
    let Shown::New(resource) = desk.there(object, NOW) else { panic!("it is there") };
    assert!(resource.faults[0].problem.contains("nested"), "{:?}", resource.faults);
    let workload = Workload { namespace: "shop".to_owned(), ..Workload::default() };
    let applied = apply([resource.as_ref()], &workload, &Mesh::of("cluster.local".parse().unwrap()));
    let [policy] = applied.policies.as_slice() else { panic!("{:?}", applied.policies) };
    assert_eq!((&policy.action, policy.dry_run), (&Action::Deny, false));
    assert!(policy.first_match(&Request::default()).is_some(), "{policy:?}");
    // And each other kind has a reading of that.
    for kind in ResourceKind::ALL {
        let version = kind.versions().first().unwrap();
        let object = json!({
            "apiVersion": format!("{}/{version}", kind.group()), "kind": kind.as_str(),
            "metadata": { "name": "default", "namespace": "shop" },
            "spec": (0..200).fold(json!(1), |inner, _| json!({ "deep": inner })),
        });
        assert!(matches!(desk.there(object, NOW), Shown::New(_)), "{}", kind.as_str());
    }
}
