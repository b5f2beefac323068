//! Whoever cannot prove who they are gets no certificate, and no reason either; the operator gets the reason.

use crate::ca::AUDIENCE;
use crate::ca::Ca;
use crate::ca::text;
use crate::crafted;
use crate::support::apiserver::ApiServer;
use crate::support::apiserver::ISSUER;
use crate::support::apiserver::Namespace;
use crate::support::random_hex;

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::sleep;
use tonic::Code;
use tonic::Status;

/// The service account of most stories, and a pod of it.
const ACCOUNT: &str = "web";

/// What a refusal must be, inside and outside: counted and written down with `reason` under the id that the caller is
/// told, and outside nothing but that id. Returns the message without the id.
async fn refused_for(
    ca: &Ca,
    reason: &str,
    attempt: impl AsyncFn() -> Result<Vec<String>, Status>,
) -> String {
    let (issued, counted) = (ca.issued().await, ca.refused(reason).await);
    let status = attempt().await.expect_err(reason);
    assert_eq!(ca.refused(reason).await, counted + 1.0, "{reason} is not counted; the log:\n{}", ca.log());
    assert_eq!(ca.issued().await, issued);
    assert_eq!(status.code(), Code::Unauthenticated);

    let id = status.metadata().get("x-request-id").expect("every refusal has an id");
    let id = id.to_str().expect("an id is ASCII");
    let refusals = ca.audit("refused");
    let written: Vec<_> = refusals.iter().filter(|event| text(event, "request_id") == id).collect();
    assert_eq!(written.len(), 1, "one audit event has the id {id}");
    assert_eq!(text(written[0], "reason"), reason);
    let error = text(written[0], "error");
    assert!(!error.is_empty());

    let message = status.message();
    assert!(message.contains(id), "{message}");
    assert!(!message.contains(reason) && !message.contains(error), "{message}");
    message.replace(id, "")
}

/// Tokens of one account that the API server has never seen, to be shown after a deletion: it remembers a good answer for
/// ten seconds, and learns of a deletion through a watch, a moment late. So the first of them may still pass.
struct Unseen(Vec<String>);

impl Unseen {
    async fn mint(namespace: &Namespace, pod: Option<&crate::support::apiserver::Pod>) -> Unseen {
        let mut tokens = Vec::new();
        for _ in 0..20 {
            tokens.push(namespace.token(ACCOUNT, pod, AUDIENCE, 600).await);
        }
        Unseen(tokens)
    }

    /// The tokens from the first that is refused on.
    async fn once_known(mut self, ca: &Ca, csr: &str) -> Unseen {
        while self.0.len() > 2 {
            let token = self.0.remove(0);
            if ca.create(Some(&token), csr, 60).await.is_err() {
                return self;
            }
            sleep(Duration::from_millis(100)).await;
        }
        panic!("after two seconds the deletion is still unknown")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_bad_token_has_its_own_reason_inside_and_looks_like_all_others_outside() {
    let api = ApiServer::shared().await;
    let namespace = api.namespace("refusals").await;
    let ca = Ca::start(api, &namespace, &[]).await;
    let csr = crafted::csr();
    namespace.service_account(ACCOUNT).await;
    let pod = namespace.pod("web-1", ACCOUNT).await;
    let good = namespace.token(ACCOUNT, Some(&pod), AUDIENCE, 600).await;
    ca.create(Some(&good), &csr, 60).await.expect("the account's own token is good");

    let table = [
        ("token_expired", Some(api.expired_token(&namespace, ACCOUNT, Some(&pod), AUDIENCE).await)),
        ("unknown_signer", Some(api.foreign_token(&namespace, ACCOUNT, Some(&pod), AUDIENCE).await)),
        ("wrong_audience", Some(namespace.token(ACCOUNT, Some(&pod), "another-service", 600).await)),
        ("wrong_audience", Some(namespace.token(ACCOUNT, Some(&pod), ISSUER, 600).await)),
        ("token_malformed", Some(random_hex(40))),
        ("token_malformed", Some(format!("{0}.{0}.{0}", random_hex(40)))),
        ("no_token", Some(String::new())),
        ("no_token", None),
    ];
    let mut outside = BTreeSet::new();
    for (reason, token) in &table {
        let attempt = async || ca.create(token.as_deref(), &csr, 60).await;
        outside.insert(refused_for(&ca, reason, attempt).await);
    }
    for other in ["Basic d2ViOndlYg==", "Bearer", &good] {
        let attempt = async || ca.client().create_with(Some(other), &csr, 60).await;
        outside.insert(refused_for(&ca, "no_token", attempt).await);
    }

    let bound = Unseen::mint(&namespace, Some(&pod)).await;
    let unbound = Unseen::mint(&namespace, None).await;
    namespace.delete_pod(&pod.name).await;
    let bound = bound.once_known(&ca, &csr).await;
    let attempt = async || ca.create(Some(&bound.0[0]), &csr, 60).await;
    outside.insert(refused_for(&ca, "pod_gone", attempt).await);

    // A pod of the same name is another pod.
    let again = namespace.pod("web-1", ACCOUNT).await;
    assert_ne!(again.uid, pod.uid);
    let attempt = async || ca.create(Some(&bound.0[1]), &csr, 60).await;
    outside.insert(refused_for(&ca, "pod_gone", attempt).await);

    namespace.delete_service_account(ACCOUNT).await;
    let unbound = unbound.once_known(&ca, &csr).await;
    let attempt = async || ca.create(Some(&unbound.0[0]), &csr, 60).await;
    outside.insert(refused_for(&ca, "service_account_gone", attempt).await);

    // Nor does an account that is made anew inherit the tokens of the one before.
    namespace.service_account(ACCOUNT).await;
    let attempt = async || ca.create(Some(&unbound.0[1]), &csr, 60).await;
    outside.insert(refused_for(&ca, "service_account_gone", attempt).await);

    assert_eq!(outside.len(), 1, "an outsider can tell refusals apart: {outside:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_and_no_pem_reaches_the_log_even_where_everything_is_logged() {
    let api = ApiServer::shared().await;
    let namespace = api.namespace("quiet").await;
    let ca = Ca::start(api, &namespace, &["--log-level", "trace"]).await;
    namespace.service_account(ACCOUNT).await;
    let pod = namespace.pod("web-1", ACCOUNT).await;
    let tokens = [
        namespace.token(ACCOUNT, Some(&pod), AUDIENCE, 600).await,
        namespace.token(ACCOUNT, Some(&pod), "another-service", 600).await,
        api.expired_token(&namespace, ACCOUNT, Some(&pod), AUDIENCE).await,
        api.foreign_token(&namespace, ACCOUNT, Some(&pod), AUDIENCE).await,
        random_hex(40),
    ];
    let csr = crafted::csr();
    let mut issued = Vec::new();
    for token in &tokens {
        issued.extend(ca.create(Some(token), &csr, 60).await.into_iter().flatten());
        // What fails later sees the token too.
        ca.create(Some(token), "no request", 60).await.expect_err("it is no request");
    }
    assert!(!issued.is_empty(), "one of the tokens is good");

    let log = ca.log();
    assert!(log.contains("\"TRACE\""), "everything is logged");
    for block in ["BEGIN CERTIFICATE-----", "PRIVATE KEY-----"] {
        assert!(!log.contains(block), "{}", around(&log, block));
    }
    let kubeconfig = std::fs::read_to_string(ca.plan().dir().join("kubeconfig")).expect("the plan wrote it");
    let own = kubeconfig.split('"').filter(|word| word.starts_with("eyJ"));
    // The signature alone cannot be used, but who logs it logs the rest as well.
    let parts = tokens.iter().map(String::as_str).chain(own).flat_map(|token| token.split('.').skip(1));
    let payloads =
        [csr].into_iter().chain(issued).map(|pem| pem.lines().nth(1).unwrap_or_default().to_owned());
    for secret in parts.map(str::to_owned).chain(payloads).chain([tokens[4].clone()]) {
        assert!(secret.len() >= 40, "{secret} may stand in a log by chance");
        assert!(!log.contains(&secret), "{}", around(&log, &secret));
    }
}

/// The place in a log where `found` stands, for the one who has to mend it.
fn around(log: &str, found: &str) -> String {
    let line = log.lines().find(|line| line.contains(found)).unwrap_or_default();
    let start: String = line.chars().take(300).collect();
    format!("`{found}` stands in the log: {start}…")
}
