//! Pure: have the roots reached everybody, and how long are they good for?

use std::collections::HashMap;

use k8s_openapi::api::core::v1::ConfigMap;
use time::Duration;
use time::OffsetDateTime;

use crate::install::expected;
use crate::install::expected::Subject;
use crate::install::facts;
use crate::install::facts::Facts;
use crate::install::facts::Look;
use crate::install::facts::reading;
use crate::install::findings::Finding;
use crate::install::findings::State;
use crate::install::platform::named;
use crate::install::rules::Permission;
use crate::install::running;
use crate::x509::TrustBundle;

/// How long before its end a root is spoken of.
const SOON: Duration = Duration::days(90);
/// How many namespaces that wait are named.
const NAMED: usize = 10;

/// What there is to say of the ClusterTrustBundle and of the ConfigMaps.
pub(super) fn judge(facts: &Facts, now: OffsetDateTime) -> Vec<Finding> {
    [vec![cluster(facts, now)], namespaces(facts)].concat()
}

fn cluster(facts: &Facts, now: OffsetDateTime) -> Finding {
    let subject = Subject::cluster("ClusterTrustBundle", expected::TRUST_BUNDLE);
    let serves = |served: &Vec<String>| served.iter().any(|one| one == "clustertrustbundles");
    match (&facts.trust_bundle, &facts.certificates) {
        (Look::There(bundle), _) => roots(subject, &facts.namespace, &bundle.spec.trust_bundle, now),
        (Look::Absent, Look::There(served)) if serves(served) => Finding::wrong(
            State::Missing,
            subject,
            "it is not there; the replica that leads writes it",
            running::logs(&facts.namespace),
        ),
        // That it is not served is said of the API itself, once.
        (Look::Absent, _) => Finding::ok(subject, "not there, as this API server does not serve its kind"),
        (Look::Forbidden, _) => facts::forbidden(subject, reading::trust_bundle()),
        (Look::Failed(why), _) => facts::failed(subject, why),
    }
}

fn roots(subject: Subject, namespace: &str, pem: &str, now: OffsetDateTime) -> Finding {
    let bundle = match TrustBundle::from_pem(pem.as_bytes()) {
        Ok(bundle) => bundle,
        Err(error) => {
            return Finding::wrong(State::Differs, subject, error.to_string(), running::logs(namespace));
        }
    };
    let ends: Vec<OffsetDateTime> = bundle.roots().iter().map(|root| root.facts().not_after).collect();
    let told: Vec<_> = ends.iter().map(|end| format!("until {}", end.date())).collect();
    let says = format!("{} root(s), {}", ends.len(), told.join(", "));
    let renew = "give the authority a new root while the old one is still trusted";
    match (ends.iter().min(), ends.iter().max()) {
        (_, Some(last)) if *last <= now => {
            Finding::wrong(State::Differs, subject, format!("every root has expired: {says}"), renew)
        }
        (Some(first), _) if *first <= now + SOON => {
            Finding::wrong(State::Warning, subject, format!("a root ends soon or has ended: {says}"), renew)
        }
        _ => Finding::ok(subject, says),
    }
}

fn namespaces(facts: &Facts) -> Vec<Finding> {
    match (&facts.namespaces, &facts.config_maps) {
        (Look::There(namespaces), Look::There(maps)) => vec![spread(facts, namespaces, maps)],
        (namespaces, maps) => {
            let looks = [unseen(namespaces, reading::namespaces()), unseen(maps, reading::config_maps())];
            looks.into_iter().flatten().collect()
        }
    }
}

/// Why the one or the other cannot be known.
fn unseen<T>(look: &Look<T>, permission: Permission) -> Option<Finding> {
    let subject = Subject::cluster("ConfigMap", expected::CONFIG_MAP);
    match look {
        Look::There(_) => None,
        Look::Forbidden => Some(facts::forbidden(subject, permission)),
        Look::Failed(why) => Some(facts::failed(subject, why)),
        Look::Absent => Some(facts::failed(subject, "the API server has no such list")),
    }
}

fn spread(facts: &Facts, namespaces: &[String], maps: &[ConfigMap]) -> Finding {
    let subject = Subject::cluster("ConfigMap", expected::CONFIG_MAP);
    let held: HashMap<&str, &str> = maps.iter().filter_map(held).collect();
    let wanted = match &facts.trust_bundle {
        Look::There(bundle) => Some(bundle.spec.trust_bundle.as_str()),
        _ => held.get(facts.namespace.as_str()).copied(),
    };
    let has_it = |name: &&String| wanted.is_some() && held.get(name.as_str()).copied() == wanted;
    let (have, wait): (Vec<&String>, Vec<&String>) = namespaces.iter().partition(has_it);
    let says = format!("{} of {} namespaces have the roots", have.len(), namespaces.len());
    let wait: Vec<String> = wait.into_iter().cloned().collect();
    let state = match (maps.is_empty(), wait.is_empty()) {
        (_, true) => return Finding::ok(subject, says),
        (true, false) => State::Missing,
        (false, false) => State::NotReady,
    };
    let says = format!("{says}; still without them: {}", named(&wait, NAMED));
    Finding::wrong(state, subject, says, running::logs(&facts.namespace))
}

/// Namespace and roots.
fn held(map: &ConfigMap) -> Option<(&str, &str)> {
    let roots = map.data.as_ref()?.get(expected::CONFIG_MAP_KEY)?;
    Some((map.metadata.namespace.as_deref()?, roots))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::install::decide::report;
    use crate::install::test_support::NOW;
    use crate::install::test_support::bundle;
    use crate::install::test_support::told;
    use crate::install::test_support::trust_bundle;
    use crate::install::test_support::well;
    use crate::install::test_support::wrong;

    #[test]
    fn roots_that_end_are_told_in_time() {
        let renewed = |days| {
            let mut facts = well();
            let roots = bundle(days);
            facts.trust_bundle = trust_bundle(&roots);
            facts.namespaces = Look::There(Vec::new());
            wrong(&facts).first().map(|one| (one.state, one.says.clone()))
        };
        assert_eq!(renewed(3650), None);
        let (state, says) = renewed(40).unwrap();
        assert_eq!(
            (state, says.as_str()),
            (State::Warning, "a root ends soon or has ended: 1 root(s), until 2026-12-23")
        );
        assert_eq!(renewed(5).unwrap().0, State::Differs);
        let mut facts = well();
        facts.trust_bundle = trust_bundle("no PEM");
        assert!(told(&facts)[0].starts_with("Differs ClusterTrustBundle burgrave.dev:workload:roots: "));
    }

    #[test]
    fn namespaces_without_the_right_roots_are_counted_and_named() {
        let mut facts = well();
        let names: Vec<_> = (10..25).map(|number| format!("shop-{number}")).collect();
        facts.namespaces = Look::There([vec!["default".to_owned()], names].concat());
        assert_eq!(
            told(&facts),
            [
                "NotReady ConfigMap istio-ca-root-cert: 1 of 16 namespaces have the roots; still without them: shop-10, \
              shop-11, shop-12, shop-13, shop-14, shop-15, shop-16, shop-17, shop-18, shop-19 and 5 more"
            ]
        );
        let mut facts = well();
        facts.trust_bundle = trust_bundle(&bundle(3650));
        assert!(told(&facts)[0].contains("0 of 2 namespaces have the roots"), "{:?}", told(&facts));
    }

    #[test]
    fn a_cluster_without_trust_bundles_is_judged_by_the_authoritys_own_namespace() {
        let mut facts = well();
        facts.certificates = Look::There(Vec::new());
        facts.trust_bundle = Look::Absent;
        let found = wrong(&facts);
        assert!(found.iter().all(|one| one.state == State::Warning), "{:?}", told(&facts));
        assert_eq!(found.len(), 2);
        facts.namespaces = Look::There(vec!["other".to_owned()]);
        assert!(!report(&facts, NOW).is_ok());
    }

    #[test]
    fn both_rules_that_it_takes_to_see_the_roots_spread_are_named() {
        let mut facts = well();
        (facts.namespaces, facts.config_maps) = (Look::Forbidden, Look::Forbidden);
        let named: Vec<_> = wrong(&facts).into_iter().filter_map(|one| one.permission).collect();
        assert_eq!(named, [reading::namespaces(), reading::config_maps()]);
    }
}
