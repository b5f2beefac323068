//! Replicas rotate one root together, and a lost cluster comes back from an export.

use crate::ca::AUDIENCE;
use crate::ca::Ca;
use crate::ca::until;
use crate::crafted;
use crate::home;
use crate::home::Home;
use crate::home::NAMESPACE;
use crate::home::SECRET;
use crate::home::TRUST_BUNDLE;
use crate::home::leader;
use crate::home::until_state;
use crate::mesh::Client;
use crate::mesh::Load;
use crate::mesh::Server;
use crate::mesh::Workload;
use crate::operator::Operator;
use crate::operator::end;
use crate::support::scratch;
use crate::support::write_private;

use std::collections::BTreeMap;
use std::time::Duration;

use burgrave::rotation::report::Report;
use burgrave::x509::CertificateChain;
use burgrave::x509::TrustBundle;
use k8s_openapi::api::certificates::v1::ClusterTrustBundle;
use k8s_openapi::api::core::v1::Secret;
use kube::api::DeleteParams;
use time::OffsetDateTime;

/// An operator with the rights of `deploy/`, at one replica.
async fn operator_at(home: &Home, ca: &Ca, dir: &std::path::Path) -> Operator {
    let token_file = dir.join("operator.token");
    if !token_file.exists() {
        home.client_of("operator", "burgrave-operator").await;
        write_private(&token_file, home::token(&home.api, "operator").await);
    }
    let root_file = dir.join("root.pem");
    std::fs::write(&root_file, ca.root_pem()).expect("a scratch can be written");
    Operator::with(&[
        format!("--address=https://{}", ca.plan().api),
        format!("--root-file={}", root_file.display()),
        format!("--token-file={}", token_file.display()),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_rotate_together_and_one_that_starts_in_the_middle_signs_with_what_is_trusted() {
    let home = Home::start().await;
    let dir = scratch("operator");
    let quick = ["--bundle-refresh=1s", "--backdate=1s"];
    let (one, two) = (home.replica(&quick).await, home.replica(&quick).await);
    let namespace = home.api.namespace("shared").await;
    // Each replica knows only one of the two.
    let web = Workload::start(&one, &namespace, "web", &[]).await;
    let store = Workload::start(&two, &namespace, "store", &[]).await;
    let server = Server::start(&store, None).await;
    let client = Client::start(&web, server.address, &store.id).await;
    let first = leader(&[&one, &two]).await;
    let other = if std::ptr::eq(first, &one) { &two } else { &one };
    let operator = operator_at(&home, other, &dir).await;
    let before = until("both replicas to know both workloads", Duration::from_secs(20), async || {
        let report = operator.status().await;
        let knows = report.replicas.len() == 2 && report.readers.get("agent") == Some(&2);
        if knows { Ok(report) } else { Err(format!("{report:#?}")) }
    })
    .await;

    // Somebody who only asks for certificates, and holds the rotation up for as long as this one lives.
    namespace.service_account("asker").await;
    let pod = namespace.pod("asker-0", "asker").await;
    let token = namespace.token("asker", Some(&pod), AUDIENCE, 3600).await;
    one.create(Some(&token), &crafted::csr(), 20).await.expect("it is issued");

    let load = Load::start(client.address, &web.id, 4);
    let rotating = operator.begins(&["root", "rotate", "--window=1s", "--timeout=150s", "--output=json"]);
    until_state(other, "the new root beside the old one", |state| {
        state["rotation"]["bundle"]["sequence"] == 2
    })
    .await;
    let third = home.replica(&quick).await;
    let state = home::state(&third).await;
    assert_eq!(state["rotation"]["active"], before.active.as_str(), "it signs with what everybody trusts");
    assert_eq!(state["rotation"]["authorities"][1]["stage"], "prepared");
    let issued = third.create(Some(&token), &crafted::csr(), 20).await.expect("it is issued");
    let old = TrustBundle::from_pem(one.root_pem().as_bytes()).expect("it is one");
    let chain = CertificateChain::from_pem(issued[0].as_bytes()).expect("it is a chain");
    chain.verify(&old, OffsetDateTime::now_utc()).expect("whoever knows only the old root can verify it");

    let said = end(rotating).await;
    assert_eq!(said.code, 0, "{said:?}");
    let (requests, failures) = load.finish().await;
    assert_eq!(failures, BTreeMap::new());
    assert!(requests > 500, "{requests} requests are no load");
    for replica in [&one, &two, &third] {
        let state = until_state(replica, "the end", |state| state["rotation"]["rotation"].is_null()).await;
        assert_ne!(state["rotation"]["active"], before.active.as_str());
        assert_eq!(state["authority"]["roots"].as_array().map(Vec::len), Some(1));
    }
    // Each step was taken by the one that leads, though another one took the order.
    for step in ["activate", "retire", "remove"] {
        let taken = |ca: &Ca| ca.audit("rotation").iter().filter(|event| event["step"] == step).count();
        assert_eq!((taken(first), taken(other), taken(&third)), (1, 0, 0), "{step}");
    }
    let secret = home.of::<Secret>(NAMESPACE).get(SECRET).await.expect("it is there");
    let parts = secret.data.expect("it has data");
    assert!(!parts.keys().any(|name| name.starts_with("key-")), "the old key is gone: {:?}", parts.keys());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_gone_is_not_waited_for() {
    let home = Home::start().await;
    let dir = scratch("operator");
    let ca = home.replica(&["--bundle-refresh=1s"]).await;
    let namespace = home.api.namespace("gone").await;
    namespace.service_account("asker").await;
    let pod = namespace.pod("asker-0", "asker").await;
    let token = namespace.token("asker", Some(&pod), AUDIENCE, 3600).await;
    // For a whole day.
    ca.create(Some(&token), &crafted::csr(), 0).await.expect("it is issued");
    let operator = operator_at(&home, &ca, &dir).await;
    let rotating = operator.begins(&["root", "rotate", "--window=1s", "--timeout=60s", "--output=json"]);
    until_state(&ca, "it to be waited for", |state| {
        state["rotation"]["rotation"]["waiting"][0]["pod"]
            .as_str()
            .is_some_and(|pod| pod.ends_with("/asker-0"))
    })
    .await;
    let pods = home.of::<k8s_openapi::api::core::v1::Pod>(&namespace.name);
    pods.delete("asker-0", &DeleteParams::default().grace_period(0)).await.expect("an admin may delete it");
    let said = end(rotating).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(ca.log().contains("the pod of a reader is gone"), "{}", ca.part().log_tail(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_cluster_comes_back_from_an_export_with_the_root_that_everybody_trusts() {
    let home = Home::start().await;
    let dir = scratch("operator");
    let mut ca = home.replica(&[]).await;
    home.until_roots_in("default", ca.root_pem()).await;
    let namespace = home.api.namespace("restored").await;
    let web = Workload::start(&ca, &namespace, "web", &[]).await;
    let operator = operator_at(&home, &ca, &dir).await;
    let before: Report = operator.status().await;
    let (file, passphrase) = (dir.join("authority.age"), dir.join("passphrase"));
    write_private(&passphrase, "correct horse battery staple\n");
    let (file, passphrase) = (file.display().to_string(), passphrase.display().to_string());
    let export = ["root", "export", "--file", &file, "--passphrase-file", &passphrase];
    let said = operator.types(&export).await;
    assert_eq!(said.code, 0, "{said:?}");
    let sealed = std::fs::read_to_string(&file).expect("it was written");
    assert!(sealed.starts_with("-----BEGIN AGE ENCRYPTED FILE-----"), "{sealed}");

    // All of it is lost: the process, the Secret, and what was published for the cluster.
    ca.kill9();
    let none = DeleteParams::default();
    home.of::<Secret>(NAMESPACE).delete(SECRET, &none).await.expect("an admin may");
    home.all::<ClusterTrustBundle>().delete(TRUST_BUNDLE, &none).await.expect("an admin may");
    assert_eq!(ca.plan().run_to_its_end().0, 1, "it does not start without its root");
    let kubeconfig = home.api.admin_kubeconfig(&dir).display().to_string();
    let import = [
        "root",
        "import",
        "--file",
        &file,
        "--passphrase-file",
        &passphrase,
        "--authority-secret",
        SECRET,
        "--namespace",
        NAMESPACE,
        "--kubeconfig",
        &kubeconfig,
    ];
    let nobody = Operator::with(&[]);
    let said = nobody.types(&import).await;
    assert_eq!(said.code, 0, "{said:?}");
    let again = nobody.types(&import).await;
    assert!(again.code != 0 && again.stderr.contains(SECRET), "what is there is not replaced: {again:?}");

    ca.restart().await;
    let after = operator.status().await;
    assert_eq!((&after.active, &after.bundle.digest), (&before.active, &before.bundle.digest));
    web.renew();
    until("the agent to go on as if nothing had been", Duration::from_secs(30), async || {
        match ca.issued().await >= 1.0 {
            true => Ok(()),
            false => Err(web.agent.log_tail(5)),
        }
    })
    .await;
}
