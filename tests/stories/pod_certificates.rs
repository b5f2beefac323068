//! Pods get certificates without any agent: a kubelet asks by a PodCertificateRequest, and the signer answers it. Every
//! object here is checked by the real API server's validation and, where a kubelet makes it, by its NodeRestriction.

use crate::ca::until;
use crate::crafted;
use crate::crafted::csr_by_openssl;
use crate::crafted::csr_der;
use crate::crafted::hierarchy;
use crate::pod_signer::PATIENCE;
use crate::pod_signer::PodOf;
use crate::pod_signer::Setup;
use crate::pod_signer::Signer;
use crate::pod_signer::TRUST_DOMAIN;
use crate::pod_signer::answered;
use crate::pod_signer::ask_as_admin;
use crate::pod_signer::ask_as_kubelet;
use crate::pod_signer::condition;
use crate::pod_signer::count;
use crate::pod_signer::delete;
use crate::pod_signer::look;
use crate::pod_signer::plugged_issuer;
use crate::pod_signer::pod;
use crate::pod_signer::profile;
use crate::pod_signer::request;
use crate::pod_signer::requests;
use crate::pod_signer::root_issuer;
use crate::pod_signer::signer_name;
use crate::support::apiserver::ApiServer;
use crate::support::apiserver::Namespace;
use crate::support::scratch;
use crate::support::tools;

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use burgrave::issuance::Profile;
use burgrave::signer::Issuer;
use burgrave::x509::CertificateChain;
use burgrave::x509::TrustBundle;
use k8s_openapi::api::certificates::v1::PodCertificateRequest;
use k8s_openapi::api::core::v1 as core;
use kube::Api;
use kube::api::Patch;
use kube::api::PatchParams;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::UnixTime;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::task::JoinSet;
use x509_parser::prelude::FromDer;

const P256: [&str; 4] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
const P384: [&str; 4] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"];
const P521: [&str; 4] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"];

const HOUR: Duration = Duration::from_secs(3600);

fn stub(arguments: &[&str]) -> Vec<u8> {
    csr_der(&csr_by_openssl(arguments))
}

/// What the story's pod `web-0` asks by a P-256 key, with `change` to it.
fn asked(signer: &Signer, pod: &PodOf, change: impl FnOnce(&mut Value)) -> Value {
    let mut asked = request(&signer.name, pod, &stub(&P256));
    change(&mut asked);
    asked
}

// === what is issued ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_of_key_that_kubelets_make_gets_a_chain_that_others_verify() {
    let api = ApiServer::shared().await;
    let namespace = api.namespace("pods").await;
    let signer = Signer::start(api, &namespace).await;
    let web = pod(api, &namespace, &signer.name, "web-0").await;
    for kind in
        [&P256[..], &P384, &["-newkey", "ed25519"], &["-newkey", "rsa:3072"], &["-newkey", "rsa:4096"]]
    {
        let stub = stub(kind);
        let name = ask_as_kubelet(api, &namespace, &request(&signer.name, &web, &stub)).await;
        let found = answered(api, &namespace, &signer, &name).await;
        assert_eq!(condition(&found)[..2], ["Issued", "Issued"], "{kind:?}: {found}");
        let issuer = signer.issuer.borrow().clone();
        let leaf = verified(&found, &issuer, 1, &namespace, &web);
        assert_eq!(spki_of_certificate(&leaf), spki_of_request(&stub), "{kind:?}");
    }
    assert_eq!((signer.counted("issued", ""), signer.state().trouble), (5.0, None));
    assert_eq!(signer.metric("burgrave_pod_certificate_seconds_count"), 5.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_has_its_intermediates_and_never_the_root() {
    let api = ApiServer::shared().await;
    let namespace = api.namespace("pods").await;
    for (options, length) in [(&[][..], 2), (&["--key", "rsa2048"], 2)] {
        let files = hierarchy(options);
        let setup = Setup { issuer: plugged_issuer(&files), ..Setup::new(&signer_name(&namespace)) };
        let signer = Signer::start_as(api, &namespace, setup).await;
        let web = pod(api, &namespace, &signer.name, &format!("web-{}", options.len())).await;
        let name = ask_as_kubelet(api, &namespace, &asked(&signer, &web, |_| ())).await;
        let found = answered(api, &namespace, &signer, &name).await;
        let issuer = signer.issuer.borrow().clone();
        verified(&found, &issuer, length, &namespace, &web);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_life_is_as_long_as_asked_the_backdate_included_and_as_the_ca_allows() {
    let api = ApiServer::shared().await;
    let namespace = api.namespace("pods").await;
    let days = |days: i64| days * 24 * 3600;
    let cases = [
        ("the shortest", 120, 24 * 100, Some(3600), 3600),
        ("the longest", 120, 24 * 100, Some(7_862_400), days(91)),
        ("the API server's default", 120, 24 * 100, None, days(1)),
        ("the CA's shortest maximum", 120, 1, Some(86_400), 3600),
        ("a backdate that the API server would not take", 3600, 24, Some(3600), 3600),
    ];
    for (number, (what, backdate, max_hours, asked_for, lives)) in cases.into_iter().enumerate() {
        let whole = profile(max_hours);
        let profile =
            Profile::new(Duration::from_secs(backdate), HOUR, whole.max_lifetime()).expect("it makes sense");
        let setup = Setup { profile, ..Setup::new(&signer_name(&namespace)) };
        let signer = Signer::start_as(api, &namespace, setup).await;
        let web = pod(api, &namespace, &signer.name, &format!("web-{number}")).await;
        let change = |asked: &mut Value| {
            if let Some(seconds) = asked_for {
                asked["spec"]["maxExpirationSeconds"] = json!(seconds);
            }
        };
        let name = ask_as_kubelet(api, &namespace, &asked(&signer, &web, change)).await;
        let found = answered(api, &namespace, &signer, &name).await;
        let issuer = signer.issuer.borrow().clone();
        verified(&found, &issuer, 1, &namespace, &web);
        let [begin, end, refresh] = times(&found);
        assert_eq!((end - begin).whole_seconds(), lives, "{what}");
        let back = OffsetDateTime::now_utc() - begin;
        assert!(
            back >= time::Duration::seconds(120) && back < time::Duration::seconds(270),
            "{what}: {back}"
        );
        let share = (refresh - begin) / (end - begin);
        assert!((0.39..=0.61).contains(&share), "{what}: refreshed after {share} of its life");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leaf_is_cut_to_its_issuer_s_end_while_that_leaves_an_hour() {
    let api = ApiServer::shared().await;
    let namespace = api.namespace("pods").await;
    let issuer = root_issuer(OffsetDateTime::now_utc(), 2);
    let end = issuer.not_after();
    let setup = Setup { issuer, ..Setup::new(&signer_name(&namespace)) };
    let signer = Signer::start_as(api, &namespace, setup).await;
    let web = pod(api, &namespace, &signer.name, "web-0").await;
    let name = ask_as_kubelet(api, &namespace, &asked(&signer, &web, |_| ())).await;
    let found = answered(api, &namespace, &signer, &name).await;
    assert_eq!(times(&found)[1], end, "{found}");
}

// === what is denied ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_this_signer_does_not_understand_is_denied_in_kubernetes_words() {
    let api = ApiServer::shared().await;
    let namespace = api.namespace("pods").await;
    let signer = Signer::start(api, &namespace).await;
    let web = pod(api, &namespace, &signer.name, "web-0").await;
    let curve = request(&signer.name, &web, &stub(&P521));
    let annotated = asked(&signer, &web, |asked| {
        asked["spec"]["unverifiedUserAnnotations"] = json!({"example.org/dns": "a.example.org"});
    });
    let ca = asked(&signer, &web, |asked| {
        let wants_more = stub(&[&P256[..], &["-addext", "basicConstraints=critical,CA:TRUE"]].concat());
        asked["spec"]["stubPKCS10Request"] =
            request(&signer.name, &web, &wants_more)["spec"]["stubPKCS10Request"].clone();
    });
    for (reason, words, asked) in [
        ("UnsupportedKeyType", "ECDSAP256, ECDSAP384, ED25519, RSA3072 and RSA4096", curve),
        ("InvalidUnverifiedUserAnnotations", "`example.org/dns`", annotated),
        ("InvalidStubRequest", "asks for a CA certificate", ca),
    ] {
        let name = ask_as_kubelet(api, &namespace, &asked).await;
        let found = answered(api, &namespace, &signer, &name).await;
        let [kind, why, message] = condition(&found);
        assert_eq!((kind, why), ("Denied", reason), "{found}");
        assert!(message.contains(words), "{message}");
        assert_eq!(found["status"].as_object().map(|status| status.len()), Some(1), "{found}");
    }
    assert_eq!(signer.counted("denied", "csr_algorithm"), 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_the_live_pod_does_not_bear_out_is_denied() {
    let api = ApiServer::shared().await;
    let namespace = api.namespace("pods").await;
    let signer = Signer::start(api, &namespace).await;
    let web = pod(api, &namespace, &signer.name, "web-0").await;
    let bank = pod(api, &namespace, &signer.name, "bank-0").await;
    namespace.node("node-9").await;
    let ends = pod(api, &namespace, &signer.name, "ends-0").await;
    delete(&Api::<core::Pod>::namespaced(api.admin(), &namespace.name), "ends-0").await;
    let field = |field: &str, value: &str| asked(&signer, &web, |asked| asked["spec"][field] = value.into());
    for (what, reason, asked) in [
        ("another pod's UID", "PodMismatch", field("podUID", &bank.uid)),
        ("another pod's name", "PodMismatch", field("podName", &bank.name)),
        ("another pod's account", "PodMismatch", field("serviceAccountName", &bank.account)),
        ("another node", "PodMismatch", field("nodeName", "node-9")),
    ] {
        // No kubelet gets that far; whoever else may create requests does.
        let name = ask_as_admin(api, &namespace, &asked).await;
        let found = answered(api, &namespace, &signer, &name).await;
        assert_eq!(condition(&found)[..2], ["Denied", reason], "{what}: {found}");
        assert_eq!(found["status"]["certificateChain"], Value::Null, "{what}");
    }
    // A pod that is being deleted gets nothing, and no denial either: that would freeze the volume it still uses.
    let name = ask_as_admin(api, &namespace, &asked(&signer, &ends, |_| ())).await;
    until("word of the pod that ends", PATIENCE, async || match signer.counted("waiting", "pod_ends") {
        0.0 => Err(format!("{:?}", signer.state())),
        _ => Ok(()),
    })
    .await;
    assert_eq!(look(api, &namespace, &name).await["status"]["conditions"], Value::Null);
}

/// Why `create podcertificaterequests` must stay with kubelets: the object does not tell who made it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_else_may_create_requests_gets_a_live_pod_s_certificate_by_naming_it_rightly() {
    let api = ApiServer::shared().await;
    let namespace = api.namespace("pods").await;
    let signer = Signer::start(api, &namespace).await;
    let web = pod(api, &namespace, &signer.name, "web-0").await;
    let name = ask_as_admin(api, &namespace, &asked(&signer, &web, |_| ())).await;
    let found = answered(api, &namespace, &signer, &name).await;
    assert_eq!(condition(&found)[0], "Issued");
    assert!(
        !found.to_string().contains("admin"),
        "the creator is on record after all; refuse by it: {found}"
    );
}

// === what is left alone, and what waits ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_signers_requests_and_answered_ones_are_left_alone() {
    let api = ApiServer::shared().await;
    let namespace = api.namespace("pods").await;
    let signer = Signer::start(api, &namespace).await;
    let web = pod(api, &namespace, &signer.name, "web-0").await;
    let other =
        asked(&signer, &web, |asked| asked["spec"]["signerName"] = format!("{}x", signer.name).into());
    let others = ask_as_admin(api, &namespace, &other).await;
    let answered_before = ask_as_kubelet(api, &namespace, &asked(&signer, &web, |_| ())).await;
    let before = answered(api, &namespace, &signer, &answered_before).await;
    drop(signer);

    // Another signer's life begins, sees what is there, and answers what is new alone.
    let signer = Signer::start(api, &namespace).await;
    let new = ask_as_kubelet(api, &namespace, &asked(&signer, &web, |_| ())).await;
    answered(api, &namespace, &signer, &new).await;
    assert_eq!(look(api, &namespace, &others).await["status"], json!({}));
    assert_eq!(look(api, &namespace, &answered_before).await, before);
    until("an empty desk", PATIENCE, async || match signer.state().pending {
        0 => Ok(()),
        pending => Err(format!("{pending} requests are pending")),
    })
    .await;
    assert_eq!(signer.counted("issued", ""), 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_for_a_pod_that_is_not_there_waits_until_one_comes() {
    let api = ApiServer::shared().await;
    let namespace = api.namespace("pods").await;
    let signer = Signer::start(api, &namespace).await;
    let web = pod(api, &namespace, &signer.name, "web-0").await;
    let absent = PodOf { name: "later-0".to_owned(), ..web.clone() };
    let name = ask_as_admin(api, &namespace, &asked(&signer, &absent, |_| ())).await;
    until("the signer to wait", PATIENCE, async || match signer.counted("waiting", "pod_absent") {
        0.0 => Err(format!("{:?}", signer.state())),
        _ => Ok(()),
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    // It waits for an event, not for a time: nobody asks the API server for the pod again and again.
    assert_eq!(signer.counted("waiting", "pod_absent"), 1.0);
    assert_eq!((signer.state().pending, signer.state().trouble), (1, None));
    assert_eq!(look(api, &namespace, &name).await["status"], json!({}));
    pod(api, &namespace, &signer.name, "later-0").await;
    let found = answered(api, &namespace, &signer, &name).await;
    assert_eq!(condition(&found)[..2], ["Denied", "PodMismatch"], "{found}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issuer_without_an_hour_left_lets_requests_wait_until_there_is_a_better_one() {
    let api = ApiServer::shared().await;
    let namespace = api.namespace("pods").await;
    let now = OffsetDateTime::now_utc();
    let expired = root_issuer(now - 10 * HOUR, 1);
    let setup = Setup { issuer: expired, ..Setup::new(&signer_name(&namespace)) };
    let signer = Signer::start_as(api, &namespace, setup).await;
    let web = pod(api, &namespace, &signer.name, "web-0").await;
    let name = ask_as_kubelet(api, &namespace, &asked(&signer, &web, |_| ())).await;
    let trouble = async |words: &str| {
        until("the signer to tell its trouble", PATIENCE, async || match signer.state() {
            state if state.trouble.as_ref().is_some_and(|trouble| trouble.contains(words)) => Ok(state),
            state => Err(format!("{state:?}")),
        })
        .await
    };
    let state = trouble("expired at").await;
    assert_eq!(state.pending, 1);
    assert!(state.oldest_pending_seconds.is_some_and(|age| age < 60), "{state:?}");

    let nearly = root_issuer(now - HOUR + Duration::from_secs(600), 1);
    signer.issuer.send_replace(Arc::new(nearly));
    trouble("less than an hour").await;
    assert_eq!(look(api, &namespace, &name).await["status"], json!({}));

    signer.issuer.send_replace(Arc::new(root_issuer(now, 100)));
    let found = answered(api, &namespace, &signer, &name).await;
    let issuer = signer.issuer.borrow().clone();
    verified(&found, &issuer, 1, &namespace, &web);
    until("the trouble to be over", PATIENCE, async || match signer.state() {
        state if state.pending == 0 && state.trouble.is_none() => Ok(()),
        state => Err(format!("{state:?}")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_answered_once_the_api_server_is_back() {
    let api = ApiServer::start().await;
    let namespace = api.namespace("pods").await;
    let setup = Setup {
        issuer: root_issuer(OffsetDateTime::now_utc() - 10 * HOUR, 1),
        ..Setup::new(&signer_name(&namespace))
    };
    let signer = Signer::start_as(&api, &namespace, setup).await;
    let web = pod(&api, &namespace, &signer.name, "web-0").await;
    for round in 0..2 {
        let waiting = signer.counted("waiting", "issuer_expired");
        let name = ask_as_kubelet(&api, &namespace, &asked(&signer, &web, |_| ())).await;
        until("the request to be on the desk", PATIENCE, async || {
            match signer.counted("waiting", "issuer_expired") {
                count if count > waiting => Ok(()),
                _ => Err(format!("{:?}", signer.state())),
            }
        })
        .await;
        match round {
            0 => api.stop_apiserver().await,
            _ => api.signal_apiserver("STOP"),
        }
        let failed = signer.counted("waiting", "api_server");
        signer.issuer.send_replace(Arc::new(root_issuer(OffsetDateTime::now_utc(), 100)));
        until("the signer to notice", PATIENCE, async || match signer.counted("waiting", "api_server") {
            count if count > failed => Ok(()),
            _ => Err(format!("{:?}", signer.state())),
        })
        .await;
        until("the signer to tell", PATIENCE, async || signer.state().trouble.ok_or_else(String::new)).await;
        match round {
            0 => api.start_apiserver().await,
            _ => api.signal_apiserver("CONT"),
        }
        let found = answered(&api, &namespace, &signer, &name).await;
        assert_eq!(condition(&found)[0], "Issued", "{found}");
        signer.issuer.send_replace(Arc::new(root_issuer(OffsetDateTime::now_utc() - 10 * HOUR, 1)));
    }
    assert_eq!(signer.counted("waiting", "defect"), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_rule_of_the_signer_is_needed_and_its_lack_is_told() {
    let api = ApiServer::shared().await;
    let lacks = [
        ("podcertificaterequests", "list", "cannot list resource \"podcertificaterequests\""),
        ("podcertificaterequests", "watch", "cannot watch resource \"podcertificaterequests\""),
        (
            "podcertificaterequests/status",
            "update",
            "cannot update resource \"podcertificaterequests/status\"",
        ),
        ("signers", "sign", "grant `sign` on `signers.certificates.k8s.io`"),
        ("pods", "get", "cannot get resource \"pods\""),
        ("pods", "list", "cannot list resource \"pods\""),
        ("pods", "watch", "cannot watch resource \"pods\""),
    ];
    let all = lacks.map(|(resource, verb, words)| lack_is_told(api, resource, verb, words));
    futures_util::future::join_all(all).await;
}

/// A signer without that rule does nothing, and says why in those words.
async fn lack_is_told(api: &ApiServer, resource: &str, verb: &str, words: &str) {
    let namespace = api.namespace("pods").await;
    let mut setup = Setup::new(&signer_name(&namespace));
    for rule in setup.rules.iter_mut().filter(|rule| rule["resources"][0] == resource) {
        let verbs = rule["verbs"].as_array_mut().expect("a rule has verbs");
        verbs.retain(|kept| kept != verb);
    }
    setup.rules.retain(|rule| rule["verbs"] != json!([]));
    let signer = Signer::start_as(api, &namespace, setup).await;
    let web = pod(api, &namespace, &signer.name, "web-0").await;
    // It takes a doubt to make the signer read a pod.
    let doubtful = |asked: &mut Value| {
        if verb == "get" {
            asked["spec"]["podUID"] = "another".into();
        }
    };
    let name = ask_as_admin(api, &namespace, &asked(&signer, &web, doubtful)).await;
    until("the signer to tell what it lacks", PATIENCE, async || match signer.state().trouble {
        Some(trouble) if trouble.contains(words) => Ok(()),
        other => Err(format!("{resource} {verb}: {other:?}")),
    })
    .await;
    // What was there before a watch that is not allowed may have been listed.
    if verb != "watch" {
        assert_eq!(look(api, &namespace, &name).await["status"], json!({}), "{resource} {verb}");
    }
}

// === many ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_at_once_are_all_answered_across_a_change_of_leaders() {
    const PODS: usize = 20;
    const EACH: usize = 50;
    let api = ApiServer::start().await;
    let namespace = Arc::new(api.namespace("pods").await);
    let first = Signer::start(&api, &namespace).await;
    let pods: Vec<_> = {
        let mut pods = Vec::new();
        for number in 0..PODS {
            pods.push(pod(&api, &namespace, &first.name, &format!("web-{number}")).await);
        }
        pods
    };
    let mut kubelets = JoinSet::new();
    for web in pods {
        let (asked, requests) = (asked(&first, &web, |_| ()), requests(api.kubelet(), &namespace));
        ask_as_kubelet(&api, &namespace, &asked).await;
        kubelets.spawn(async move {
            let asked = serde_json::from_value(asked).expect("it is a request");
            for _ in 1..EACH {
                requests.create(&Default::default(), &asked).await.expect("a kubelet may ask again");
            }
        });
    }
    let issued = async |least: usize| {
        until("certificates", PATIENCE * 2, async || match count(&api, &namespace, "Issued").await {
            count if count >= least => Ok(()),
            count => Err(format!("{count} of {least}")),
        })
        .await;
    };
    // The first leader is gone in the middle of its work.
    issued(PODS * EACH / 4).await;
    drop(first);
    let second = Signer::start(&api, &namespace).await;
    kubelets.join_all().await;
    issued(PODS * EACH).await;
    assert_eq!(second.counted("waiting", "defect"), 0.0);
    assert!(second.counted("issued", "") > 0.0);
    // They do not all come again at the same time.
    let all = requests(api.admin(), &namespace).list(&Default::default()).await.expect("an admin may list");
    let shares: Vec<f64> = all.items.iter().map(refresh_share).collect();
    let (first, last) =
        shares.iter().fold((1.0f64, 0.0f64), |(low, high), share| (low.min(*share), high.max(*share)));
    assert!(
        last - first > 0.15 && first > 0.38 && last < 0.62,
        "refreshes begin between {first} and {last} of the life"
    );
    until("an empty desk", PATIENCE, async || match second.state() {
        state if state.pending == 0 => Ok(()),
        state => Err(format!("{state:?}")),
    })
    .await;
}

/// After which share of its life the refresh of an issued certificate begins.
fn refresh_share(request: &PodCertificateRequest) -> f64 {
    let status = request.status.as_ref().expect("it is issued");
    let [begin, end, refresh] = [&status.not_before, &status.not_after, &status.begin_refresh_at]
        .map(|time| time.as_ref().expect("all three are set").0.as_second());
    (refresh - begin) as f64 / (end - begin) as f64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_both_believe_they_lead_answer_each_request_once() {
    let api = ApiServer::start().await;
    let namespace = api.namespace("pods").await;
    let signers = [Signer::start(&api, &namespace).await, Signer::start(&api, &namespace).await];
    let web = pod(&api, &namespace, &signers[0].name, "web-0").await;
    let asked = asked(&signers[0], &web, |_| ());
    ask_as_kubelet(&api, &namespace, &asked).await;
    let requests = requests(api.kubelet(), &namespace);
    let asked = serde_json::from_value(asked).expect("it is a request");
    for _ in 1..300 {
        requests.create(&Default::default(), &asked).await.expect("a kubelet may ask again");
    }
    until("certificates", PATIENCE * 2, async || match count(&api, &namespace, "Issued").await {
        300 => Ok(()),
        count => Err(format!("{count} of 300")),
    })
    .await;
    let counted =
        |outcome: &str, reason: &str| signers.iter().map(|one| one.counted(outcome, reason)).sum::<f64>();
    assert_eq!(counted("issued", ""), 300.0, "each was answered by one of them");
    assert_eq!(counted("waiting", "defect"), 0.0);
    assert!(counted("waiting", "overtaken") > 0.0, "they never met: that was no race");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_somebody_keeps_changing_is_answered_all_the_same() {
    let api = ApiServer::shared().await;
    let namespace = api.namespace("pods").await;
    let setup = Setup {
        issuer: root_issuer(OffsetDateTime::now_utc() - 10 * HOUR, 1),
        ..Setup::new(&signer_name(&namespace))
    };
    let signer = Signer::start_as(api, &namespace, setup).await;
    let web = pod(api, &namespace, &signer.name, "web-0").await;
    let name = ask_as_kubelet(api, &namespace, &asked(&signer, &web, |_| ())).await;
    let (requests, changed) = (requests(api.admin(), &namespace), name.clone());
    let mut busybody = JoinSet::new();
    busybody.spawn(async move {
        for number in 0.. {
            let label = json!({"metadata": {"labels": {"number": number.to_string()}}});
            let patched = requests.patch(&changed, &PatchParams::default(), &Patch::Merge(label)).await;
            patched.expect("an admin may label a request");
        }
    });
    signer.issuer.send_replace(Arc::new(root_issuer(OffsetDateTime::now_utc(), 100)));
    let found = answered(api, &namespace, &signer, &name).await;
    assert_eq!(condition(&found)[0], "Issued", "{found}");
}

// === looked at by others ===

/// NotBefore, NotAfter and the time of refresh, as the status tells them.
fn times(found: &Value) -> [OffsetDateTime; 3] {
    ["notBefore", "notAfter", "beginRefreshAt"].map(|field| {
        let text = found["status"][field].as_str().unwrap_or_default();
        OffsetDateTime::parse(text, &Rfc3339).unwrap_or_else(|error| panic!("{field} `{text}`: {error}"))
    })
}

/// Has webpki, x509-parser and openssl look at the chain in the status, and returns the leaf.
fn verified(
    found: &Value,
    issuer: &Issuer,
    length: usize,
    namespace: &Namespace,
    pod: &PodOf,
) -> CertificateDer<'static> {
    let text = found["status"]["certificateChain"].as_str().unwrap_or_default();
    assert_eq!(text.matches("-----BEGIN ").count(), length, "{text}");
    assert_eq!(text.matches("-----BEGIN CERTIFICATE-----\n").count(), length, "{text}");
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(text.as_bytes()).map(|one| one.expect("it is PEM")).collect();
    let roots = issuer.bundle().roots();
    assert!(chain.iter().all(|one| roots.iter().all(|root| root.der() != one)), "a root is in the chain");
    let (leaf, above) = chain.split_first().expect("there is a leaf");

    let anchors: Vec<_> = roots
        .iter()
        .map(|root| webpki::anchor_from_trusted_cert(root.der()).expect("it is a root"))
        .collect();
    for usage in [webpki::KeyUsage::server_auth(), webpki::KeyUsage::client_auth()] {
        webpki::EndEntityCert::try_from(leaf)
            .and_then(|leaf| {
                let algorithms = webpki::ALL_VERIFICATION_ALGS;
                leaf.verify_for_usage(algorithms, &anchors, above, UnixTime::now(), usage, None, None)
                    .map(drop)
            })
            .expect("webpki takes the chain");
    }
    let id = format!("spiffe://{TRUST_DOMAIN}/ns/{}/sa/{}", namespace.name, pod.account);
    let bundle = TrustBundle::from_pem(issuer.bundle().to_pem().as_bytes()).expect("it is a bundle");
    let ours = CertificateChain::from_ders(chain.iter().cloned()).expect("it is a chain");
    let named = ours.verify(&bundle, OffsetDateTime::now_utc()).map(|id| id.to_string());
    assert_eq!(named.as_deref(), Ok(id.as_str()));

    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(leaf).expect("it is a certificate");
    let validity = parsed.validity();
    let [begin, end, _] = times(found);
    assert_eq!([validity.not_before.to_datetime(), validity.not_after.to_datetime()], [begin, end]);
    taken_by_openssl(&issuer.bundle().to_pem(), leaf, above);
    leaf.clone()
}

fn taken_by_openssl(roots: &str, leaf: &CertificateDer<'_>, above: &[CertificateDer<'_>]) {
    let dir = scratch("verify");
    let write = |name: &str, text: &str| {
        std::fs::write(dir.join(name), text).expect("a scratch can be written to");
    };
    write("roots.pem", roots);
    write("leaf.pem", &crafted::pem("CERTIFICATE", leaf));
    // It wants a file, and takes the root in it for what it is.
    let above: String = above.iter().map(|one| crafted::pem("CERTIFICATE", one)).collect();
    write("above.pem", if above.is_empty() { roots } else { &above });
    let output = Command::new(tools::openssl())
        .args(["verify", "-x509_strict", "-purpose", "sslserver", "-no-CApath", "-no-CAstore"])
        .args(["-CAfile", "roots.pem", "-untrusted", "above.pem", "leaf.pem"])
        .current_dir(&*dir)
        .output()
        .expect("openssl can be run");
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    assert_eq!((output.status.success(), said[0].as_str()), (true, "leaf.pem: OK\n"), "{said:?}");
}

fn spki_of_certificate(der: &[u8]) -> Vec<u8> {
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(der).expect("it is a certificate");
    parsed.public_key().raw.to_vec()
}

fn spki_of_request(der: &[u8]) -> Vec<u8> {
    let (_, parsed) =
        x509_parser::certification_request::X509CertificationRequest::from_der(der).expect("it is a request");
    parsed.certification_request_info.subject_pki.raw.to_vec()
}
