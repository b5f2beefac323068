//! Pure: does the webhook's configuration name the roots that our certificate can be verified with, and what is to be written if not?

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhook;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use serde_json::Value;
use serde_json::json;

/// The entry that is ours; the configuration may have others.
pub const ENTRY: &str = "policies.burgrave.dev";

/// How the configuration stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stands {
    /// It names the present roots.
    Right,
    /// It has no entry of ours, or one that leads to another namespace: to another installation, with other roots.
    NotOurs,
    /// It names others, or none; this strategic merge patch makes it right, if it still has that version.
    Behind(Value),
}

/// How `configuration` stands, when our certificate can be verified with the roots in `bundle` (PEM) and we run in `namespace`.
pub(super) fn stands(
    configuration: &ValidatingWebhookConfiguration,
    namespace: &str,
    bundle: &str,
) -> Stands {
    let service =
        |one: &ValidatingWebhook| one.client_config.service.as_ref().map(|one| one.namespace.clone());
    let leads_here = |one: &&ValidatingWebhook| service(one).is_none_or(|leads_to| leads_to == namespace);
    let mut all = configuration.webhooks.iter().flatten();
    let ours = all.find(|one| one.name == ENTRY).filter(leads_here);
    let Some(ours) = ours else { return Stands::NotOurs };
    if ours.client_config.ca_bundle.as_ref().is_some_and(|held| held.0 == bundle.as_bytes()) {
        return Stands::Right;
    }
    let version = configuration.metadata.resource_version.as_deref().unwrap_or_default();
    Stands::Behind(json!({
        "metadata": { "resourceVersion": version },
        "webhooks": [{ "name": ENTRY, "clientConfig": { "caBundle": BASE64_STANDARD.encode(bundle) } }],
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(webhooks: &Value) -> ValidatingWebhookConfiguration {
        serde_json::from_value(json!({ "metadata": { "resourceVersion": "7" }, "webhooks": webhooks }))
            .unwrap()
    }

    fn entry(name: &str, bundle: &str) -> Value {
        json!({
            "name": name, "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": { "url": "https://localhost", "caBundle": BASE64_STANDARD.encode(bundle) },
        })
    }

    #[test]
    fn an_entry_with_other_roots_is_put_right_by_its_version_and_nobody_elses_is_touched() {
        let held = configuration(&json!([entry("other.example.org", "THEIRS"), entry(ENTRY, "OLD")]));
        let Stands::Behind(patch) = stands(&held, "mesh", "OLDNEW") else { panic!("it is behind") };
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        let expected =
            json!([{ "name": ENTRY, "clientConfig": { "caBundle": BASE64_STANDARD.encode("OLDNEW") } }]);
        assert_eq!(patch["webhooks"], expected);
        assert_eq!(stands(&held, "mesh", "OLD"), Stands::Right);
    }

    #[test]
    fn the_entry_of_an_installation_elsewhere_is_left_alone() {
        let mut elsewhere = entry(ENTRY, "THEIRS");
        elsewhere["clientConfig"] = json!({ "service": { "namespace": "other", "name": "ca" } });
        let held = configuration(&json!([elsewhere]));
        assert_eq!(stands(&held, "mesh", "OLD"), Stands::NotOurs);
        assert!(matches!(stands(&held, "other", "OLD"), Stands::Behind(_)));
    }

    #[test]
    fn a_configuration_without_an_entry_of_ours_is_left_alone() {
        let held = configuration(&json!([entry("other.example.org", "THEIRS")]));
        assert_eq!(stands(&held, "mesh", "OLD"), Stands::NotOurs);
    }
}
