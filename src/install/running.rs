//! Pure: does the authority run? Its replicas, what they wait for, and who of them leads.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::apps::v1::DeploymentCondition;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ContainerStatus;
use k8s_openapi::api::core::v1::Pod;
use time::OffsetDateTime;

use crate::install::expected;
use crate::install::expected::Subject;
use crate::install::facts;
use crate::install::facts::Look;
use crate::install::facts::reading;
use crate::install::findings::Finding;
use crate::install::findings::State;

/// Whether as many replicas are available as are wanted.
pub(super) fn replicas(subject: &Subject, deployment: &Deployment) -> Finding {
    let namespace = subject.namespace.as_deref().unwrap_or_default();
    let wanted = deployment.spec.replicas.unwrap_or(1);
    let status = deployment.status.clone().unwrap_or_default();
    let available = status.available_replicas.unwrap_or(0);
    let updated = status.updated_replicas.unwrap_or(0);
    let not_ready = |says: String, fix: String| Finding::wrong(State::NotReady, subject.clone(), says, fix);
    let watch = format!("kubectl --namespace={namespace} rollout status deployment/{}", subject.name);
    if wanted == 0 {
        let fix = format!(
            "kubectl --namespace={namespace} patch deployment/{} --patch='{{\"spec\":{{\"replicas\":2}}}}'",
            subject.name
        );
        return not_ready("it is scaled to no replicas".to_owned(), fix);
    }
    if status.observed_generation < deployment.metadata.generation {
        return not_ready("its latest change is not acted upon yet".to_owned(), watch);
    }
    if available < wanted {
        let refused = refusal(deployment).map(|why| format!(": {why}")).unwrap_or_default();
        return not_ready(format!("{available} of {wanted} replicas are available{refused}"), watch);
    }
    if updated < wanted {
        return not_ready(format!("{updated} of {wanted} replicas are of its latest change"), watch);
    }
    Finding::ok(subject.clone(), format!("{available} of {wanted} replicas are available"))
}

/// Why its pods are not even made, such as a quota or a policy of the namespace.
fn refusal(deployment: &Deployment) -> Option<&str> {
    let conditions = deployment.status.as_ref()?.conditions.as_deref()?;
    let is = |one: &DeploymentCondition, kind| {
        one.type_.as_deref() == Some(kind) && one.status.as_deref() == Some("True")
    };
    let refused = conditions.iter().find(|one| is(one, "ReplicaFailure"))?;
    refused.message.as_deref()
}

/// What the authority's pods wait for; nothing if they wait for nothing.
pub(super) fn pods(namespace: &str, pods: &Look<Vec<Pod>>) -> Vec<Finding> {
    let all = Subject::within(namespace, "Pod", "all");
    match pods {
        Look::There(pods) => pods.iter().filter_map(|pod| waiting(namespace, pod)).collect(),
        Look::Absent => Vec::new(),
        Look::Forbidden => vec![facts::forbidden(all, reading::pods())],
        Look::Failed(why) => vec![facts::failed(all, why)],
    }
}

fn waiting(namespace: &str, pod: &Pod) -> Option<Finding> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let status = pod.status.as_ref()?;
    // One that was evicted, or ended with its node, stays on record; another is in its place.
    let has_ended = matches!(status.phase.as_deref(), Some("Failed" | "Succeeded"));
    if has_ended
        || pod.metadata.deletion_timestamp.is_some()
        || condition(pod, "Ready").is_some_and(|(is_true, _)| is_true)
    {
        return None;
    }
    let logs = format!("kubectl --namespace={namespace} logs {name}");
    let (says, fix) = if let Some((false, why)) = condition(pod, "PodScheduled") {
        (format!("no node takes it: {why}"), "make room for it, or add a node".to_owned())
    } else if let Some((says, fix)) =
        status.container_statuses.iter().flatten().find_map(|one| stuck(one, &logs))
    {
        (says, fix)
    } else {
        ("it is not ready".to_owned(), logs)
    };
    Some(Finding::wrong(State::NotReady, Subject::within(namespace, "Pod", name), says, fix))
}

/// Whether a condition is true, and what it says.
fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<(bool, &'a str)> {
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    let found = conditions.iter().find(|one| one.type_ == kind)?;
    Some((found.status == "True", found.message.as_deref().unwrap_or_default()))
}

fn stuck(container: &ContainerStatus, logs: &str) -> Option<(String, String)> {
    let waits = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waits.reason.as_deref().unwrap_or("unknown");
    let message = waits.message.as_deref().map(|message| format!(": {message}")).unwrap_or_default();
    let fix = match reason {
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => {
            format!(
                "name an image that your nodes can pull in place of `{}`; see deploy/kustomization.yaml",
                container.image
            )
        }
        "CrashLoopBackOff" => format!("{logs} --previous"),
        _ => logs.replace(" logs ", " describe pod "),
    };
    Some((format!("container `{}` waits: {reason}{message}", container.name), fix))
}

/// Whether somebody leads, and was heard from lately.
pub(super) fn leader(namespace: &str, lease: &Look<Lease>, now: OffsetDateTime) -> Finding {
    let subject = Subject::within(namespace, "Lease", expected::LEASE);
    let lease = match lease {
        Look::There(lease) => lease,
        Look::Absent => {
            let says = "it is not there: no replica has led yet";
            return Finding::wrong(State::Missing, subject, says, logs(namespace));
        }
        Look::Forbidden => return facts::forbidden(subject, reading::lease()),
        Look::Failed(why) => return facts::failed(subject, why),
    };
    let spec = lease.spec.clone().unwrap_or_default();
    let Some(holder) = spec.holder_identity.filter(|holder| !holder.is_empty()) else {
        return Finding::wrong(State::NotReady, subject, "nobody holds it", logs(namespace));
    };
    let renewed = spec.renew_time.map_or(0, |renewed| renewed.0.as_second());
    let age = now.unix_timestamp().saturating_sub(renewed);
    let duration = i64::from(spec.lease_duration_seconds.unwrap_or(0));
    match age <= duration {
        true => Finding::ok(subject, format!("`{holder}` leads")),
        false => Finding::wrong(
            State::NotReady,
            subject,
            format!("`{holder}` led and has been silent for {age} s, longer than the {duration} s it has"),
            format!("{}; if this machine's clock is right", logs(namespace)),
        ),
    }
}

/// Where the authority says why it does not do something.
pub(super) fn logs(namespace: &str) -> String {
    format!("kubectl --namespace={namespace} logs --selector={} --tail=20", expected::PODS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::install::test_support::lease;
    use crate::install::test_support::pod;
    use crate::install::test_support::set;
    use crate::install::test_support::told;
    use crate::install::test_support::typed;
    use crate::install::test_support::waits;
    use crate::install::test_support::well;
    use crate::install::test_support::wrong;
    use serde_json::json;

    #[test]
    fn replicas_that_are_not_there_are_told_with_the_reason() {
        let deployment = "Deployment burgrave-system/burgrave-ca";
        for (pointer, value, said) in [
            ("/spec/replicas", json!(0), "it is scaled to no replicas"),
            ("/status/availableReplicas", json!(1), "1 of 2 replicas are available"),
            ("/status/updatedReplicas", json!(1), "1 of 2 replicas are of its latest change"),
            ("/metadata", json!({ "generation": 2 }), "its latest change is not acted upon yet"),
            (
                "/status",
                json!({ "conditions": [{ "type": "ReplicaFailure", "status": "True", "message": "quota" }] }),
                "0 of 2 replicas are available: quota",
            ),
        ] {
            let mut facts = well();
            set(&mut facts, deployment, pointer, value);
            assert_eq!(told(&facts), [format!("NotReady {deployment}: {said}")]);
        }
    }

    #[test]
    fn a_pod_that_waits_says_what_for() {
        let unscheduled = json!({ "conditions": [
            { "type": "PodScheduled", "status": "False", "message": "0/1 nodes are available" },
        ] });
        for (status, said, fix) in [
            (pod(unscheduled), "no node takes it: 0/1 nodes are available", "make room for it"),
            (
                waits("ImagePullBackOff"),
                "container `ca` waits: ImagePullBackOff: so it says",
                "in place of `an/image`",
            ),
            (
                waits("CrashLoopBackOff"),
                "container `ca` waits: CrashLoopBackOff: so it says",
                "logs burgrave-ca-1 --previous",
            ),
            (
                waits("CreateContainerConfigError"),
                "waits: CreateContainerConfigError",
                "describe pod burgrave-ca-1",
            ),
            (pod(json!({})), "it is not ready", "kubectl --namespace=burgrave-system logs burgrave-ca-1"),
        ] {
            let mut facts = well();
            facts.pods = Look::There(vec![typed(status)]);
            let found = wrong(&facts);
            assert_eq!(found.len(), 1, "{:?}", told(&facts));
            assert!(found[0].says.contains(said), "{}", found[0].says);
            assert!(found[0].fix.iter().any(|told| told.contains(fix)), "{:?}", found[0].fix);
        }
    }

    #[test]
    fn a_leader_that_is_silent_or_nobody_is_told() {
        for (lease, said) in [
            (
                Look::There(lease("", "2026-11-23T11:59:59.000000Z")),
                "NotReady Lease burgrave-system/burgrave-ca: nobody holds it",
            ),
            (
                Look::There(lease("one", "2026-11-23T11:59:30.000000Z")),
                "NotReady Lease burgrave-system/burgrave-ca: `one` led and has been silent for 30 s, longer than the 15 s it has",
            ),
            (
                Look::Absent,
                "Missing Lease burgrave-system/burgrave-ca: it is not there: no replica has led yet",
            ),
            (
                Look::Forbidden,
                "CannotLook Lease burgrave-system/burgrave-ca: you may not `get` `leases.coordination.k8s.io` `burgrave-ca` in namespace `burgrave-system`",
            ),
        ] {
            let mut facts = well();
            facts.lease = lease.map(typed);
            assert_eq!(told(&facts), [said]);
        }
    }
}
