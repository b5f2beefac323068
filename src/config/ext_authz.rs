//! Settings of answering proxies that ask for each request (ext_authz), the same for the CA and the agent.

use std::path::PathBuf;

use crate::config::layers::ConfigError;

/// The settings as they are given.
#[derive(Clone, Debug, Default)]
pub(super) struct RawExtAuthz {
    pub(super) ext_authz: Option<bool>,
    pub(super) audit_rate: Option<f64>,
    pub(super) providers: Option<Vec<String>>,
    pub(super) trusted_hops: Option<u32>,
    pub(super) name_policies: Option<bool>,
    pub(super) root_file: Option<PathBuf>,
}

/// How proxies are answered that ask.
#[derive(Clone, Debug, PartialEq)]
pub struct ExtAuthzConfig {
    /// The share of what is allowed that is written to the audit trail.
    pub audit_rate: f64,
    /// Providers of `CUSTOM` rules that are us, or are asked by somebody else.
    pub providers: Vec<Box<str>>,
    /// How many proxies in front are believed when they tell the client's address.
    pub trusted_hops: Option<u32>,
    /// Whether clients that are denied are told the policy's name.
    pub name_policies: bool,
    /// The roots that token issuers are trusted by; `None` for those of the machine.
    pub root_file: Option<PathBuf>,
}

impl RawExtAuthz {
    /// The facts; `None` if nobody is answered.
    pub(super) fn resolve(self) -> Result<Option<ExtAuthzConfig>, ConfigError> {
        let audit_rate = self.audit_rate.unwrap_or(0.0);
        if !(0.0..=1.0).contains(&audit_rate) {
            return Err(ConfigError::Invalid {
                setting: "ext-authz-audit-rate",
                what: format!("`{audit_rate}` is not a share; give a number from 0 (none) to 1 (all)"),
            });
        }
        let config = ExtAuthzConfig {
            audit_rate,
            providers: self.providers.unwrap_or_default().into_iter().map(String::into_boxed_str).collect(),
            trusted_hops: self.trusted_hops,
            name_policies: self.name_policies.unwrap_or_default(),
            root_file: self.root_file,
        };
        Ok(self.ext_authz.unwrap_or_default().then_some(config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_answered_unless_it_is_said() {
        assert_eq!(RawExtAuthz::default().resolve().unwrap(), None);
        let on = RawExtAuthz { ext_authz: Some(true), ..RawExtAuthz::default() };
        let config = on.clone().resolve().unwrap().unwrap();
        assert_eq!((config.audit_rate, config.trusted_hops, config.name_policies), (0.0, None, false));
        for rate in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            let refused = RawExtAuthz { audit_rate: Some(rate), ..on.clone() }.resolve().unwrap_err();
            assert!(refused.to_string().contains("from 0 (none) to 1 (all)"), "{refused}");
        }
    }
}
