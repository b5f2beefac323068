//! `burgrave policy migrate`: roles and bindings as authorization policies, and whether these decide alike.

use clap::Args;
use serde_json::json;

use crate::authz::Mesh;
use crate::authz::Migration;
use crate::authz::Service;
use crate::authz::Workload;
use crate::authz::compare::workloads;
use crate::authz::compare::workloads::Selected;
use crate::authz::migrate;
use crate::authz::resource::Resource;
use crate::authz::resource::ResourceKind;
use crate::cli::console::Console;
use crate::cli::policy::answer::Answer;
use crate::cli::policy::diff;
use crate::cli::policy::diff::Compared;
use crate::cli::policy::diff::Trial;
use crate::cli::policy::mesh::RawMesh;
use crate::cli::policy::sources::Loaded;
use crate::cli::policy::sources::RawSources;

/// What is migrated.
#[derive(Debug, Args)]
pub(super) struct Migrate {
    #[command(flatten)]
    sources: RawSources,
    #[command(flatten)]
    trial: Trial,
    #[command(flatten)]
    mesh: RawMesh,
}

impl Migrate {
    pub(super) async fn run(self, console: &mut Console) -> anyhow::Result<Answer> {
        let mesh = self.mesh.resolve();
        let (mut loaded, cluster) = self.sources.load().await?;
        if let Some(cluster) = &cluster {
            loaded.services.extend(cluster.services_everywhere().await?);
        }
        loaded.warn(console);
        let migration = migrate(loaded.all(), &loaded.services, &mesh);
        let migrated = migrated(&loaded, &migration)?;
        let Selected { workloads: called, left_out } = called(&loaded, &mesh);
        let each = self.trial.each(called.len());
        let compared = called
            .into_iter()
            .map(|one| diff::drawn_on(&loaded, &migrated, one, &mesh, each, self.trial.seed))
            .collect();
        let compared = Compared { of: compared, left_out };
        for one in &migration.unsaid {
            console.remark(&format!("# {}: {}: {}\n", one.by, one.path, one.why));
        }
        console.remark(&diff::text(&compared, self.trial.show, Some(self.trial.seed)));
        let unsaid = migration
            .unsaid
            .iter()
            .map(|one| json!({ "by": one.by.to_string(), "path": one.path, "why": one.why }));
        let json = json!({
            "policies": migration.policies,
            "unsaid": unsaid.collect::<Vec<_>>(),
            "comparison": diff::to_json(&compared, self.trial.show, Some(self.trial.seed)),
        });
        let yaml = yaml(&migration)?;
        console.show(|| yaml, &json.to_string());
        Ok(diff::answer(&compared))
    }
}

fn yaml(migration: &Migration) -> anyhow::Result<String> {
    let mut out = String::new();
    for policy in &migration.policies {
        out.push_str("---\n");
        out.push_str(&serde_saphyr::to_string(policy)?);
        if !out.ends_with('\n') {
            out.push('\n');
        }
    }
    Ok(out)
}

/// The objects, with the migrated policies in the place of roles and bindings.
fn migrated(loaded: &Loaded, migration: &Migration) -> anyhow::Result<Loaded> {
    let is_old = |kind: ResourceKind| kind.group() == ResourceKind::ServiceRole.group();
    let kept = loaded.resources.iter().filter(|(_, resource)| !is_old(resource.id.kind)).cloned();
    let mut all = Loaded::default();
    for (name, resource) in kept {
        all.put(&name, resource);
    }
    for policy in &migration.policies {
        all.put("the migrated policies", Resource::read(policy)?);
    }
    Ok(all)
}

/// The workloads behind the services that are known, and those that policies select.
fn called(loaded: &Loaded, mesh: &Mesh) -> Selected {
    let behind = |service: &Service| {
        let leads_here = |other: &&Service| {
            other.namespace == service.namespace
                && other.selector.iter().all(|(name, value)| service.selector.get(name) == Some(value))
        };
        Workload {
            namespace: service.namespace.clone(),
            labels: service.selector.clone(),
            services: loaded.services.iter().filter(leads_here).map(|one| one.full_name.clone()).collect(),
            ..Workload::default()
        }
    };
    let mut all: Vec<Workload> = loaded.services.iter().map(behind).collect();
    // A service that is not known has no selector to be migrated by: its workloads cannot be told from others.
    let selected = workloads::selected(loaded.all(), mesh);
    all.extend(selected.workloads.into_iter().filter(|one| one.services.is_empty()));
    let left_out = selected.left_out + all.len().saturating_sub(workloads::MAX_WORKLOADS);
    all.truncate(workloads::MAX_WORKLOADS);
    Selected { workloads: all, left_out }
}
