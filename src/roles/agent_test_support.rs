//! A CA in this process: it signs by whichever authority it is told to, and says on its stream what it is told to say.

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::Response;
use tonic::Status;
use tonic::transport::Identity;
use tonic::transport::Server;
use tonic::transport::ServerTlsConfig;

use crate::agent::test_support::Authority;
use crate::proto::istio::IstioCertificateRequest;
use crate::proto::istio::IstioCertificateResponse;
use crate::proto::istio::istio_certificate_service_server::IstioCertificateService;
use crate::proto::istio::istio_certificate_service_server::IstioCertificateServiceServer;
use crate::sds::Answer;
use crate::sds::SdsMetrics;
use crate::sds::SecretService;
use crate::sds::Secrets;
use crate::sds::Subscribers;
use crate::sds::Trust;
use crate::x509::Csr;
use crate::x509::PrivateKey;
use crate::x509::pem;

/// A CA that can be told what to do.
pub(super) struct FakeCa {
    pub(super) address: SocketAddr,
    /// Its own certificate is of this one.
    pub(super) serves: Arc<Authority>,
    secrets: watch::Sender<Arc<Secrets>>,
    pub(super) subscribers: Subscribers,
    signing: Signing,
    stop: CancellationToken,
}

/// Who signs, and how many requests it was asked.
#[derive(Clone)]
pub(super) struct Signing {
    by: Arc<Mutex<Arc<Authority>>>,
    pub(super) requests: Arc<AtomicUsize>,
}

impl FakeCa {
    /// One that signs by `authority`, trusts it alone, and has a stream or not.
    pub(super) async fn start(authority: &Arc<Authority>, has_stream: bool) -> Self {
        let signing = Signing { by: Arc::new(Mutex::new(authority.clone())), requests: Arc::default() };
        let notice = Some(authority.notice(Duration::ZERO));
        let secrets = Secrets { trust: Some(authority.trust()), notice, ..Secrets::default() };
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self::at(anywhere, authority, Arc::new(secrets), signing, has_stream).await
    }

    /// Another process of it: the same content at the same place, and a certificate of `serves`.
    pub(super) async fn restart(self, serves: &Arc<Authority>, has_stream: bool) -> Self {
        self.stop.cancel();
        // Its connections end with it.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let secrets = self.secrets.borrow().clone();
        Self::at(self.address, serves, secrets, self.signing.clone(), has_stream).await
    }

    async fn at(
        address: SocketAddr,
        serves: &Arc<Authority>,
        secrets: Arc<Secrets>,
        signing: Signing,
        has_stream: bool,
    ) -> Self {
        let key = PrivateKey::generate().unwrap();
        let certificate = serves.leaf(key.spki(), &[], &["localhost".to_owned()]);
        let identity = Identity::from_pem(pem::certificate(certificate.der()), key.secret_pem().as_bytes());
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (secrets, subscribers, stop) =
            (watch::Sender::new(secrets), Subscribers::default(), CancellationToken::new());
        let stream = has_stream.then(|| {
            let (told, seen) = (secrets.subscribe(), subscribers.clone());
            SecretService::new(told, seen, SdsMetrics::default(), stop.clone()).server()
        });
        let serving = Server::builder()
            .tls_config(ServerTlsConfig::new().identity(identity))
            .unwrap()
            .add_service(IstioCertificateServiceServer::new(signing.clone()))
            .add_optional_service(stream)
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop.clone().cancelled_owned());
        tokio::spawn(serving);
        Self { address, serves: serves.clone(), secrets, subscribers, signing, stop }
    }

    /// Who signs from now on; nobody is told.
    pub(super) fn sign_by(&self, authority: &Arc<Authority>) {
        *self.signing.by.lock().unwrap() = authority.clone();
    }

    /// How many certificates were asked for.
    pub(super) fn requests(&self) -> usize {
        self.signing.requests.load(Ordering::Relaxed)
    }

    /// Says which roots are to be trusted.
    pub(super) fn tell_roots(&self, trust: Trust) {
        self.tell(|secrets| secrets.trust = Some(trust));
    }

    /// Says who ought to sign.
    pub(super) fn tell_issuer(&self, authority: &Authority, window: Duration) {
        self.tell(|secrets| secrets.notice = Some(authority.notice(window)));
    }

    fn tell(&self, how: impl FnOnce(&mut Secrets)) {
        self.secrets.send_modify(|secrets| {
            let mut next = Secrets::clone(secrets);
            how(&mut next);
            *secrets = Arc::new(next);
        });
    }

    /// What the agent has answered last to what was said of `name`.
    pub(super) fn answer(&self, name: &str) -> Option<Answer> {
        self.subscribers.all().iter().find_map(|agent| agent.names.get(name).cloned().flatten())
    }
}

impl Drop for FakeCa {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tonic::async_trait]
impl IstioCertificateService for Signing {
    async fn create_certificate(
        &self,
        request: tonic::Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let authority = self.by.lock().unwrap().clone();
        let csr = Csr::from_pem(request.into_inner().csr.as_bytes())
            .and_then(Csr::verify)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let chain = authority.chain(csr.spki());
        Ok(Response::new(IstioCertificateResponse {
            cert_chain: vec![chain.to_pem(), authority.bundle().to_pem()],
        }))
    }
}
