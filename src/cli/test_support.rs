//! A CA that says what it is told to say, on a socket of its own.

use std::collections::VecDeque;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;

use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio_stream::Stream;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic::Response;
use tonic::Status;

use crate::cli::console::Console;
use crate::cli::reach::RawReach;
use crate::cli::reach::Reach;
use crate::config::Output;
use crate::proto::admin::Document;
use crate::proto::admin::ExportRequest;
use crate::proto::admin::ExportResponse;
use crate::proto::admin::ReadersRequest;
use crate::proto::admin::StatusRequest;
use crate::proto::admin::Step;
use crate::proto::admin::authorities_server::Authorities;
use crate::proto::admin::authorities_server::AuthoritiesServer;
use crate::rotation::report::Authority;
use crate::rotation::report::Bundle;
use crate::rotation::report::Leaf;
use crate::rotation::report::Past;
use crate::rotation::report::Phase;
use crate::rotation::report::Reader;
use crate::rotation::report::Readers;
use crate::rotation::report::Replica;
use crate::rotation::report::Report;
use crate::rotation::report::Root;
use crate::rotation::report::Rotation;
use crate::rotation::report::Waiting;

pub(super) const OLD: &str = "0123456789abcdef";
pub(super) const NEW: &str = "fedcba9876543210";
pub(super) const NOW: &str = "2026-10-01T12:00:00Z";
pub(super) const BEGAN: &str = "2026-10-01T11:58:00Z";

fn text(text: &str) -> String {
    text.to_owned()
}

fn authority(id: &str, stage: &str, in_use_by: usize) -> Authority {
    Authority {
        id: text(id),
        subject: text("O=cluster.local"),
        stage: text(stage),
        root: format!("{id}root"),
        expires_at: text("2027-10-01T12:00:00Z"),
        in_use_by,
        ..Authority::default()
    }
}

/// Nothing is under way.
pub(super) fn report_at_rest() -> Report {
    let replica = |name| Replica { name: text(name), sequence: 7, signs_with: text(OLD) };
    Report {
        at: text(NOW),
        trust_domain: text("cluster.local"),
        place: text("Secret `mesh/burgrave-authority`"),
        can_rotate: true,
        bundle: Bundle {
            sequence: 7,
            digest: text("d7"),
            roots: vec![Root {
                fingerprint: format!("{OLD}root"),
                subject: text("O=cluster.local"),
                expires_at: text("2027-10-01T12:00:00Z"),
                authority: Some(text(OLD)),
            }],
            pem: String::new(),
        },
        active: text(OLD),
        authorities: vec![authority(OLD, "active", 41)],
        rotation: None,
        last: Some(Past {
            kind: text("ordered"),
            by: text("alice"),
            outcome: text("done"),
            began_at: text("2026-09-30T11:58:55Z"),
            ended_at: text("2026-09-30T12:00:00Z"),
            took_s: 65.0,
            distribute_s: Some(1.2),
            reissue_s: Some(60.0),
            withdraw_s: Some(0.5),
            removed: vec![text("00000000000000aa")],
            forced: vec![],
        }),
        replicas: vec![replica("ca-0"), replica("ca-1")],
        readers: [(text("agent"), 38), (text("client"), 3), (text("pod"), 0)].into(),
        published: text("done"),
        next_scheduled: Some(text("2027-01-01T00:00:00Z")),
        troubles: vec![text("ConfigMap `shop/istio-ca-root-cert` cannot be written")],
    }
}

/// A rotation that is in `phase`, and has `done` of `total` readers behind it.
pub(super) fn report_in(phase: &str, done: usize, total: usize) -> Report {
    let order = ["distribute", "reissue", "withdraw"];
    let place = order.iter().position(|name| *name == phase).unwrap();
    let phases = order.iter().enumerate().map(|(at, name)| Phase {
        name: text(name),
        state: text(match at.cmp(&place) {
            std::cmp::Ordering::Less => "done",
            std::cmp::Ordering::Equal => "now",
            std::cmp::Ordering::Greater => "later",
        }),
        done: if at == place { done } else { 0 },
        total: if at == place { total } else { 0 },
        took_s: (at <= place).then_some(1.2),
    });
    let slow = Waiting {
        who: text("spiffe://cluster.local/ns/shop/sa/web"),
        pod: Some(text("shop/web-1")),
        node: Some(text("n1")),
        kind: text("agent"),
        why: text("was sent the roots and has not acknowledged them"),
        until: None,
    };
    let gone = Waiting {
        who: text("spiffe://cluster.local/ns/shop/sa/old"),
        pod: None,
        node: None,
        kind: text("agent"),
        why: text("is disconnected"),
        until: Some(text("2026-10-01T13:00:00Z")),
    };
    let left = total - done;
    let stages = [("active", "prepared"), ("retiring", "active"), ("retired", "active")];
    let (old, new) = stages[place];
    let rest = report_at_rest();
    Report {
        active: text(if place == 0 { OLD } else { NEW }),
        authorities: vec![authority(OLD, old, left), authority(NEW, new, done)],
        bundle: Bundle {
            sequence: if place == 2 { 9 } else { 8 },
            digest: text("d8"),
            ..rest.bundle.clone()
        },
        rotation: Some(Rotation {
            kind: text("ordered"),
            by: text("alice"),
            automatic: true,
            rolled_back: false,
            window_s: 60.0,
            began_at: text(BEGAN),
            phase: text(phase),
            phases: phases.collect(),
            waiting: [slow, gone].into_iter().take(left).collect(),
            waiting_total: left,
            forced: vec![],
            estimate: Some(text("2026-10-01T12:10:00Z")),
        }),
        troubles: vec![],
        ..rest
    }
}

/// The rotation of [`report_in`] has ended.
pub(super) fn report_after(outcome: &str) -> Report {
    let rest = report_at_rest();
    let past = Past {
        outcome: text(outcome),
        began_at: text(BEGAN),
        ended_at: text("2026-10-01T12:00:30Z"),
        took_s: 150.0,
        removed: vec![text(OLD)],
        ..rest.last.clone().unwrap()
    };
    Report {
        at: text("2026-10-01T12:00:31Z"),
        active: text(NEW),
        authorities: vec![authority(NEW, "active", 41)],
        bundle: Bundle { sequence: 9, digest: text("d9"), ..rest.bundle.clone() },
        last: Some(past),
        ..rest
    }
}

/// Four readers, each different.
pub(super) fn some_readers() -> Readers {
    let leaf = |by: &str| Leaf { authority: text(by), expires_at: text("2026-10-01T18:00:00Z") };
    let reader = |id: &str, account: &str| Reader {
        id: text(id),
        spiffe_id: format!("spiffe://cluster.local/ns/shop/sa/{account}"),
        kind: text("agent"),
        leaves: vec![leaf(OLD)],
        ..Reader::default()
    };
    Readers {
        at: text(NOW),
        sequence: 7,
        digest: text("d7"),
        active: text(OLD),
        readers: vec![
            Reader {
                pod: Some(text("shop/web-1")),
                node: Some(text("n1")),
                connected: true,
                connected_since: Some(text("2026-10-01T09:00:00Z")),
                sent: Some(text("d7")),
                acknowledged: Some(text("d7")),
                is_current: true,
                ..reader("a1", "web")
            },
            Reader {
                pod: Some(text("shop/web-2")),
                node: Some(text("n2")),
                connected: true,
                connected_since: Some(text("2026-10-01T11:00:00Z")),
                sent: Some(text("d7")),
                acknowledged: Some(text("d6")),
                last_nack: Some(text("proxy envoy-2: it has no room")),
                ..reader("a2", "web")
            },
            Reader {
                lost_at: Some(text("2026-10-01T11:30:00Z")),
                acknowledged: Some(text("d6")),
                ..reader("a3", "old")
            },
            Reader { kind: text("client"), ..reader("c1", "batch") },
        ],
    }
}

/// Where a console of a test writes.
#[derive(Clone, Default)]
pub(super) struct Page(Arc<Mutex<Vec<u8>>>);

impl Page {
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A console, and what comes out of it: results and remarks.
pub(super) fn console(output: Output) -> (Console, Page, Page) {
    let (results, remarks) = (Page::default(), Page::default());
    (Console::of_test(results.clone(), remarks.clone(), output), results, remarks)
}

/// What a CA answers to an order.
pub(super) type Answer = Result<Report, Status>;

/// The inside of a false CA.
pub(super) struct Inside {
    /// How things stand.
    pub(super) stands: watch::Sender<Report>,
    readers: Readers,
    answers: Mutex<VecDeque<Answer>>,
    /// The orders that came.
    orders: Mutex<Vec<Step>>,
    passphrases: Mutex<Vec<String>>,
}

/// A false CA. It stays on its socket until it is dropped.
pub(super) struct FalseCa {
    pub(super) directory: PathBuf,
    pub(super) inside: Arc<Inside>,
    stop: Mutex<CancellationToken>,
}

struct Served(Arc<Inside>, CancellationToken);

impl FalseCa {
    /// A CA that stands as `report` says, in a directory of its own called `name`.
    pub(super) async fn start(name: &str, report: Report) -> Self {
        let directory = std::env::temp_dir().join(format!("burgrave-cli-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).unwrap();
        let inside = Arc::new(Inside {
            stands: watch::channel(report).0,
            readers: some_readers(),
            answers: Mutex::default(),
            orders: Mutex::default(),
            passphrases: Mutex::default(),
        });
        let ca = Self { directory, inside, stop: Mutex::default() };
        ca.go_up();
        ca
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.directory.join("admin.sock")
    }

    /// Serves.
    pub(super) fn go_up(&self) {
        let _ = std::fs::remove_file(self.socket());
        let listener = UnixListener::bind(self.socket()).unwrap();
        let stop = CancellationToken::new();
        *self.stop.lock().unwrap() = stop.clone();
        let served = AuthoritiesServer::new(Served(self.inside.clone(), stop.clone()));
        tokio::spawn(async move {
            let serving =
                tonic::transport::Server::builder().add_service(served).serve_with_incoming_shutdown(
                    UnixListenerStream::new(listener),
                    stop.clone().cancelled_owned(),
                );
            serving.await.unwrap();
        });
    }

    /// Ends every stream, and serves nobody.
    pub(super) fn go_down(&self) {
        self.stop.lock().unwrap().cancel();
        let _ = std::fs::remove_file(self.socket());
    }

    /// What the next orders are answered by; then by how things stand.
    pub(super) fn will_answer(&self, answers: impl IntoIterator<Item = Answer>) {
        self.inside.answers.lock().unwrap().extend(answers);
    }

    pub(super) fn orders(&self) -> Vec<Step> {
        self.inside.orders.lock().unwrap().clone()
    }

    pub(super) fn passphrases(&self) -> Vec<String> {
        self.inside.passphrases.lock().unwrap().clone()
    }

    /// A way to it.
    pub(super) async fn reach(&self) -> Reach {
        reach(&self.socket()).await
    }
}

impl Drop for FalseCa {
    fn drop(&mut self) {
        self.go_down();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

pub(super) async fn reach(socket: &Path) -> Reach {
    RawReach::by_socket(socket).resolve().await.unwrap()
}

fn document(value: &impl serde::Serialize) -> Document {
    Document { json: serde_json::to_string(value).unwrap() }
}

#[tonic::async_trait]
impl Authorities for Served {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<Document, Status>> + Send>>;

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<Document>, Status> {
        Ok(Response::new(document(&*self.0.stands.borrow())))
    }

    async fn watch(&self, _: Request<StatusRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let mut changes = WatchStream::new(self.0.stands.subscribe()).map(|report| Ok(document(&report)));
        let (tx, rx) = mpsc::channel(8);
        let stop = self.1.clone();
        tokio::spawn(async move {
            loop {
                let next = tokio::select! {
                    next = changes.next() => next,
                    () = stop.cancelled() => Some(Err(Status::unavailable("the CA ends"))),
                };
                let Some(next) = next else { return };
                let is_last = next.is_err();
                if tx.send(next).await.is_err() || is_last {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(rx))))
    }

    async fn readers(&self, _: Request<ReadersRequest>) -> Result<Response<Document>, Status> {
        Ok(Response::new(document(&self.0.readers)))
    }

    async fn act(&self, step: Request<Step>) -> Result<Response<Document>, Status> {
        self.0.orders.lock().unwrap().push(step.into_inner());
        let answer = self.0.answers.lock().unwrap().pop_front();
        let report = match answer {
            Some(Ok(report)) => {
                self.0.stands.send_replace(report.clone());
                report
            }
            Some(Err(status)) => return Err(status),
            None => self.0.stands.borrow().clone(),
        };
        Ok(Response::new(document(&report)))
    }

    async fn export(&self, request: Request<ExportRequest>) -> Result<Response<ExportResponse>, Status> {
        self.0.passphrases.lock().unwrap().push(request.into_inner().passphrase);
        Ok(Response::new(ExportResponse { sealed: "-----BEGIN AGE ENCRYPTED FILE-----\n".to_owned() }))
    }
}
