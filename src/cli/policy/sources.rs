//! Where policies come from: files, directories, standard input, or the cluster; and what of them cannot be read.

use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use serde_json::Value;

use crate::authz::Applied;
use crate::authz::Mesh;
use crate::authz::Service;
use crate::authz::Workload;
use crate::authz::apply;
use crate::authz::resource::Resource;
use crate::authz::resource::Severity;
use crate::authz::resource::from_yaml;
use crate::cli::console::Console;
use crate::cli::policy::cluster::Cluster;
use crate::cli::policy::mesh::RawWorkload;

/// Where policies come from.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Which policies")]
pub(super) struct RawSources {
    /// File or directory with policies as YAML or JSON; `-` for standard input. May be given several times. A directory is
    /// read with all below it: *.yaml, *.yml and *.json; objects of other kinds are passed over
    #[arg(long, value_name = "PATH")]
    policies: Vec<PathBuf>,
    /// Read the policies of the cluster
    #[arg(long)]
    pub(super) cluster: bool,
    /// With --cluster: its kubeconfig [default: KUBECONFIG, ~/.kube/config, or the pod's own]
    #[arg(long, env = "BURGRAVE_KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    /// The objects, each with where it was read.
    pub(super) resources: Vec<(String, Resource)>,
    /// What is no object of ours though it looks like one, with where it was read.
    pub(super) unreadable: Vec<(String, String)>,
    /// How many objects are of other kinds.
    pub(super) passed_over: usize,
    /// The services among them.
    pub(super) services: Vec<Service>,
}

impl RawSources {
    /// Reads all of it.
    ///
    /// # Errors
    /// If it is not said where policies are, or a file or the cluster cannot be read.
    pub(super) async fn load(&self) -> anyhow::Result<(Loaded, Option<Cluster>)> {
        if self.policies.is_empty() && !self.cluster {
            anyhow::bail!(
                "it is not said where the policies are: `--policies DIR` for files, `--cluster` for the cluster"
            );
        }
        let mut loaded = Loaded::of(&self.policies)?;
        let mut cluster = None;
        if self.cluster {
            let reached = Cluster::reach(self.kubeconfig.as_deref()).await?;
            loaded.extend("the cluster", reached.policies().await?);
            cluster = Some(reached);
        }
        Ok((loaded, cluster))
    }

    /// Reads all of it, and finds the workload that is meant.
    ///
    /// # Errors
    /// If something cannot be read, or nothing says which workload is meant.
    pub(super) async fn load_for(
        &self,
        workload: &RawWorkload,
        console: &mut Console,
    ) -> anyhow::Result<(Loaded, Workload)> {
        let (loaded, cluster) = self.load().await?;
        let known = match (&cluster, &workload.workload) {
            (Some(cluster), Some(name)) => Some(cluster.workload(name, &workload.cluster_domain).await?),
            _ => None,
        };
        let workload = workload.resolve(known)?.context(
            "it is not said which workload is called: `--workload NAMESPACE/APP`, or `--workload-namespace` with `--label`",
        )?;
        loaded.warn(console);
        Ok((loaded, workload))
    }
}

impl Loaded {
    /// What is in these files and directories.
    ///
    /// # Errors
    /// If one cannot be read, or is no YAML.
    pub(super) fn of(paths: &[PathBuf]) -> anyhow::Result<Self> {
        let mut loaded = Self::default();
        for path in paths {
            let (name, text);
            if path == Path::new("-") {
                let mut bytes = String::new();
                std::io::stdin().read_to_string(&mut bytes).context("standard input cannot be read")?;
                (name, text) = ("standard input".to_owned(), bytes);
            } else if path.is_dir() {
                for file in files(path)? {
                    loaded.read_file(&file)?;
                }
                continue;
            } else {
                loaded.read_file(path)?;
                continue;
            }
            loaded.add(&name, &text)?;
        }
        Ok(loaded)
    }

    fn read_file(&mut self, path: &Path) -> anyhow::Result<()> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| anyhow::anyhow!("`{name}`: {error}"))?;
        self.add(&name, &text)
    }

    fn add(&mut self, name: &str, text: &str) -> anyhow::Result<()> {
        let documents = from_yaml(text).map_err(|error| anyhow::anyhow!("`{name}`: {error}"))?;
        self.passed_over += documents.passed_over;
        self.services.extend(services(text));
        self.extend(
            name,
            documents.resources.into_iter().map(|read| read.map_err(|error| error.to_string())),
        );
        Ok(())
    }

    fn extend(&mut self, name: &str, all: impl IntoIterator<Item = Result<Resource, String>>) {
        for one in all {
            match one {
                Ok(resource) => self.resources.push((name.to_owned(), resource)),
                Err(error) => self.unreadable.push((name.to_owned(), error)),
            }
        }
    }

    /// The objects.
    pub(super) fn all(&self) -> impl Iterator<Item = &Resource> {
        self.resources.iter().map(|(_, resource)| resource)
    }

    /// What applies to `workload`.
    pub(super) fn apply(&self, workload: &Workload, mesh: &Mesh) -> Applied {
        apply(self.all(), workload, mesh)
    }

    /// Says what cannot be read, and so reduces access. What is only doubtful is for `burgrave policy validate` to say.
    pub(super) fn warn(&self, console: &mut Console) {
        for (name, error) in &self.unreadable {
            console.remark(&format!("burgrave: {name}: {error}; it is as if it were not there\n"));
        }
        for (name, resource) in &self.resources {
            for fault in resource.faults.iter().filter(|fault| fault.severity == Severity::Error) {
                console.remark(&format!("burgrave: {name}: {}: {fault}\n", resource.id));
            }
        }
    }
}

/// The services in a text that is YAML; roles name them.
fn services(text: &str) -> Vec<Service> {
    if !text.contains("Service") {
        return Vec::new();
    }
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap_or_default();
    let items = |document: &Value| match document.get("items").and_then(Value::as_array) {
        Some(items) => items.clone(),
        None => vec![document.clone()],
    };
    documents.iter().flat_map(items).filter_map(|object| Service::read(&object)).collect()
}

/// The files with policies below a directory, sorted.
fn files(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let name = directory.display();
    let mut found = Vec::new();
    let entries = std::fs::read_dir(directory).map_err(|error| anyhow::anyhow!("`{name}`: {error}"))?;
    for entry in entries {
        let entry = entry.map_err(|error| anyhow::anyhow!("`{name}`: {error}"))?;
        let path = entry.path();
        // A link to a directory may lead back to it; one to a file is read, as mounted ConfigMaps have it.
        let kind = entry.file_type().map_err(|error| anyhow::anyhow!("`{}`: {error}", path.display()))?;
        let is_text =
            path.extension().is_some_and(|ending| ["yaml", "yml", "json"].iter().any(|one| ending == *one));
        if kind.is_dir() {
            found.extend(files(&path)?);
        } else if is_text {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
