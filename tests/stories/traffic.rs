//! Two workloads that talk to each other all the time, and an operator who rotates the root under them.

use std::collections::BTreeMap;
use std::time::Duration;

use burgrave::proto::admin::New;
use burgrave::proto::admin::Nothing;
use burgrave::proto::admin::Step;
use burgrave::proto::admin::step::What;
use burgrave::rotation::report::Report;
use burgrave::rotation::report::Waiting;
use burgrave::x509::Certificate;
use burgrave::x509::CertificateChain;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::ca::AUDIENCE;
use crate::ca::Ca;
use crate::ca::until;
use crate::crafted;
use crate::mesh::Client;
use crate::mesh::Held;
use crate::mesh::Load;
use crate::mesh::Server;
use crate::mesh::Workload;
use crate::mesh::shown;
use crate::orders::Operator;
use crate::support::apiserver::ApiServer;
use crate::support::apiserver::Namespace;

/// What a rotation needs at the most when nothing hinders it; this machine may be compiling.
pub(crate) const UNHINDERED: Duration = Duration::from_secs(60);

/// A window that does not make a story long.
pub(crate) fn quickly() -> New {
    New { window_ms: 300, ..New::default() }
}

/// Options for a CA whose leaves live for so many seconds.
pub(crate) fn leaves_of(seconds: u32) -> [String; 3] {
    [
        format!("--leaf-lifetime={seconds}s"),
        format!("--max-leaf-lifetime={seconds}s"),
        "--backdate=1s".to_owned(),
    ]
}

/// Requests go from `web` to `store`, each on a connection of its own and many on a new mTLS connection.
pub(crate) struct Traffic {
    pub(crate) namespace: Namespace,
    pub(crate) ca: Ca,
    pub(crate) operator: Operator,
    pub(crate) web: Workload,
    pub(crate) store: Workload,
    pub(crate) server: Server,
    client: Client,
    load: Load,
}

impl Traffic {
    pub(crate) async fn start(name: &str, options: &[&str]) -> Traffic {
        let api = ApiServer::shared().await;
        let namespace = api.namespace(name).await;
        let ca = Ca::start(api, &namespace, options).await;
        let web = Workload::start(&ca, &namespace, "web", &[]).await;
        let store = Workload::start(&ca, &namespace, "store", &[]).await;
        let server = Server::start(&store, None).await;
        let client = Client::start(&web, server.address, &store.id).await;
        let (operator, load) = (Operator::of(&ca), Load::start(client.address, &web.id, 2));
        Traffic { namespace, ca, operator, web, store, server, client, load }
    }

    /// Ends it; not one request may have failed.
    pub(crate) async fn end(self) {
        let (requests, failures) = self.load.finish().await;
        assert_eq!(failures, BTreeMap::new(), "of {requests} requests:\n{}", self.client.envoy.part().log());
        assert!(requests > 200, "{requests} requests are no load");
    }

    /// One more workload.
    pub(crate) async fn workload(&self, account: &str) -> Workload {
        Workload::start(&self.ca, &self.namespace, account, &[]).await
    }

    /// Somebody who only asks for certificates.
    pub(crate) async fn unheard(&self, account: &str) -> Unheard {
        self.namespace.service_account(account).await;
        let pod = self.namespace.pod(&format!("{account}-0"), account).await;
        let token = self.namespace.token(account, Some(&pod), AUDIENCE, 3600).await;
        Unheard { token, id: format!("spiffe://cluster.local/ns/{}/sa/{account}", self.namespace.name) }
    }

    pub(crate) fn pod_of(&self, account: &str) -> Option<String> {
        Some(format!("{}/{account}-0", self.namespace.name))
    }

    /// What is ordered without evidence.
    pub(crate) async fn force(&self, what: What) -> Result<Report, String> {
        let step = Step { by: "the story".to_owned(), force: true, what: Some(what) };
        let answer = self.operator.client().await.act(step).await;
        let answer = answer.map_err(|status| status.message().to_owned())?;
        Ok(serde_json::from_str(&answer.into_inner().json).expect("it is a report"))
    }

    pub(crate) async fn rotate(&self, new: New) -> Report {
        self.operator.order(What::Rotate(new)).await.expect("a rotation can be ordered")
    }

    /// Prepares an authority by hand and activates it as soon as that may be.
    pub(crate) async fn activate(&self, new: New) -> Report {
        self.operator.order(What::Prepare(new)).await.expect("an authority can be prepared");
        until("the activation", UNHINDERED, async || self.operator.order(What::Activate(Nothing {})).await)
            .await
    }

    /// Waits until how things stand is as `wanted`.
    pub(crate) async fn when(&self, what: &str, limit: Duration, wanted: impl Fn(&Report) -> bool) -> Report {
        until(what, limit, async || {
            let report = self.operator.status().await;
            if wanted(&report) { Ok(report) } else { Err(format!("{report:#?}")) }
        })
        .await
    }

    /// Waits until `phase` waits for `who` alone, who fits `wanted`; returns it.
    pub(crate) async fn waits_for(
        &self,
        phase: &str,
        who: &str,
        limit: Duration,
        wanted: impl Fn(&Waiting) -> bool,
    ) -> Waiting {
        let is_so = |report: &Report| {
            let rotation = report.rotation.as_ref().filter(|one| one.phase == phase);
            rotation.is_some_and(|one| match one.waiting.as_slice() {
                [only] => only.who == who && wanted(only),
                _ => false,
            })
        };
        let report = self.when(&format!("`{phase}` to wait for {who} alone"), limit, is_so).await;
        report.rotation.expect("it was just there").waiting.remove(0)
    }

    /// What stays so for as long as a rotation waits in its first phase.
    pub(crate) async fn nothing_signs_yet(&self, before: &Report) {
        let report = self.operator.status().await;
        assert_eq!(report.active, before.active);
        let rotation = report.rotation.expect("it waits");
        assert_eq!((rotation.phase.as_str(), rotation.forced.len()), ("distribute", 0));
    }

    /// The certificate that the server shows now.
    pub(crate) async fn shown(&self) -> Certificate {
        let probe = Held::by(&self.web).await.client(&self.store.id);
        shown(self.server.address, &probe).await
    }

    /// The sequence of things in the audit trail that was `step`.
    pub(crate) fn audited(&self, step: &str) -> Vec<serde_json::Value> {
        self.ca.audit("rotation").into_iter().filter(|event| event["step"] == step).collect()
    }
}

/// Somebody who hears of new roots only with a certificate, as Istio's agents do.
pub(crate) struct Unheard {
    token: String,
    pub(crate) id: String,
}

/// What they were answered.
pub(crate) struct Answer {
    pub(crate) chain: CertificateChain,
    pub(crate) roots: Vec<Certificate>,
}

impl Unheard {
    /// Asks `ca`.
    pub(crate) async fn ask(&self, ca: &Ca) -> Answer {
        // Of its own connection each time, and with the roots of today.
        let answer = ca.plan().client().create(Some(&self.token), &crafted::csr(), 0).await;
        let answer = answer.expect("a good request is answered");
        let (roots, chain) = answer.split_last().expect("an answer is not empty");
        let chain = CertificateChain::from_pem(chain.concat().as_bytes()).expect("it is a chain");
        Answer { chain, roots: certificates(roots) }
    }
}

impl Answer {
    pub(crate) fn expires(&self) -> OffsetDateTime {
        self.chain.leaf().facts().not_after
    }
}

/// The certificates in a text.
pub(crate) fn certificates(pem: &str) -> Vec<Certificate> {
    let ders = burgrave::x509::pem::certificates(pem.as_bytes()).expect("it is PEM");
    ders.into_iter().map(|der| Certificate::from_der(der).expect("it is a certificate")).collect()
}

/// A moment as a report tells it.
pub(crate) fn moment(text: &str) -> OffsetDateTime {
    OffsetDateTime::parse(text, &Rfc3339).expect("a report's moments are RFC 3339")
}
