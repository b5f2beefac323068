//! The page on what policies mean, held to what it says.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::authz::apply::apply;
use crate::authz::explain::explain;
use crate::authz::explain::explanation::Verdict;
use crate::authz::recorded::Described;
use crate::authz::recorded::workload;
use crate::authz::resource::Resource;
use crate::authz::resource::Severity;
use crate::authz::resource::from_yaml;
use crate::authz::workload::Mesh;

const PAGE: &str = include_str!("SEMANTICS.md");

/// Policies of the page, and what it says of them.
#[derive(Default)]
struct Example {
    yaml: String,
    is_refused: bool,
    faults: Vec<String>,
    decisions: Vec<(String, String)>,
}

fn examples() -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let mut is_within = false;
    for line in PAGE.lines() {
        if let Some(kind) = line.strip_prefix("```") {
            is_within = !is_within;
            if is_within {
                assert!(kind.starts_with("yaml"), "{line}");
                examples.push(Example { is_refused: kind.ends_with("refused"), ..Example::default() });
            }
            continue;
        }
        let Some(example) = examples.last_mut() else { continue };
        let quoted = |text: &str| Some(text.strip_prefix('`')?.split_once('`')?.0.to_owned());
        if is_within {
            example.yaml.push_str(line);
            example.yaml.push('\n');
        } else if let Some(fault) = line.strip_prefix("- ").and_then(quoted) {
            example.faults.push(fault);
        } else if let Some(request) =
            line.strip_prefix("| ").and_then(quoted).filter(|text| text.starts_with('{'))
        {
            let decision = line.trim_end_matches(" |").rsplit("| ").next().unwrap();
            example.decisions.push((request, decision.to_owned()));
        }
    }
    examples
}

#[test]
fn every_example_of_the_page_is_decided_as_it_says() {
    let mesh = Mesh::of("cluster.local".parse().unwrap());
    let api = workload::short("shop/api").unwrap();
    let mut count = 0;
    let mut wrong = Vec::new();
    for example in examples() {
        let documents = from_yaml(&example.yaml).unwrap();
        let resources: Vec<Resource> = documents.resources.into_iter().map(Result::unwrap).collect();
        let faults = resources.iter().flat_map(|resource| &resource.faults);
        let errors: Vec<_> = faults.filter(|fault| fault.severity == Severity::Error).collect();
        let paths: BTreeSet<_> = errors.iter().map(|fault| fault.path.clone()).collect();
        assert_eq!(paths, example.faults.iter().cloned().collect(), "{}", example.yaml);
        assert_eq!(example.is_refused, !paths.is_empty(), "{}", example.yaml);
        assert!(!example.decisions.is_empty(), "nothing is said of {}", example.yaml);
        let applied = apply(&resources, &api, &mesh);
        for (request, expected) in &example.decisions {
            let value: Value = serde_saphyr::from_str(request).unwrap();
            let described = Described::read(&value, &mesh.trust_domain)
                .unwrap_or_else(|error| panic!("{request}: {error}"));
            let told = explain(&applied.policies, &described.facts());
            let word = match told.decision {
                Verdict::Allow => "allow",
                Verdict::Deny => "deny",
                Verdict::Depends => "depends",
            };
            if word != expected {
                wrong.push(format!("{request}\n{told}\n{}", example.yaml));
            }
            count += 1;
        }
    }
    assert!(wrong.is_empty(), "decided otherwise:\n{}", wrong.join("\n"));
    assert!(count > 80, "only {count} examples were found; has the form of the page changed?");
}

#[test]
fn every_key_that_the_page_lists_is_one_and_no_other_is() {
    let keys = |text: &str| {
        let table = text.split("## Conditions").nth(1).unwrap().split("## Bare connections").next().unwrap();
        let rows = table.lines().filter(|line| line.starts_with("| `")).filter(|line| !line.contains("{ "));
        rows.flat_map(|line| {
            line.split('|')
                .nth(1)
                .unwrap()
                .split('`')
                .skip(1)
                .step_by(2)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect::<Vec<String>>()
    };
    let is_refused = |key: &str, value: &str| {
        let yaml = format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{ name: a, namespace: b }}\n\
             spec: {{ rules: [{{ when: [{{ key: '{key}', values: ['{value}'] }}] }}] }}"
        );
        from_yaml(&yaml).unwrap().resources.remove(0).unwrap().is_faulty()
    };
    let listed = keys(PAGE);
    assert_eq!(listed.len(), 15);
    for key in listed {
        let key = key.replace("filters.F", "filters.http.x");
        let value = match key.as_str() {
            "source.ip" | "remote.ip" | "destination.ip" => "10.0.0.1",
            "destination.port" => "80",
            "source.serviceAccount" => "a/b",
            _ => "a",
        };
        assert!(!is_refused(&key, value), "{key}");
    }
    for key in ["source.user", "destination.name", "destination.labels[a]", "request.method", "source.IP"] {
        assert!(is_refused(key, "a"), "{key}");
    }
}
