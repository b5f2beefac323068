use std::time::Duration;

use super::*;
use crate::authz::model::Action;
use crate::authz::model::Atom;
use crate::authz::model::Conjunction;
use crate::authz::model::Field;
use crate::authz::model::Kind;
use crate::authz::model::Pattern;
use crate::authz::model::Policy;
use crate::authz::model::PolicyName;
use crate::authz::model::Rule;
use crate::authz::model::Shape;
use crate::authz::model::Template;
use crate::authz::model::Term;
use crate::authz::model::Value;
use crate::proto::filters::CidrRange;
use crate::proto::filters::Permission;
use crate::proto::filters::permission;

fn exact(value: &str) -> Pattern {
    Pattern::Exact(value.into())
}

fn term(negated: bool, atoms: impl IntoIterator<Item = Atom>) -> Term {
    Term { field: Field::List("values"), negated, values: atoms.into_iter().map(Value::Is).collect() }
}

fn conjunction(terms: impl IntoIterator<Item = Term>) -> Conjunction {
    Conjunction { index: 0, terms: terms.into_iter().collect() }
}

fn rule(from: Conjunction, to: Conjunction) -> Rule {
    Rule { index: 0, from: vec![from], to: vec![to], when: Conjunction::default() }
}

fn policy(name: &str, action: Action, rules: Vec<Rule>) -> Policy {
    let name = PolicyName { kind: Kind::AuthorizationPolicy, namespace: "shop".into(), name: name.into() };
    Policy { name, action, dry_run: false, rules }
}

fn of_requests(policies: &[Policy]) -> Chain {
    compile(policies, Layer::Requests, &Options::default()).unwrap()
}

fn printed(chain: &Chain, slot: Slot) -> serde_json::Value {
    chain.at(slot).unwrap().to_json().unwrap()["typed_config"].take()
}

#[test]
fn a_policy_that_allows_without_rules_denies_all_and_never_becomes_no_rules() {
    let chain = of_requests(&[policy("none", Action::Allow, vec![])]);
    let rules = &printed(&chain, Slot::Allow)["rules"];
    assert_eq!(
        *rules,
        serde_json::json!({"action": "ALLOW", "policies": {"ns[shop]-policy[none]-rule[0]": {
            "permissions": [{"not_rule": {"any": true}}],
            "principals": [{"not_id": {"any": true}}],
        }}})
    );
}

#[test]
fn without_policies_there_are_no_filters() {
    assert_eq!(of_requests(&[]), Chain::default());
}

#[test]
fn a_rule_of_the_same_name_does_not_replace_another() {
    let open = || rule(conjunction([]), conjunction([]));
    let chain = of_requests(&[policy("twice", Action::Deny, vec![open(), open()])]);
    let rules = &printed(&chain, Slot::Deny)["rules"]["policies"];
    assert_eq!(rules.as_object().unwrap().len(), 2);
}

#[test]
fn a_rule_whose_sides_are_crossed_is_made_of_pairs() {
    let method = || conjunction([term(false, [Atom::Method(exact("GET"))])]);
    let peers = || conjunction([term(false, [Atom::Peer])]);
    let crossed = Rule {
        from: vec![method(), peers()],
        to: vec![peers(), method()],
        ..rule(conjunction([]), conjunction([]))
    };
    let chain = of_requests(&[policy("crossed", Action::Allow, vec![crossed])]);
    let rules = &printed(&chain, Slot::Allow)["rules"]["policies"];
    assert_eq!(rules.as_object().unwrap().len(), 4);
}

#[test]
fn a_list_with_values_for_both_sides_is_refused_by_name() {
    let both = term(false, [Atom::Peer, Atom::Sni(exact("a"))]);
    let refused = compile(
        &[policy("both", Action::Allow, vec![rule(conjunction([both]), conjunction([]))])],
        Layer::Requests,
        &Options::default(),
    );
    let told = refused.unwrap_err().to_string();
    assert!(told.starts_with("policy `shop/both`, rule 0: `values` asks in one list"), "{told}");
}

#[test]
fn an_authorizer_is_not_asked_by_what_its_filter_cannot_see() {
    let claim = Atom::claim(["iss"], Shape::Text, exact("a"));
    let custom = Action::Custom { provider: "opa".into() };
    let early = policy("early", custom, vec![rule(conjunction([term(false, [claim])]), conjunction([]))]);
    let refused = compile(&[early], Layer::Requests, &Options::default()).unwrap_err();
    assert!(matches!(refused, Refusal::TooEarly { .. }), "{refused}");
}

#[test]
fn an_authorizer_that_nobody_knows_denies() {
    let custom = Action::Custom { provider: "opa".into() };
    let open = rule(conjunction([]), conjunction([]));
    let chain = of_requests(&[policy("ask", custom, vec![open])]);
    let denies = printed(&chain, Slot::Custom(0));
    assert_eq!(denies["rules"]["action"], "DENY");
    assert!(chain.at(Slot::Ask(0)).is_none());
}

#[test]
fn each_authorizer_has_a_key_of_its_own() {
    let open = || rule(conjunction([]), conjunction([]));
    let custom = |provider: &str| Action::Custom { provider: provider.into() };
    let provider = || Provider {
        cluster: "authorizer".to_owned(),
        timeout: Duration::from_millis(250),
        fail_open: false,
    };
    let options = Options {
        providers: [("opa".to_owned(), provider()), ("opa-two".to_owned(), provider())].into(),
        ..Options::default()
    };
    let policies = [policy("a", custom("opa-two"), vec![open()]), policy("b", custom("opa"), vec![open()])];
    let chain = compile(&policies, Layer::Requests, &options).unwrap();
    let keys: Vec<_> = [0, 1]
        .map(|place| printed(&chain, Slot::Ask(place))["filter_enabled_metadata"]["path"][0]["key"].take())
        .into();
    assert_eq!(
        keys,
        ["istio_ext_authz_0_shadow_effective_policy_id", "istio_ext_authz_1_shadow_effective_policy_id"]
    );
    assert_eq!(printed(&chain, Slot::Ask(0))["grpc_service"]["timeout"], "0.250000000s");
}

#[test]
fn only_long_lists_of_exact_peers_that_allow_become_a_map() {
    let names = |count: usize| {
        let one = |number| Atom::PeerUri(exact(&format!("spiffe://td/ns/a/sa/{number}")));
        conjunction([term(false, (0..count).map(one))])
    };
    let map = Options { peers: Peers::Map, ..Options::default() };
    let with_comma = conjunction([term(false, [Atom::PeerUri(exact("a,b"))])]);
    for (action, from, to, expected) in [
        (Action::Allow, vec![names(100)], conjunction([]), true),
        (Action::Allow, vec![names(99)], conjunction([]), false),
        (Action::Deny, vec![names(100)], conjunction([]), false),
        (Action::Allow, vec![names(100)], conjunction([term(false, [Atom::Method(exact("GET"))])]), false),
        (Action::Allow, vec![names(100), with_comma], conjunction([]), false),
        (Action::Allow, vec![names(100), conjunction([term(true, [Atom::Peer])])], conjunction([]), false),
    ] {
        let slot = if action == Action::Allow { Slot::Allow } else { Slot::Deny };
        let policy = policy("list", action, vec![Rule { from, ..rule(conjunction([]), to) }]);
        let chain = compile([&policy], Layer::Requests, &map).unwrap();
        let config = printed(&chain, slot);
        assert_eq!(config.get("matcher").is_some(), expected, "{policy:?}");
        assert_eq!(config.get("rules").is_none(), expected, "{policy:?}");
        // By default never: a certificate with several names would be decided differently.
        assert!(printed(&of_requests(&[policy]), slot).get("matcher").is_none());
    }
}

/// What Envoy takes in silence and misreads, refuses, or dies of (all seen with Envoy 1.40).
#[test]
fn what_envoy_would_misread_or_die_of_is_refused() {
    use crate::proto::filters::HeaderMatchSpecifier;
    use crate::proto::filters::HeaderMatcher;
    use crate::proto::filters::MatchPattern;
    use crate::proto::filters::RegexMatcher;
    use crate::proto::filters::StringMatcher;
    use permission::Rule as Ask;

    let text = |pattern| StringMatcher { ignore_case: false, match_pattern: Some(pattern) };
    let header = |change: fn(&mut HeaderMatcher)| {
        let mut header = HeaderMatcher {
            name: "x-h".to_owned(),
            header_match_specifier: Some(HeaderMatchSpecifier::PresentMatch(true)),
            ..HeaderMatcher::default()
        };
        change(&mut header);
        Ask::Header(header)
    };
    let block = |length| CidrRange { address_prefix: "10.0.0.0".to_owned(), prefix_len: length };
    let length = |value| Some(crate::proto::filters::UInt32Value { value });
    let regex = RegexMatcher { regex: ".*".to_owned(), engine_type: None };
    for (ask, told) in [
        (Ask::Any(false), "`any: false`"),
        (Ask::AndRules(permission::Set::default()), "empty set"),
        (Ask::DestinationIp(block(None)), "every address"),
        (Ask::DestinationIp(block(length(40))), "a block that is none"),
        (Ask::DestinationPort(65536), "above 65535"),
        (Ask::RequestedServerName(text(MatchPattern::Prefix(String::new()))), "of no length"),
        (Ask::RequestedServerName(text(MatchPattern::SafeRegex(regex))), "none of ours"),
        (Ask::RequestedServerName(StringMatcher::default()), "empty string matcher"),
        (header(|header| header.invert_match = true), "inverted"),
        (header(|header| header.name = String::new()), "header's name"),
        (header(|header| header.name = "X-H".to_owned()), "header's name"),
    ] {
        assert_unsound(ask, told);
    }
    for template in
        ["/v/{**}", "/v/{a}/{a}", "v/x", "/**/**", "/{a=**}/{b=**}", "/a{", "/a*", "/***", "/{*}", ""]
    {
        let mut made = side_of(&Atom::PathTemplate(Template::parse("/a/{*}").unwrap()));
        let Ask::UriTemplate(extension) = &mut made else { unreachable!("it is a template") };
        let config = crate::proto::filters::UriTemplateMatchConfig { path_template: template.to_owned() };
        extension.typed_config.as_mut().unwrap().value = prost::Message::encode_to_vec(&config);
        assert_unsound(made, "path template");
    }
}

fn side_of(atom: &Atom) -> permission::Rule {
    use super::side::Side;
    Permission::atom(atom).and_then(|asked| asked.rule).unwrap()
}

fn assert_unsound(ask: permission::Rule, told: &str) {
    let mut filter = Filter::closed(Layer::Requests, Slot::Deny);
    let Config::HttpRbac(config) = &mut filter.config else { unreachable!("it is one for requests") };
    let broken = crate::proto::filters::Policy {
        permissions: vec![Permission { rule: Some(ask.clone()) }],
        principals: vec![crate::proto::filters::Principal {
            identifier: Some(crate::proto::filters::principal::Identifier::Any(true)),
        }],
        ..crate::proto::filters::Policy::default()
    };
    config.rules.as_mut().unwrap().policies.insert("broken".to_owned(), broken);
    let unsound = lint(&filter).unwrap_err().to_string();
    assert!(unsound.contains(told) && unsound.contains("rule `broken`"), "{ask:?}: {unsound}");
}

#[test]
fn a_filter_without_rules_and_rules_beside_a_map_are_refused() {
    let mut filter = Filter::open(Layer::Requests, Slot::Allow);
    let Config::HttpRbac(config) = &mut filter.config else { unreachable!("it is one for requests") };
    config.matcher = Some(crate::proto::filters::Matcher::default());
    assert!(lint(&filter).unwrap_err().what.contains("beside a map"));
    let Config::HttpRbac(config) = &mut filter.config else { unreachable!("it is one for requests") };
    (config.matcher, config.rules) = (None, None);
    assert!(lint(&filter).unwrap_err().what.contains("allows everything"));
}

#[test]
fn what_is_not_made_here_is_not_printed_with_a_part_left_out() {
    let mut filter = Filter::open(Layer::Requests, Slot::Allow);
    let Config::HttpRbac(config) = &mut filter.config else { unreachable!("it is one for requests") };
    config.track_per_rule_stats = true;
    assert!(matches!(filter.to_json(), Err(Unprintable::Unknown(_))));
}
