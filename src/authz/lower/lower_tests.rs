use serde_json::Value as Json;
use serde_json::json;

use crate::authz::decide::Effect;
use crate::authz::decide::walk;
use crate::authz::request::Http;
use crate::authz::request::Peer;
use crate::authz::request::Request;
use crate::authz::resource::Resource;
use crate::authz::resource::Severity;
use crate::authz::resource::Spec;

fn read(spec: Json) -> Resource {
    let object = json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": {"name": "one", "namespace": "shop"}, "spec": spec,
    });
    Resource::read(&object).unwrap()
}

fn decide(resource: &Resource, request: &Request<'_>) -> Effect {
    let Spec::AuthorizationPolicy(lowered) = &resource.spec else { panic!("another kind") };
    walk(&[lowered.policy.clone()], request).effect
}

fn errors(resource: &Resource) -> Vec<String> {
    let errors = resource.faults.iter().filter(|fault| fault.severity == Severity::Error);
    errors.map(ToString::to_string).collect()
}

#[test]
fn a_policy_decides_as_it_is_written() {
    let policy = read(json!({"rules": [{
        "from": [{"source": {"principals": ["td/ns/shop/sa/web"]}}],
        "to": [{"operation": {"methods": ["GET"], "paths": ["/a/*"]}}],
    }]}));
    assert_eq!(errors(&policy), Vec::<String>::new());
    let web = Peer { uris: &["spiffe://td/ns/shop/sa/web"] };
    let get = Http { method: "GET", path: "/a/b?c", ..Http::default() };
    let request = Request { peer: Some(web), http: Some(get), ..Request::default() };
    assert_eq!(decide(&policy, &request), Effect::Allow);
    assert_eq!(decide(&policy, &Request { peer: None, ..request }), Effect::Deny);
    let post = Some(Http { method: "POST", ..get });
    assert_eq!(decide(&policy, &Request { http: post, ..request }), Effect::Deny);
}

#[test]
fn what_is_wrong_is_told_with_its_path_and_what_is_done() {
    let policy = read(
        json!({"rules": [{}, {"from": [{"source": {"ipBlocks": ["10.0.0.0/8", "10.0.0.0/33"], "principls": ["x"]}}]}]}),
    );
    assert_eq!(
        errors(&policy),
        [
            "spec.rules[1].from[0].source.principls: unknown field; did you mean `principals`?; \
             the rule allows nothing until it is corrected",
            "spec.rules[1].from[0].source.ipBlocks[1]: `10.0.0.0/33` is not an address or CIDR; write it like \
             `10.0.0.0/8`, `10.1.2.3` or `2001:db8::/32`; the rule allows nothing until it is corrected",
        ]
    );
}
