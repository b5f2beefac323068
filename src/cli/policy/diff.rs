//! `burgrave policy diff`: which decisions change, if these policies take the place of those?

use std::fmt::Write;
use std::path::Path;
use std::path::PathBuf;

use clap::Args;
use serde_json::Value;
use serde_json::json;

use crate::authz::Mesh;
use crate::authz::Workload;
use crate::authz::compare::Change;
use crate::authz::compare::Comparison;
use crate::authz::compare::Pair;
use crate::authz::compare::Said;
use crate::authz::compare::workloads;
use crate::authz::compare::workloads::Selected;
use crate::authz::explain::explain as explanation_of;
use crate::authz::explain::explanation::Verdict;
use crate::authz::explain::facts::Facts;
use crate::authz::recorded::access_log;
use crate::cli::console::Console;
use crate::cli::policy::answer::Answer;
use crate::cli::policy::explain;
use crate::cli::policy::mesh;
use crate::cli::policy::mesh::RawMesh;
use crate::cli::policy::mesh::RawWorkload;
use crate::cli::policy::request::read_text;
use crate::cli::policy::sources::Loaded;
use crate::cli::policy::terms::Terms;
use crate::cli::words;

/// The fewest requests that each workload is tried with.
const FEWEST: usize = 200;

/// What is compared.
#[derive(Debug, Args)]
pub(super) struct Diff {
    /// File or directory with the policies as they are
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// File or directory with the policies as they shall be
    #[arg(value_name = "NEW")]
    new: PathBuf,
    #[command(flatten)]
    trial: Trial,
    /// Try the requests of this access log instead of made-up ones; needs --workload. May be given several times
    #[arg(long = "access-log", value_name = "FILE")]
    logs: Vec<PathBuf>,
    #[command(flatten)]
    workload: RawWorkload,
    #[command(flatten)]
    mesh: RawMesh,
}

/// How requests are made up, and how much is told.
#[derive(Clone, Debug, Args)]
pub(super) struct Trial {
    /// How many requests are made up, over all workloads; each workload has 200 at least
    #[arg(long, value_name = "COUNT", default_value_t = 20_000)]
    requests: usize,
    /// Where chance begins: the same seed tries the same requests
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub(super) seed: u64,
    /// How many changes are shown of each workload
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    pub(super) show: usize,
}

impl Trial {
    /// How many requests each of so many workloads is tried with.
    pub(super) fn each(&self, workloads: usize) -> usize {
        (self.requests / workloads.max(1)).max(FEWEST)
    }
}

/// What came of it.
pub(super) struct Compared {
    /// For each workload that was tried.
    pub(super) of: Vec<OfWorkload>,
    /// How many workloads were not tried, for there are too many.
    pub(super) left_out: usize,
}

/// What came of it for one workload.
pub(super) struct OfWorkload {
    workload: Workload,
    comparison: Comparison,
    terms: Terms,
}

impl OfWorkload {
    /// What `compare` makes of the policies that apply to `workload`, and what else of theirs is otherwise.
    fn of(
        (old, new): (&Loaded, &Loaded),
        workload: Workload,
        mesh: &Mesh,
        compare: impl FnOnce(Pair) -> Comparison,
    ) -> Self {
        let (old, new) = (old.apply(&workload, mesh), new.apply(&workload, mesh));
        let terms = Terms::between(&old, &new);
        Self { comparison: compare(Pair::new(old.policies, new.policies)), terms, workload }
    }

    fn is_same(&self) -> bool {
        self.comparison.changed == 0 && self.terms.is_same()
    }
}

impl Diff {
    pub(super) async fn run(self, console: &mut Console) -> anyhow::Result<Answer> {
        let mesh = self.mesh.resolve();
        let (old, new) = (Loaded::of(&[self.old])?, Loaded::of(&[self.new])?);
        old.whole(console)?;
        new.whole(console)?;
        let given = self.workload.resolve(None)?;
        let compared = match self.logs.is_empty() {
            true => drawn(&old, &new, given, &mesh, &self.trial),
            false => {
                let workload = given.ok_or_else(|| {
                    anyhow::anyhow!(
                        "`--access-log` is of one workload; say which: `--workload NAMESPACE/APP`"
                    )
                })?;
                let requests = logged(&self.logs, console)?;
                {
                    let of = OfWorkload::of((&old, &new), workload, &mesh, |pair| pair.on_recorded(requests));
                    Compared { of: vec![of], left_out: 0 }
                }
            }
        };
        let seed = self.logs.is_empty().then_some(self.trial.seed);
        console.show(
            || text(&compared, self.trial.show, seed),
            &to_json(&compared, self.trial.show, seed).to_string(),
        );
        Ok(answer(&compared))
    }
}

/// Tries made-up requests on `given`, or on a workload for each way of being selected.
fn drawn(old: &Loaded, new: &Loaded, given: Option<Workload>, mesh: &Mesh, trial: &Trial) -> Compared {
    let Selected { workloads: called, left_out } = match given {
        Some(one) => Selected { workloads: vec![one], left_out: 0 },
        None => workloads::selected(old.all().chain(new.all()), mesh),
    };
    let each = trial.each(called.len());
    let each = called.into_iter().map(|workload| drawn_on(old, new, workload, mesh, each, trial.seed));
    Compared { of: each.collect(), left_out }
}

/// Tries `count` made-up requests on `workload`.
pub(super) fn drawn_on(
    old: &Loaded,
    new: &Loaded,
    workload: Workload,
    mesh: &Mesh,
    count: usize,
    seed: u64,
) -> OfWorkload {
    OfWorkload::of((old, new), workload, mesh, |pair| pair.on_drawn(count, seed))
}

/// How it ends: that something changes is certain; that nothing does, only where all that was tried was decided.
pub(super) fn answer(compared: &Compared) -> Answer {
    match (compared.of.iter().all(OfWorkload::is_same), Totals::of(compared).undecided + compared.left_out) {
        (false, _) => Answer::No,
        (true, 0) => Answer::Yes,
        (true, _) => Answer::Unknown,
    }
}

/// The requests of access logs. Lines that cannot be read are counted and told.
fn logged(files: &[PathBuf], console: &mut Console) -> anyhow::Result<Vec<Facts>> {
    let mut requests = Vec::new();
    for file in files {
        let (name, text) = read_text(file)?;
        let mut unread = 0;
        let mut first = None;
        for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            match access_log::read(line) {
                Ok(logged) => requests.push(logged.facts),
                Err(error) => {
                    unread += 1;
                    first.get_or_insert_with(|| format!("line {}: {error}", at + 1));
                }
            }
        }
        if let Some(first) = first {
            let lines = words::count(unread, "line");
            console.remark(&format!(
                "burgrave: {name}: {lines} passed over that cannot be read, the first is {first}\n"
            ));
        }
    }
    anyhow::ensure!(!requests.is_empty(), "no line of {} can be read", listed(files));
    Ok(requests)
}

fn listed(files: &[PathBuf]) -> String {
    let names: Vec<String> =
        files.iter().map(|file: &PathBuf| format!("`{}`", Path::display(file))).collect();
    names.join(", ")
}

/// In words.
pub(super) fn text(compared: &Compared, show: usize, seed: Option<u64>) -> String {
    let mut out = String::new();
    for one in compared.of.iter().filter(|one| !one.is_same()) {
        let _ = writeln!(out, "{}", mesh::told(&one.workload));
        for line in one.terms.lines() {
            let _ = writeln!(out, "{line}");
        }
        for change in one.comparison.changes.iter().take(show) {
            of_change(&mut out, change);
        }
        let left = one.comparison.changes.len().saturating_sub(show);
        if left > 0 {
            let _ = writeln!(out, "  and {left} other ways in which it changes; `--show` shows more");
        }
        out.push('\n');
    }
    let Totals { tried, changed, undecided } = Totals::of(compared);
    let how = match seed {
        Some(seed) => format!("made up with seed {seed}"),
        None => "of access logs".to_owned(),
    };
    let _ = writeln!(
        out,
        "{changed} of {tried} requests are decided otherwise ({how}; {})",
        words::count(compared.of.len(), "workload")
    );
    if compared.left_out > 0 {
        let _ = writeln!(
            out,
            "{} selected in other ways and not tried; `--workload` tries one",
            words::count(compared.left_out, "more workload")
        );
    }
    if undecided > 0 {
        let _ = writeln!(
            out,
            "{undecided} of the others cannot be decided, neither before nor after: too little is known of them"
        );
    }
    if changed == 0 {
        out.push_str("that none was found is no proof that there is none\n");
    }
    out
}

/// What came of it for all workloads.
struct Totals {
    tried: usize,
    changed: usize,
    undecided: usize,
}

impl Totals {
    fn of(compared: &Compared) -> Self {
        let sum =
            |count: fn(&Comparison) -> usize| compared.of.iter().map(|one| count(&one.comparison)).sum();
        Self {
            tried: sum(|one| one.tried),
            changed: sum(|one| one.changed),
            undecided: sum(|one| one.undecided),
        }
    }
}

fn of_change(out: &mut String, change: &Change) {
    let _ = writeln!(
        out,
        "  {} → {}, {}",
        change.old.decision.as_str(),
        change.new.decision.as_str(),
        words::count(change.count, "request")
    );
    let _ = writeln!(out, "    was: {}", why(&change.old));
    let _ = writeln!(out, "    is:  {}", why(&change.new));
    let told = parts(&change.example);
    let _ = writeln!(out, "    as:  {}", told.join("; "));
}

fn why(said: &Said) -> String {
    let mut text = match (&said.rule, said.decision) {
        (Some(rule), _) => rule.to_string(),
        (None, Verdict::Deny) => "no rule allows it".to_owned(),
        (None, Verdict::Allow) => "no policy that allows applies".to_owned(),
        (None, Verdict::Depends) => "what is not known decides".to_owned(),
    };
    if let Some(provider) = &said.asks {
        let may = if said.asks_depends { "may be" } else { "is" };
        let _ = write!(text, "; `{provider}` {may} asked first");
    }
    text
}

/// What an example consists of, shortly.
fn parts(facts: &Facts) -> Vec<String> {
    let none: [crate::authz::model::Policy; 0] = [];
    let known = explanation_of(&none, facts).request;
    let mut parts: Vec<String> =
        known.into_iter().map(|known| format!("{} {}", known.part, known.is)).collect();
    if let Some(http) = &facts.http {
        parts.extend(http.headers.iter().map(|(name, value)| format!("header {name}: {value}")));
    }
    if let Some(Some(port)) = facts.destination_port.known() {
        parts.push(format!("port {port}"));
    }
    if let Some(Some(claims)) = facts.claims.known() {
        parts.push(format!("claims {}", Value::Object(claims.clone())));
    }
    if let Some(properties) = facts.properties.known().filter(|all| !all.is_empty()) {
        parts.push(format!("properties {}", Value::Object(properties.clone())));
    }
    parts
}

/// For machines.
pub(super) fn to_json(compared: &Compared, show: usize, seed: Option<u64>) -> Value {
    let Totals { tried, changed, undecided } = Totals::of(compared);
    let of_workload = |one: &OfWorkload| {
        let changes = one.comparison.changes.iter().take(show).map(|change| {
            json!({
                "old": change.old,
                "new": change.new,
                "requests": change.count,
                "example": parts(&change.example),
            })
        });
        let (tokens, mtls) = one.terms.to_json();
        json!({
            "tokens": tokens,
            "mtls": mtls,
            "workload": explain::of_workload(&one.workload),
            "tried": one.comparison.tried,
            "changed": one.comparison.changed,
            "undecided": one.comparison.undecided,
            "changes": changes.collect::<Vec<_>>(),
        })
    };
    json!({
        "same": answer(compared) == Answer::Yes,
        "tried": tried,
        "changed": changed,
        "undecided": undecided,
        "left_out": compared.left_out,
        "seed": seed,
        "workloads": compared.of.iter().map(of_workload).collect::<Vec<_>>(),
    })
}
