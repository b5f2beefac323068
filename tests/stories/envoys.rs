//! Two Envoys in mTLS, with certificates that service-account tokens became.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use burgrave::identity::SpiffeId;

use crate::ca::Ca;
use crate::ca::until;
use crate::mesh::Client;
use crate::mesh::Held;
use crate::mesh::Load;
use crate::mesh::Server;
use crate::mesh::Stream;
use crate::mesh::Workload;
use crate::mesh::request;
use crate::mesh::request_over_tls;
use crate::mesh::shown;
use crate::support::apiserver::ApiServer;
use crate::support::figure;

const ROTATIONS: usize = 10;

#[tokio::test(flavor = "multi_thread")]
async fn two_envoys_of_two_service_accounts_exchange_requests_over_mtls() {
    let api = ApiServer::shared().await;
    let namespace = api.namespace("mesh").await;
    let ca = Ca::start(api, &namespace, &[]).await;
    let web = Workload::start(&ca, &namespace, "web", &[]).await;
    let store = Workload::start(&ca, &namespace, "store", &[]).await;
    let server = Server::start(&store, None).await;
    let client = Client::start(&web, server.address, &store.id).await;

    assert_eq!(request(client.address).await, Ok((200, web.id.to_string())));
    // What Envoy acknowledged is what the agent says it acknowledged.
    assert!(store.metric("burgrave_sds_acks_total{resource=\"default\"}").await >= 1.0);
    assert!(store.metric("burgrave_sds_acks_total{resource=\"ROOTCA\"}").await >= 1.0);
    assert_eq!(server.envoy.stat("sds.default.update_rejected").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_without_a_certificate_of_a_foreign_root_or_with_the_wrong_id_are_refused() {
    let api = ApiServer::shared().await;
    let namespace = api.namespace("refused").await;
    let ca = Ca::start(api, &namespace, &[]).await;
    let web = Workload::start(&ca, &namespace, "web", &[]).await;
    let store = Workload::start(&ca, &namespace, "store", &[]).await;
    let other = Workload::start(&ca, &namespace, "other", &[]).await;
    let server = Server::start(&store, Some(&web.id)).await;
    let (good, wrong) = (Held::by(&web).await, Held::by(&other).await);
    assert_eq!(request_over_tls(server.address, good.client(&store.id)).await, Ok(200));

    let refusals = async |stat: &str| {
        let counters = server.envoy.stats("listener.").await;
        counters.iter().filter(|(name, _)| name.ends_with(stat)).map(|(_, count)| count).sum::<u64>()
    };

    // Nobody: trusts the server, shows nothing.
    let mut nobody = ClientConfigParts::without_certificate(&good);
    nobody.alpn_protocols.clear();
    let answer = request_over_tls(server.address, Arc::new(nobody)).await;
    assert!(answer.is_err(), "{answer:?}");
    assert_eq!(refusals("ssl.fail_verify_no_cert").await, 1);

    // The same name, certified by a CA that the server does not know.
    let foreign_ca = Ca::start(api, &namespace, &[]).await;
    let impostor = foreign(&foreign_ca, &namespace, "web", &good, &store.id).await;
    let answer = request_over_tls(server.address, impostor).await;
    assert!(answer.is_err(), "{answer:?}");
    assert_eq!(refusals("ssl.fail_verify_error").await, 1);

    // A good certificate of somebody who was not invited.
    let answer = request_over_tls(server.address, wrong.client(&store.id)).await;
    assert!(answer.is_err(), "{answer:?}");
    assert_eq!(refusals("ssl.fail_verify_san").await, 1);

    // And the other way round: a client's Envoy refuses a server that is not who it should be.
    let client = Client::start(&web, server.address, &other.id).await;
    let (status, _) = request(client.address).await.expect("the client's Envoy answers");
    assert_eq!(status, 503);
    assert!(client.envoy.stat("cluster.server.ssl.fail_verify_san").await >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_rotations_on_both_sides_under_load_fail_no_request() {
    let api = ApiServer::shared().await;
    let namespace = api.namespace("rotation").await;
    let ca = Ca::start(api, &namespace, &[]).await;
    let web = Workload::start(&ca, &namespace, "web", &[]).await;
    let store = Workload::start(&ca, &namespace, "store", &[]).await;
    let server = Server::start(&store, None).await;
    let client = Client::start(&web, server.address, &store.id).await;
    let probe = Held::by(&web).await.client(&store.id);

    // Streams of our own, beside the Envoys', tell when a secret is pushed.
    let mut web_pushes = Stream::subscribe(&web.socket(), "default").await;
    let mut store_pushes = Stream::subscribe(&store.socket(), "default").await;
    let (first_web, first_store) = (web_pushes.take("default").await, store_pushes.take("default").await);
    let mut serials = vec![first_web.serial(), first_store.serial()];
    let handshakes = client.envoy.stat("cluster.server.ssl.handshake").await;

    let load = Load::start(client.address, &web.id, 8);
    let mut latencies = Vec::new();
    for _ in 0..ROTATIONS {
        tokio::time::sleep(Duration::from_millis(200)).await;
        web.renew();
        store.renew();
        let pushed = store_pushes.take("default").await;
        let end = Instant::now() + Duration::from_secs(5);
        while shown(server.address, &probe).await.facts().serial.to_string() != pushed.serial() {
            assert!(Instant::now() < end, "the Envoy goes on with its old certificate");
        }
        latencies.push(pushed.at.elapsed().as_secs_f64() * 1e3);
        serials.push(pushed.serial());
        serials.push(web_pushes.take("default").await.serial());
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (requests, failures) = load.finish().await;

    serials.sort();
    serials.dedup();
    assert_eq!(serials.len(), 2 * (ROTATIONS + 1), "each rotation brings a certificate of its own");
    assert_eq!(failures, std::collections::BTreeMap::new());
    assert!(requests > 500, "{requests} requests are no load");
    let new_handshakes = client.envoy.stat("cluster.server.ssl.handshake").await - handshakes;
    assert!(new_handshakes > requests / 10, "{new_handshakes} handshakes for {requests} requests");
    for envoy in [&client.envoy, &server.envoy] {
        assert!(envoy.stat("sds.default.update_success").await > ROTATIONS as u64);
        assert_eq!(envoy.stat("sds.default.update_rejected").await, 0);
    }
    latencies.sort_by(f64::total_cmp);
    figure("leaf_rotation_requests", requests, "requests");
    figure("leaf_rotation_failed", failures.values().sum::<u64>(), "requests");
    figure("push_to_first_handshake_ms", format!("{:.1}", latencies[latencies.len() / 2]), "ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_ca_is_dead_the_agent_serves_and_a_restarted_envoy_gets_its_secret() {
    let api = ApiServer::shared().await;
    let namespace = api.namespace("dead-ca").await;
    let mut ca = Ca::start(api, &namespace, &[]).await;
    let web = Workload::start(&ca, &namespace, "web", &[]).await;
    let store = Workload::start(&ca, &namespace, "store", &[]).await;
    let server = Server::start(&store, None).await;
    let client = Client::start(&web, server.address, &store.id).await;
    assert_eq!(request(client.address).await, Ok((200, web.id.to_string())));

    ca.kill9();
    store.renew();
    until("the agent to notice", Duration::from_secs(10), async || {
        match store.metric("burgrave_renewals_total{outcome=\"failed\"}").await {
            0.0 => Err(store.log()),
            _ => Ok(()),
        }
    })
    .await;
    let _server = server.restart(&store).await;
    until("requests to pass", Duration::from_secs(10), async || match request(client.address).await {
        Ok((200, _)) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert_eq!(store.page("/readyz").await.map(|(status, _)| status), Some(200));

    // The CA comes back with the root it had, and the agent needs nobody's help.
    let root = ca.root_pem().to_owned();
    ca.restart().await;
    assert_eq!(ca.plan().roots_loaded().len(), 2);
    assert_eq!(ca.plan().roots_loaded()[0], ca.plan().roots_loaded()[1]);
    let renewed = store.metric("burgrave_renewals_total{outcome=\"renewed\"}").await;
    until("the agent to renew by itself", Duration::from_secs(60), async || {
        match store.metric("burgrave_renewals_total{outcome=\"renewed\"}").await > renewed {
            true => Ok(()),
            false => Err(store.agent.log_tail(5)),
        }
    })
    .await;
    assert_eq!(Held::by(&store).await.bundle.to_pem(), root);
    assert_eq!(request(client.address).await, Ok((200, web.id.to_string())));
}

/// A client that has a certificate for the same identity, of another CA, and trusts the server all the same.
async fn foreign(
    ca: &Ca,
    namespace: &crate::support::apiserver::Namespace,
    account: &str,
    trusting: &Held,
    peer: &SpiffeId,
) -> Arc<rustls::ClientConfig> {
    let key = burgrave::x509::PrivateKey::generate().expect("there is randomness");
    let csr = key.csr_pem().expect("a key signs its request");
    let token = namespace.token(account, None, crate::ca::AUDIENCE, 600).await;
    let answer = ca.create(Some(&token), &csr, 0).await.expect("the foreign CA issues");
    let chain = burgrave::x509::CertificateChain::from_pem(answer[0].as_bytes()).expect("it is a chain");
    let config = burgrave::tls::spiffe_client(&chain, &key, trusting.bundle.clone(), peer.clone());
    Arc::new(config.expect("it is usable for TLS"))
}

struct ClientConfigParts;

impl ClientConfigParts {
    /// A client that trusts what `held` trusts, whoever it is by name, and shows no certificate.
    fn without_certificate(held: &Held) -> rustls::ClientConfig {
        #[derive(Debug)]
        struct ByRoot(Arc<rustls::client::WebPkiServerVerifier>);
        impl rustls::client::danger::ServerCertVerifier for ByRoot {
            fn verify_server_cert(
                &self,
                leaf: &rustls_pki_types::CertificateDer<'_>,
                intermediates: &[rustls_pki_types::CertificateDer<'_>],
                name: &rustls_pki_types::ServerName<'_>,
                ocsp: &[u8],
                now: rustls_pki_types::UnixTime,
            ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
                match self.0.verify_server_cert(leaf, intermediates, name, ocsp, now) {
                    // A SPIFFE certificate has no host name; everything else must hold.
                    Err(rustls::Error::InvalidCertificate(
                        rustls::CertificateError::NotValidForName
                        | rustls::CertificateError::NotValidForNameContext { .. },
                    )) => Ok(rustls::client::danger::ServerCertVerified::assertion()),
                    other => other,
                }
            }
            fn verify_tls12_signature(
                &self,
                message: &[u8],
                cert: &rustls_pki_types::CertificateDer<'_>,
                signed: &rustls::DigitallySignedStruct,
            ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
                self.0.verify_tls12_signature(message, cert, signed)
            }
            fn verify_tls13_signature(
                &self,
                message: &[u8],
                cert: &rustls_pki_types::CertificateDer<'_>,
                signed: &rustls::DigitallySignedStruct,
            ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
                self.0.verify_tls13_signature(message, cert, signed)
            }
            fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
                self.0.supported_verify_schemes()
            }
        }
        let mut roots = rustls::RootCertStore::empty();
        for root in held.bundle.roots() {
            roots.add(root.der().clone()).expect("it is a root");
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .build()
                .expect("there are roots");
        rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring can do them")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(ByRoot(verifier)))
            .with_no_client_auth()
    }
}
