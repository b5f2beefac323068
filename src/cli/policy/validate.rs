//! `burgrave policy validate`: can everything be read, as it is meant?

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use serde_json::Value;
use serde_json::json;

use crate::authz::resource::Fault;
use crate::authz::resource::Severity;
use crate::cli::console::Console;
use crate::cli::policy::answer::Answer;
use crate::cli::policy::sources::Loaded;
use crate::cli::policy::sources::RawSources;
use crate::cli::words;

/// What is read.
#[derive(Debug, Args)]
pub(super) struct Validate {
    /// Files and directories with policies; `-` for standard input
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Take warnings for errors
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    sources: RawSources,
}

/// Something that is found.
struct Finding<'a> {
    place: &'a str,
    object: String,
    path: &'a str,
    severity: Severity,
    says: String,
}

impl Validate {
    pub(super) async fn run(self, console: &mut Console) -> anyhow::Result<Answer> {
        let mut loaded = Loaded::of(&self.paths)?;
        if self.paths.is_empty() || !self.sources.is_empty() {
            let (more, _) = self.sources.load().await?;
            loaded.join(more);
        }
        let findings = findings(&loaded);
        let is_bad = |one: &Finding<'_>| self.strict || one.severity == Severity::Error;
        let ok = !findings.iter().any(is_bad);
        let json = json!({
            "ok": ok,
            "objects": loaded.resources.len() + loaded.replaced.len(),
            "passed_over": loaded.passed_over,
            "findings": findings.iter().map(Finding::to_json).collect::<Vec<_>>(),
        });
        console.show(|| text(&findings, &loaded), &json.to_string());
        Ok(if ok { Answer::Yes } else { Answer::No })
    }
}

fn findings(loaded: &Loaded) -> Vec<Finding<'_>> {
    let unreadable = loaded.unreadable.iter().map(|(place, error)| Finding {
        place,
        object: String::new(),
        path: "",
        severity: Severity::Error,
        says: error.clone(),
    });
    let replaced = loaded.replaced.iter().map(|(place, resource, by)| Finding {
        place,
        object: resource.id.to_string(),
        path: "",
        severity: Severity::Warning,
        says: format!("it is in {by} too; that one counts"),
    });
    let all = loaded.replaced.iter().map(|(place, resource, _)| (place, resource));
    let all = all.chain(loaded.resources.iter().map(|(place, resource)| (place, resource)));
    let faults = all.flat_map(|(place, resource)| {
        resource.faults.iter().map(move |fault| Finding {
            place,
            object: resource.id.to_string(),
            path: &fault.path,
            severity: fault.severity,
            says: says(fault),
        })
    });
    unreadable.chain(replaced).chain(faults).collect()
}

fn says(fault: &Fault) -> String {
    match fault.effect.is_empty() {
        true => fault.problem.clone(),
        false => format!("{}; {}", fault.problem, fault.effect),
    }
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

fn text(findings: &[Finding<'_>], loaded: &Loaded) -> String {
    let mut out = String::new();
    for one in findings {
        let parts = [one.place, word(one.severity), &one.object, one.path];
        let place: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        let _ = writeln!(out, "{}: {}", place.join(": "), one.says);
    }
    let of = |severity| findings.iter().filter(|one| one.severity == severity).count();
    let _ = writeln!(
        out,
        "{} read, {} and {}",
        words::count(loaded.resources.len() + loaded.replaced.len(), "object"),
        words::count(of(Severity::Error), "error"),
        words::count(of(Severity::Warning), "warning"),
    );
    if loaded.passed_over > 0 {
        let _ = writeln!(out, "{} of other kinds passed over", words::count(loaded.passed_over, "object"));
    }
    out
}

impl Finding<'_> {
    fn to_json(&self) -> Value {
        json!({
            "file": self.place,
            "object": self.object,
            "path": self.path,
            "severity": word(self.severity),
            "says": self.says,
        })
    }
}
