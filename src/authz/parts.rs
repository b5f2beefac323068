//! Pure: what do the policies of a workload make of each filter of its proxies, and which version of it is that?

use std::collections::BTreeMap;

use prost::Message;
use prost::Name;

use crate::authz::apply::Applied;
use crate::authz::bridge::Cover;
use crate::authz::bridge::Part;
use crate::authz::bridge::Set;
use crate::authz::bridge::Show;
use crate::authz::envoy::Filter;
use crate::authz::envoy::Jwks;
use crate::authz::envoy::Layer;
use crate::authz::envoy::Options;
use crate::authz::envoy::Refusal;
use crate::authz::envoy::Slot;
use crate::authz::envoy::compile;
use crate::authz::jwt_issuer::JwtIssuer;
use crate::authz::jwt_issuer::Keys;
use crate::authz::model::Action;
use crate::authz::model::Policy;
use crate::proto::envoy::Any;
use crate::proto::envoy::TypedExtensionConfig;
use crate::sds::Offer;
use crate::sds::Resources;
use crate::sds::Version;

/// The filters that proxies ask for, by the names that they have there.
pub mod names {
    /// Verifies tokens.
    pub const TOKENS: &str = "burgrave-jwt";
    /// Denies requests.
    pub const DENY: &str = "burgrave-deny";
    /// Allows requests.
    pub const ALLOW: &str = "burgrave-allow";
    /// Denies connections.
    pub const NETWORK_DENY: &str = "burgrave-network-deny";
    /// Allows connections.
    pub const NETWORK_ALLOW: &str = "burgrave-network-allow";
}

/// The filter of a name: what it decides on, and what for.
pub(super) fn named(name: &str) -> Option<(Layer, Part)> {
    match name {
        names::TOKENS => Some((Layer::Requests, Part::Tokens)),
        names::DENY => Some((Layer::Requests, Part::Deny)),
        names::ALLOW => Some((Layer::Requests, Part::Allow)),
        names::NETWORK_DENY => Some((Layer::Connections, Part::Deny)),
        names::NETWORK_ALLOW => Some((Layer::Connections, Part::Allow)),
        _ => None,
    }
}

/// The filters of a layer.
pub(super) fn parts(layer: Layer) -> &'static [(Part, &'static str)] {
    match layer {
        Layer::Requests => {
            &[(Part::Tokens, names::TOKENS), (Part::Deny, names::DENY), (Part::Allow, names::ALLOW)]
        }
        Layer::Connections => &[(Part::Deny, names::NETWORK_DENY), (Part::Allow, names::NETWORK_ALLOW)],
    }
}

/// What the policies of a workload make of the filters of one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Compiled {
    layer: Layer,
    set: Set,
    /// The policies that deny; of several sets, they make a cover.
    deny: Vec<Policy>,
    messages: BTreeMap<Version, Any>,
}

/// Filters as they are at one moment, to be delivered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Extensions(BTreeMap<&'static str, (Version, Any)>);

impl Compiled {
    /// Compiles what applies to a workload. Of issuers whose keys are published elsewhere no token is good; see
    /// [`Compiled::with_keys`].
    ///
    /// # Errors
    /// If there is something that Envoy cannot be told.
    pub fn new(applied: &Applied, layer: Layer) -> Result<Self, Refusal> {
        Self::with_keys(applied, layer, &BTreeMap::new())
    }

    /// The same with the keys that issuers publish, as JWKS documents, by issuer.
    ///
    /// # Errors
    /// If there is something that Envoy cannot be told.
    pub fn with_keys(
        applied: &Applied,
        layer: Layer,
        published: &BTreeMap<String, String>,
    ) -> Result<Self, Refusal> {
        let of = |deny: bool| -> Vec<Policy> {
            let all = applied.policies.iter().map(|policy| Policy::clone(policy));
            all.map(asking_nobody).filter(|policy| (policy.action == Action::Deny) == deny).collect()
        };
        let (denying, allowing) = (of(true), of(false));
        let deny = filter(&denying, layer, Slot::Deny)?;
        let allow = filter(&allowing, layer, Slot::Allow)?;
        let is_open = deny == Filter::open(layer, Slot::Deny);
        // Connections carry no tokens, so nothing changes for them if these do.
        let issuers = if layer == Layer::Requests { applied.authentication.as_slice() } else { &[] };
        let tokens = verifying(issuers, layer, published)?;
        let set = Set {
            tokens: tokens_version(layer, issuers, published),
            deny: (!is_open).then(|| version(layer, "deny", &denying)),
            allow: version(layer, "allow", &allowing),
        };
        let messages = [
            (set.tokens.clone(), tokens.to_any()),
            (Cover::of(&set.deny).version(), deny.to_any()),
            (set.allow.clone(), allow.to_any()),
        ];
        Ok(Self { layer, set, deny: denying, messages: messages.into() })
    }

    /// The set.
    pub(super) fn set(&self) -> &Set {
        &self.set
    }

    /// What it decides on.
    pub(super) fn layer(&self) -> Layer {
        self.layer
    }
}

impl Extensions {
    /// What `show` says, made of the sets that it can be about.
    pub(super) fn of(show: &Show, layer: Layer, known: &[&Compiled]) -> Self {
        let entry = |(part, name): &(Part, &'static str)| {
            let version = show.version(*part)?;
            let ready = known.iter().find_map(|one| one.messages.get(&version).cloned());
            let message = match (part, &show.deny) {
                (Part::Deny, Some(cover)) => ready.unwrap_or_else(|| covering(cover, layer, known)),
                _ => ready?,
            };
            Some((*name, (version, message)))
        };
        Self(parts(layer).iter().filter_map(entry).collect())
    }
}

impl Resources for Extensions {
    const TYPE: &'static str = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig";
    const NOUN: &'static str = "filter";

    fn offer(&self) -> Offer {
        self.0.iter().map(|(name, (version, _))| ((*name).to_owned(), version.clone())).collect()
    }

    fn resource(&self, name: &str) -> Option<Any> {
        let (_, config) = self.0.get(name)?;
        Some(extension(name, config.clone()))
    }
}

/// A configuration under its name, as it is delivered.
pub(super) fn extension(name: &str, config: Any) -> Any {
    let extension = TypedExtensionConfig { name: name.to_owned(), typed_config: Some(config) };
    Any { type_url: TypedExtensionConfig::type_url(), value: extension.encode_to_vec() }
}

/// Denies what any of the sets in `cover` denies. What cannot be said denies everything.
fn covering(cover: &Cover, layer: Layer, known: &[&Compiled]) -> Any {
    let closed = || Filter::closed(layer, Slot::Deny).to_any();
    let Cover::Of(versions) = cover else { return closed() };
    let mut policies: Vec<Policy> = Vec::new();
    for version in versions {
        let Some(one) = known.iter().find(|one| one.set.deny.as_ref() == Some(version)) else {
            return closed();
        };
        for policy in &one.deny {
            if !policies.contains(policy) {
                policies.push(policy.clone());
            }
        }
    }
    filter(&policies, layer, Slot::Deny).map_or_else(|_| closed(), |filter| filter.to_any())
}

fn filter(policies: &[Policy], layer: Layer, slot: Slot) -> Result<Filter, Refusal> {
    let chain = compile(policies, layer, &Options::default())?;
    Ok(chain.at(slot).cloned().unwrap_or_else(|| Filter::open(layer, slot)))
}

/// An authorizer that is not asked may not have denied anything; so what it would be asked about is denied.
fn asking_nobody(policy: Policy) -> Policy {
    match policy.action {
        Action::Custom { .. } => Policy { action: Action::Deny, ..policy },
        _ => policy,
    }
}

/// The filter that verifies the tokens of `issuers`.
fn verifying(
    issuers: &[JwtIssuer],
    layer: Layer,
    published: &BTreeMap<String, String>,
) -> Result<Filter, Refusal> {
    let fetched = published.iter().map(|(issuer, keys)| (issuer.clone(), Jwks::Fetched(keys.clone())));
    let options = Options { issuers: issuers.to_vec(), jwks: fetched.collect(), ..Options::default() };
    let chain = compile(&[], layer, &options)?;
    Ok(chain.tokens.unwrap_or_else(|| Filter::open(layer, Slot::Deny)))
}

/// The version of the filter that verifies tokens: keys are no text of an object's `Debug`, but tell versions apart.
fn tokens_version(layer: Layer, issuers: &[JwtIssuer], published: &BTreeMap<String, String>) -> Version {
    let keys: Vec<&str> = issuers
        .iter()
        .map(|issuer| match &issuer.keys {
            Keys::Inline(keys) => keys.as_str(),
            Keys::At(_) | Keys::Discovered => published.get(&issuer.issuer).map_or("", String::as_str),
            Keys::None => "",
        })
        .collect();
    version(layer, "tokens", &(issuers, keys))
}

/// What is made depends on the policies and on who makes it.
fn version(layer: Layer, part: &str, content: &impl std::fmt::Debug) -> Version {
    let text = format!("{} {layer:?} {content:?}", env!("CARGO_PKG_VERSION"));
    Version::of(part, std::iter::once(text.as_bytes()))
}

#[cfg(test)]
#[path = "parts_tests.rs"]
mod tests;
