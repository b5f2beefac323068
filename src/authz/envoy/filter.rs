//! Pure: what is one of the filters that Envoy runs, and how is it written down?

use serde_json::Value;
use serde_json::json;

use crate::authz::envoy::config::Config;
use crate::authz::envoy::json;
use crate::proto::envoy::Any;
use crate::proto::filters::HttpRbac;
use crate::proto::filters::Matcher;
use crate::proto::filters::NetworkRbac;
use crate::proto::filters::Rules;
use crate::proto::filters::RulesAction;

/// What Envoy decides on: requests, or bare connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// Requests; the filters are HTTP filters.
    Requests,
    /// Connections; the filters are network filters.
    Connections,
}

/// Where a filter stands in the chain, and so what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    /// Finds out whether the authorizer of that place is to be asked.
    Custom(usize),
    /// Asks it.
    Ask(usize),
    /// Verifies tokens.
    Tokens,
    /// Writes down.
    Audit,
    /// Denies.
    Deny,
    /// Allows, and denies everything else.
    Allow,
}

/// A filter: its name in the chain, which is the name of its resource too if it is delivered, and its configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    /// Where it stands.
    pub slot: Slot,
    /// What it does.
    pub config: Config,
}

impl Slot {
    /// The filter's name.
    pub fn name(self) -> String {
        match self {
            Self::Custom(place) => format!("burgrave.authz.custom.{place}"),
            Self::Ask(place) => format!("burgrave.authz.custom.{place}.ask"),
            Self::Tokens => "burgrave.authz.tokens".to_owned(),
            Self::Audit => "burgrave.authz.audit".to_owned(),
            Self::Deny => "burgrave.authz.deny".to_owned(),
            Self::Allow => "burgrave.authz.allow".to_owned(),
        }
    }

    /// What stands before the names of the filter's own counters and metadata.
    pub(super) fn prefix(self) -> String {
        match self {
            Self::Custom(place) | Self::Ask(place) => format!("burgrave_custom_{place}_"),
            Self::Tokens => "burgrave_tokens_".to_owned(),
            Self::Audit => "burgrave_audit_".to_owned(),
            Self::Deny => "burgrave_deny_".to_owned(),
            Self::Allow => "burgrave_allow_".to_owned(),
        }
    }

    /// What stands before them for the rules that only say what would be; Istio's names where it has some.
    pub(super) fn shadow_prefix(self) -> String {
        match self {
            Self::Custom(place) | Self::Ask(place) => format!("istio_ext_authz_{place}_"),
            Self::Tokens | Self::Audit => String::new(),
            Self::Deny => "istio_dry_run_deny_".to_owned(),
            Self::Allow => "istio_dry_run_allow_".to_owned(),
        }
    }
}

impl Filter {
    /// A filter of rules. At least one of the two is there; rules that are nowhere would allow everything.
    pub(super) fn of_rules(
        layer: Layer,
        slot: Slot,
        rules: Option<Rules>,
        shadow_rules: Option<Rules>,
    ) -> Self {
        let shadow_rules_stat_prefix =
            shadow_rules.as_ref().map(|_| slot.shadow_prefix()).unwrap_or_default();
        let config = match layer {
            Layer::Requests => Config::HttpRbac(Box::new(HttpRbac {
                rules,
                rules_stat_prefix: slot.prefix(),
                shadow_rules,
                shadow_rules_stat_prefix,
                ..HttpRbac::default()
            })),
            Layer::Connections => Config::NetworkRbac(Box::new(NetworkRbac {
                rules,
                stat_prefix: slot.prefix(),
                shadow_rules,
                shadow_rules_stat_prefix,
                ..NetworkRbac::default()
            })),
        };
        Self { slot, config }
    }

    /// A filter for `slot` that lets everything through, and says so in its rules.
    #[must_use]
    pub fn open(layer: Layer, slot: Slot) -> Self {
        let rules = Rules { action: RulesAction::Deny.into(), ..Rules::default() };
        Self::of_rules(layer, slot, Some(rules), None)
    }

    /// A filter for `slot` that lets nothing through.
    #[must_use]
    pub fn closed(layer: Layer, slot: Slot) -> Self {
        let rules = Rules { action: RulesAction::Allow.into(), ..Rules::default() };
        Self::of_rules(layer, slot, Some(rules), None)
    }

    /// Puts a map in the place of the rules; Envoy ignores rules beside one.
    pub(super) fn replace_rules(&mut self, map: Matcher) {
        match &mut self.config {
            Config::HttpRbac(config) => (config.rules, config.matcher) = (None, Some(map)),
            Config::NetworkRbac(config) => (config.rules, config.matcher) = (None, Some(map)),
            Config::JwtAuthn(_) | Config::HttpExtAuthz(_) | Config::NetworkExtAuthz(_) => {}
        }
    }

    /// Its name in the chain.
    pub fn name(&self) -> String {
        self.slot.name()
    }

    /// The configuration as it is sent to Envoy.
    pub fn to_any(&self) -> Any {
        self.config.to_any()
    }

    /// The filter as it stands in Envoy's own files, in proto3's JSON.
    ///
    /// # Errors
    /// If there is something in it that this crate does not make.
    pub fn to_json(&self) -> Result<Value, json::Unprintable> {
        Ok(json!({"name": self.name(), "typed_config": json::config(&self.config)?}))
    }
}
