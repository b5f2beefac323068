//! A running signer of pod certificates, and a kubelet and an admin who make requests of it.
//!
//! The signer runs in the test's own process with the rights of a service account that has just the rules of [`RULES`].

use crate::ca::until;
use crate::crafted::Hierarchy;
use crate::support::Scratch;
use crate::support::apiserver::ApiServer;
use crate::support::apiserver::ISSUER;
use crate::support::apiserver::NODE;
use crate::support::apiserver::Namespace;
use crate::support::random_hex;
use crate::support::scratch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use burgrave::census::Census;
use burgrave::clock::Clock;
use burgrave::issuance::Profile;
use burgrave::k8s;
use burgrave::k8s::Candidacy;
use burgrave::k8s::Leadership;
use burgrave::k8s::Timing;
use burgrave::pod_certificates::Board;
use burgrave::pod_certificates::PodCertificateMetrics;
use burgrave::pod_certificates::PodCertificates;
use burgrave::pod_certificates::PodProfile;
use burgrave::pod_certificates::State;
use burgrave::signer::FileSigner;
use burgrave::signer::Issuer;
use burgrave::x509::Certificate;
use burgrave::x509::PrivateKey;
use burgrave::x509::TrustBundle;
use burgrave::x509::pem;
use burgrave::x509::root;
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use k8s_openapi::api::certificates::v1::PodCertificateRequest;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::rbac::v1 as rbac;
use kube::Api;
use kube::api::DeleteParams;
use kube::api::ListParams;
use kube::api::PostParams;
use prometheus_client::registry::Registry;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::json;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) const TRUST_DOMAIN: &str = "cluster.local";
/// Long enough on a machine that is busy compiling.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A signer under way, ended when dropped.
pub(crate) struct Signer {
    pub(crate) name: String,
    pub(crate) issuer: watch::Sender<Arc<Issuer>>,
    pub(crate) parts: PodCertificates,
    registry: Registry,
    running: JoinSet<()>,
    _dir: Scratch,
}

/// How a signer is started.
pub(crate) struct Setup {
    pub(crate) issuer: Issuer,
    pub(crate) profile: Profile,
    /// Rules of its service account: API groups, resources, names, verbs.
    pub(crate) rules: Vec<Value>,
}

/// A pod with a projected volume of the signer's certificates.
#[derive(Clone, Debug)]
pub(crate) struct PodOf {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) account: String,
    pub(crate) account_uid: String,
    pub(crate) node_uid: String,
}

/// All that the signer needs, and no more.
pub(crate) fn rules(signer_name: &str) -> Vec<Value> {
    vec![
        json!({"apiGroups": ["certificates.k8s.io"], "resources": ["podcertificaterequests"], "verbs": ["list", "watch"]}),
        json!({"apiGroups": ["certificates.k8s.io"], "resources": ["podcertificaterequests/status"], "verbs": ["update"]}),
        json!({
            "apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "resourceNames": [signer_name], "verbs": ["sign"],
        }),
        json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}),
    ]
}

pub(crate) fn profile(hours: u64) -> Profile {
    let hour = Duration::from_secs(3600);
    Profile::new(Duration::from_secs(120), hour, hour * u32::try_from(hours).expect("few hours"))
        .expect("it makes sense")
}

/// A root that signs leaves itself, valid from an hour before `now` for `hours`.
pub(crate) fn root_issuer(now: OffsetDateTime, hours: i32) -> Issuer {
    let key = PrivateKey::generate().expect("there is randomness");
    let domain = TRUST_DOMAIN.parse().expect("it is a trust domain");
    let hour = Duration::from_secs(3600);
    let life = hour * u32::try_from(hours + 1).expect("a life");
    let begin = now.replace_nanosecond(0).expect("it can be zero") - hour;
    let certificate = root::self_signed(&key, &domain, begin, life).expect("a root can be made");
    let signer = Arc::new(FileSigner::new(&key).expect("P-256 signs"));
    let bundle = TrustBundle::new(vec![certificate.clone()]).expect("it is a root");
    Issuer::new(signer, vec![certificate], bundle, now).expect("they belong together")
}

/// The issuer of a hierarchy with intermediates.
pub(crate) fn plugged_issuer(files: &Hierarchy) -> Issuer {
    let certificates = |file: &str| -> Vec<Certificate> {
        let found = pem::certificates(files.read(file).as_bytes()).expect("it holds certificates");
        found.into_iter().map(|der| Certificate::from_der(der).expect("it is one")).collect()
    };
    let key = PrivateKey::from_pem(files.read("ca-key.pem").as_bytes()).expect("it is a key");
    let signer = Arc::new(FileSigner::new(&key).expect("it signs"));
    let bundle = TrustBundle::new(certificates("root-cert.pem")).expect("it is a root");
    Issuer::new(signer, certificates("cert-chain.pem"), bundle, OffsetDateTime::now_utc())
        .expect("they belong together")
}

// === impl Setup ===

impl Setup {
    pub(crate) fn new(signer_name: &str) -> Setup {
        let issuer = root_issuer(OffsetDateTime::now_utc(), 24 * 365);
        Setup { issuer, profile: profile(24 * 100), rules: rules(signer_name) }
    }
}

// === impl Signer ===

/// The name of a signer that only this namespace's story uses.
pub(crate) fn signer_name(namespace: &Namespace) -> String {
    format!("burgrave.test/{}", namespace.name)
}

impl Signer {
    /// Starts one that only this namespace's story uses, and waits for nothing but its rights.
    pub(crate) async fn start(api: &ApiServer, namespace: &Namespace) -> Signer {
        Signer::start_as(api, namespace, Setup::new(&signer_name(namespace))).await
    }

    pub(crate) async fn start_as(api: &ApiServer, namespace: &Namespace, setup: Setup) -> Signer {
        let mut signer = Signer::elected(api, namespace, setup).await;
        signer.run();
        signer
    }

    /// One that leads and does nothing yet.
    pub(crate) async fn elected(api: &ApiServer, namespace: &Namespace, setup: Setup) -> Signer {
        let name = signer_name(namespace);
        let dir = scratch("signer");
        let token = account(api, namespace, &setup.rules).await;
        // A second call finds a provider installed, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client =
            k8s::connect(Some(&api.kubeconfig(&dir, &token))).await.expect("the API server is known");
        let mut registry = Registry::default();
        let mut running = JoinSet::new();
        let issuer = watch::Sender::new(Arc::new(setup.issuer));
        let parts = PodCertificates {
            client,
            signer_name: name.clone(),
            trust_domain: TRUST_DOMAIN.parse().expect("it is a trust domain"),
            profile: PodProfile::new(setup.profile).expect("it is long enough for pods"),
            issuer: issuer.subscribe(),
            leadership: elected(api, namespace, &mut running).await,
            census: Census::in_memory(Clock::system()),
            clock: Clock::system(),
            metrics: PodCertificateMetrics::new(&mut registry),
            board: Board::default(),
        };
        Signer { name, issuer, parts, registry, running, _dir: dir }
    }

    /// A leader's work begins.
    pub(crate) fn run(&mut self) {
        let parts = self.parts.clone();
        let leadership = parts.leadership.clone();
        self.running.spawn(leadership.while_leading(move || parts.clone().run()));
    }

    pub(crate) fn state(&self) -> State {
        self.parts.board.state(OffsetDateTime::now_utc())
    }

    /// A sample of the metrics by its name and labels as they are printed; 0 if there is none.
    pub(crate) fn metric(&self, name_with_labels: &str) -> f64 {
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &self.registry).expect("a text can be written");
        let mut samples = page.lines().filter_map(|line| line.rsplit_once(' '));
        let value = samples.find(|(name, _)| *name == name_with_labels).map(|(_, value)| value);
        value.map_or(0.0, |value| value.parse().expect("a sample is a number"))
    }

    pub(crate) fn counted(&self, outcome: &str, reason: &str) -> f64 {
        self.metric(&format!("burgrave_pod_certificates_total{{outcome=\"{outcome}\",reason=\"{reason}\"}}"))
    }
}

/// A candidacy without rivals: a lease of its own, as one that was dropped is given back by nobody. It ends with `running`.
async fn elected(api: &ApiServer, namespace: &Namespace, running: &mut JoinSet<()>) -> Leadership {
    let candidacy = Candidacy {
        client: api.admin(),
        namespace: namespace.name.clone(),
        lease: format!("burgrave-{}", random_hex(4)),
        name: "burgrave".to_owned(),
        timing: Timing::new(Duration::from_secs(60)),
        annotations: Arc::new(BTreeMap::new),
        clock: Clock::system(),
    };
    let (leadership, campaign) = candidacy.run(CancellationToken::new());
    running.spawn(campaign);
    until("the signer to lead", PATIENCE, async || match leadership.holds() {
        true => Ok(()),
        false => Err(format!("{:?}", leadership.trouble())),
    })
    .await;
    leadership
}

/// A token of a service account with just those rules, in force.
async fn account(api: &ApiServer, namespace: &Namespace, rules: &[Value]) -> String {
    let name = format!("signer-{}", random_hex(4));
    let admin = api.admin();
    let role = object(json!({"metadata": {"name": name}, "rules": rules}));
    Api::<rbac::ClusterRole>::all(admin.clone())
        .create(&PostParams::default(), &role)
        .await
        .expect("an admin may make a role");
    let binding = object(json!({
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace.name}],
    }));
    Api::<rbac::ClusterRoleBinding>::all(admin)
        .create(&PostParams::default(), &binding)
        .await
        .expect("an admin may bind a role");
    namespace.service_account(&name).await;
    let token = namespace.token(&name, None, ISSUER, 4 * 3600).await;
    if let Some(rule) = rules.last() {
        until_allowed(api, &token, rule).await;
    }
    token
}

/// The authorizer learns of a binding through a watch, a moment later.
async fn until_allowed(api: &ApiServer, token: &str, rule: &Value) {
    let dir = scratch("account");
    let client = k8s::connect(Some(&api.kubeconfig(&dir, token))).await.expect("the API server is known");
    let attributes =
        json!({"group": rule["apiGroups"][0], "resource": rule["resources"][0], "verb": rule["verbs"][0]});
    let question: SelfSubjectAccessReview =
        object(json!({"metadata": {}, "spec": {"resourceAttributes": attributes}}));
    until("the rules to be in force", PATIENCE, async || {
        let answer = Api::all(client.clone()).create(&PostParams::default(), &question).await;
        match answer.map(|answer| answer.status.is_some_and(|status| status.allowed)) {
            Ok(true) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

// === pods and their requests ===

/// A pod on `node` that mounts certificates of `signer`.
pub(crate) async fn pod_on(
    api: &ApiServer,
    namespace: &Namespace,
    node: &str,
    signer: &str,
    name: &str,
) -> PodOf {
    let account = format!("account-of-{name}");
    namespace.node(node).await;
    namespace.service_account(&account).await;
    let pod: core::Pod = object(json!({
        "metadata": {"name": name},
        "spec": {
            "nodeName": node,
            "serviceAccountName": account,
            "containers": [{"name": "pause", "image": "burgrave.test/pause:1"}],
            "volumes": [{"name": "certificates", "projected": {"sources": [
                {"podCertificate": {"signerName": signer, "keyType": "ECDSAP256", "credentialBundlePath": "bundle.pem"}},
            ]}}],
        },
    }));
    let pods = Api::<core::Pod>::namespaced(api.admin(), &namespace.name);
    let pod = pods.create(&PostParams::default(), &pod).await.expect("an admin may make a pod");
    let accounts = Api::<core::ServiceAccount>::namespaced(api.admin(), &namespace.name);
    let account_uid = accounts.get(&account).await.expect("it was just made").metadata.uid;
    let node = Api::<core::Node>::all(api.admin()).get(node).await.expect("it was just made");
    PodOf {
        name: name.to_owned(),
        uid: pod.metadata.uid.expect("an object has a UID"),
        account,
        account_uid: account_uid.expect("an object has a UID"),
        node_uid: node.metadata.uid.expect("an object has a UID"),
    }
}

/// A pod on the usual node.
pub(crate) async fn pod(api: &ApiServer, namespace: &Namespace, signer: &str, name: &str) -> PodOf {
    pod_on(api, namespace, NODE, signer, name).await
}

/// What a kubelet writes for `pod`, with `stub` in DER.
pub(crate) fn request(signer: &str, pod: &PodOf, stub: &[u8]) -> Value {
    json!({
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "PodCertificateRequest",
        "metadata": {
            "generateName": "req-",
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod.uid}],
        },
        "spec": {
            "signerName": signer,
            "podName": pod.name,
            "podUID": pod.uid,
            "serviceAccountName": pod.account,
            "serviceAccountUID": pod.account_uid,
            "nodeName": NODE,
            "nodeUID": pod.node_uid,
            "stubPKCS10Request": BASE64_STANDARD.encode(stub),
        },
    })
}

pub(crate) fn requests(client: kube::Client, namespace: &Namespace) -> Api<PodCertificateRequest> {
    Api::namespaced(client, &namespace.name)
}

/// Makes the request as the node's kubelet, past the API server's own checks of it, and returns its name. The plugin that
/// makes them learns of pods by a watch, so its "not found" is tried again, as kubelets do.
pub(crate) async fn ask_as_kubelet(api: &ApiServer, namespace: &Namespace, asked: &Value) -> String {
    let requests = requests(api.kubelet(), namespace);
    let asked: PodCertificateRequest = object(asked.clone());
    until("the API server to take the kubelet's request", PATIENCE, async || {
        let made = requests.create(&PostParams::default(), &asked).await;
        made.map(|made| made.metadata.name.expect("an object has a name")).map_err(|error| error.to_string())
    })
    .await
}

/// Makes the request as somebody who is no kubelet, and whom the API server does not check.
pub(crate) async fn ask_as_admin(api: &ApiServer, namespace: &Namespace, asked: &Value) -> String {
    let made = requests(api.admin(), namespace).create(&PostParams::default(), &object(asked.clone())).await;
    made.expect("an admin may make a request").metadata.name.expect("an object has a name")
}

/// The request as JSON, as it is now.
pub(crate) async fn look(api: &ApiServer, namespace: &Namespace, name: &str) -> Value {
    let found = requests(api.admin(), namespace).get(name).await.expect("the request is there");
    serde_json::to_value(found).expect("an object is JSON")
}

/// Waits for an answer and returns the request with it.
pub(crate) async fn answered(api: &ApiServer, namespace: &Namespace, signer: &Signer, name: &str) -> Value {
    until("an answer to the request", PATIENCE, async || {
        let found = look(api, namespace, name).await;
        match found["status"]["conditions"].as_array() {
            Some(conditions) if conditions.len() == 1 => Ok(found),
            _ => Err(format!("it is {found}; the signer: {:?}", signer.state())),
        }
    })
    .await
}

/// The one condition of an answered request: type, reason, message.
pub(crate) fn condition(answered: &Value) -> [&str; 3] {
    let condition = &answered["status"]["conditions"][0];
    ["type", "reason", "message"].map(|field| condition[field].as_str().unwrap_or_default())
}

pub(crate) async fn delete<K>(api: &Api<K>, name: &str)
where
    K: kube::Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    api.delete(name, &DeleteParams::default()).await.expect("an admin may delete it");
}

/// How many requests of the namespace have a condition of that type.
pub(crate) async fn count(api: &ApiServer, namespace: &Namespace, kind: &str) -> usize {
    let all =
        requests(api.admin(), namespace).list(&ListParams::default()).await.expect("an admin may list them");
    let is_so = |one: &&PodCertificateRequest| {
        let conditions = one.status.as_ref().and_then(|status| status.conditions.as_ref());
        conditions.is_some_and(|conditions| conditions.iter().any(|one| one.type_ == kind))
    };
    all.items.iter().filter(is_so).count()
}

/// A Kubernetes object written as JSON.
pub(crate) fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("the test's own object has the shape of its kind")
}
