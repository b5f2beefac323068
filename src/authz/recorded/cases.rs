//! Pure: what is expected of policies, as a file of cases says it?
//!
//! ```yaml
//! workload: shop/api                     # for all cases; in short or in full
//! cases:
//! - name: the web reads items
//!   request: { from: shop/web, method: GET, path: /v1/items }
//!   expect: allow                        # or deny
//!   policy: shop/api-read                # optional: the policy that must decide
//! - name: nobody reads in plain text
//!   workload: shop/other                 # instead of the file's
//!   request: { from: null, method: GET, path: / }
//!   expect: deny
//! ```

use serde_json::Map;
use serde_json::Value;

use crate::authz::explain::explanation::Verdict;
use crate::authz::recorded::described::Described;
use crate::authz::recorded::described::kind;
use crate::authz::recorded::unread::Unread;
use crate::authz::recorded::unread::shown;
use crate::authz::recorded::workload;
use crate::authz::workload::Workload;
use crate::identity::TrustDomain;

/// The most cases of a file.
const MAX_CASES: usize = 100_000;

const FILE_FIELDS: [&str; 2] = ["workload", "cases"];
const CASE_FIELDS: [&str; 5] = ["name", "workload", "request", "expect", "policy"];

/// A request and what is expected.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// The workload that is called; none if neither the case nor its file says it.
    pub workload: Option<Workload>,
    /// The request.
    pub request: Described,
    /// What is to be decided: [`Verdict::Allow`] or [`Verdict::Deny`].
    pub expect: Verdict,
    /// The policy that is to decide, as `namespace/name`.
    pub policy: Option<String>,
}

/// Reads a file of cases; services of workloads in short are named under the usual domain.
///
/// # Errors
/// With the case and field that do not fit.
pub fn read(file: &Value, trust_domain: &TrustDomain) -> Result<Vec<Case>, Unread> {
    read_in(file, trust_domain, workload::USUAL_DOMAIN)
}

/// Reads a file of cases; services of workloads in short are named under `cluster_domain`.
///
/// # Errors
/// With the case and field that do not fit.
pub fn read_in(file: &Value, trust_domain: &TrustDomain, cluster_domain: &str) -> Result<Vec<Case>, Unread> {
    let object = object(file, "a file of cases")?;
    known(object, "a file of cases", &FILE_FIELDS)?;
    let workload_of = |value| workload::read(value, cluster_domain);
    let common = object.get("workload").map(workload_of).transpose();
    let common = common.map_err(|error| error.within("workload"))?;
    let list = match object.get("cases") {
        Some(Value::Array(list)) if list.is_empty() => {
            return Err(Unread::at("cases", "there are none; a file without any tests nothing"));
        }
        Some(Value::Array(list)) if list.len() <= MAX_CASES => list,
        Some(Value::Array(list)) => {
            return Err(Unread::at(
                "cases",
                format!("there are {} of them; at most {MAX_CASES} are read", list.len()),
            ));
        }
        Some(other) => return Err(Unread::at("cases", format!("a list is meant, not {}", kind(other)))),
        None => return Err(Unread::at("cases", "it is missing; a file of cases has a list of them")),
    };
    let each = list.iter().enumerate().map(|(at, value)| {
        let own = value.get("workload").map(workload_of).transpose();
        let own = own.map_err(|error| error.within("workload"));
        let read = own.and_then(|own| case(value, at, own.as_ref().or(common.as_ref()), trust_domain));
        read.map_err(|error| error.within(&format!("cases[{at}]")))
    });
    each.collect()
}

fn case(value: &Value, at: usize, workload: Option<&Workload>, domain: &TrustDomain) -> Result<Case, Unread> {
    let object = object(value, "a case")?;
    known(object, "a case", &CASE_FIELDS)?;
    let text = |name: &str| match object.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(Unread::at(name, format!("a text is meant, not {}", kind(other)))),
    };
    let request = object.get("request").ok_or_else(|| Unread::at("request", "it is missing"))?;
    Ok(Case {
        name: text("name")?.unwrap_or_else(|| format!("case {at}")),
        workload: workload.cloned(),
        request: Described::read(request, domain).map_err(|error| error.within("request"))?,
        expect: match text("expect")?.as_deref() {
            Some("allow") => Verdict::Allow,
            Some("deny") => Verdict::Deny,
            Some(other) => {
                return Err(Unread::at(
                    "expect",
                    format!("`{}` is neither `allow` nor `deny`", shown(other)),
                ));
            }
            None => return Err(Unread::at("expect", "it is missing; write `allow` or `deny`")),
        },
        policy: text("policy")?,
    })
}

fn object<'a>(value: &'a Value, what: &str) -> Result<&'a Map<String, Value>, Unread> {
    value.as_object().ok_or_else(|| Unread::at("", format!("{what} is an object, not {}", kind(value))))
}

fn known(object: &Map<String, Value>, what: &str, fields: &[&str]) -> Result<(), Unread> {
    match object.keys().find(|name| !fields.contains(&name.as_str())) {
        Some(name) => Err(Unread::unknown("", what, name, fields)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_case_has_what_it_says_and_otherwise_what_its_file_says() {
        let domain = "td".parse().unwrap();
        let file = json!({ "workload": "shop/api", "cases": [
            { "name": "a", "request": { "method": "GET" }, "expect": "allow" },
            { "workload": "other", "request": { "from": null }, "expect": "deny", "policy": "a/b" },
        ]});
        let cases = read(&file, &domain).unwrap();
        let told: Vec<_> = cases
            .iter()
            .map(|case| (case.name.as_str(), case.workload.as_ref().unwrap().namespace.as_str(), case.expect))
            .collect();
        assert_eq!(told, [("a", "shop", Verdict::Allow), ("case 1", "other", Verdict::Deny)]);
    }

    #[test]
    fn what_does_not_fit_is_told_with_its_case_and_field() {
        let domain = "td".parse().unwrap();
        let of_case = |case: Value| json!({ "cases": [case] });
        for (file, said) in [
            (json!([]), "a file of cases is an object, not a list"),
            (json!({ "case": [] }), "`case` is no field of a file of cases; did you mean `cases`?"),
            (json!({}), "cases: it is missing"),
            (json!({ "cases": [] }), "cases: there are none"),
            (of_case(json!(1)), "cases[0]: a case is an object, not a number"),
            (of_case(json!({ "request": {} })), "cases[0].expect: it is missing"),
            (of_case(json!({ "expect": "allow" })), "cases[0].request: it is missing"),
            (of_case(json!({ "expect": "maybe", "request": {} })), "cases[0].expect: `maybe` is neither"),
            (
                of_case(json!({ "expect": "deny", "request": { "headers": { "x": 1 } } })),
                "cases[0].request.headers.x: a text or a list of texts is meant",
            ),
            (
                of_case(json!({ "expect": "deny", "request": {}, "workload": "A" })),
                "cases[0].workload: `A` names no",
            ),
        ] {
            let error = read(&file, &domain).unwrap_err().to_string();
            assert!(error.starts_with(said), "{error}");
        }
    }
}
