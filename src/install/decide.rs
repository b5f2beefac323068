//! Pure: the whole report, from all that was seen.

use serde_json::Value;
use time::OffsetDateTime;

use crate::install::expected::Expected;
use crate::install::facts::Facts;
use crate::install::facts::Look;
use crate::install::findings::Finding;
use crate::install::findings::Report;
use crate::install::findings::State;
use crate::install::objects;
use crate::install::platform;
use crate::install::published;
use crate::install::running;

/// Everything in the order in which it is best put right: the cluster, then `deploy/`, then what the authority does there.
pub(super) fn report(facts: &Facts, now: OffsetDateTime) -> Report {
    let answers = platform::api_server(&facts.version);
    let is_silent = answers.state == State::CannotLook;
    let mut findings = vec![answers];
    // Where there is no answer, forty more sentences about it help nobody.
    if !is_silent {
        findings.extend(platform::certificates(&facts.certificates));
        findings.push(platform::kubelets(&facts.nodes));
        findings.extend(facts.objects.iter().flat_map(|(expected, look)| object(expected, look)));
        findings.extend(running::pods(&facts.namespace, &facts.pods));
        findings.push(running::leader(&facts.namespace, &facts.lease, now));
        findings.extend(published::judge(facts, now));
    }
    Report { namespace: facts.namespace.clone(), findings }
}

/// An object, and for a Deployment that is as it should be, its replicas.
fn object(expected: &Expected, look: &Look<Value>) -> Vec<Finding> {
    let findings = objects::judge(expected, look);
    match look {
        Look::There(live)
            if expected.subject.kind == "Deployment" && findings.iter().all(|one| one.state.is_fine()) =>
        {
            // What the API server itself shows has the shape of its kind.
            serde_json::from_value(live.clone())
                .map(|live| vec![running::replicas(&expected.subject, &live)])
                .unwrap_or(findings)
        }
        _ => findings,
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
