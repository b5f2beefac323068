//! Pure: how does Envoy ask somebody else, and when?
//!
//! Rules that only say what would be denied write the name of the first that matches into the request's metadata, and the filter
//! behind them asks if there is one. Istio tells its authorizers apart by how that name begins, so that `foo` is asked for what was
//! meant for `foo-bar`; here each has a key of its own.

use std::time::Duration;

use crate::authz::envoy::config::Config;
use crate::authz::envoy::filter::Filter;
use crate::authz::envoy::filter::Layer;
use crate::authz::envoy::filter::Slot;
use crate::authz::model::Atom;
use crate::authz::model::Policy;
use crate::authz::model::PolicyName;
use crate::authz::model::Rule;
use crate::authz::model::Term;
use crate::authz::model::Value;
use crate::authz::request::JWT_FILTER;
use crate::proto::filters;
use crate::proto::filters::ApiVersion;
use crate::proto::filters::GrpcService;
use crate::proto::filters::HttpExtAuthz;
use crate::proto::filters::MatchPattern;
use crate::proto::filters::MetadataMatcher;
use crate::proto::filters::NetworkExtAuthz;
use crate::proto::filters::Services;
use crate::proto::filters::StringMatcher;
use crate::proto::filters::ValueMatcher;
use crate::proto::filters::grpc_service;
use crate::proto::filters::metadata_matcher;
use crate::proto::filters::value_matcher;

/// Somebody who is asked over gRPC (`envoy.service.auth.v3.Authorization`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// Envoy's cluster where it is.
    pub cluster: String,
    /// How long Envoy waits for an answer.
    pub timeout: Duration,
    /// Whether a request goes through when there is no answer.
    pub fail_open: bool,
}

/// What the names of its rules begin with, as Istio's.
pub(super) fn prefix(provider: &str) -> String {
    format!("istio-ext-authz-{provider}-")
}

/// The filter that asks, if the filter before it found a rule.
pub(super) fn ask(layer: Layer, place: usize, name: &str, provider: &Provider) -> Filter {
    let slot = Slot::Ask(place);
    let service = GrpcService {
        timeout: Some(filters::Duration {
            seconds: i64::try_from(provider.timeout.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(provider.timeout.subsec_nanos()).unwrap_or_default(),
        }),
        target_specifier: Some(grpc_service::TargetSpecifier::EnvoyGrpc(grpc_service::EnvoyGrpc {
            cluster_name: provider.cluster.clone(),
            ..grpc_service::EnvoyGrpc::default()
        })),
        ..GrpcService::default()
    };
    let config = match layer {
        Layer::Requests => Config::HttpExtAuthz(Box::new(HttpExtAuthz {
            transport_api_version: ApiVersion::V3.into(),
            failure_mode_allow: provider.fail_open,
            filter_enabled_metadata: Some(is_to_be_asked("envoy.filters.http.rbac", slot, name)),
            include_peer_certificate: true,
            include_tls_session: true,
            services: Some(Services::GrpcService(service)),
            ..HttpExtAuthz::default()
        })),
        Layer::Connections => Config::NetworkExtAuthz(Box::new(NetworkExtAuthz {
            stat_prefix: slot.prefix(),
            grpc_service: Some(service),
            failure_mode_allow: provider.fail_open,
            transport_api_version: ApiVersion::V3.into(),
            filter_enabled_metadata: Some(is_to_be_asked("envoy.filters.network.rbac", slot, name)),
            include_peer_certificate: true,
            include_tls_session: true,
            ..NetworkExtAuthz::default()
        })),
    };
    Filter { slot, config }
}

/// Whether a rule for it was found, as the filter of rules wrote down.
fn is_to_be_asked(filter: &str, slot: Slot, name: &str) -> MetadataMatcher {
    let key = format!("{}shadow_effective_policy_id", slot.shadow_prefix());
    let begins =
        StringMatcher { ignore_case: false, match_pattern: Some(MatchPattern::Prefix(prefix(name))) };
    MetadataMatcher {
        filter: filter.to_owned(),
        path: vec![metadata_matcher::PathSegment {
            segment: Some(metadata_matcher::path_segment::Segment::Key(key)),
        }],
        value: Some(ValueMatcher { match_pattern: Some(value_matcher::MatchPattern::StringMatch(begins)) }),
        invert: false,
    }
}

/// The first rule that asks for a token, which is verified only behind these filters: it would never match, and the authorizer would
/// not be asked.
pub(super) fn of_token<'a>(policies: &[&'a Policy]) -> Option<(&'a PolicyName, &'a Rule)> {
    let is_of_token = |atom: &Atom| matches!(atom, Atom::Metadata { filter, .. } if **filter == *JWT_FILTER);
    let asks = |term: &Term| term.values.iter().flat_map(Value::atoms).any(is_of_token);
    policies.iter().find_map(|policy| {
        let rule = policy.rules.iter().find(|rule| rule.conjunctions().flat_map(|one| &one.terms).any(asks));
        Some((&policy.name, rule?))
    })
}
