//! The wire: `burgrave.admin.v1.Authorities`. Admits whoever calls, and turns messages into orders.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::transport::server::UdsConnectInfo;
use zeroize::Zeroizing;

use crate::authority::AuthorityId;
use crate::authority::KeeperError;
use crate::issuance::bearer_token;
use crate::proto::admin;
use crate::proto::admin::Document;
use crate::proto::admin::authorities_server::Authorities;
use crate::proto::admin::authorities_server::AuthoritiesServer;
use crate::proto::admin::step::What;
use crate::rotation::access::Guard;
use crate::rotation::orders::NewOrder;
use crate::rotation::orders::NotDone;
use crate::rotation::orders::Order;
use crate::rotation::orders::Orders;
use crate::rotation::orders::View;
use crate::rotation::report::Report;

/// The largest message that is read: a plugged-in CA's files have some ten kilobytes.
const MAX_MESSAGE: usize = 1024 * 1024;
/// How often somebody who watches is told something new at the most.
const PAUSE: Duration = Duration::from_millis(100);
/// How often they are told though nothing has changed: progress has a time too.
const TICK: Duration = Duration::from_secs(1);

/// Who is let in.
#[derive(Clone, Debug)]
pub enum Door {
    /// On a Unix socket: the user that runs this process, and root.
    Socket {
        /// That user.
        uid: u32,
    },
    /// Over TLS: whom Kubernetes allows it.
    Kubernetes(Arc<Guard>),
}

/// Answers operators.
#[derive(Clone, Debug)]
pub struct AdminService {
    /// What they see.
    pub view: View,
    /// What they order; `None` where there is no store.
    pub orders: Option<Orders>,
    /// Who is let in.
    pub door: Door,
}

impl AdminService {
    /// The gRPC service, ready to be added to a server.
    pub fn server(self) -> AuthoritiesServer<Self> {
        AuthoritiesServer::new(self).max_decoding_message_size(MAX_MESSAGE)
    }

    /// Who calls, if they may do `verb`.
    async fn admit<T>(&self, request: &Request<T>, verb: &str) -> Result<String, Status> {
        match &self.door {
            Door::Kubernetes(guard) => {
                let token = bearer_token(request.metadata()).map(Zeroizing::new);
                guard.admit(token.as_ref().map(|token| token.as_str()), verb).await
            }
            Door::Socket { uid } => {
                let peer = request.extensions().get::<UdsConnectInfo>().and_then(|info| info.peer_cred);
                let peer =
                    peer.ok_or_else(|| Status::unauthenticated("the kernel does not say who calls"))?;
                match peer.uid() {
                    who if who == *uid || who == 0 => Ok(format!("uid {who}")),
                    who => Err(Status::permission_denied(format!(
                        "uid {who} may not speak to this CA; it runs as uid {uid}: call it as that user, or as root"
                    ))),
                }
            }
        }
    }

    fn orders(&self) -> Result<&Orders, Status> {
        self.orders.as_ref().ok_or_else(|| {
            Status::failed_precondition(format!(
                "this CA reads its authority from files ({}), and keeps none that could be rotated; run it with --state-dir or --authority-secret, and bring the files by `burgrave root import` or `burgrave root rotate --from`",
                self.view.place
            ))
        })
    }
}

#[tonic::async_trait]
impl Authorities for AdminService {
    type WatchStream = ReceiverStream<Result<Document, Status>>;

    async fn status(&self, request: Request<admin::StatusRequest>) -> Result<Response<Document>, Status> {
        self.admit(&request, "get").await?;
        document(&self.view.report())
    }

    async fn watch(
        &self,
        request: Request<admin::StatusRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.admit(&request, "get").await?;
        let (told, stream) = mpsc::channel(4);
        // The task ends with its stream.
        tokio::spawn(tell(self.view.clone(), told));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn readers(&self, request: Request<admin::ReadersRequest>) -> Result<Response<Document>, Status> {
        self.admit(&request, "get").await?;
        document(&self.view.readers())
    }

    async fn act(&self, request: Request<admin::Step>) -> Result<Response<Document>, Status> {
        let what = request.get_ref().what.as_ref();
        let verb = what.map(verb).ok_or_else(|| Status::invalid_argument("the step says nothing"))?;
        let who = self.admit(&request, verb).await?;
        let step = request.into_inner();
        let Some(what) = step.what else { return Err(Status::invalid_argument("the step says nothing")) };
        let by = match (&self.door, step.by.trim()) {
            (Door::Socket { .. }, by) if !by.is_empty() => format!("{} ({who})", one_line(by)),
            _ => who,
        };
        self.orders()?.act(order(what), &by, step.force).await.map_err(|error| status(&error))?;
        document(&self.view.report())
    }

    async fn export(
        &self,
        request: Request<admin::ExportRequest>,
    ) -> Result<Response<admin::ExportResponse>, Status> {
        let who = self.admit(&request, "export").await?;
        let passphrase = Zeroizing::new(request.into_inner().passphrase);
        let sealed = self.orders()?.export(passphrase, &who).await.map_err(|error| status(&error))?;
        Ok(Response::new(admin::ExportResponse { sealed }))
    }
}

/// Tells how things stand whenever it has changed.
async fn tell(view: View, told: mpsc::Sender<Result<Document, Status>>) {
    let mut held = view.sources.in_force.watch();
    let mut census = view.sources.census.changes();
    let mut others = view.sources.others.clone();
    let mut last: Option<Report> = None;
    loop {
        let report = view.report();
        let pause = pause_between_counts_of(report.readers.values().sum());
        let is_news =
            last.as_ref().is_none_or(|last| Report { at: last.at.clone(), ..report.clone() } != *last);
        if is_news {
            let Ok(response) = document(&report) else { return };
            if told.send(Ok(response.into_inner())).await.is_err() {
                return;
            }
            last = Some(report);
        }
        // A step that was taken is told at once, and how many have answered now and then.
        let rest = async {
            tokio::time::sleep(pause).await;
            tokio::select! {
                _ = census.changed() => {}
                _ = others.changed() => {}
                () = tokio::time::sleep(TICK) => {}
            }
        };
        tokio::select! {
            () = told.closed() => return,
            changed = held.changed() => if changed.is_err() { return },
            () = rest => {}
        }
    }
}

/// How long somebody who watches waits for the next count of so many readers: where there are thousands, each count costs more, and
/// people see it grow all the same.
fn pause_between_counts_of(readers: usize) -> Duration {
    (Duration::from_micros(25) * u32::try_from(readers).unwrap_or(u32::MAX)).clamp(PAUSE, TICK)
}

fn verb(what: &What) -> &'static str {
    match what {
        What::Prepare(_) => "prepare",
        What::Rotate(_) => "rotate",
        What::Activate(_) => "activate",
        What::Retire(_) => "retire",
        What::Abort(_) => "abort",
        What::RollBack(_) => "rollback",
        What::Taint(_) => "taint",
    }
}

fn order(what: What) -> Order {
    match what {
        What::Prepare(new) => Order::Prepare(of_new(new)),
        What::Rotate(new) => Order::Rotate(of_new(new)),
        What::Activate(_) => Order::Activate,
        What::Retire(_) => Order::Retire,
        What::Abort(_) => Order::Abort,
        What::RollBack(_) => Order::RollBack,
        What::Taint(taint) => Order::Taint(match taint.authority.as_str() {
            "" => None,
            id => Some(AuthorityId::from(id)),
        }),
    }
}

fn of_new(new: admin::New) -> NewOrder {
    let files: HashMap<_, _> =
        new.files.into_iter().map(|(name, value)| (name, Zeroizing::new(value))).collect();
    let window = (new.window_ms > 0).then(|| Duration::from_millis(new.window_ms));
    NewOrder { files, cross_sign: new.cross_sign, window }
}

/// Operators are told everything: they are admitted, and have to act on it.
fn status(error: &NotDone) -> Status {
    match error {
        NotDone::NotNow(_) | NotDone::Keeper(KeeperError::Refused(_)) => {
            Status::failed_precondition(error.to_string())
        }
        NotDone::Never(_) => Status::invalid_argument(error.to_string()),
        NotDone::Keeper(KeeperError::Busy(_) | KeeperError::Store(_)) => {
            Status::unavailable(error.to_string())
        }
        NotDone::Keeper(KeeperError::Gone(_) | KeeperError::Unfit(_)) => {
            Status::failed_precondition(error.to_string())
        }
    }
}

fn document<T: Serialize>(content: &T) -> Result<Response<Document>, Status> {
    let json = serde_json::to_string(content).map_err(|error| Status::internal(error.to_string()))?;
    Ok(Response::new(Document { json }))
}

/// What somebody calls themselves, without what could begin a line of its own, and not without end.
fn one_line(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}
