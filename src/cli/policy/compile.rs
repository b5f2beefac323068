//! `burgrave policy compile`: the policies of a workload, as Envoy takes them.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use clap::ValueEnum;
use serde_json::Value;
use serde_json::json;

use crate::authz::envoy;
use crate::authz::envoy::Layer;
use crate::authz::envoy::Options;
use crate::authz::envoy::Peers;
use crate::authz::envoy::Provider;
use crate::cli::console::Console;
use crate::cli::policy::answer::Answer;
use crate::cli::policy::mesh::RawMesh;
use crate::cli::policy::mesh::RawWorkload;
use crate::cli::policy::mesh::pair;
use crate::cli::policy::sources::RawSources;
use crate::config::Output;

/// How long Envoy waits for whoever is asked.
const PATIENCE: Duration = Duration::from_millis(600);

/// What is compiled.
#[derive(Debug, Args)]
pub(super) struct Compile {
    /// What it is compiled to
    #[arg(long, value_enum, default_value_t)]
    to: Target,
    /// For bare connections: network filters instead of HTTP filters
    #[arg(long)]
    tcp: bool,
    /// Write long lists of peers as maps, which Envoy looks up in one step; a certificate with several URI names is then none of them
    #[arg(long)]
    maps: bool,
    /// Envoy's cluster of whoever CUSTOM policies have asked, as NAME=CLUSTER; may be given several times. One that is not given
    /// is denied
    #[arg(long = "provider", value_name = "NAME=CLUSTER", value_parser = pair)]
    providers: Vec<(String, String)>,
    #[command(flatten)]
    sources: RawSources,
    #[command(flatten)]
    workload: RawWorkload,
    #[command(flatten)]
    mesh: RawMesh,
}

/// What policies are compiled to.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Target {
    /// Filters of Envoy.
    #[default]
    Envoy,
}

impl Compile {
    pub(super) async fn run(self, console: &mut Console) -> anyhow::Result<Answer> {
        let Target::Envoy = self.to;
        let mesh = self.mesh.resolve();
        let (loaded, workload) = self.sources.load_for(&self.workload, console).await?;
        let applied = loaded.apply(&workload, &mesh);
        let layer = if self.tcp { Layer::Connections } else { Layer::Requests };
        let providers = self
            .providers
            .into_iter()
            .map(|(name, cluster)| (name, Provider { cluster, timeout: PATIENCE, fail_open: false }));
        let options = Options {
            providers: providers.collect::<BTreeMap<_, _>>(),
            issuers: applied.authentication,
            peers: if self.maps { Peers::Map } else { Peers::Rules },
            ..Options::default()
        };
        let chain = envoy::compile(applied.policies.iter().map(|policy| &**policy), layer, &options)?;
        let filters = chain.in_order().map(envoy::Filter::to_json).collect::<Result<Vec<Value>, _>>()?;
        let (list, json) = (Value::Array(filters.clone()), json!({ "filters": filters }));
        let yaml = match console.output {
            Output::Text => serde_saphyr::to_string(&list)?,
            Output::Json => String::new(),
        };
        console.show(|| format!("{}\n", yaml.trim_end()), &json.to_string());
        Ok(Answer::Yes)
    }
}
