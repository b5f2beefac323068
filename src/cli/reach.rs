//! How the CA is reached: by the Unix socket of one on this machine, or over TLS with an operator's own token.

use std::error::Error;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::Code;
use tonic::Request;
use tonic::Status;
use tonic::Streaming;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::Certificate as TlsRoot;
use tonic::transport::Channel;
use tonic::transport::ClientTlsConfig;
use tonic::transport::Endpoint;
use zeroize::Zeroizing;

use crate::k8s::Identity;
use crate::k8s::NoIdentity;
use crate::proto::admin::Document;
use crate::proto::admin::ExportRequest;
use crate::proto::admin::ReadersRequest;
use crate::proto::admin::StatusRequest;
use crate::proto::admin::Step;
use crate::proto::admin::authorities_client::AuthoritiesClient;
use crate::rotation::report::Readers;
use crate::rotation::report::Report;
use crate::x509::TrustBundle;
use crate::x509::bundle::InvalidBundle;

/// Where a CA on this machine listens if nothing else is said.
const SOCKET: &str = "/var/lib/burgrave/admin.sock";

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a silent connection is tried, and how long the other end may take to say that it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// The longest document that is read: the readers of a large cluster, several times over.
const LARGEST: usize = 256 << 20;

/// Where the CA is, as it is given.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Which CA")]
pub(super) struct RawReach {
    /// Unix socket of a CA on this machine [default: /var/lib/burgrave/admin.sock]
    #[arg(long, env = "BURGRAVE_ADMIN_SOCKET", value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Address of a CA elsewhere, as https://HOST:PORT
    #[arg(long, env = "BURGRAVE_CA_ADDRESS", value_name = "URL")]
    address: Option<String>,
    /// With --address: file with the root that the CA's own certificate leads to
    #[arg(long, env = "BURGRAVE_CA_ROOT_FILE", value_name = "FILE")]
    root_file: Option<PathBuf>,
    /// With --address: name that the CA's own certificate must carry [default: the host of --address]
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// With --address: file with your token for the cluster's API server; read anew for each request
    /// [default: the token of the kubeconfig's user]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// With --address: kubeconfig that says who you are [default: KUBECONFIG, ~/.kube/config, or the pod's own]
    #[arg(long, env = "BURGRAVE_KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

/// A way to the CA. Clones share its connection.
#[derive(Clone, Debug)]
pub(super) struct Reach {
    way: Way,
    /// What the CA itself said is trusted: its own certificate may lead to a root that was not there when we came.
    learned: Option<TrustBundle>,
    channel: Option<Channel>,
}

#[derive(Clone, Debug)]
enum Way {
    Socket(PathBuf),
    Tls(Box<Tls>),
}

/// A CA elsewhere.
#[derive(Clone, Debug)]
struct Tls {
    endpoint: Endpoint,
    root_file: PathBuf,
    server_name: Option<String>,
    shown: Shown,
}

/// What is shown to the CA.
#[derive(Clone, Debug)]
enum Shown {
    TokenFile(PathBuf),
    Identity(Identity),
}

/// How things stand, as it came and as it is read.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    pub(super) json: String,
    pub(super) report: Report,
}

/// How things stand, again whenever it changes.
pub(super) struct Reports(Streaming<Document>);

/// Why the CA did not do it.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReachError {
    /// Two ways are given.
    #[error(
        "`--socket` and `--address` are both set, one of them perhaps as BURGRAVE_ADMIN_SOCKET or BURGRAVE_CA_ADDRESS; keep the first for a CA on this machine, or the second for one elsewhere"
    )]
    TwoWays,
    /// The address cannot be used.
    #[error("`--address`: `{0}` is not https://HOST:PORT")]
    Address(String),
    /// It is not said whom to trust.
    #[error(
        "`--root-file` is not set; it must hold the root that the CA's own certificate leads to: in a cluster, `kubectl get configmap istio-ca-root-cert -o jsonpath='{{.data.root-cert\\.pem}}'` prints it"
    )]
    NoRootFile,
    /// The root file cannot be read.
    #[error("root file `{path}`: {source}; it must hold the root that the CA's own certificate leads to")]
    Root {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The root file holds no roots.
    #[error("root file `{path}`: {source}")]
    NotRoots {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: InvalidBundle,
    },
    /// The token file cannot be read.
    #[error("token file `{path}`: {source}; `kubectl create token NAME >{path}` makes one")]
    Token {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The token file holds no token.
    #[error("token file `{0}` does not hold a token; `kubectl create token NAME >{0}` makes one")]
    NotAToken(PathBuf),
    /// Nobody knows who asks.
    #[error(transparent)]
    Identity(#[from] NoIdentity),
    /// Nobody answers on the socket.
    #[error("no CA answers on the socket `{path}`: {cause}; {hint}")]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What the operating system says.
        cause: String,
        /// What to do.
        hint: &'static str,
    },
    /// Nobody answers at the address, or somebody else.
    #[error("the CA at {address} cannot be reached: {cause}")]
    Connect {
        /// Its address.
        address: String,
        /// The last cause.
        cause: String,
    },
    /// The connection broke, or no answer came.
    #[error("the CA gave no answer: {0}")]
    Lost(String),
    /// It answers, and could not do it at the moment; it may have done some of it.
    #[error("{0}")]
    NotAble(String),
    /// It cannot be done now.
    #[error("{0}")]
    Refused(String),
    /// Who asks may not.
    #[error("{0}")]
    Denied(String),
    /// It can never be done.
    #[error("the CA cannot do that: {0}")]
    Impossible(String),
    /// It is another program, or another version.
    #[error("the server knows no such order ({0}); is it a CA of this version?")]
    Unknown(String),
    /// What it said cannot be read.
    #[error("the CA's answer cannot be read ({0}); is it of this version?")]
    Unreadable(String),
}

impl ReachError {
    /// Whether the same may go well in a while.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::Lost(_) | Self::NotAble(_) | Self::Connect { .. } | Self::Socket { .. })
    }
}

impl From<Status> for ReachError {
    fn from(status: Status) -> Self {
        let said = match status.message() {
            "" => status.code().description().to_owned(),
            message => message.to_owned(),
        };
        match status.code() {
            Code::FailedPrecondition => Self::Refused(said),
            Code::PermissionDenied | Code::Unauthenticated => Self::Denied(said),
            Code::InvalidArgument | Code::NotFound | Code::OutOfRange | Code::AlreadyExists => {
                Self::Impossible(said)
            }
            Code::Unimplemented => Self::Unknown(said),
            Code::Unavailable if status.source().is_none() => Self::NotAble(said),
            // Between us and a CA that goes away in the middle, any of these may be seen.
            _ => Self::Lost(deepest(&status).unwrap_or(said)),
        }
    }
}

impl RawReach {
    #[cfg(test)]
    pub(super) fn by_socket(socket: &Path) -> Self {
        Self { socket: Some(socket.to_owned()), ..Self::default() }
    }

    /// The way to the CA; nothing is asked of it yet.
    ///
    /// # Errors
    /// If it is not said where it is, or who asks.
    pub(super) async fn resolve(self) -> Result<Reach, ReachError> {
        let way = match (self.socket, self.address) {
            (Some(_), Some(_)) => return Err(ReachError::TwoWays),
            (socket, None) => Way::Socket(socket.unwrap_or_else(|| PathBuf::from(SOCKET))),
            (None, Some(address)) => Way::Tls(Box::new(Tls {
                endpoint: endpoint(&address)?,
                root_file: self.root_file.ok_or(ReachError::NoRootFile)?,
                server_name: self.server_name,
                shown: match self.token_file {
                    Some(file) => Shown::TokenFile(file),
                    None => Shown::Identity(Identity::of(self.kubeconfig.as_deref()).await?),
                },
            })),
        };
        Ok(Reach { way, learned: None, channel: None })
    }
}

fn endpoint(address: &str) -> Result<Endpoint, ReachError> {
    let invalid = || ReachError::Address(address.to_owned());
    // A token would go out in clear.
    let address = Some(address).filter(|text| text.starts_with("https://")).ok_or_else(invalid)?;
    let endpoint = Endpoint::from_shared(address.to_owned()).map_err(|_| invalid())?;
    Ok(alert(endpoint).tcp_nodelay(true))
}

/// Notices within seconds when the other end is gone.
fn alert(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(KEEP_ALIVE)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
}

impl Reach {
    /// How things stand.
    pub(super) async fn status(&mut self) -> Result<Heard, ReachError> {
        let request = self.request(StatusRequest {}).await?;
        let mut client = self.client().await?;
        let document = self.answer(client.status(request)).await?;
        self.hear(document)
    }

    /// How things stand, from now on.
    pub(super) async fn watch(&mut self) -> Result<Reports, ReachError> {
        let request = self.request(StatusRequest {}).await?;
        let mut client = self.client().await?;
        Ok(Reports(self.answer(client.watch(request)).await?))
    }

    /// Who reads the roots.
    pub(super) async fn readers(&mut self) -> Result<(String, Readers), ReachError> {
        let request = self.request(ReadersRequest {}).await?;
        let mut client = self.client().await?;
        let document = self.answer(client.readers(request)).await?;
        let readers = serde_json::from_str(&document.json)
            .map_err(|error| ReachError::Unreadable(error.to_string()))?;
        Ok((document.json, readers))
    }

    /// Has a step taken; how things stand then.
    pub(super) async fn act(&mut self, step: Step) -> Result<Heard, ReachError> {
        let request = self.request(step).await?;
        let mut client = self.client().await?;
        let document = self.answer(client.act(request)).await?;
        self.hear(document)
    }

    /// The authorities with their keys, sealed.
    pub(super) async fn export(&mut self, passphrase: String) -> Result<String, ReachError> {
        let request = self.request(ExportRequest { passphrase }).await?;
        let mut client = self.client().await?;
        Ok(self.answer(client.export(request)).await?.sealed)
    }

    /// The next of `reports`; none if the CA goes away.
    pub(super) async fn next(&mut self, reports: &mut Reports) -> Result<Option<Heard>, ReachError> {
        match reports.0.message().await {
            Ok(None) => Ok(None),
            Ok(Some(document)) => self.hear(document).map(Some),
            Err(status) => Err(status.into()),
        }
    }

    /// Makes the next call over a new connection, perhaps to another replica.
    pub(super) fn hang_up(&mut self) {
        self.channel = None;
    }

    fn hear(&mut self, document: Document) -> Result<Heard, ReachError> {
        let report: Report = serde_json::from_str(&document.json)
            .map_err(|error| ReachError::Unreadable(error.to_string()))?;
        self.learn(&report);
        Ok(Heard { json: document.json, report })
    }

    /// Takes over what is trusted: once the old root has left, the CA shows itself by the new one, which the root file lacks.
    pub(super) fn learn(&mut self, report: &Report) {
        if let Ok(bundle) = TrustBundle::from_pem(report.bundle.pem.as_bytes()) {
            self.learned = Some(bundle);
        }
    }

    async fn answer<T>(
        &mut self,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, ReachError> {
        let answer = match tokio::time::timeout(PATIENCE, call).await {
            Ok(answer) => answer.map(tonic::Response::into_inner).map_err(ReachError::from),
            Err(_) => Err(ReachError::Lost(format!("nothing came within {} s", PATIENCE.as_secs()))),
        };
        if answer.as_ref().is_err_and(ReachError::may_pass) {
            self.hang_up();
        }
        answer
    }

    async fn request<T>(&self, message: T) -> Result<Request<T>, ReachError> {
        let mut request = Request::new(message);
        if let Way::Tls(tls) = &self.way {
            request.metadata_mut().insert("authorization", bearer(&tls.shown).await?);
        }
        Ok(request)
    }

    async fn client(&mut self) -> Result<AuthoritiesClient<Channel>, ReachError> {
        let channel = match &self.channel {
            Some(channel) => channel.clone(),
            None => self.channel.insert(self.connect().await?).clone(),
        };
        Ok(AuthoritiesClient::new(channel).max_decoding_message_size(LARGEST))
    }

    async fn connect(&self) -> Result<Channel, ReachError> {
        match &self.way {
            Way::Socket(path) => {
                let to = path.clone();
                // The address is never looked up: the connector goes to the socket.
                alert(Endpoint::from_static("http://ca"))
                    .connect_with_connector(tower::service_fn(move |_| {
                        let to = to.clone();
                        async move { UnixStream::connect(to).await.map(TokioIo::new) }
                    }))
                    .await
                    .map_err(|error| no_socket(path, &error))
            }
            Way::Tls(tls) => {
                let Tls { endpoint, root_file, server_name, .. } = &**tls;
                let address = endpoint.uri().to_string();
                let unreachable = |error: tonic::transport::Error| ReachError::Connect {
                    address: address.trim_end_matches('/').to_owned(),
                    cause: deepest(&error).unwrap_or_else(|| error.to_string()),
                };
                let roots = match &self.learned {
                    Some(learned) => learned.to_pem(),
                    None => read_roots(root_file)?.to_pem(),
                };
                let mut tls = ClientTlsConfig::new().ca_certificate(TlsRoot::from_pem(roots));
                if let Some(name) = server_name {
                    tls = tls.domain_name(name.clone());
                }
                endpoint.clone().tls_config(tls).map_err(unreachable)?.connect().await.map_err(unreachable)
            }
        }
    }
}

fn no_socket(path: &Path, error: &tonic::transport::Error) -> ReachError {
    let kind = causes(error).find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    let hint = match kind {
        Some(io::ErrorKind::PermissionDenied) => {
            "it serves the user that runs the CA, and root: run this as one of them"
        }
        Some(io::ErrorKind::ConnectionRefused) => "the CA that made it has ended; start it again",
        _ => {
            "start the CA, give the --socket that it was started with as --admin-socket, or --address for one elsewhere"
        }
    };
    let cause = deepest(error).unwrap_or_else(|| error.to_string());
    ReachError::Socket { path: path.to_owned(), cause, hint }
}

async fn bearer(shown: &Shown) -> Result<AsciiMetadataValue, ReachError> {
    let path = match shown {
        Shown::Identity(identity) => {
            let bearer = identity.bearer().await?;
            let mut value = AsciiMetadataValue::try_from(bearer.as_bytes())
                .map_err(|_| NoIdentity::Unobtainable("its token is not one".to_owned()))?;
            value.set_sensitive(true);
            return Ok(value);
        }
        Shown::TokenFile(path) => path,
    };
    let text = std::fs::read_to_string(path)
        .map(Zeroizing::new)
        .map_err(|source| ReachError::Token { path: path.clone(), source })?;
    let token = text.trim();
    if token.is_empty() || token.contains(char::is_whitespace) {
        return Err(ReachError::NotAToken(path.clone()));
    }
    let mut value: AsciiMetadataValue =
        format!("Bearer {token}").parse().map_err(|_| ReachError::NotAToken(path.clone()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn read_roots(path: &Path) -> Result<TrustBundle, ReachError> {
    let text = std::fs::read(path).map_err(|source| ReachError::Root { path: path.to_owned(), source })?;
    TrustBundle::from_pem(&text).map_err(|source| ReachError::NotRoots { path: path.to_owned(), source })
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&one| one.source())
}

/// The last cause, if there is any.
fn deepest(error: &(dyn Error + 'static)) -> Option<String> {
    causes(error).skip(1).last().map(ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refusal(raw: RawReach) -> String {
        match raw.resolve().await {
            Ok(mut reach) => reach.status().await.unwrap_err().to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[tokio::test]
    async fn a_way_that_leads_nowhere_is_refused_with_what_to_do() {
        let path = std::env::temp_dir().join(format!("burgrave-reach-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        let file = |name: &str, text: &str| {
            let path = path.join(name);
            std::fs::write(&path, text).unwrap();
            Some(path)
        };
        let address = Some("https://localhost:1".to_owned());
        let nowhere = Some(PathBuf::from("/nowhere"));
        let away = || RawReach { address: address.clone(), ..RawReach::default() };
        let root = crate::authority::Record::new_root(
            &"td".parse().unwrap(),
            Duration::from_secs(60),
            crate::clock::Clock::system().now(),
        );
        for (raw, said) in [
            (RawReach { socket: nowhere.clone(), ..away() }, "`--socket` and `--address` are both set"),
            (
                RawReach { address: Some("http://ca:1".into()), ..away() },
                "`http://ca:1` is not https://HOST:PORT",
            ),
            (away(), "`--root-file` is not set; it must hold the root"),
            (
                RawReach { root_file: nowhere.clone(), token_file: nowhere.clone(), ..away() },
                "token file `/nowhere`: No such file or directory (os error 2); `kubectl create token NAME >/nowhere`",
            ),
            (
                RawReach { root_file: nowhere.clone(), token_file: file("blank", " \n"), ..away() },
                "does not hold a token; `kubectl create token NAME >",
            ),
            (
                RawReach { root_file: nowhere.clone(), token_file: file("token", "abc"), ..away() },
                "root file `/nowhere`: No such file",
            ),
            (
                RawReach { socket: nowhere, ..RawReach::default() },
                "no CA answers on the socket `/nowhere`: No such file or directory (os error 2); start the CA, give the --socket",
            ),
        ] {
            let refused = refusal(raw).await;
            assert!(refused.contains(said), "{refused}");
        }
        let root_file = file("roots", &root.unwrap().state.bundle().to_pem());
        let refused = refusal(RawReach { root_file, token_file: file("token", "abc"), ..away() }).await;
        std::fs::remove_dir_all(&path).unwrap();
        assert_eq!(
            refused,
            "the CA at https://localhost:1 cannot be reached: Connection refused (os error 111)"
        );
    }

    #[test]
    fn what_a_server_says_is_told_apart_by_whether_it_may_pass() {
        let of = |code| ReachError::from(Status::new(code, "why"));
        assert!(matches!(of(Code::FailedPrecondition), ReachError::Refused(_)));
        assert!(matches!(of(Code::PermissionDenied), ReachError::Denied(_)));
        for (code, passes) in [
            (Code::Unavailable, true),
            (Code::Internal, true),
            (Code::Unauthenticated, false),
            (Code::InvalidArgument, false),
            (Code::Unimplemented, false),
        ] {
            assert_eq!(of(code).may_pass(), passes, "{code:?}");
        }
        assert_eq!(of(Code::Unavailable).to_string(), "why");
    }
}
