//! `burgrave policy explain`: why is this request allowed or denied?

use clap::Args;
use serde_json::Value;
use serde_json::json;

use crate::authz::Applied;
use crate::authz::Workload;
use crate::authz::explain::explain;
use crate::authz::explain::explanation::Explanation;
use crate::authz::explain::explanation::Verdict;
use crate::authz::explain::facts::Fact;
use crate::authz::explain::facts::Facts;
use crate::cli::console::Console;
use crate::cli::policy::answer::Answer;
use crate::cli::policy::mesh;
use crate::cli::policy::mesh::RawMesh;
use crate::cli::policy::mesh::RawWorkload;
use crate::cli::policy::request::RawRequest;
use crate::cli::policy::sources::RawSources;

/// What is asked.
#[derive(Debug, Args)]
pub(super) struct Explain {
    #[command(flatten)]
    request: RawRequest,
    #[command(flatten)]
    sources: RawSources,
    #[command(flatten)]
    workload: RawWorkload,
    #[command(flatten)]
    mesh: RawMesh,
}

impl Explain {
    pub(super) async fn run(self, console: &mut Console) -> anyhow::Result<Answer> {
        anyhow::ensure!(
            !self.request.is_empty(),
            "it is not said which request: `--from`, `--method`, `--path` and others, or `--request`, `--curl`, `--log-line`"
        );
        let mesh = self.mesh.resolve();
        let facts = self.request.facts(&mesh.trust_domain)?;
        let (loaded, workload) = self.sources.load_for(&self.workload, console).await?;
        let applied = loaded.apply(&workload, &mesh);
        let explanation = told(&applied, facts);
        console.show(
            || format!("{}\n{}", heading(&applied, &workload), explanation),
            &to_json(&explanation, &applied, &workload).to_string(),
        );
        Ok(answer(explanation.decision))
    }
}

/// The explanation, with what else of `applied` concerns the request.
pub(super) fn told(applied: &Applied, facts: Facts) -> Explanation {
    explain(&applied.policies, &seen(applied, facts))
}

/// The facts as policies see them: where no token is verified, they see no claims, whatever the token says.
pub(super) fn seen(applied: &Applied, mut facts: Facts) -> Facts {
    let has_claims = matches!(facts.claims.known(), Some(Some(_)));
    if has_claims && applied.authentication.is_empty() {
        facts.claims = Fact::Known(None);
        facts.remarks.push(
            "no RequestAuthentication applies to this workload, so no token is verified there, and policies see no claims"
                .to_owned(),
        );
    }
    facts
}

/// How a verdict ends a command.
pub(super) fn answer(verdict: Verdict) -> Answer {
    match verdict {
        Verdict::Allow => Answer::Yes,
        Verdict::Deny => Answer::No,
        Verdict::Depends => Answer::Unknown,
    }
}

/// What is called, and what applies to it.
pub(super) fn heading(applied: &Applied, workload: &Workload) -> String {
    let by = match applied.by.len() {
        0 => "nothing applies".to_owned(),
        _ => applied.by.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    format!("{}: {by}", mesh::told(workload))
}

/// For machines.
pub(super) fn to_json(explanation: &Explanation, applied: &Applied, workload: &Workload) -> Value {
    let mut value = json!(explanation);
    if let Value::Object(object) = &mut value {
        object.insert("workload".to_owned(), of_workload(workload));
        let by: Vec<String> = applied.by.iter().map(ToString::to_string).collect();
        object.insert("applies".to_owned(), json!(by));
    }
    value
}

/// A workload for machines.
pub(super) fn of_workload(workload: &Workload) -> Value {
    json!({
        "namespace": workload.namespace,
        "labels": workload.labels,
        "service_account": workload.service_account,
        "name": workload.name,
        "services": workload.services,
    })
}
