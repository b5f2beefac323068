//! Pure: is each object of `deploy/` there, and is it what `deploy/` says?

use serde_json::Value;

use crate::install::expected;
use crate::install::expected::Expected;
use crate::install::facts;
use crate::install::facts::Look;
use crate::install::findings::Finding;
use crate::install::findings::State;
use crate::install::rules;

/// What puts most things right. Every installation has a kustomization of its own, with its image, trust domain and namespace:
/// `deploy/` as it stands, applied over it, would take these away.
pub(super) const APPLY: &str =
    "apply deploy/ again by the kustomization that you installed with (kubectl apply -k …)";

/// What there is to say of one object. Whether a Deployment's replicas are there is another question.
pub(super) fn judge(expected: &Expected, look: &Look<Value>) -> Vec<Finding> {
    let subject = || expected.subject.clone();
    let live = match look {
        Look::There(live) => live,
        Look::Absent => return vec![Finding::wrong(State::Missing, subject(), "it is not there", APPLY)],
        Look::Forbidden => return vec![facts::forbidden(subject(), expected.reading())],
        Look::Failed(why) => return vec![facts::failed(subject(), why)],
    };
    let wrong = if live.pointer("/metadata/deletionTimestamp").is_some() {
        let says = "it is being deleted";
        vec![Finding::wrong(State::NotReady, subject(), says, format!("wait until it is gone, then {APPLY}"))]
    } else {
        differences(expected, live)
    };
    if wrong.is_empty() { vec![Finding::ok(subject(), "")] } else { wrong }
}

fn differences(expected: &Expected, live: &Value) -> Vec<Finding> {
    match expected.subject.kind.as_str() {
        "Role" | "ClusterRole" => role(expected, live),
        "RoleBinding" | "ClusterRoleBinding" => binding(expected, live),
        "Service" => [selector(expected, live, "/spec/selector"), ports(expected, live)].concat(),
        "ValidatingWebhookConfiguration" => webhook(expected, live),
        "PodDisruptionBudget" => selector(expected, live, "/spec/selector/matchLabels"),
        "Deployment" => [
            selector(expected, live, "/spec/selector/matchLabels"),
            same(expected, live, "/spec/template/spec/serviceAccountName", "its pods run as service account"),
        ]
        .concat(),
        // That they are there is all that the authority needs of them.
        _ => Vec::new(),
    }
}

/// One finding for each permission that the role does not give.
fn role(expected: &Expected, live: &Value) -> Vec<Finding> {
    let missing = rules::missing(&expected.rules(), &expected::rules_of(live));
    let told = missing.into_iter().map(|permission| {
        differs(expected, format!("may not {permission}"), APPLY.to_owned()).about(permission)
    });
    told.collect()
}

fn binding(expected: &Expected, live: &Value) -> Vec<Finding> {
    let (wanted, given) = (expected.body.get("roleRef"), live.get("roleRef"));
    if wanted != given {
        // A binding cannot be turned to another role.
        let delete = format!("kubectl delete {}", argument(expected));
        return vec![differs(
            expected,
            format!("binds {} instead", role_of(given)),
            format!("{delete}, then {APPLY}"),
        )];
    }
    let subjects = live.get("subjects").and_then(Value::as_array);
    let is_bound = |wanted: &Value| {
        let same = |given: &Value| {
            ["kind", "namespace", "name"].iter().all(|field| wanted.get(field) == given.get(field))
        };
        subjects.is_some_and(|given| given.iter().any(same))
    };
    let wanted = expected.body.get("subjects").and_then(Value::as_array).into_iter().flatten();
    let unbound = wanted.filter(|subject| !is_bound(subject)).map(|subject| {
        let word = |field| subject.get(field).and_then(Value::as_str).unwrap_or_default();
        let says = format!("does not bind {} `{}/{}`", word("kind"), word("namespace"), word("name"));
        differs(expected, says, APPLY.to_owned())
    });
    unbound.collect()
}

fn role_of(reference: Option<&Value>) -> String {
    let word = |field| reference.and_then(|one| one.get(field)).and_then(Value::as_str).unwrap_or_default();
    format!("{} `{}`", word("kind"), word("name"))
}

/// Every label that it selects by, and no other: one more would select nothing.
fn selector(expected: &Expected, live: &Value, pointer: &str) -> Vec<Finding> {
    same(expected, live, pointer, "it selects")
}

fn same(expected: &Expected, live: &Value, pointer: &str, what: &str) -> Vec<Finding> {
    let (wanted, given) = (expected.body.pointer(pointer), live.pointer(pointer));
    if wanted == given {
        return Vec::new();
    }
    let text = |value: Option<&Value>| value.map_or("nothing".to_owned(), Value::to_string);
    let says = format!("{what} {} instead of {}", text(given), text(wanted));
    vec![differs(expected, says, APPLY.to_owned())]
}

fn ports(expected: &Expected, live: &Value) -> Vec<Finding> {
    let of =
        |object: &Value| object.pointer("/spec/ports").and_then(Value::as_array).cloned().unwrap_or_default();
    let given = of(live);
    let leads = |wanted: &Value| {
        given
            .iter()
            .any(|given| ["port", "targetPort"].iter().all(|field| wanted.get(field) == given.get(field)))
    };
    let missing = of(&expected.body).into_iter().filter(|port| !leads(port)).map(|port| {
        let word = |field| port.get(field).map(Value::to_string).unwrap_or_default();
        let says =
            format!("its port {} does not lead to the pods' port {}", word("port"), word("targetPort"));
        differs(expected, says, APPLY.to_owned())
    });
    missing.collect()
}

/// Whether the API server is led to the authority, asks about the same objects, and has roots to verify who answers.
fn webhook(expected: &Expected, live: &Value) -> Vec<Finding> {
    let wanted = expected.body.pointer("/webhooks/0");
    let name = wanted.and_then(|one| one.get("name"));
    let entries = live.get("webhooks").and_then(Value::as_array);
    let given = entries.into_iter().flatten().find(|one| one.get("name") == name);
    let Some((wanted, given)) = wanted.zip(given) else {
        return vec![differs(expected, "it has no entry of ours".to_owned(), APPLY.to_owned())];
    };
    let service = |one: &Value| {
        let field = |name| one.pointer(&format!("/clientConfig/service/{name}")).cloned();
        ["namespace", "name", "port", "path"].map(field)
    };
    if service(wanted) != service(given) {
        let says = "it does not lead the API server to the authority's Service".to_owned();
        return vec![differs(expected, says, APPLY.to_owned())];
    }
    if !asks_alike(wanted, given) {
        return vec![differs(expected, "it asks about other objects".to_owned(), APPLY.to_owned())];
    }
    match given.pointer("/clientConfig/caBundle").and_then(Value::as_str).is_none_or(str::is_empty) {
        true => {
            let says =
                "it has no roots yet, so that no bad policy is refused; the replica that leads writes them";
            let fix = "look at the troubles of the leader on its page /state";
            vec![Finding::wrong(State::NotReady, expected.subject.clone(), says, fix)]
        }
        false => Vec::new(),
    }
}

/// Whether the API server asks about the same objects, and passes over none of them. Fields that it fills in itself do not count.
fn asks_alike(wanted: &Value, given: &Value) -> bool {
    let rules = |one: &Value| one.get("rules").and_then(Value::as_array).cloned().unwrap_or_default();
    let (wanted, held) = (rules(wanted), rules(given));
    let is_alike = |(wanted, held): (&Value, &Value)| {
        let fields = wanted.as_object().into_iter().flatten();
        fields.into_iter().all(|(name, value)| held.get(name) == Some(value))
    };
    let is_empty = |name: &str| match given.get(name) {
        None | Some(Value::Null) => true,
        Some(Value::Object(all)) => all.is_empty(),
        Some(Value::Array(all)) => all.is_empty(),
        Some(_) => false,
    };
    wanted.len() == held.len()
        && wanted.iter().zip(&held).all(is_alike)
        && ["namespaceSelector", "objectSelector", "matchConditions"].into_iter().all(is_empty)
}

fn differs(expected: &Expected, says: String, fix: String) -> Finding {
    Finding::wrong(State::Differs, expected.subject.clone(), says, fix)
}

/// The object as an argument of kubectl.
fn argument(expected: &Expected) -> String {
    let subject = &expected.subject;
    let within = subject.namespace.as_ref().map(|namespace| format!(" --namespace={namespace}"));
    format!("{}/{}{}", subject.kind.to_lowercase(), subject.name, within.unwrap_or_default())
}
