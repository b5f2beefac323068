//! Pure: how is a filter written in Envoy's own files?
//!
//! This is proto3's JSON for exactly the messages that are made here, no more: what it does not know it refuses rather than leaves
//! out, for a condition that is left out makes a rule wider.

mod fields;
mod tokens;

use std::collections::BTreeMap;

use prost::Message;
use prost::Name;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::authz::envoy::config::Config;
use crate::authz::envoy::json::fields::Fields;
pub use crate::authz::envoy::json::fields::Unprintable;
use crate::authz::envoy::json::fields::Written;
use crate::authz::envoy::json::fields::list;
use crate::authz::envoy::json::fields::nothing_beside;
use crate::authz::envoy::json::fields::unknown;
use crate::proto::envoy::Any;
use crate::proto::filters::CidrRange;
use crate::proto::filters::GrpcService;
use crate::proto::filters::HeaderMatchSpecifier;
use crate::proto::filters::HeaderMatcher;
use crate::proto::filters::HttpExtAuthz;
use crate::proto::filters::HttpRbac;
use crate::proto::filters::JwtAuthentication;
use crate::proto::filters::MatchPattern;
use crate::proto::filters::Matcher;
use crate::proto::filters::MetadataMatcher;
use crate::proto::filters::MtlsAuthenticated;
use crate::proto::filters::NetworkExtAuthz;
use crate::proto::filters::NetworkRbac;
use crate::proto::filters::PathMatcher;
use crate::proto::filters::Permission;
use crate::proto::filters::Policy;
use crate::proto::filters::Principal;
use crate::proto::filters::Rules;
use crate::proto::filters::RulesAction;
use crate::proto::filters::SanType;
use crate::proto::filters::Services;
use crate::proto::filters::SourcedMetadata;
use crate::proto::filters::StringMatcher;
use crate::proto::filters::TypedExtensionConfig;
use crate::proto::filters::UriSanInput;
use crate::proto::filters::UriTemplateMatchConfig;
use crate::proto::filters::ValueMatcher;
use crate::proto::filters::Verdict;
use crate::proto::filters::grpc_service::TargetSpecifier;
use crate::proto::filters::list_matcher;
use crate::proto::filters::matcher;
use crate::proto::filters::metadata_matcher::path_segment::Segment;
use crate::proto::filters::path_matcher;
use crate::proto::filters::permission::Rule;
use crate::proto::filters::principal::Identifier;
use crate::proto::filters::value_matcher;

/// The configuration with its `@type`.
pub(super) fn config(config: &Config) -> Written {
    match config {
        Config::HttpRbac(one) => typed::<HttpRbac>(http_rbac(one)?),
        Config::NetworkRbac(one) => typed::<NetworkRbac>(network_rbac(one)?),
        Config::JwtAuthn(one) => typed::<JwtAuthentication>(tokens::jwt_authn(one)?),
        Config::HttpExtAuthz(one) => typed::<HttpExtAuthz>(http_ext_authz(one)?),
        Config::NetworkExtAuthz(one) => typed::<NetworkExtAuthz>(network_ext_authz(one)?),
    }
}

/// Puts the type before the fields.
fn typed<M: Name>(fields: Map<String, Value>) -> Written {
    let mut all = Map::from_iter([("@type".to_owned(), M::type_url().into())]);
    all.extend(fields);
    Ok(all.into())
}

// === filters ===

fn http_rbac(one: &HttpRbac) -> Result<Map<String, Value>, Unprintable> {
    let HttpRbac { rules, matcher, shadow_rules, rules_stat_prefix, shadow_rules_stat_prefix, .. } =
        one.clone();
    let fields = Fields::default()
        .with_some("rules", &rules, self::rules)?
        .with_some("matcher", &matcher, self::matcher)?
        .with("rules_stat_prefix", rules_stat_prefix.as_str())
        .with_some("shadow_rules", &shadow_rules, self::rules)?
        .with("shadow_rules_stat_prefix", shadow_rules_stat_prefix.as_str());
    nothing_beside(
        one,
        &HttpRbac {
            rules,
            matcher,
            shadow_rules,
            rules_stat_prefix,
            shadow_rules_stat_prefix,
            ..HttpRbac::default()
        },
    )?;
    Ok(fields.0)
}

fn network_rbac(one: &NetworkRbac) -> Result<Map<String, Value>, Unprintable> {
    let NetworkRbac { rules, matcher, shadow_rules, stat_prefix, shadow_rules_stat_prefix, .. } = one.clone();
    let fields = Fields::default()
        .with("stat_prefix", stat_prefix.as_str())
        .with_some("rules", &rules, self::rules)?
        .with_some("matcher", &matcher, self::matcher)?
        .with_some("shadow_rules", &shadow_rules, self::rules)?
        .with("shadow_rules_stat_prefix", shadow_rules_stat_prefix.as_str());
    nothing_beside(
        one,
        &NetworkRbac {
            rules,
            matcher,
            shadow_rules,
            stat_prefix,
            shadow_rules_stat_prefix,
            ..NetworkRbac::default()
        },
    )?;
    Ok(fields.0)
}

fn http_ext_authz(one: &HttpExtAuthz) -> Result<Map<String, Value>, Unprintable> {
    let written = HttpExtAuthz {
        transport_api_version: one.transport_api_version,
        failure_mode_allow: one.failure_mode_allow,
        filter_enabled_metadata: one.filter_enabled_metadata.clone(),
        include_peer_certificate: one.include_peer_certificate,
        include_tls_session: one.include_tls_session,
        services: one.services.clone(),
        ..HttpExtAuthz::default()
    };
    nothing_beside(one, &written)?;
    let Some(Services::GrpcService(service)) = &one.services else {
        return Err(unknown("envoy.extensions.filters.http.ext_authz.v3.ExtAuthz.http_service"));
    };
    Ok(Fields::default()
        .with("grpc_service", grpc_service(service)?)
        .with("transport_api_version", one.transport_api_version().as_str_name())
        .with("failure_mode_allow", one.failure_mode_allow)
        .with_some("filter_enabled_metadata", &one.filter_enabled_metadata, metadata)?
        .with("include_peer_certificate", one.include_peer_certificate)
        .with("include_tls_session", one.include_tls_session)
        .0)
}

fn network_ext_authz(one: &NetworkExtAuthz) -> Result<Map<String, Value>, Unprintable> {
    let written = NetworkExtAuthz {
        stat_prefix: one.stat_prefix.clone(),
        grpc_service: one.grpc_service.clone(),
        failure_mode_allow: one.failure_mode_allow,
        include_peer_certificate: one.include_peer_certificate,
        transport_api_version: one.transport_api_version,
        filter_enabled_metadata: one.filter_enabled_metadata.clone(),
        include_tls_session: one.include_tls_session,
        ..NetworkExtAuthz::default()
    };
    nothing_beside(one, &written)?;
    Ok(Fields::default()
        .with("stat_prefix", one.stat_prefix.as_str())
        .with_some("grpc_service", &one.grpc_service, grpc_service)?
        .with("transport_api_version", one.transport_api_version().as_str_name())
        .with("failure_mode_allow", one.failure_mode_allow)
        .with_some("filter_enabled_metadata", &one.filter_enabled_metadata, metadata)?
        .with("include_peer_certificate", one.include_peer_certificate)
        .with("include_tls_session", one.include_tls_session)
        .0)
}

fn grpc_service(one: &GrpcService) -> Written {
    let written = GrpcService {
        timeout: one.timeout,
        target_specifier: one.target_specifier.clone(),
        ..GrpcService::default()
    };
    nothing_beside(one, &written)?;
    let Some(TargetSpecifier::EnvoyGrpc(target)) = &one.target_specifier else {
        return Err(unknown("envoy.config.core.v3.GrpcService.google_grpc"));
    };
    let timeout = one.timeout.map(|length| format!("{}.{:09}s", length.seconds, length.nanos));
    let fields = Fields::default().with("envoy_grpc", json!({"cluster_name": target.cluster_name}));
    Ok(fields.with("timeout", timeout).0.into())
}

// === rules ===

fn rules(one: &Rules) -> Written {
    let written = Rules { action: one.action, policies: one.policies.clone(), audit_logging_options: None };
    nothing_beside(one, &written)?;
    let action =
        RulesAction::try_from(one.action).map_err(|_| unknown("envoy.config.rbac.v3.RBAC.action"))?;
    // In the order in which Envoy reads them, and so that the same policies are always written alike.
    let in_order: BTreeMap<_, _> = one.policies.iter().collect();
    let mut policies = Map::new();
    for (name, one) in in_order {
        policies.insert(name.clone(), policy(one)?);
    }
    Ok(json!({"action": action.as_str_name(), "policies": policies}))
}

fn policy(one: &Policy) -> Written {
    let Policy { permissions, principals, .. } = one.clone();
    let fields = Fields::default()
        .with("permissions", list(&permissions, permission)?)
        .with("principals", list(&principals, principal)?);
    nothing_beside(one, &Policy { permissions, principals, ..Policy::default() })?;
    Ok(fields.0.into())
}

fn permission(one: &Permission) -> Written {
    let rule = one.rule.as_ref().ok_or_else(|| unknown("an empty permission"))?;
    Ok(match rule {
        Rule::AndRules(set) => json!({"and_rules": {"rules": list(&set.rules, permission)?}}),
        Rule::OrRules(set) => json!({"or_rules": {"rules": list(&set.rules, permission)?}}),
        Rule::Any(any) => json!({"any": any}),
        Rule::Header(one) => json!({"header": header(one)?}),
        Rule::UrlPath(one) => json!({"url_path": path(one)?}),
        Rule::DestinationIp(block) => json!({"destination_ip": range(block)?}),
        Rule::DestinationPort(port) => json!({"destination_port": port}),
        Rule::NotRule(one) => json!({"not_rule": permission(one)?}),
        Rule::RequestedServerName(one) => json!({"requested_server_name": text(one)?}),
        Rule::UriTemplate(one) => json!({"uri_template": extension(one)?}),
        Rule::SourcedMetadata(one) => json!({"sourced_metadata": sourced(one)?}),
        _ => return Err(unknown("a permission of another kind")),
    })
}

fn principal(one: &Principal) -> Written {
    let identifier = one.identifier.as_ref().ok_or_else(|| unknown("an empty principal"))?;
    Ok(match identifier {
        Identifier::AndIds(set) => json!({"and_ids": {"ids": list(&set.ids, principal)?}}),
        Identifier::OrIds(set) => json!({"or_ids": {"ids": list(&set.ids, principal)?}}),
        Identifier::Any(any) => json!({"any": any}),
        Identifier::DirectRemoteIp(block) => json!({"direct_remote_ip": range(block)?}),
        Identifier::RemoteIp(block) => json!({"remote_ip": range(block)?}),
        Identifier::Header(one) => json!({"header": header(one)?}),
        Identifier::UrlPath(one) => json!({"url_path": path(one)?}),
        Identifier::NotId(one) => json!({"not_id": principal(one)?}),
        Identifier::SourcedMetadata(one) => json!({"sourced_metadata": sourced(one)?}),
        Identifier::Custom(one) => json!({"custom": extension(one)?}),
        _ => return Err(unknown("a principal of another kind")),
    })
}

// === what is matched ===

fn header(one: &HeaderMatcher) -> Written {
    let HeaderMatcher { name, header_match_specifier, .. } = one.clone();
    let matched = match &header_match_specifier {
        Some(HeaderMatchSpecifier::StringMatch(one)) => json!({"name": name, "string_match": text(one)?}),
        Some(HeaderMatchSpecifier::PresentMatch(present)) => json!({"name": name, "present_match": present}),
        _ => return Err(unknown("a header matcher of another kind")),
    };
    nothing_beside(one, &HeaderMatcher { name, header_match_specifier, ..HeaderMatcher::default() })?;
    Ok(matched)
}

fn path(one: &PathMatcher) -> Written {
    let Some(path_matcher::Rule::Path(path)) = &one.rule else {
        return Err(unknown("an empty path matcher"));
    };
    Ok(json!({"path": text(path)?}))
}

fn text(one: &StringMatcher) -> Written {
    let pattern = one.match_pattern.as_ref().ok_or_else(|| unknown("an empty string matcher"))?;
    // These are of a oneof: there they are written even when they are empty.
    let mut matched = match pattern {
        MatchPattern::Exact(value) => json!({"exact": value}),
        MatchPattern::Prefix(value) => json!({"prefix": value}),
        MatchPattern::Suffix(value) => json!({"suffix": value}),
        MatchPattern::Contains(value) => json!({"contains": value}),
        MatchPattern::SafeRegex(regex) if regex.engine_type.is_none() => {
            json!({"safe_regex": {"regex": regex.regex}})
        }
        _ => return Err(unknown("a string matcher of another kind")),
    };
    if let (true, Some(fields)) = (one.ignore_case, matched.as_object_mut()) {
        fields.insert("ignore_case".to_owned(), true.into());
    }
    Ok(matched)
}

fn range(one: &CidrRange) -> Written {
    let length = one.prefix_len.as_ref().map(|length| length.value);
    Ok(Fields::default()
        .with("address_prefix", one.address_prefix.as_str())
        .with("prefix_len", length)
        .0
        .into())
}

fn sourced(one: &SourcedMetadata) -> Written {
    let source = one.metadata_source().as_str_name();
    let fields = Fields::default().with_some("metadata_matcher", &one.metadata_matcher, metadata)?;
    Ok(fields.with("metadata_source", source).0.into())
}

fn metadata(one: &MetadataMatcher) -> Written {
    let key = |segment: &crate::proto::filters::metadata_matcher::PathSegment| match &segment.segment {
        Some(Segment::Key(key)) => Ok(json!({"key": key})),
        None => Err(unknown("an empty segment of a path")),
    };
    let path = one.path.iter().map(key).collect::<Result<Vec<_>, _>>()?;
    let fields = Fields::default().with("filter", one.filter.as_str()).with("path", path);
    Ok(fields.with_some("value", &one.value, value)?.with("invert", one.invert).0.into())
}

fn value(one: &ValueMatcher) -> Written {
    match &one.match_pattern {
        Some(value_matcher::MatchPattern::StringMatch(one)) => Ok(json!({"string_match": text(one)?})),
        Some(value_matcher::MatchPattern::ListMatch(list)) => match &list.match_pattern {
            Some(list_matcher::MatchPattern::OneOf(one)) => {
                Ok(json!({"list_match": {"one_of": value(one)?}}))
            }
            None => Err(unknown("an empty list matcher")),
        },
        _ => Err(unknown("a value matcher of another kind")),
    }
}

// === extensions ===

fn extension(one: &TypedExtensionConfig) -> Written {
    let config = one.typed_config.as_ref().ok_or_else(|| unknown("an extension without configuration"))?;
    Ok(json!({"name": one.name, "typed_config": any(config)?}))
}

fn any(one: &Any) -> Written {
    if one.type_url == MtlsAuthenticated::type_url() {
        let config: MtlsAuthenticated = unpacked(one)?;
        let fields = Fields::default().with_some("san_matcher", &config.san_matcher, |san| {
            let kind = SanType::try_from(san.san_type).map_err(|_| unknown("a kind of name"))?;
            let fields = Fields::default().with("san_type", kind.as_str_name());
            Ok(fields.with_some("matcher", &san.matcher, text)?.with("oid", san.oid.as_str()).0.into())
        })?;
        let any = config.any_validated_client_certificate;
        return typed::<MtlsAuthenticated>(fields.with("any_validated_client_certificate", any).0);
    }
    if one.type_url == UriTemplateMatchConfig::type_url() {
        let config: UriTemplateMatchConfig = unpacked(one)?;
        return typed::<UriTemplateMatchConfig>(
            Fields::default().with("path_template", config.path_template).0,
        );
    }
    if one.type_url == Verdict::type_url() {
        let verdict: Verdict = unpacked(one)?;
        let action = RulesAction::try_from(verdict.action).map_err(|_| unknown("a verdict"))?;
        let fields = Fields::default().with("name", verdict.name).with("action", action.as_str_name());
        return typed::<Verdict>(fields.0);
    }
    if one.type_url == UriSanInput::type_url() {
        return typed::<UriSanInput>(Map::new());
    }
    Err(unknown(&one.type_url))
}

fn unpacked<M: Message + Default>(any: &Any) -> Result<M, Unprintable> {
    M::decode(any.value.as_slice()).map_err(|error| Unprintable::Garbled(any.type_url.clone(), error))
}

// === maps of peers ===

fn matcher(one: &Matcher) -> Written {
    let Some(matcher::MatcherType::MatcherTree(tree)) = &one.matcher_type else {
        return Err(unknown("a matcher of another kind"));
    };
    let Some(matcher::matcher_tree::TreeType::ExactMatchMap(map)) = &tree.tree_type else {
        return Err(unknown("a tree of another kind"));
    };
    let in_order: BTreeMap<_, _> = map.map.iter().collect();
    let mut written = Map::new();
    for (name, one) in in_order {
        written.insert(name.clone(), on_match(one)?);
    }
    let input = tree.input.as_ref().ok_or_else(|| unknown("a tree without input"))?;
    let tree = json!({"input": match_extension(input)?, "exact_match_map": {"map": written}});
    let fields = Fields::default().with("matcher_tree", tree);
    Ok(fields.with_some("on_no_match", &one.on_no_match, |one| on_match(one))?.0.into())
}

fn on_match(one: &matcher::OnMatch) -> Written {
    match &one.on_match {
        Some(matcher::on_match::OnMatch::Action(action)) if !one.keep_matching => {
            Ok(json!({"action": match_extension(action)?}))
        }
        _ => Err(unknown("a match that does something else")),
    }
}

fn match_extension(one: &crate::proto::filters::MatchExtension) -> Written {
    let config = one.typed_config.as_ref().ok_or_else(|| unknown("an extension without configuration"))?;
    Ok(json!({"name": one.name, "typed_config": any(config)?}))
}
