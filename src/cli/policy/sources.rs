//! Where policies come from: files, directories, standard input, or the cluster; and what of them cannot be read.

use std::collections::HashMap;
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
use crate::authz::resource::ResourceId;
use crate::authz::resource::Severity;
use crate::authz::resource::from_yaml;
use crate::cli::console::Console;
use crate::cli::policy::cluster::Cluster;
use crate::cli::policy::mesh::RawWorkload;
use crate::cli::words;

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
    /// The objects, each once, with where it was read.
    pub(super) resources: Vec<(String, Resource)>,
    /// Objects that were read again elsewhere, with where they were read, and where the one that counts was.
    pub(super) replaced: Vec<(String, Resource, String)>,
    /// Where each stands among the resources.
    places: HashMap<ResourceId, usize>,
    /// What is no object of ours though it looks like one, with where it was read.
    pub(super) unreadable: Vec<(String, String)>,
    /// How many objects are of other kinds.
    pub(super) passed_over: usize,
    /// The services among them.
    pub(super) services: Vec<Service>,
}

impl RawSources {
    /// Whether it is not said where policies are.
    pub(super) fn is_empty(&self) -> bool {
        self.policies.is_empty() && !self.cluster
    }

    /// Reads all of it.
    ///
    /// # Errors
    /// If it is not said where policies are, or a file or the cluster cannot be read.
    pub(super) async fn load(&self) -> anyhow::Result<(Loaded, Option<Cluster>)> {
        if self.is_empty() {
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
        loaded.whole(console)?;
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
                Ok(resource) => self.put(name, resource),
                Err(error) => self.unreadable.push((name.to_owned(), error)),
            }
        }
    }

    /// Of two objects of one name the last counts, as where the CA reads files.
    pub(super) fn put(&mut self, name: &str, resource: Resource) {
        let at = *self.places.entry(resource.id.clone()).or_insert(self.resources.len());
        match self.resources.get_mut(at) {
            None => self.resources.push((name.to_owned(), resource)),
            Some(known) => {
                let (place, old) = std::mem::replace(known, (name.to_owned(), resource));
                self.replaced.push((place, old, name.to_owned()));
            }
        }
    }

    /// Both, `other` as if it had been read last.
    pub(super) fn join(&mut self, other: Self) {
        self.replaced.extend(other.replaced);
        for (name, resource) in other.resources {
            self.put(&name, resource);
        }
        self.unreadable.extend(other.unreadable);
        self.passed_over += other.passed_over;
        self.services.extend(other.services);
    }

    /// Says what is wrong with them, as [`Self::warn`] does.
    ///
    /// # Errors
    /// If some cannot be read at all: what they would allow or deny is not known, and so no decision is.
    pub(super) fn whole(&self, console: &mut Console) -> anyhow::Result<()> {
        self.warn(console);
        anyhow::ensure!(
            self.unreadable.is_empty(),
            "{} cannot be read, so what is decided cannot be told; correct or remove what is named above",
            words::count(self.unreadable.len(), "object")
        );
        Ok(())
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
            console.remark(&format!("burgrave: {name}: {error}\n"));
        }
        for (name, resource, by) in &self.replaced {
            console
                .remark(&format!("burgrave: {name}: {}: it is in {by} too; that one counts\n", resource.id));
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
        // Mounted ConfigMaps have their files twice: in a directory of such a name, and as links to there.
        if entry.file_name().to_string_lossy().starts_with("..") {
            continue;
        }
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
