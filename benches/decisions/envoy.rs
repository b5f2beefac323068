//! What do the same policies cost in a real Envoy?
//!
//! An Envoy with one worker answers by itself; CPU time of its process is counted for some thousands of requests on one connection,
//! with the filters made of 0, 100, 1,000 and 5,000 policies of one path each, none of which matches. What it costs more than without
//! policies is beside what the engine takes for the same sets and the same request.

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use burgrave::authz::PolicySet;
use burgrave::authz::envoy::Filter;
use burgrave::authz::envoy::Layer;
use burgrave::authz::envoy::Options;
use burgrave::authz::envoy::compile;
use burgrave::authz::model::Action;
use burgrave::authz::model::Policy;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::median_ns;
use crate::shapes::Asked;
use crate::shapes::Shape;
use crate::support::envoy::Envoy;
use crate::support::figure;
use crate::support::ports;
use crate::support::scratch;

const COUNTS: [usize; 3] = [100, 1_000, 5_000];
const REQUESTS: usize = 4_000;
const ROUNDS: usize = 5;
/// Clock ticks in a second, as Linux shows CPU time to programs.
const TICKS: f64 = 100.0;

pub fn measure() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
    let bare = runtime.block_on(us_for_a_request(&[]));
    println!("Envoy takes {bare:.1} us of CPU for a request without policies");
    for count in COUNTS {
        let policies: Vec<Arc<Policy>> = Shape::Path
            .policies(count)
            .into_iter()
            .map(|policy| Arc::new(Policy { action: Action::Deny, ..Policy::clone(&policy) }))
            .collect();
        let more = runtime.block_on(us_for_a_request(&policies)) - bare;
        let set = PolicySet::new(policies);
        let asked = Asked::of(Shape::Path, 200_000);
        let ours = median_ns(9, Duration::from_millis(8), || {
            std::hint::black_box(asked.ask(|request| set.decide(std::hint::black_box(request))));
        });
        figure(&format!("envoy_more_us_{count}"), format!("{more:.1}"), "us");
        figure(&format!("envoy_over_decide_{count}"), format!("{:.0}", more * 1e3 / ours), "ratio");
    }
}

/// CPU time of an Envoy with these policies, for a request; the least of several rounds, for whatever else the machine does only adds.
async fn us_for_a_request(policies: &[Arc<Policy>]) -> f64 {
    let chain = compile(policies.iter().map(Arc::as_ref), Layer::Requests, &Options::default());
    let chain = chain.expect("the policies can be said");
    let mut filters: Vec<Value> =
        chain.in_order().map(Filter::to_json).collect::<Result<_, _>>().expect("what is made can be printed");
    filters.push(json!({
        "name": "router",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
    }));
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ports::free()));
    let manager = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    let config = json!({"static_resources": {"listeners": [{
        "name": "inbound",
        "address": {"socket_address": {"address": address.ip(), "port_value": address.port()}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": {
            "@type": manager,
            "stat_prefix": "inbound",
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
                {"match": {"prefix": "/"}, "direct_response": {"status": 200}},
            ]}]},
            "http_filters": filters,
        }}]}],
    }]}});
    let place = scratch("decisions-envoy");
    let envoy = Envoy::start("decisions", &config, &place).await;
    envoy.ready(Duration::from_secs(60)).await;
    let mut connection = TcpStream::connect(address).await.expect("the Envoy listens");
    connection.set_nodelay(true).expect("a connection has options");
    ask(&mut connection, REQUESTS / 4).await;
    let mut least = f64::INFINITY;
    for _ in 0..ROUNDS {
        let before = cpu(envoy.part().pid());
        ask(&mut connection, REQUESTS).await;
        least = least.min((cpu(envoy.part().pid()) - before) * 1e6 / REQUESTS as f64);
    }
    least
}

/// As many requests, one after the other, each of which must come in.
async fn ask(connection: &mut TcpStream, count: usize) {
    let mut buffer = [0; 4096];
    for _ in 0..count {
        connection
            .write_all(b"GET /not/there HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .expect("it takes a request");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let read = connection.read(&mut buffer).await.expect("it answers");
            assert!(read > 0, "the Envoy hung up");
            answer.extend_from_slice(&buffer[..read]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    }
}

/// CPU time of a process until now, in seconds.
fn cpu(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("the process runs");
    let (_, fields) = stat.rsplit_once(')').expect("a name stands in brackets");
    let field = |place: usize| -> f64 {
        fields.split_whitespace().nth(place).expect("it is there").parse().expect("a number")
    };
    (field(11) + field(12)) / TICKS
}
