//! `burgrave policy test`: is decided what is expected?

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use serde_json::Value;
use serde_json::json;

use crate::authz::Mesh;
use crate::authz::explain::explanation::Explanation;
use crate::authz::explain::explanation::Outcome;
use crate::authz::explain::explanation::Verdict;
use crate::authz::recorded::cases;
use crate::authz::recorded::cases::Case;
use crate::cli::console::Console;
use crate::cli::policy::answer::Answer;
use crate::cli::policy::explain;
use crate::cli::policy::mesh::RawMesh;
use crate::cli::policy::mesh::RawWorkload;
use crate::cli::policy::request::read_yaml;
use crate::cli::policy::sources::Loaded;
use crate::cli::policy::sources::RawSources;
use crate::cli::words;

/// What is tested.
#[derive(Debug, Args)]
pub(super) struct Test {
    /// Files of cases, as YAML or JSON
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    sources: RawSources,
    #[command(flatten)]
    workload: RawWorkload,
    #[command(flatten)]
    mesh: RawMesh,
}

/// A case and what came of it.
struct Tested {
    file: String,
    case: Case,
    failure: Option<String>,
    explanation: Explanation,
}

impl Test {
    pub(super) async fn run(self, console: &mut Console) -> anyhow::Result<Answer> {
        let mesh = self.mesh.resolve();
        let (loaded, cluster) = self.sources.load().await?;
        loaded.whole(console)?;
        let known = match (&cluster, &self.workload.workload) {
            (Some(cluster), Some(name)) => Some(cluster.workload(name, &self.workload.cluster_domain).await?),
            _ => None,
        };
        let common = self.workload.resolve(known)?;
        let mut tested = Vec::new();
        for file in &self.files {
            let name = file.display().to_string();
            let cases = cases::read_in(&read_yaml(file)?, &mesh.trust_domain, &self.workload.cluster_domain)
                .map_err(|error| anyhow::anyhow!("`{name}`: {error}"))?;
            for mut case in cases {
                case.workload = case.workload.or_else(|| common.clone());
                tested.push(Tested::of(&name, case, &loaded, &mesh)?);
            }
        }
        let failed = tested.iter().filter(|one| one.failure.is_some()).count();
        let json = json!({
            "cases": tested.iter().map(Tested::to_json).collect::<Vec<_>>(),
            "failed": failed,
        });
        console.show(|| text(&tested, failed), &json.to_string());
        Ok(if failed == 0 { Answer::Yes } else { Answer::No })
    }
}

fn text(tested: &[Tested], failed: usize) -> String {
    let mut out = String::new();
    for one in tested {
        match &one.failure {
            None => drop(writeln!(out, "ok    {}", one.case.name)),
            Some(failure) => {
                let _ = writeln!(out, "FAIL  {} ({})\n      {failure}", one.case.name, one.file);
                let _ = writeln!(out, "      {}", one.explanation.summary());
                for field in one.explanation.nearest.iter().flat_map(|nearest| &nearest.fields) {
                    if field.outcome == Outcome::Missed {
                        let was = field.was.as_deref().unwrap_or("not known");
                        let _ = writeln!(
                            out,
                            "      {}: asked for {}; was {was}",
                            field.path,
                            field.values.join(", ")
                        );
                    }
                }
            }
        }
        for remark in &one.explanation.remarks {
            let _ = writeln!(out, "      {remark}");
        }
    }
    let _ = writeln!(out, "{}, {failed} failed", words::count(tested.len(), "case"));
    out
}

impl Tested {
    fn of(file: &str, case: Case, loaded: &Loaded, mesh: &Mesh) -> anyhow::Result<Self> {
        let workload = case.workload.as_ref().ok_or_else(|| {
            anyhow::anyhow!(
                "`{file}`: it is not said which workload case `{}` calls: `workload: namespace/app` in the case or the file, or `--workload`",
                case.name
            )
        })?;
        let explanation = explain::told(&loaded.apply(workload, mesh), case.request.clone().facts());
        let failure = failure(&case, &explanation);
        Ok(Self { file: file.to_owned(), case, failure, explanation })
    }

    fn to_json(&self) -> Value {
        json!({
            "file": self.file,
            "name": self.case.name,
            "ok": self.failure.is_none(),
            "expected": self.case.expect,
            "failure": self.failure,
            "explanation": self.explanation,
        })
    }
}

/// Why a case fails, if it does.
fn failure(case: &Case, explanation: &Explanation) -> Option<String> {
    let word = |verdict: Verdict| match verdict {
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
        Verdict::Depends => "not to be told",
    };
    if explanation.decision == Verdict::Depends {
        return Some(format!(
            "expected {}, and the case does not say enough: {}",
            word(case.expect),
            explanation.hangs_on().join(", ")
        ));
    }
    if explanation.decision != case.expect {
        return Some(format!("expected {}, is {}", word(case.expect), word(explanation.decision)));
    }
    let expected = case.policy.as_ref()?;
    let by = explanation.by.as_ref().map(|by| format!("{}/{}", by.rule.namespace, by.rule.name));
    match by {
        Some(by) if by == *expected => None,
        Some(by) => Some(format!("expected to be decided by {expected}, is by {by}")),
        None => Some(format!("expected to be decided by {expected}, is by no rule")),
    }
}
