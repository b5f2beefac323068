//! Pure: which workload do people mean?
//!
//! `shop/api` in short is the namespace `shop`, the label `app: api`, the service account and name `api`, and the service
//! `api.shop.svc.cluster.local`; `shop` alone is a workload of that namespace without labels. In full, it is an object with
//! `namespace`, `labels`, `service_account`, `name` and `services`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::authz::recorded::described::kind;
use crate::authz::recorded::unread::Unread;
use crate::authz::recorded::unread::shown;
use crate::authz::workload::Workload;

const FIELDS: [&str; 5] = ["namespace", "labels", "service_account", "name", "services"];

/// The domain of services' names, where nobody says another.
pub const USUAL_DOMAIN: &str = "cluster.local";

/// The workload that `text` is short for, in the usual domain.
///
/// # Errors
/// If it is not `namespace` or `namespace/app`.
pub fn short(text: &str) -> Result<Workload, Unread> {
    short_in(text, USUAL_DOMAIN)
}

/// The workload that `text` is short for; its service is named under `domain`.
///
/// # Errors
/// If it is not `namespace` or `namespace/app`.
pub fn short_in(text: &str, domain: &str) -> Result<Workload, Unread> {
    let is_name = |name: &str| {
        !name.is_empty()
            && name.len() <= 253
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte))
    };
    let (namespace, app) =
        text.split_once('/').map_or((text, None), |(namespace, app)| (namespace, Some(app)));
    if !is_name(namespace) || !app.is_none_or(is_name) {
        return Err(Unread::at(
            "",
            format!("`{}` names no workload; write `namespace/app`, or `namespace` alone", shown(text)),
        ));
    }
    let app = app.map(str::to_owned);
    Ok(Workload {
        namespace: namespace.to_owned(),
        labels: app.iter().map(|app| ("app".to_owned(), app.clone())).collect(),
        services: app.iter().map(|app| format!("{app}.{namespace}.svc.{domain}")).collect(),
        service_account: app.clone().unwrap_or_default(),
        name: app.unwrap_or_default(),
        ..Workload::default()
    })
}

/// The workload that `value` describes, in short or in full; in short, its service is named under `domain`.
///
/// # Errors
/// With the field that does not fit.
pub fn read(value: &Value, domain: &str) -> Result<Workload, Unread> {
    let object = match value {
        Value::String(text) => return short_in(text, domain),
        Value::Object(object) => object,
        other => {
            return Err(Unread::at("", format!("a workload is a text or an object, not {}", kind(other))));
        }
    };
    if let Some(name) = object.keys().find(|name| !FIELDS.contains(&name.as_str())) {
        return Err(Unread::unknown("", "a workload", name, &FIELDS));
    }
    let wrong = |place: &str, expected: &str, found: &Value| {
        Unread::at(place, format!("{expected} is meant, not {}", kind(found)))
    };
    let text = |name: &str| match object.get(name) {
        None => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(wrong(name, "a text", other)),
    };
    let mut labels = BTreeMap::new();
    match object.get("labels") {
        None => {}
        Some(Value::Object(all)) => {
            for (name, value) in all {
                let place = format!("labels.{}", shown(name));
                let value = value.as_str().ok_or_else(|| wrong(&place, "a text", value))?;
                labels.insert(name.clone(), value.to_owned());
            }
        }
        Some(other) => return Err(wrong("labels", "an object", other)),
    }
    let mut services = Vec::new();
    match object.get("services") {
        None => {}
        Some(Value::Array(list)) => {
            for (at, service) in list.iter().enumerate() {
                let place = format!("services[{at}]");
                services.push(service.as_str().ok_or_else(|| wrong(&place, "a text", service))?.to_owned());
            }
        }
        Some(other) => return Err(wrong("services", "a list", other)),
    }
    let namespace = text("namespace")?;
    if namespace.is_empty() {
        return Err(Unread::at("namespace", "it is missing; a workload has one"));
    }
    Ok(Workload {
        namespace,
        labels,
        service_account: text("service_account")?,
        name: text("name")?,
        services,
        ..Workload::default()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_workload_is_named_in_short_or_described_in_full() {
        let api = short("shop/api").unwrap();
        assert_eq!((api.namespace.as_str(), api.labels["app"].as_str()), ("shop", "api"));
        assert_eq!(api.services, ["api.shop.svc.cluster.local"]);
        assert_eq!(short_in("shop/api", "corp").unwrap().services, ["api.shop.svc.corp"]);
        assert!(short("shop").unwrap().labels.is_empty());
        let full = read(&json!({ "namespace": "shop", "labels": { "a": "b" } }), USUAL_DOMAIN).unwrap();
        assert_eq!(full.labels["a"], "b");
        for (value, said) in [
            (json!("Shop/a b"), "`Shop/a b` names no workload"),
            (json!(1), "a workload is a text or an object, not a number"),
            (json!({ "labels": {} }), "namespace: it is missing"),
            (json!({ "namespace": "a", "label": {} }), "did you mean `labels`?"),
            (json!({ "namespace": "a", "labels": { "x": 1 } }), "labels.x: a text is meant, not a number"),
            (json!({ "namespace": "a", "services": [1] }), "services[0]: a text is meant, not a number"),
        ] {
            let error = read(&value, USUAL_DOMAIN).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
