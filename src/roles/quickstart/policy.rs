//! A policy in a file: a call is allowed, one line changes, the same call is denied, and it is said why.

use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use crate::authz::Effect;
use crate::authz::Http;
use crate::authz::Mesh;
use crate::authz::Peer;
use crate::authz::PolicySet;
use crate::authz::Request;
use crate::authz::Workload;
use crate::authz::apply;
use crate::authz::explain::explain;
use crate::authz::explain::facts::Facts;
use crate::authz::resource::from_yaml;
use crate::clock::Stopwatch;
use crate::identity::SpiffeId;
use crate::identity::TrustDomain;
use crate::roles::quickstart::error::QuickstartError;
use crate::roles::quickstart::error::broken;
use crate::roles::quickstart::report::Report;
use crate::roles::quickstart::traffic;
use crate::roles::quickstart::workload::NAMESPACE;
use crate::roles::quickstart::workload::PATIENCE;
use crate::roles::quickstart::workload::write;

/// How often it is looked whether a change has arrived.
const LOOK: Duration = Duration::from_millis(5);

/// The policies of the demo, in a directory that the CA reads.
pub(super) struct Policies {
    directory: PathBuf,
    domain: TrustDomain,
}

impl Policies {
    /// Makes the directory, with a policy that lets the client in.
    pub(super) fn make(directory: &Path, domain: &TrustDomain) -> Result<Self, QuickstartError> {
        let made = Self { directory: directory.join("policies"), domain: domain.clone() };
        std::fs::create_dir_all(&made.directory)
            .map_err(|source| QuickstartError::Io { path: made.directory.clone(), source })?;
        made.let_in("client")?;
        Ok(made)
    }

    /// Where they lie.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Waits until calls that come in at `address` are answered with `status`.
    pub(super) async fn wait_for(&self, status: u16, address: SocketAddr) -> Result<(), QuickstartError> {
        let waited = Stopwatch::start();
        loop {
            let answer = traffic::status(address, "/").await;
            if answer == Some(status) {
                return Ok(());
            }
            if waited.elapsed() > PATIENCE {
                return Err(broken("policy")(format!(
                    "calls are answered with {answer:?} and not with {status}"
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The call is allowed, and denied when one line has changed: by a real Envoy that calls come in at, if there is one, and by the
    /// engine here, which says why.
    pub(super) async fn show(
        &self,
        caller: &SpiffeId,
        envoy: Option<SocketAddr>,
        report: &Report,
    ) -> Result<(), QuickstartError> {
        let took = Stopwatch::start();
        self.decides(caller, Effect::Allow)?;
        if let Some(address) = envoy {
            self.wait_for(200, address).await?;
        }
        let (before, changed) = (line("client"), Stopwatch::start());
        self.let_in("nobody")?;
        if let Some(address) = envoy {
            self.wait_for(403, address).await?;
        }
        let in_force = envoy.map(|_| changed.elapsed_ms());
        let why = self.decides(caller, Effect::Deny)?;
        let by = match in_force {
            Some(ms) => format!(", by Envoy {ms:.0} ms later"),
            None => String::new(),
        };
        let text = format!(
            "a call was allowed; one line changed:\n- {before}\n+ {}\nthe same call is denied{by}, because:\n{why}",
            line("nobody")
        );
        report.step("policy", took, &text, json!({"change_to_denied_ms": in_force}));
        // Who keeps the demo finds it open.
        self.let_in("client")
    }

    fn let_in(&self, account: &str) -> Result<(), QuickstartError> {
        let text = format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: callers\n  namespace: {NAMESPACE}\n\
             spec:\n  rules:\n  - from:\n    - source:\n        {}\n    to:\n    - operation:\n        methods: [GET]\n",
            line(account)
        );
        // In one step: the CA must not read half of it.
        let (aside, file) = (self.directory.join("callers.new"), self.directory.join("callers.yaml"));
        write(&aside, &text)?;
        std::fs::rename(&aside, &file).map_err(|source| QuickstartError::Io { path: file, source })
    }

    /// What the engine says of a call, by the file as it is now; with its reasons.
    fn decides(&self, caller: &SpiffeId, expected: Effect) -> Result<String, QuickstartError> {
        let path = self.directory.join("callers.yaml");
        let text = std::fs::read_to_string(&path)
            .map_err(|source| QuickstartError::Io { path: path.clone(), source })?;
        let documents = from_yaml(&text).map_err(|error| broken("policy")(error.to_string()))?;
        let resources: Result<Vec<_>, _> = documents.resources.into_iter().collect();
        let resources = resources.map_err(|error| broken("policy")(error.to_string()))?;
        let workload = Workload {
            namespace: NAMESPACE.to_owned(),
            service_account: "server".to_owned(),
            ..Workload::default()
        };
        let policies = apply(&resources, &workload, &Mesh::of(self.domain.clone())).policies;
        let caller = caller.to_string();
        let uris = [caller.as_str()];
        let request = Request {
            peer: Some(Peer { uris: &uris }),
            http: Some(Http { method: "GET", path: "/", host: "server", headers: &[] }),
            ..Request::default()
        };
        let effect = PolicySet::new(policies.clone()).decide(&request).effect;
        let why = explain(&policies, &Facts::of(&request)).to_string();
        match effect == expected {
            true => Ok(why),
            false => Err(broken("policy")(format!("the engine says {effect:?}: {why}"))),
        }
    }
}

/// The line that changes.
fn line(account: &str) -> String {
    format!("serviceAccounts: [{account}]")
}
