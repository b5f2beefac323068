//! What the filters of small sets are made of.

use std::collections::BTreeSet;

use prost::Message;
use serde_json::json;

use super::*;
use crate::authz::apply::apply;
use crate::authz::resource::Resource;
use crate::authz::workload::Mesh;
use crate::authz::workload::Workload;
use crate::proto::filters::HttpRbac;

/// What these policies say, each an action and a path.
fn applied(policies: &[(&str, &str)]) -> Applied {
    let mut more = json!({"provider": {"name": "asked"}});
    let policy = |(number, (action, path)): (usize, &(&str, &str))| {
        let mut spec = json!({"action": action, "rules": [{"to": [{"operation": {"paths": [path]}}]}]});
        if *action == "CUSTOM" {
            spec.as_object_mut().unwrap().append(more.as_object_mut().unwrap());
        }
        Resource::read(&json!({
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": {"namespace": "shop", "name": format!("p{number}")},
            "spec": spec,
        }))
        .unwrap()
    };
    let all: Vec<_> = policies.iter().enumerate().map(policy).collect();
    let workload = Workload { namespace: "shop".to_owned(), ..Workload::default() };
    apply(&all, &workload, &Mesh::of("td".parse().unwrap()))
}

fn compiled(policies: &[(&str, &str)]) -> Compiled {
    Compiled::new(&applied(policies), Layer::Requests).unwrap()
}

/// The filter of that name as it is delivered: its action, and how many rules it has.
fn delivered(extensions: &Extensions, name: &str) -> (i32, usize) {
    let any = extensions.resource(name).unwrap();
    let extension = TypedExtensionConfig::decode(any.value.as_slice()).unwrap();
    assert_eq!(extension.name, name);
    let rules = HttpRbac::decode(extension.typed_config.unwrap().value.as_slice()).unwrap().rules.unwrap();
    (rules.action, rules.policies.len())
}

const ALLOW: i32 = 0;
const DENY: i32 = 1;

fn show(set: &Set, deny: Cover) -> Show {
    Show { tokens: Some(set.tokens.clone()), deny: Some(deny), allow: Some(set.allow.clone()) }
}

#[test]
fn a_set_without_policies_denies_nothing_and_allows_everything() {
    let nothing = compiled(&[]);
    assert_eq!(nothing.set().deny, None);
    let all = Extensions::of(&show(nothing.set(), Cover::of(&None)), Layer::Requests, &[&nothing]);
    for name in [names::TOKENS, names::DENY, names::ALLOW] {
        assert_eq!(delivered(&all, name), (DENY, 0), "{name}");
    }
}

#[test]
fn a_cover_denies_what_either_of_two_sets_denies_and_what_both_deny_once() {
    let one = compiled(&[("DENY", "/a"), ("DENY", "/b"), ("ALLOW", "/c")]);
    let two = compiled(&[("DENY", "/a"), ("DENY", "/x"), ("ALLOW", "/d")]);
    let both: BTreeSet<_> = [one.set(), two.set()].into_iter().flat_map(|set| set.deny.clone()).collect();
    let all = Extensions::of(&show(one.set(), Cover::Of(both.clone())), Layer::Requests, &[&one, &two]);
    assert_eq!((delivered(&all, names::DENY), delivered(&all, names::ALLOW)), ((DENY, 3), (ALLOW, 1)));
    // Everything, if it cannot be made, and if that is what is asked for.
    for (cover, known) in [(Cover::Of(both), vec![&one]), (Cover::All, vec![&one, &two])] {
        let all = Extensions::of(&show(one.set(), cover), Layer::Requests, &known);
        assert_eq!(delivered(&all, names::DENY), (ALLOW, 0));
    }
}

#[test]
fn versions_tell_what_is_said_and_not_when_or_in_which_order() {
    let (one, same) =
        (compiled(&[("DENY", "/a"), ("ALLOW", "/b")]), compiled(&[("DENY", "/a"), ("ALLOW", "/b")]));
    assert_eq!(one.set(), same.set());
    let other = compiled(&[("DENY", "/a"), ("ALLOW", "/c")]);
    assert_eq!(one.set().deny, other.set().deny);
    assert_ne!(one.set().allow, other.set().allow);
    let connections = Compiled::new(&applied(&[("DENY", "/a")]), Layer::Connections).unwrap();
    assert_ne!(connections.set().deny, one.set().deny);
}

#[test]
fn what_an_authorizer_would_be_asked_about_is_denied_because_nobody_asks() {
    let asking = compiled(&[("CUSTOM", "/a"), ("ALLOW", "/*")]);
    let all = Extensions::of(&show(asking.set(), Cover::of(&asking.set().deny)), Layer::Requests, &[&asking]);
    assert_eq!(delivered(&all, names::DENY), (DENY, 1));
}

#[test]
fn nothing_is_said_of_what_is_not_shown() {
    let one = compiled(&[("DENY", "/a")]);
    let all = Extensions::of(&Show { deny: Some(Cover::All), ..Show::default() }, Layer::Requests, &[&one]);
    assert_eq!(all.offer().keys().collect::<Vec<_>>(), [names::DENY]);
    assert_eq!(all.resource(names::ALLOW), None);
}
