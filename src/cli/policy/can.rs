//! `burgrave policy can`: may they, who may, and what may they?

use std::sync::Arc;

use clap::Args;
use serde_json::Value;
use serde_json::json;

use crate::authz::Applied;
use crate::authz::Mesh;
use crate::authz::Workload;
use crate::authz::compare::workloads;
use crate::authz::explain::explanation::Verdict;
use crate::authz::explain::facts::Fact;
use crate::authz::explain::facts::Facts;
use crate::authz::explain::reach;
use crate::authz::explain::reach::Caller;
use crate::authz::explain::reach::Operation;
use crate::authz::model::Policy;
use crate::authz::recorded::described::peer_uri;
use crate::cli::console::Console;
use crate::cli::policy::answer::Answer;
use crate::cli::policy::explain;
use crate::cli::policy::mesh;
use crate::cli::policy::mesh::RawMesh;
use crate::cli::policy::mesh::RawWorkload;
use crate::cli::policy::request::RawRequest;
use crate::cli::policy::sources::RawSources;
use crate::cli::words;

/// What is asked.
#[derive(Debug, Args)]
pub(super) struct Can {
    /// SOURCE call WORKLOAD: who (namespace/account, a SPIFFE ID, or `plaintext`), and whom (namespace/app). With --who only
    /// WORKLOAD, with --what only SOURCE, or both
    #[arg(value_name = "WORDS", num_args = 0..=3)]
    words: Vec<String>,
    /// List who can: everybody whom the policies name, those of --account, and all others
    #[arg(long, conflicts_with = "what")]
    who: bool,
    /// With --who: a service account to ask about, as namespace/account; may be given several times. With --cluster, all of the
    /// cluster's are asked about
    #[arg(long = "account", value_name = "NS/NAME", requires = "who")]
    accounts: Vec<String>,
    /// List what they can call: the operations of the rules that let them
    #[arg(long)]
    what: bool,
    #[command(flatten)]
    request: RawRequest,
    #[command(flatten)]
    sources: RawSources,
    #[command(flatten)]
    workload: RawWorkload,
    #[command(flatten)]
    mesh: RawMesh,
}

impl Can {
    pub(super) async fn run(mut self, console: &mut Console) -> anyhow::Result<Answer> {
        self.words.retain(|word| word != "call");
        let words = std::mem::take(&mut self.words);
        let (source, workload) = match (words.as_slice(), self.who) {
            ([], _) => (None, None),
            ([one], true) => (None, Some(one.clone())),
            ([one], false) => (Some(one.clone()), None),
            ([source, workload], false) => (Some(source.clone()), Some(workload.clone())),
            _ => anyhow::bail!(
                "write `can SOURCE call WORKLOAD`, `can --who call WORKLOAD` or `can --what SOURCE call`"
            ),
        };
        if let Some(workload) = workload {
            anyhow::ensure!(
                self.workload.workload.is_none(),
                "which workload is called is said twice: as WORKLOAD, and by `--workload`; keep one"
            );
            self.workload.workload = Some(workload);
        }
        let mesh = self.mesh.resolve();
        if let Some(source) = &source {
            self.request = std::mem::take(&mut self.request).with_caller(source)?;
        }
        match (self.who, self.what) {
            (true, _) => self.who(console, &mesh).await,
            (_, true) => self.what(console, &mesh).await,
            _ => self.whether(console, &mesh).await,
        }
    }

    async fn whether(self, console: &mut Console, mesh: &Mesh) -> anyhow::Result<Answer> {
        anyhow::ensure!(!self.request.is_empty(), "it is not said who calls: `can SOURCE call WORKLOAD`");
        let facts = self.request.facts(&mesh.trust_domain)?;
        let (loaded, workload) = self.sources.load_for(&self.workload, console).await?;
        let applied = loaded.apply(&workload, mesh);
        let explanation = explain::told(&applied, facts);
        let word = match explanation.decision {
            Verdict::Allow => "yes",
            Verdict::Deny => "no",
            Verdict::Depends => "it depends",
        };
        let mut value = explain::to_json(&explanation, &applied, &workload);
        if let Value::Object(object) = &mut value {
            object.insert("answer".to_owned(), json!(word));
        }
        console.show(|| format!("{word}; {}\n", explanation.summary()), &value.to_string());
        Ok(explain::answer(explanation.decision))
    }

    async fn who(self, console: &mut Console, mesh: &Mesh) -> anyhow::Result<Answer> {
        let facts = self.request.facts(&mesh.trust_domain)?;
        anyhow::ensure!(!facts.peer.is_known(), "with `--who`, leave out who calls");
        let mut accounts = self.accounts.clone();
        if self.sources.cluster {
            let (_, cluster) = self.sources.load().await?;
            if let Some(cluster) = cluster {
                accounts.extend(cluster.accounts().await?);
            }
        }
        let (loaded, workload) = self.sources.load_for(&self.workload, console).await?;
        let applied = loaded.apply(&workload, mesh);
        let facts = explain::seen(&applied, facts);
        for remark in &facts.remarks {
            console.remark(&format!("burgrave: {remark}\n"));
        }
        let callers = callers(&applied, &accounts, mesh)?;
        let rows: Vec<Row> = callers.into_iter().map(|caller| Row::of(caller, &applied, &facts)).collect();
        let json = json!({
            "workload": explain::of_workload(&workload),
            "callers": rows.iter().map(Row::to_json).collect::<Vec<_>>(),
        });
        console.show(
            || {
                let cells: Vec<Vec<String>> = rows.iter().map(Row::cells).collect();
                let heading = explain::heading(&applied, &workload);
                format!("{heading}\n\n{}", words::table(&["WHO", "MAY", "WHY"], &cells))
            },
            &json.to_string(),
        );
        Ok(Answer::Yes)
    }

    async fn what(self, console: &mut Console, mesh: &Mesh) -> anyhow::Result<Answer> {
        let facts = self.request.facts(&mesh.trust_domain)?;
        anyhow::ensure!(facts.peer.is_known(), "it is not said who calls: `can --what SOURCE call`");
        let (loaded, cluster) = self.sources.load().await?;
        loaded.whole(console)?;
        let known = match (&cluster, &self.workload.workload) {
            (Some(cluster), Some(name)) => Some(cluster.workload(name, &self.workload.cluster_domain).await?),
            _ => None,
        };
        let called = match self.workload.resolve(known)? {
            Some(one) => vec![one],
            None => {
                let selected = workloads::selected(loaded.all(), mesh);
                if selected.left_out > 0 {
                    let more = words::count(selected.left_out, "more workload");
                    console.remark(&format!(
                        "burgrave: {more} left out; ask about one: `--workload NAMESPACE/APP`\n"
                    ));
                }
                selected.workloads
            }
        };
        let reached: Vec<Reached> = called
            .into_iter()
            .map(|workload| {
                let applied = loaded.apply(&workload, mesh);
                let facts = explain::seen(&applied, facts.clone());
                Reached::of(&applied.policies, workload, facts)
            })
            .collect();
        let json = json!({ "workloads": reached.iter().map(Reached::to_json).collect::<Vec<_>>() });
        console.show(|| reached.iter().map(Reached::to_text).collect(), &json.to_string());
        Ok(Answer::Yes)
    }
}

/// Everybody who is asked about: whom policies name, whom the operator names, and all others.
fn callers(applied: &Applied, accounts: &[String], mesh: &Mesh) -> anyhow::Result<Vec<Caller>> {
    let mut callers = reach::callers(&applied.policies);
    for account in accounts {
        let uri =
            peer_uri(account, &mesh.trust_domain).map_err(|error| anyhow::anyhow!("`--account`: {error}"))?;
        callers.push(Caller { name: uri.clone(), peer: Some(vec![uri]) });
    }
    callers.sort();
    callers.dedup();
    let other = format!("spiffe://{}/ns/any-other/sa/any-other", mesh.trust_domain.as_str());
    callers.push(Caller { name: "any other of the mesh".to_owned(), peer: Some(vec![other]) });
    callers.push(Caller { name: "plain text".to_owned(), peer: None });
    Ok(callers)
}

/// What somebody may.
struct Row {
    caller: Caller,
    verdict: Verdict,
    why: String,
}

impl Row {
    fn of(caller: Caller, applied: &Applied, facts: &Facts) -> Self {
        let facts = Facts { peer: Fact::Known(caller.peer.clone()), ..facts.clone() };
        let explanation = crate::authz::explain::explain(&applied.policies, &facts);
        let why = explanation.summary();
        let why = why.split_once(": ").map_or(why.as_str(), |(_, why)| why).to_owned();
        Self { caller, verdict: explanation.decision, why }
    }

    fn cells(&self) -> Vec<String> {
        let may = match self.verdict {
            Verdict::Allow => "yes",
            Verdict::Deny => "no",
            Verdict::Depends => "depends",
        };
        vec![self.caller.name.clone(), may.to_owned(), self.why.clone()]
    }

    fn to_json(&self) -> Value {
        json!({ "who": self.caller.name, "peer": self.caller.peer, "decision": self.verdict, "why": self.why })
    }
}

/// What somebody may call of one workload.
struct Reached {
    workload: Workload,
    is_closed: bool,
    operations: Vec<Operation>,
    remarks: Vec<String>,
}

impl Reached {
    fn of(policies: &[Arc<Policy>], workload: Workload, facts: Facts) -> Self {
        let is_closed = policies
            .iter()
            .any(|policy| policy.action == crate::authz::model::Action::Allow && !policy.dry_run);
        Self { operations: reach::operations(policies, &facts), workload, is_closed, remarks: facts.remarks }
    }

    fn to_json(&self) -> Value {
        let each = self.operations.iter().map(|one| {
            let mut value = json!(one.by);
            if let Value::Object(object) = &mut value {
                object.insert("depends".to_owned(), json!(one.depends));
            }
            value
        });
        json!({
            "workload": explain::of_workload(&self.workload),
            "allowed_unless_denied": !self.is_closed,
            "remarks": self.remarks,
            "rules": each.collect::<Vec<_>>(),
        })
    }

    fn to_text(&self) -> String {
        let mut out = format!("{}\n", mesh::told(&self.workload));
        for remark in &self.remarks {
            out.push_str(&format!("  ({remark})\n"));
        }
        let of =
            |action: &'static str| self.operations.iter().filter(move |one| one.by.rule.action == action);
        if !self.is_closed {
            out.push_str("  everything, for no policy that allows applies\n");
        } else if of("ALLOW").next().is_none() {
            out.push_str("  nothing\n");
        }
        for one in of("ALLOW").filter(|_| self.is_closed) {
            out.push_str(&format!("  may {}\n", operation(one)));
        }
        for one in of("DENY") {
            out.push_str(&format!("  may not {}\n", operation(one)));
        }
        out
    }
}

/// An operation in a line: what is still asked of the request.
fn operation(one: &Operation) -> String {
    let open = one.by.fields.iter().filter(|field| field.was.is_none());
    let asked: Vec<String> = open
        .map(|field| {
            let not = if field.negated { "not " } else { "" };
            format!("{}: {not}{}", field.part, field.values.join(", "))
        })
        .collect();
    let what = match asked.is_empty() {
        true => "anything".to_owned(),
        false => asked.join("; "),
    };
    format!("{what} — {}", one.by.rule)
}
