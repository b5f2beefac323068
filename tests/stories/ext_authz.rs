//! An Envoy that asks our evaluator whether each request may come in.

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use burgrave::authz::JwtIssuer;
use burgrave::authz::Keys;
use burgrave::authz::resource::ResourceId;
use burgrave::authz::resource::ResourceKind;
use serde_json::Value;
use serde_json::json;
use tokio::net::TcpStream;

use crate::asking::Answer;
use crate::asking::Gate;
use crate::asking::KeyServer;
use crate::asking::TokenIssuer;
use crate::asking::exchange;
use crate::asking::get;
use crate::support::figure;
use crate::support::ports;

const ISSUER: &str = "https://issuer.test";

/// So long may keys take to be fetched.
const FETCH: Duration = Duration::from_secs(20);

/// Policies named `name: spec`, in the workload's namespace.
fn policies(specs: &[(&str, Value)]) -> String {
    let policy = |(name, spec): &(&str, Value)| {
        let object = json!({
            "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": {"name": name, "namespace": "shop"}, "spec": spec,
        });
        format!("{object}\n---\n")
    };
    specs.iter().map(policy).collect()
}

fn paths(paths: &[&str]) -> Value {
    json!([{"operation": {"paths": paths}}])
}

fn said(answer: &Answer) -> (u16, Option<&str>) {
    (answer.status, answer.header("x-authz-reason"))
}

fn issuer(keys: SocketAddr) -> JwtIssuer {
    let id = ResourceId {
        kind: ResourceKind::RequestAuthentication,
        namespace: "shop".to_owned(),
        name: "users".to_owned(),
    };
    JwtIssuer {
        by: id,
        index: 0,
        issuer: ISSUER.to_owned(),
        audiences: vec!["shop".to_owned()],
        keys: Keys::At(format!("http://{keys}/jwks")),
        places: Vec::new(),
        is_forwarded: false,
        payload_header: None,
        claim_headers: vec![("x-user".to_owned(), "sub".to_owned())],
        timeout: Duration::from_secs(5),
    }
}

fn claims(life: i64) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970").as_secs();
    let now = i64::try_from(now).expect("it is not that late");
    json!({"iss": ISSUER, "sub": "alice", "aud": "shop", "exp": now + life})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_policies_allow_comes_in_and_all_else_is_told_why_not() {
    let gate = Gate::start("allowing").await;
    // Nothing is received yet: nothing comes in.
    assert_eq!(said(&get(gate.raw, "/public/a", &[]).await), (403, Some("policies_not_received")));

    gate.enforce(
        &policies(&[
            ("public", json!({"rules": [{"to": paths(&["/public/*"])}]})),
            ("no-admins", json!({"action": "DENY", "rules": [{"when": [{"key": "request.headers[x-role]", "values": ["admin"]}]}]})),
        ]),
        vec![],
    );
    let forged = [("x-authz-decision", "forged"), ("x-authz-decision", "twice")];
    let allowed = get(gate.raw, "/public/a?b=c", &forged).await;
    assert_eq!(allowed.status, 200);
    assert_eq!(allowed.got("x-authz-decision"), ["allowed"]);
    assert_eq!(allowed.got(":path"), ["/public/a?b=c"]);

    let missed = get(gate.raw, "/private", &[]).await;
    assert_eq!(said(&missed), (403, Some("no_allowing_rule")));
    assert_eq!(
        (missed.header("x-authz-decision"), &*missed.body),
        (Some("denied"), "access denied: no_allowing_rule\n")
    );

    let denied = get(gate.raw, "/public/denied", &[("x-role", "user"), ("X-Role", "admin")]).await;
    assert_eq!(said(&denied), (403, Some("rule")));
    assert!(!format!("{denied:?}").contains("no-admins"), "clients are not told the names of policies");
    // The access log is.
    let logged = gate.logged("/public/denied").await;
    assert_eq!((&logged["decision"], &logged["policy"]), (&json!("denied"), &json!("shop/no-admins")));
    let logged = gate.logged("/public/a?b=c").await;
    assert_eq!((&logged["decision"], &logged["policy"]), (&json!("allowed"), &json!("shop/public")));

    // A change holds from the next request on, on a connection that is open too.
    let mut stream = TcpStream::connect(gate.raw).await.expect("Envoy listens");
    assert_eq!(exchange(&mut stream, "GET", "/public/a", &[]).await.status, 200);
    gate.enforce(&policies(&[("nothing", json!({}))]), vec![]);
    assert_eq!(said(&exchange(&mut stream, "GET", "/public/a", &[]).await), (403, Some("no_allowing_rule")));
    assert_eq!(gate.envoy.stat("http.raw.ext_authz.error").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn header_lines_that_envoy_has_joined_are_taken_apart_in_nobodys_favour() {
    let gate = Gate::start("joined").await;
    let role = |values: Value| json!([{"when": [{"key": "request.headers[x-role]", "values": values}]}]);
    gate.enforce(
        &policies(&[("no-admins", json!({"action": "DENY", "rules": role(json!(["admin"]))}))]),
        vec![],
    );
    let two = [("x-role", "user"), ("x-role", "admin")];
    assert_eq!(said(&get(gate.raw, "/", &two).await), (403, Some("rule")));
    assert_eq!(said(&get(gate.joined, "/", &two).await), (403, Some("ambiguous_header")));
    // One line with a comma is another thing, and can be told from it only where lines come for themselves.
    let one = [("x-role", "user,admin")];
    assert_eq!(get(gate.raw, "/", &one).await.status, 200);
    assert_eq!(said(&get(gate.joined, "/", &one).await), (403, Some("ambiguous_header")));
    let other = [("x-role", "user"), ("x-role", "guest"), ("accept", "text/html, */*")];
    assert_eq!(get(gate.joined, "/", &other).await.status, 200);

    gate.enforce(&policies(&[("admins", json!({"rules": role(json!(["admin"]))}))]), vec![]);
    assert_eq!(get(gate.raw, "/", &two).await.status, 200);
    assert_eq!(get(gate.joined, "/", &two).await.status, 403);
    assert_eq!(get(gate.joined, "/", &[("x-role", "admin")]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_end_users_are_verified_also_while_their_issuer_is_away() {
    let gate = Gate::start("tokens").await;
    let signer = TokenIssuer::new("first");
    let keys = SocketAddr::from((Ipv4Addr::LOCALHOST, ports::free()));
    let users = json!({"rules": [
        {"from": [{"source": {"requestPrincipals": [format!("{ISSUER}/*")]}}], "to": paths(&["/user"])},
        {"to": paths(&["/public"])},
    ]});
    gate.enforce(&policies(&[("users", users)]), vec![issuer(keys)]);
    let with = async |path: &str, token: &str| {
        let bearer = format!("Bearer {token}");
        get(gate.raw, path, &[("authorization", &bearer), ("x-user", "mallory")]).await
    };
    let good = signer.token(&claims(600));

    // The issuer is away from the start: there are no keys, and none to fall back to.
    assert_eq!(said(&with("/user", &good).await), (401, Some("token_keys_unavailable")));
    assert_eq!(get(gate.raw, "/public", &[]).await.status, 200, "who shows no token needs no keys");

    let key_server = KeyServer::start(keys, signer.jwks()).await;
    let until = Instant::now() + FETCH;
    while with("/user", &good).await.status != 200 {
        assert!(Instant::now() < until, "the keys were not fetched");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let allowed = with("/user", &good).await;
    assert_eq!(allowed.got("x-user"), ["alice"], "what the client says of it does not reach the workload");
    assert_eq!(allowed.got("authorization"), [""; 0], "nor does the token");
    let by_parameter = get(gate.raw, &format!("/user?a=b&access_token={good}"), &[]).await;
    assert_eq!(by_parameter.got(":path"), ["/user?a=b"]);

    // A token that is missing is for policies to ask for; a bad one is refused wherever it is shown.
    let missing = get(gate.raw, "/user", &[("x-user", "mallory")]).await;
    assert_eq!(said(&missing), (403, Some("no_allowing_rule")));
    assert_eq!(get(gate.raw, "/public", &[("x-user", "mallory")]).await.got("x-user"), [""; 0]);
    let mut other = claims(600);
    other["iss"] = json!("https://other.test");
    let mut wrong = claims(600);
    wrong["aud"] = json!("bank");
    for (reason, token) in [
        ("token_malformed", "nonsense".to_owned()),
        ("bad_token_signature", TokenIssuer::new("first").token(&claims(600))),
        ("unknown_token_key", TokenIssuer::new("second").token(&claims(600))),
        ("token_expired", signer.token(&claims(-600))),
        ("unknown_token_issuer", signer.token(&other)),
        ("wrong_token_audience", signer.token(&wrong)),
        ("token_too_long", "a".repeat(20_000)),
    ] {
        let refused = with("/public", &token).await;
        assert_eq!(said(&refused), (401, Some(reason)));
        assert!(refused.header("www-authenticate").is_some());
    }

    // The issuer goes away: its last keys hold. It comes back with others: they are found by the first token that needs them.
    drop(key_server);
    assert_eq!(with("/user", &good).await.status, 200);
    let second = TokenIssuer::new("second");
    let _key_server = KeyServer::start(keys, second.jwks()).await;
    let new = second.token(&claims(600));
    let until = Instant::now() + FETCH;
    while with("/user", &new).await.status != 200 {
        assert!(Instant::now() < until, "the new keys were not fetched");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(
        said(&with("/user", &good).await),
        (401, Some("unknown_token_key")),
        "what is published no more is good no more"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_uri_name_of_the_peers_certificate_counts() {
    let gate = Gate::start("peers").await;
    let from = |principal: &str| json!([{"source": {"principals": [principal]}}]);
    let sni = json!([{"key": "connection.sni", "values": ["store.test"]}]);
    gate.enforce(
        &policies(&[
            (
                "web",
                json!({"rules": [{"from": from("td/ns/shop/sa/web"), "to": paths(&["/web"]), "when": sni}]}),
            ),
            ("not-bad", json!({"action": "DENY", "rules": [{"from": from("td/ns/shop/sa/bad")}]})),
        ]),
        vec![],
    );
    let web = "spiffe://td/ns/shop/sa/web";
    for (uris, expected) in [
        (&[web][..], 200),
        (&["spiffe://td/ns/shop/sa/other", web], 200),
        (&[web, "spiffe://td/ns/shop/sa/bad"], 403),
        (&["spiffe://td/ns/shop/sa/webs"], 403),
        (&[], 403),
    ] {
        let mut stream = gate.authority.connect(gate.tls, uris).await;
        assert_eq!(exchange(&mut stream, "GET", "/web", &[]).await.status, expected, "{uris:?}");
    }
    assert_eq!(get(gate.raw, "/web", &[]).await.status, 403, "who shows no certificate is nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_evaluator_a_proxy_lets_nobody_in() {
    let mut gate = Gate::start("killed").await;
    gate.enforce(&policies(&[("all", json!({"rules": [{}]}))]), vec![]);
    assert_eq!(get(gate.raw, "/", &[]).await.status, 200);
    gate.kill_evaluator();
    for _ in 0..20 {
        assert_eq!(get(gate.raw, "/", &[]).await.status, 403);
    }
    gate.start_evaluator();
    let until = Instant::now() + FETCH;
    while get(gate.raw, "/", &[]).await.status != 200 {
        assert!(Instant::now() < until, "Envoy did not find the evaluator again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_and_large_requests_are_decided_and_what_is_too_large_is_refused() {
    let gate = Gate::start("odd").await;
    gate.enforce(&policies(&[("a", json!({"rules": [{"to": paths(&["/a", "/%61", "/a%2Fb"])}]}))]), vec![]);
    let large = "x".repeat(200_000);
    for (path, lines, expected) in [
        ("/a", &[][..], 200),
        ("/a?/b", &[], 200),
        ("/%61", &[], 200),
        ("/a%2Fb", &[], 200),
        ("/a/", &[], 403),
        ("//a", &[], 403),
        ("/A", &[], 403),
        ("/a;x", &[], 403),
        ("/x/../a", &[], 403),
        ("/a", &[("x-large", &*large)], 200),
        ("/b", &[("x-large", &*large)], 403),
        ("/a", &[("x-odd", "\u{e4}\u{fffd}"), ("x-odd", ""), ("x_odd", ",")], 200),
    ] {
        assert_eq!(get(gate.raw, path, lines).await.status, expected, "{path}");
    }
    // More than the evaluator reads: an error, and with it a no.
    let lines: Vec<_> = (0..6).map(|_| ("x-large", large.as_str())).collect();
    let refused = get(gate.joined, "/a", &lines).await;
    assert_eq!(said(&refused), (403, None));
    assert_eq!(gate.envoy.stat("http.joined.ext_authz.error").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_asking_adds_to_a_request_is_measured() {
    let gate = Gate::start("latency").await;
    gate.enforce(&policies(&[("a", json!({"rules": [{"to": paths(&["/a"])}]}))]), vec![]);
    let mut measured = Vec::new();
    for address in [gate.open, gate.raw] {
        let mut stream = TcpStream::connect(address).await.expect("Envoy listens");
        stream.set_nodelay(true).expect("it is a TCP socket");
        let mut times = Vec::new();
        for round in 0..2200 {
            let start = Instant::now();
            assert_eq!(exchange(&mut stream, "GET", "/a", &[]).await.status, 200);
            if round >= 200 {
                times.push(start.elapsed().as_micros());
            }
        }
        times.sort_unstable();
        measured.push([times[times.len() / 2], times[times.len() * 99 / 100]]);
    }
    let [open, asking] = [measured[0], measured[1]];
    for (name, at) in [("p50", 0), ("p99", 1)] {
        figure(&format!("ext_authz_added_{name}_us"), asking[at].saturating_sub(open[at]), "us");
    }
}
