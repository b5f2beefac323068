//! Pure: how is the filter that verifies tokens written in Envoy's own files?

use std::collections::BTreeMap;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::authz::envoy::json::fields::Fields;
use crate::authz::envoy::json::fields::Unprintable;
use crate::authz::envoy::json::fields::Written;
use crate::authz::envoy::json::fields::list;
use crate::authz::envoy::json::fields::nothing_beside;
use crate::authz::envoy::json::fields::unknown;
use crate::proto::envoy::Specifier;
use crate::proto::filters::HttpUpstreamType;
use crate::proto::filters::JwksSourceSpecifier;
use crate::proto::filters::JwtAuthentication;
use crate::proto::filters::JwtProvider;
use crate::proto::filters::JwtRequirement;
use crate::proto::filters::PathSpecifier;
use crate::proto::filters::RemoteJwks;
use crate::proto::filters::RequirementRule;
use crate::proto::filters::RequirementType;
use crate::proto::filters::RequiresType;

pub(super) fn jwt_authn(one: &JwtAuthentication) -> Result<Map<String, Value>, Unprintable> {
    let JwtAuthentication { providers, rules, .. } = one.clone();
    let in_order: BTreeMap<_, _> = providers.iter().collect();
    let mut written = Map::new();
    for (name, one) in in_order {
        written.insert(name.clone(), provider(one)?);
    }
    let fields = Fields::default().with("providers", written).with("rules", list(&rules, rule)?);
    nothing_beside(one, &JwtAuthentication { providers, rules, ..JwtAuthentication::default() })?;
    Ok(fields.0)
}

fn provider(one: &JwtProvider) -> Written {
    let written = JwtProvider {
        issuer: one.issuer.clone(),
        audiences: one.audiences.clone(),
        forward: one.forward,
        from_headers: one.from_headers.clone(),
        from_params: one.from_params.clone(),
        from_cookies: one.from_cookies.clone(),
        forward_payload_header: one.forward_payload_header.clone(),
        payload_in_metadata: one.payload_in_metadata.clone(),
        normalize_payload_in_metadata: one.normalize_payload_in_metadata.clone(),
        claim_to_headers: one.claim_to_headers.clone(),
        jwks_source_specifier: one.jwks_source_specifier.clone(),
        ..JwtProvider::default()
    };
    nothing_beside(one, &written)?;
    let headers: Vec<Value> = one
        .from_headers
        .iter()
        .map(|from| {
            let fields = Fields::default().with("name", from.name.as_str());
            fields.with("value_prefix", from.value_prefix.as_str()).0.into()
        })
        .collect();
    let mut claims = Vec::new();
    for one in &one.claim_to_headers {
        if !one.claim_path.is_empty() {
            return Err(unknown("a claim by its path"));
        }
        claims.push(json!({"header_name": one.header_name, "claim_name": one.claim_name}));
    }
    let normalized = one.normalize_payload_in_metadata.as_ref();
    let normalized = normalized.map(|one| json!({"space_delimited_claims": one.space_delimited_claims}));
    let fields = Fields::default()
        .with("issuer", one.issuer.as_str())
        .with("audiences", one.audiences.clone())
        .with("forward", one.forward)
        .with("from_headers", headers)
        .with("from_params", one.from_params.clone())
        .with("from_cookies", one.from_cookies.clone())
        .with("forward_payload_header", one.forward_payload_header.as_str())
        .with("payload_in_metadata", one.payload_in_metadata.as_str())
        .with("normalize_payload_in_metadata", normalized)
        .with("claim_to_headers", claims);
    let fields = match &one.jwks_source_specifier {
        Some(JwksSourceSpecifier::LocalJwks(source)) => match &source.specifier {
            Some(Specifier::InlineString(keys)) => fields.with("local_jwks", json!({"inline_string": keys})),
            _ => return Err(unknown("keys that are elsewhere")),
        },
        Some(JwksSourceSpecifier::RemoteJwks(one)) => fields.with("remote_jwks", remote(one)?),
        None => return Err(unknown("an issuer without keys")),
    };
    Ok(fields.0.into())
}

fn remote(one: &RemoteJwks) -> Written {
    nothing_beside(one, &RemoteJwks { http_uri: one.http_uri.clone(), ..RemoteJwks::default() })?;
    let uri = one.http_uri.as_ref().ok_or_else(|| unknown("keys without an address"))?;
    let Some(HttpUpstreamType::Cluster(cluster)) = &uri.http_upstream_type else {
        return Err(unknown("keys without a cluster"));
    };
    let timeout = uri.timeout.map(|length| format!("{}.{:09}s", length.seconds, length.nanos));
    Ok(json!({"http_uri": {"uri": uri.uri, "cluster": cluster, "timeout": timeout}}))
}

fn rule(one: &RequirementRule) -> Written {
    let path = one.r#match.as_ref().and_then(|one| one.path_specifier.as_ref());
    match (path, &one.requirement_type) {
        (Some(PathSpecifier::Prefix(prefix)), Some(RequirementType::Requires(one))) => {
            Ok(json!({"match": {"prefix": prefix}, "requires": requirement(one)?}))
        }
        _ => Err(unknown("a rule for tokens of another kind")),
    }
}

fn requirement(one: &JwtRequirement) -> Written {
    match &one.requires_type {
        Some(RequiresType::ProviderName(name)) => Ok(json!({"provider_name": name})),
        Some(RequiresType::AllowMissing(_)) => Ok(json!({"allow_missing": {}})),
        Some(RequiresType::RequiresAny(one)) => {
            Ok(json!({"requires_any": {"requirements": list(&one.requirements, requirement)?}}))
        }
        _ => Err(unknown("a requirement of another kind")),
    }
}
