//! Replicas share one root, whatever happens to them and to the Secret that it is kept in.

use crate::ca::Ca;
use crate::ca::until;
use crate::home::CONFIG_MAP;
use crate::home::Home;
use crate::home::NAMESPACE;
use crate::home::SECRET;
use crate::home::TRUST_BUNDLE;
use crate::home::leader;
use crate::home::state;
use crate::home::until_state;
use crate::support::apiserver::ApiServer;
use crate::support::figure;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use burgrave::authority;
use burgrave::authority::Event;
use burgrave::authority::Kept;
use burgrave::authority::KubernetesStore;
use burgrave::authority::Origin;
use burgrave::authority::Record;
use burgrave::authority::Store;
use burgrave::authority::Swap;
use burgrave::authority::step;
use burgrave::distribution::Names;
use burgrave::distribution::Survey;
use burgrave::x509::PrivateKey;
use burgrave::x509::TrustBundle;
use burgrave::x509::root;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::ClusterTrustBundle;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::ResourceExt;
use kube::api::DeleteParams;
use kube::api::PostParams;
use serde_json::json;
use time::OffsetDateTime;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::sleep;

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_replicas_started_at_once_on_an_empty_store_end_with_one_root_fifty_times() {
    let api = ApiServer::start().await;
    for round in 0..50 {
        let namespace = api.namespace(&format!("round-{round}")).await;
        let names = Names {
            config_map: format!("roots-{round}"),
            signer: format!("stories.burgrave.dev/round-{round}"),
        };
        let start = Arc::new(Barrier::new(20));
        let mut replicas = JoinSet::new();
        for _ in 0..20 {
            let (client, namespace) = (api.admin(), namespace.name.clone());
            let (names, start) = (names.clone(), start.clone());
            replicas.spawn(async move {
                let store = KubernetesStore::new(client.clone(), &namespace, "authority");
                let survey = Survey { client: client.clone(), names: names.clone(), lease: None };
                let domain = "cluster.local".parse().expect("it is a trust domain");
                start.wait().await;
                let now = OffsetDateTime::now_utc();
                let taken =
                    authority::take(&store, &survey, &domain, YEAR, now).await.expect("one of them makes it");
                let (issuer, origin) = (taken.held.issuer, taken.origin);
                if origin == Origin::Made {
                    // Whoever is first may be leading and publishing while others have not even looked.
                    publish(&client, &namespace, &names.config_map, &issuer.bundle().to_pem()).await;
                }
                (issuer.certificate().fingerprint(), origin)
            });
        }
        let ended = replicas.join_all().await;
        let roots: BTreeSet<_> = ended.iter().map(|(root, _)| root).collect();
        let makers = ended.iter().filter(|(_, origin)| *origin == Origin::Made).count();
        assert_eq!((roots.len(), makers), (1, 1), "round {round}: {ended:?}");
    }
}

async fn publish(client: &kube::Client, namespace: &str, name: &str, pem: &str) {
    let map = json!({ "metadata": { "name": name }, "data": { "root-cert.pem": pem } });
    let map: ConfigMap = serde_json::from_value(map).expect("it is one");
    let maps = Api::<ConfigMap>::namespaced(client.clone(), namespace);
    maps.create(&PostParams::default(), &map).await.expect("an admin may publish");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_processes_with_the_rights_of_deploy_end_with_one_root_and_one_leader() {
    let home = Home::start().await;
    let plans: Vec<_> = (0..20).map(|_| home.plan(&[])).collect();
    let parts: Vec<_> = plans.iter().map(|plan| plan.spawn()).collect();
    let mut replicas = Vec::new();
    for (plan, part) in plans.into_iter().zip(parts) {
        replicas.push(Ca::joined(plan, part).await);
    }
    let roots: BTreeSet<_> = replicas.iter().flat_map(|one| one.plan().roots_loaded()).collect();
    assert_eq!(roots.len(), 1, "{roots:?}");
    let all: Vec<_> = replicas.iter().collect();
    let first = leader(&all).await;
    let mut leaders = 0;
    for one in &replicas {
        leaders += usize::from(state(one).await["election"]["leads"] == true);
    }
    assert_eq!(leaders, 1);
    home.until_roots_in("default", first.root_pem()).await;
    // The first that ends gives the office away at once, and another takes it.
    let begun = std::time::Instant::now();
    first.part().signal("TERM");
    until("the end of the first leader", Duration::from_secs(20), async || {
        if first.part().running() { Err("it runs".to_owned()) } else { Ok(()) }
    })
    .await;
    let others: Vec<_> = all.iter().copied().filter(|one| one.part().running()).collect();
    assert_eq!(others.len(), 19);
    leader(&others).await;
    figure("lease_passed_on_ms", begun.elapsed().as_millis(), "ms");
    assert!(first.log().contains("the lease is given back"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_is_gone_or_damaged_is_never_replaced_by_a_new_root() {
    let home = Home::start().await;
    let secrets = home.of::<Secret>(NAMESPACE);
    let mut ca = home.replica(&[]).await;
    home.until_roots_in("default", ca.root_pem()).await;
    let copy = secrets.get(SECRET).await.expect("the CA made it");
    let namespace = home.api.namespace("gone").await;
    namespace.service_account("web").await;
    let token = namespace.token("web", None, crate::ca::AUDIENCE, 3600).await;

    let signing = state(&ca).await["authority"]["signing"].clone();

    // While it runs it goes on with what it holds, and says what is at stake.
    secrets.delete(SECRET, &DeleteParams::default()).await.expect("an admin may delete it");
    let told =
        until_state(&ca, "word of the missing Secret", |state| state["authority"]["trouble"].is_string())
            .await;
    let told = told["authority"]["trouble"].as_str().unwrap_or_default().to_owned();
    assert!(told.contains("Secret `burgrave-system/burgrave-authority` is gone"), "{told}");
    assert!(told.contains("restore it from a copy"), "{told}");
    assert_eq!(ca.metric("burgrave_authority_at_risk").await, 1.0);
    assert_eq!(ca.plan().page("/readyz").await.map(|(status, _)| status), Some(200));
    ca.create(Some(&token), &crate::crafted::csr(), 600).await.expect("it still signs");

    // Another replica that starts beside it makes no root of its own either.
    let beside = home.plan(&[]);
    let (code, said) = beside.run_to_its_end();
    assert!(code == 1 && said.contains("workloads already trust root"), "{said}");

    // A start finds that its root is trusted, and that it is not there.
    ca.kill9();
    let (code, said) = ca.plan().run_to_its_end();
    assert_eq!(code, 1, "{said}");
    for part in [
        "Secret `burgrave-system/burgrave-authority` is gone",
        "workloads already trust root",
        "restore it from a copy",
        "`kubectl delete lease -n burgrave-system burgrave-ca`",
        TRUST_BUNDLE,
    ] {
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
    assert!(secrets.get_opt(SECRET).await.expect("an admin may look").is_none(), "no new root was made");

    // Damaged in any way, it is as useless as gone, and stays as it is for whoever restores it.
    let stranger = stranger();
    for (what, key, value, words) in [
        ("without its key", "ca-key.pem", None, "`ca-key.pem`: is missing"),
        ("with no key in the key", "ca-key.pem", Some("nonsense".to_owned()), "`ca-key.pem`: "),
        ("with another key", "ca-key.pem", Some(stranger.0.secret_pem().to_string()), "does not belong to"),
        ("with half a certificate", "ca-cert.pem", Some(ca.root_pem()[..200].to_owned()), "`ca-cert.pem`: "),
        ("with another bundle", "root-cert.pem", Some(stranger.1), "do not contain the signing root"),
        ("with no bundle", "root-cert.pem", Some(String::new()), "`root-cert.pem`: "),
    ] {
        let mut damaged = copy.clone();
        damaged.metadata.resource_version = None;
        damaged.metadata.uid = None;
        let data = damaged.data.get_or_insert_default();
        match value {
            None => drop(data.remove(key)),
            Some(value) => drop(data.insert(key.to_owned(), ByteString(value.into_bytes()))),
        }
        let made = secrets.create(&PostParams::default(), &damaged).await.expect("an admin may make it");
        let (code, said) = ca.plan().run_to_its_end();
        assert_eq!(code, 1, "{what}: {said}");
        assert!(said.contains(words), "{what}: {said}");
        assert!(said.contains("burgrave-system/burgrave-authority"), "{what}: {said}");
        for line in key_lines(&copy).into_iter().chain(lines_of(&stranger.0.secret_pem())) {
            assert!(!said.contains(&line), "{what}: a key is in what it says");
        }
        let kept = secrets.get(SECRET).await.expect("it is still there");
        assert_eq!(kept.resource_version(), made.resource_version(), "{what}: it was written to");
        secrets.delete(SECRET, &DeleteParams::default()).await.expect("an admin may delete it");
    }

    // The copy brings the root back.
    let mut restored = copy.clone();
    restored.metadata.resource_version = None;
    restored.metadata.uid = None;
    secrets.create(&PostParams::default(), &restored).await.expect("an admin may restore it");
    ca.restart().await;
    assert_eq!(state(&ca).await["authority"]["signing"], signing);
    assert_eq!(ca.metric("burgrave_authority_at_risk").await, 0.0);
}

/// The lines of a PEM that could give a key away.
fn lines_of(pem: &str) -> Vec<String> {
    pem.lines().filter(|line| !line.starts_with("-----")).map(str::to_owned).collect()
}

/// The same of the key in the authority's Secret.
fn key_lines(secret: &Secret) -> Vec<String> {
    let data = secret.data.as_ref().expect("the CA keeps its key there");
    lines_of(&String::from_utf8_lossy(&data["ca-key.pem"].0))
}

/// A key and a root that have nothing to do with the CA's.
pub(crate) fn stranger() -> (PrivateKey, String) {
    let key = PrivateKey::generate().expect("there is randomness");
    let domain = "cluster.local".parse().expect("it is a trust domain");
    let root = root::self_signed(&key, &domain, OffsetDateTime::now_utc(), YEAR).expect("it can be made");
    (key, burgrave::x509::pem::certificate(root.der()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_living_leader_and_another_ca_s_bundle_are_evidence_too() {
    let home = Home::start().await;
    let secrets = home.of::<Secret>(NAMESPACE);
    let ca = home.replica(&[]).await;
    home.until_roots_in("default", ca.root_pem()).await;
    // All that is published is taken away after the leader has gone; only its Lease still names the root.
    ca.kill9();
    secrets.delete(SECRET, &DeleteParams::default()).await.expect("an admin may delete it");
    home.all::<ClusterTrustBundle>()
        .delete(TRUST_BUNDLE, &DeleteParams::default())
        .await
        .expect("an admin may");
    for namespace in ["default", "kube-system", "kube-public", "kube-node-lease", NAMESPACE] {
        let deleted = home.of::<ConfigMap>(namespace).delete(CONFIG_MAP, &DeleteParams::default()).await;
        deleted.expect("it was published there");
    }
    let (_, said) = ca.plan().run_to_its_end();
    assert!(said.contains("(Lease `burgrave-system/burgrave-ca`)"), "{said}");

    // With the Lease gone as well, nobody is known to trust anything: a first start.
    home.of::<Lease>(NAMESPACE).delete("burgrave-ca", &DeleteParams::default()).await.expect("an admin may");
    // But a bundle that another CA has published belongs to somebody.
    publish(&home.api.admin(), "default", CONFIG_MAP, &stranger().1).await;
    let (code, said) = ca.plan().run_to_its_end();
    assert_eq!(code, 1);
    assert!(said.contains("ConfigMap `default/istio-ca-root-cert`"), "{said}");
    assert!(said.contains("--bundle-config-map"), "{said}");
    // And a root in the Secret that is not the trusted one is not signed with either.
    home.of::<ConfigMap>("default").delete(CONFIG_MAP, &DeleteParams::default()).await.expect("an admin may");
    let mut second = home.replica(&[]).await;
    home.until_roots_in("default", second.root_pem()).await;
    second.kill9();
    let mut swapped = secrets.get(SECRET).await.expect("it was made");
    let (key, pem) = stranger();
    for (name, value) in
        [("ca-key.pem", key.secret_pem().to_string()), ("ca-cert.pem", pem.clone()), ("root-cert.pem", pem)]
    {
        let data = swapped.data.get_or_insert_default();
        data.insert(name.to_owned(), ByteString(value.into_bytes()));
    }
    let good = secrets.get(SECRET).await.expect("it was made");
    secrets.replace(SECRET, &PostParams::default(), &swapped).await.expect("an admin may");
    let (_, said) = second.plan().run_to_its_end();
    assert!(said.contains("which workloads do not trust"), "{said}");
    let mut back = good;
    back.metadata.resource_version = None;
    secrets.replace(SECRET, &PostParams::default(), &back).await.expect("an admin may");
    second.restart().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_change_the_shared_authority_at_once_lose_and_tear_nothing() {
    let api = ApiServer::shared().await;
    let namespace = api.namespace("swaps").await;
    let store = |client: kube::Client| KubernetesStore::new(client, &namespace.name, "authority");
    let domain = "cluster.local".parse().expect("it is a trust domain");
    let first = Record::new_root(&domain, YEAR, OffsetDateTime::now_utc()).expect("it can be made");
    let kept = store(api.admin());
    assert!(matches!(kept.swap(None, &first).await, Ok(Swap::Done(_))));
    assert!(matches!(kept.swap(None, &first).await, Ok(Swap::Overtaken)), "there is one already");
    let mut writers = JoinSet::new();
    for _ in 0..8 {
        let store = store(api.admin());
        writers.spawn(async move {
            let mut overtaken = 0;
            for _ in 0..5 {
                let root = TrustBundle::from_pem(stranger().1.as_bytes()).expect("it is a root");
                loop {
                    let Kept { record, revision } =
                        store.load().await.expect("it can be read").expect("it is there");
                    let roots = record.state.extra().iter().chain(root.roots()).cloned().collect();
                    let now = OffsetDateTime::now_utc();
                    let (state, _) = step(&record.state, Event::Extra(roots), now).expect("they are roots");
                    let record = record.stepped(state, None);
                    match store.swap(Some(&revision), &record).await.expect("it can be written") {
                        Swap::Done(_) => break,
                        Swap::Overtaken => overtaken += 1,
                    }
                }
            }
            overtaken
        });
    }
    let overtaken: u32 = writers.join_all().await.into_iter().sum();
    let last = kept.load().await.expect("it can be read").expect("it is there");
    assert_eq!(last.record.state.bundle().roots().len(), 41, "every write is there");
    assert_eq!(last.record.state.sequence(), 41);
    assert_eq!(last.record.certificate(), first.certificate());
    assert!(overtaken > 0, "nobody met anybody: that was no race");
    last.record.issuer(&domain, OffsetDateTime::now_utc()).expect("and it is whole");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shared_key_is_in_no_log_however_much_is_logged() {
    let home = Home::start().await;
    let mut ca = home.replica(&["--log-level=trace"]).await;
    home.until_roots_in("default", ca.root_pem()).await;
    let secrets = home.of::<Secret>(NAMESPACE);
    ca.kill9();
    ca.restart().await;
    // The watch shows it once more when it changes.
    let mut secret = secrets.get(SECRET).await.expect("the CA made it");
    let key = key_lines(&secret);
    secret.metadata.labels.get_or_insert_default().insert("edited".to_owned(), "yes".to_owned());
    secrets.replace(SECRET, &PostParams::default(), &secret).await.expect("an admin may");
    home.namespaces(["after-the-edit".to_owned()]).await;
    home.until_roots_in("after-the-edit", ca.root_pem()).await;
    let log = ca.plan().log();
    assert!(log.contains("\"TRACE\""), "it was to say all it can");
    for line in &key {
        assert!(!log.contains(line), "the key is in the log");
        // As the API server's JSON has it, and as bytes are printed.
        let encoded = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, line);
        let middle = &encoded[4..encoded.len() - 4];
        assert!(!log.contains(middle), "the key is in the log, encoded");
        let printed = format!("{:?}", line.as_bytes());
        assert!(!log.contains(printed.trim_matches(['[', ']'])), "the key is in the log, as numbers");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_with_plugged_in_files_start_side_by_side_and_publish() {
    let home = Home::start().await;
    let files = crate::crafted::hierarchy(&[]);
    let dir = format!("--ca-dir={}", files.path().display());
    let options = [dir.as_str(), "--namespace=burgrave-system", "--lease=burgrave-ca", "--lease-duration=4s"];
    let plans = [home.bare_plan(&options), home.bare_plan(&options)];
    let parts: Vec<_> = plans.iter().map(|plan| plan.spawn()).collect();
    let mut replicas = Vec::new();
    for (plan, part) in plans.into_iter().zip(parts) {
        replicas.push(Ca::joined(plan, part).await);
    }
    leader(&[&replicas[0], &replicas[1]]).await;
    home.until_roots_in("default", &files.read("root-cert.pem")).await;
    // A third one, when there is nothing but the Lease to go by.
    for namespace in ["default", "kube-system", "kube-public", "kube-node-lease", NAMESPACE] {
        let _ = home.of::<ConfigMap>(namespace).delete(CONFIG_MAP, &DeleteParams::default()).await;
    }
    replicas.push(Ca::of(home.bare_plan(&options)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_trusted_roots_follow_the_secret_and_the_signing_root_does_not() {
    let home = Home::start().await;
    let secrets = home.of::<Secret>(NAMESPACE);
    let (one, two) = (home.replica(&[]).await, home.replica(&[]).await);
    let (key, other) = stranger();
    let mut secret = secrets.get(SECRET).await.expect("the CA made it");
    let both = format!("{}{other}", one.root_pem());
    let put = |secret: &mut Secret, name: &str, value: &str| {
        let data = secret.data.get_or_insert_default();
        data.insert(name.to_owned(), ByteString(value.as_bytes().to_vec()));
    };
    put(&mut secret, "root-cert.pem", &both);
    secrets.replace(SECRET, &PostParams::default(), &secret).await.expect("an admin may");
    for replica in [&one, &two] {
        until_state(replica, "both roots", |state| {
            state["authority"]["roots"].as_array().map(Vec::len) == Some(2)
        })
        .await;
    }
    home.until_roots_in("default", &both).await;
    let bundle = home.all::<ClusterTrustBundle>().get(TRUST_BUNDLE).await.expect("it is published");
    assert_eq!(bundle.spec.trust_bundle, both);
    assert_eq!(one.plan().root_pem(), both, "the bundle file follows");

    // The leader has written down which roots these are; another edit begins with what is there.
    until("the other key to be in its place", Duration::from_secs(20), async || {
        let mut secret = secrets.get(SECRET).await.expect("it is there");
        put(&mut secret, "ca-key.pem", &key.secret_pem());
        put(&mut secret, "ca-cert.pem", &other);
        replaced(&secrets, &secret).await
    })
    .await;
    for replica in [&one, &two] {
        let state =
            until_state(replica, "a complaint", |state| state["authority"]["trouble"].is_string()).await;
        let told = state["authority"]["trouble"].as_str().unwrap_or_default();
        assert!(told.contains("another signing root"), "{told}");
        assert_eq!(state["ready"], true);
    }
    // The new root is published everywhere by now: a restart may sign with it.
    one.kill9();
    let mut one = one;
    one.restart().await;
    let signing = state(&one).await["authority"]["signing"].clone();
    assert_ne!(signing, state(&two).await["authority"]["signing"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_frozen_in_the_middle_of_its_work_undoes_nothing_when_it_wakes() {
    let home = Home::start().await;
    let (one, two) = (home.replica(&[]).await, home.replica(&[]).await);
    let first = leader(&[&one, &two]).await;
    let second = if std::ptr::eq(first, &one) { &two } else { &one };
    let old = first.root_pem().to_owned();
    home.namespaces((0..300).map(|at| format!("frozen-{at:03}"))).await;
    let is_done = |state: &serde_json::Value| {
        state["distribution"]["pending"] == 0 && state["distribution"]["namespaces"] == 305
    };
    until_state(first, "all namespaces", is_done).await;

    // Another root has to go everywhere, and it is frozen while it writes: some requests are under way, others are to come.
    let both = format!("{old}{}", stranger().1);
    trust(&home, &both).await;
    until("the first of the writes", Duration::from_secs(20), async || {
        for namespace in ["frozen-000", "frozen-001", "kube-system"] {
            if home.roots_in(namespace).await.as_deref() == Some(&both) {
                first.part().signal("STOP");
                return Ok(());
            }
        }
        Err("not one yet".to_owned())
    })
    .await;
    let written = maps(&home).await.iter().filter(|(_, _, roots)| *roots == both).count();
    assert!((1..305).contains(&written), "{written} of 305 were written: it was not frozen in the middle");
    let three = format!("{both}{}", stranger().1);
    trust(&home, &three).await;

    // The other takes over once the Lease has run out, and finishes the work.
    until_state(second, "a new leader", |state| state["election"]["leads"] == true).await;
    until_state(second, "all namespaces", is_done).await;
    let before = maps(&home).await;
    assert!(before.iter().all(|(_, _, roots)| *roots == three));

    first.part().signal("CONT");
    let woken =
        until_state(first, "the old leader's word", |state| state["election"]["leader"].is_string()).await;
    assert_eq!(woken["election"]["leads"], false, "{woken}");
    sleep(Duration::from_secs(5)).await;
    assert_eq!(maps(&home).await, before, "not one object was written after it woke");
    assert_eq!(state(second).await["election"]["leads"], true);
    assert!(first.log().contains("no longer leads"), "{}", first.part().log_tail(5));
}

/// Puts these roots beside the signing one, as an operator does.
async fn trust(home: &Home, roots: &str) {
    let secrets = home.of::<Secret>(NAMESPACE);
    until("the roots to be in their place", Duration::from_secs(20), async || {
        let mut secret = secrets.get(SECRET).await.expect("the CA made it");
        let data = secret.data.get_or_insert_default();
        data.insert("root-cert.pem".to_owned(), ByteString(roots.as_bytes().to_vec()));
        replaced(&secrets, &secret).await
    })
    .await;
}

/// Replaces the authority's Secret, unless the leader was faster, who writes down what was edited.
async fn replaced(secrets: &Api<Secret>, secret: &Secret) -> Result<(), String> {
    match secrets.replace(SECRET, &PostParams::default(), secret).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Err(status.message),
        Err(error) => panic!("an admin may: {error}"),
    }
}

/// Namespace, version and roots of every ConfigMap that is published.
async fn maps(home: &Home) -> BTreeSet<(String, String, String)> {
    let params = kube::api::ListParams::default().fields(&format!("metadata.name={CONFIG_MAP}"));
    let maps = home.all::<ConfigMap>().list(&params).await.expect("an admin may list");
    let row = |map: ConfigMap| {
        let roots = map.data.clone().unwrap_or_default().remove("root-cert.pem").unwrap_or_default();
        (map.namespace().unwrap_or_default(), map.resource_version().unwrap_or_default(), roots)
    };
    maps.items.into_iter().map(row).collect()
}
