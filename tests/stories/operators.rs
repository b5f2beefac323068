//! Who may look at the authorities and rotate them: whom Kubernetes allows it, over TLS; the CA's own user, on its Unix socket.

use crate::ca::Ca;
use crate::ca::Plan;
use crate::ca::binary;
use crate::ca::channel;
use crate::ca::trusting;
use crate::ca::until;
use crate::home;
use crate::home::Home;
use crate::operator::Operator;
use crate::support::scratch;
use crate::support::write_private;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use burgrave::proto::admin::Document;
use burgrave::proto::admin::ExportRequest;
use burgrave::proto::admin::ExportResponse;
use burgrave::proto::admin::New;
use burgrave::proto::admin::Nothing;
use burgrave::proto::admin::StatusRequest;
use burgrave::proto::admin::Step;
use burgrave::proto::admin::Taint;
use burgrave::proto::admin::authorities_client::AuthoritiesClient;
use burgrave::proto::admin::step::What;
use burgrave::rotation::report::Report;
use tonic::Code;
use tonic::Request;
use tonic::Status;
use tonic::transport::Channel;

/// A user who is neither root nor the one that runs a CA.
const NOBODY: u32 = 65534;

/// Somebody who calls a CA over TLS, perhaps with a token.
pub(crate) struct Caller {
    client: AuthoritiesClient<Channel>,
    token: Option<String>,
}

impl Caller {
    pub(crate) fn new(plan: &Plan, token: Option<String>) -> Caller {
        let tls = trusting(&plan.root_pem(), rustls::ALL_VERSIONS);
        Caller { client: AuthoritiesClient::new(channel(plan.api, tls)), token }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            let value = format!("Bearer {token}").parse().expect("a story's token is ASCII");
            request.metadata_mut().insert("authorization", value);
        }
        request
    }

    pub(crate) async fn status(&self) -> Result<Report, Status> {
        let request = self.request(StatusRequest {});
        self.client.clone().status(request).await.map(|answer| report(&answer.into_inner()))
    }

    async fn order(&self, what: What) -> Result<Report, Status> {
        // What callers name themselves is not asked where Kubernetes says who they are.
        let step = Step { what: Some(what), by: "the king".to_owned(), ..Step::default() };
        let request = self.request(step);
        self.client.clone().act(request).await.map(|answer| report(&answer.into_inner()))
    }

    async fn export(&self) -> Result<ExportResponse, Status> {
        let request = self.request(ExportRequest { passphrase: "correct horse battery staple".to_owned() });
        self.client.clone().export(request).await.map(tonic::Response::into_inner)
    }
}

fn report(document: &Document) -> Report {
    serde_json::from_str(&document.json).expect("it is a report")
}

/// Every step, with its verb.
fn steps() -> [(&'static str, What); 7] {
    [
        ("prepare", What::Prepare(New::default())),
        ("rotate", What::Rotate(New::default())),
        ("activate", What::Activate(Nothing {})),
        ("retire", What::Retire(Nothing {})),
        ("abort", What::Abort(Nothing {})),
        ("rollback", What::RollBack(Nothing {})),
        ("taint", What::Taint(Taint::default())),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_an_operator_may_rotate_a_viewer_may_look_and_nobody_else_may_anything() {
    let home = Home::start().await;
    let quick = ["--bundle-refresh=1s"];
    let (one, two) = (home.replica(&quick).await, home.replica(&quick).await);
    for (account, role) in [("operator", "burgrave-operator"), ("viewer", "burgrave-viewer")] {
        home.client_of(account, role).await;
    }
    let people = home.api.namespace("people").await;
    people.service_account("stranger").await;
    let stranger = people.token("stranger", None, crate::support::apiserver::ISSUER, 600).await;
    let operator = home::token(&home.api, "operator").await;
    let viewer = home::token(&home.api, "viewer").await;
    let by = |ca: &Ca, token: &str| Caller::new(ca.plan(), Some(token.to_owned()));

    // Both may look, at whichever replica.
    let before = until("the right to look", Duration::from_secs(20), async || {
        by(&one, &viewer).status().await.map_err(|error| error.to_string())
    })
    .await;
    assert_eq!(by(&two, &operator).status().await.expect("an operator may look").active, before.active);
    assert!(before.can_rotate && before.rotation.is_none() && before.troubles.is_empty(), "{before:#?}");

    // A viewer is told what it takes to do more; a stranger what it takes even to look.
    for (verb, what) in steps() {
        let refused = by(&one, &viewer).order(what).await.expect_err("a viewer changes nothing");
        is_denied(&refused, "system:serviceaccount:burgrave-system:viewer", verb);
    }
    let refused = by(&one, &viewer).export().await.expect_err("a viewer gets no keys");
    is_denied(&refused, "system:serviceaccount:burgrave-system:viewer", "export");
    let refused = by(&one, &stranger).status().await.expect_err("a stranger sees nothing");
    is_denied(&refused, &format!("system:serviceaccount:{}:stranger", people.name), "get");

    // Without a token, with one that nobody made, and with one that is meant for the CA's agents, it is nobody who calls.
    let for_agents = people.token("stranger", None, crate::ca::AUDIENCE, 600).await;
    for token in [None, Some("nonsense".to_owned()), Some(for_agents)] {
        let nobody = Caller::new(one.plan(), token);
        assert_eq!(nobody.status().await.expect_err("nobody sees anything").code(), Code::Unauthenticated);
        let refused = nobody.order(What::Rotate(New::default())).await.expect_err("nobody orders anything");
        assert_eq!(refused.code(), Code::Unauthenticated);
    }
    assert_eq!(by(&one, &viewer).status().await.expect("a viewer may look").rotation, None);

    // What an operator orders of the one replica, both do; and what cannot be done now is a sentence.
    let refused = by(&two, &operator).order(What::Activate(Nothing {})).await.expect_err("there is nothing");
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    let sealed = by(&one, &operator).export().await.expect("an operator may take a copy").sealed;
    assert!(sealed.starts_with("-----BEGIN AGE ENCRYPTED FILE-----"), "{sealed}");

    // The commands do the same, with the token in a file.
    let dir = scratch("operators");
    let typed = |ca: &Ca, name: &str, token: &str| {
        let (root, file) = (dir.join("root.pem"), dir.join(name));
        std::fs::write(&root, ca.plan().root_pem()).expect("a scratch can be written");
        write_private(&file, token);
        Operator::with(&[
            format!("--address=https://{}", ca.plan().api),
            format!("--root-file={}", root.display()),
            format!("--token-file={}", file.display()),
        ])
    };
    let refused = typed(&one, "viewer", &viewer).types(&["root", "rotate"]).await;
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("may not `rotate` authorities.burgrave.dev"), "{refused:?}");
    let rotated = typed(&two, "operator", &operator);
    let rotated = rotated.types(&["root", "rotate", "--timeout=60s", "--output=json"]).await;
    assert_eq!(rotated.code, 0, "{rotated:?}");
    let reports: Vec<Report> = rotated.documents();
    let by_whom = reports.iter().find_map(|report| report.rotation.as_ref()).map(|one| one.by.as_str());
    assert_eq!(by_whom, Some("system:serviceaccount:burgrave-system:operator"));
    until("both replicas to know it", Duration::from_secs(20), async || {
        for ca in [&one, &two] {
            let now = by(ca, &viewer).status().await.map_err(|error| error.to_string())?;
            if now.rotation.is_some() || now.active == before.active {
                return Err(format!("{:#?}", now.rotation));
            }
        }
        Ok(())
    })
    .await;
}

fn is_denied(refused: &Status, who: &str, verb: &str) {
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    for part in [
        format!("`{who}` may not `{verb}` authorities.burgrave.dev"),
        format!("apiGroups [burgrave.dev], resources [authorities], verbs [{verb}]"),
        "deploy/22-rbac-operator.yaml".to_owned(),
    ] {
        assert!(refused.message().contains(&part), "`{part}` is not in: {}", refused.message());
    }
}

/// A directory that every user may look into.
struct Open(PathBuf);

impl Open {
    fn new() -> Open {
        let path = std::env::temp_dir().join(format!("burgrave-door-{}", std::process::id()));
        std::fs::create_dir(&path).expect("a directory can be made");
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("it is ours");
        Open(path)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What somebody else is answered at that socket, in this directory.
fn as_nobody(dir: &Open, socket: &Path) -> String {
    // The program may lie where others cannot look.
    let program = dir.0.join("burgrave");
    std::fs::copy(binary(), &program).expect("a program can be copied");
    std::fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("it is ours");
    let mut command = Command::new(program);
    command.args(["root", "status", "--socket"]).arg(socket).uid(NOBODY).gid(NOBODY).current_dir("/");
    let output = command.output().expect("root can run it as somebody else");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_unix_socket_is_for_the_user_that_runs_the_ca_and_closed_to_others() {
    let dir = Open::new();
    let socket = dir.0.join("admin.sock");
    let home = Home::start().await;
    let ca = home.replica(&[&format!("--admin-socket={}", socket.display())]).await;
    let own = Operator::with(&[format!("--socket={}", socket.display())]);
    assert!(own.status().await.can_rotate, "whoever runs it is served");
    let mode = socket.metadata().expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it is closed to others");
    let said = as_nobody(&dir, &socket);
    assert!(said.contains("ermission denied"), "{said}");

    // Even where somebody has opened the file to all, the CA asks the kernel who calls.
    std::fs::set_permissions(&socket, Permissions::from_mode(0o666)).expect("it is ours");
    let said = as_nobody(&dir, &socket);
    let refusal = format!("uid {NOBODY} may not speak to this CA; it runs as uid 0");
    assert!(said.contains(&refusal), "{said}");

    ca.part().signal("TERM");
    until("the end of the CA", Duration::from_secs(20), async || {
        if ca.part().running() { Err("it runs".to_owned()) } else { Ok(()) }
    })
    .await;
    assert!(!socket.exists(), "a CA that ends takes its socket away");
}
