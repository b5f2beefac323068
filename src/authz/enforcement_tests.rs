//! Proxies that come, answer, refuse and leave.

use serde_json::json;

use super::*;
use crate::authz::apply::apply;
use crate::authz::parts::names;
use crate::authz::resource::Resource;
use crate::authz::workload::Mesh;
use crate::authz::workload::Workload;
use crate::sds::Resources;

const POLITE: Duration = Duration::from_secs(15);

/// Has these paths be denied, and those allowed, under this version.
fn aim(all: &Enforcement, version: &str, deny: &str, allow: &str) {
    let policy = |action: &str, path: &str| {
        Resource::read(&json!({
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": {"namespace": "shop", "name": action.to_lowercase()},
            "spec": {"action": action, "rules": [{"to": [{"operation": {"paths": [path]}}]}]},
        }))
        .unwrap()
    };
    let workload = Workload { namespace: "shop".to_owned(), ..Workload::default() };
    let objects = [policy("DENY", deny), policy("ALLOW", allow)];
    let applied = apply(&objects, &workload, &Mesh::of("td".parse().unwrap()));
    let of = |layer| Arc::new(Compiled::new(&applied, layer).unwrap());
    all.aim(&version.into(), of(Layer::Requests), of(Layer::Connections));
}

/// A stream of a proxy, and what is offered on it.
struct Stream {
    name: &'static str,
    served: Served<Extensions>,
}

impl Stream {
    fn open(all: &Enforcement, node: &str, name: &'static str) -> Self {
        let hello = Hello { node: node.to_owned(), names: vec![name.to_owned()], version: String::new() };
        Self { name, served: all.serve(&hello) }
    }

    fn offered(&self) -> Option<Version> {
        self.served.resources.borrow().offer().get(self.name).cloned()
    }

    fn answers(&self, refusal: Option<&str>) {
        let version = self.offered().unwrap();
        self.served.ear.as_ref().unwrap().answered(self.name, &version, refusal.map_or(Ok(()), Err));
    }
}

fn proxy(all: &Enforcement, node: &str) -> [Stream; 3] {
    [names::TOKENS, names::DENY, names::ALLOW].map(|name| Stream::open(all, node, name))
}

fn settle(proxy: &[Stream; 3]) {
    for _ in 0..4 {
        proxy.iter().for_each(|stream| stream.answers(None));
    }
}

#[test]
fn a_proxy_is_offered_nothing_before_there_are_policies_and_all_of_it_once_all_its_filters_have_asked() {
    let all = Enforcement::default();
    let streams = proxy(&all, "web");
    assert!(streams.iter().all(|stream| stream.offered().is_none()));
    aim(&all, "1", "/a", "/b");
    assert!(streams.iter().all(|stream| stream.offered().is_some()));
    assert_eq!((all.progress(POLITE).standing.waiting, all.progress(POLITE).version), (3, Some("1".into())));
    settle(&streams);
    assert_eq!(all.progress(POLITE).standing, Standing { is_anybody_seen: true, ..Standing::default() });
    // One that lacks a filter stays closed, for as long as it does.
    let lone = Stream::open(&all, "db", names::NETWORK_ALLOW);
    assert_eq!(lone.offered(), None);
    let later = all.started.elapsed() + PATIENCE;
    all.desk().look(later);
    assert_eq!(lone.offered(), None);
    let _other = Stream::open(&all, "db", names::NETWORK_DENY);
    assert!(lone.offered().is_some());
}

#[test]
fn each_proxy_crosses_by_itself_and_who_is_slow_holds_up_nobody_else() {
    let all = Enforcement::default();
    aim(&all, "1", "/a", "/b");
    let (quick, slow) = (proxy(&all, "quick"), proxy(&all, "slow"));
    settle(&quick);
    settle(&slow);
    aim(&all, "2", "/c", "/d");
    settle(&quick);
    let standing = all.progress(Duration::ZERO).standing;
    assert_eq!((standing.waiting, standing.silent_nodes), (2, vec!["slow".to_owned()]));
    assert_ne!(quick[2].offered(), slow[2].offered());
    settle(&slow);
    assert_eq!(quick[2].offered(), slow[2].offered());
    assert_eq!(all.progress(POLITE).standing.waiting, 0);
    // Nobody is on the way from the first set any more.
    assert_eq!(
        {
            all.desk().look(Duration::ZERO);
            all.desk().known.len()
        },
        2
    );
}

#[test]
fn who_refuses_is_named_with_the_reason_until_there_are_other_policies() {
    let all = Enforcement::default();
    aim(&all, "1", "/a", "/b");
    let streams = proxy(&all, "web");
    settle(&streams);
    let before = streams.each_ref().map(Stream::offered);
    aim(&all, "2", "/c", "/d");
    streams[1].answers(Some("no"));
    let standing = all.progress(POLITE).standing;
    assert_eq!((standing.refusals, standing.refusal), (1, Some(("web".to_owned(), "no".to_owned()))));
    assert_eq!(streams.each_ref().map(Stream::offered), before);
    aim(&all, "3", "/a", "/d");
    settle(&streams);
    assert_eq!((all.progress(POLITE).standing.refusals, all.progress(POLITE).standing.waiting), (0, 0));
}

#[test]
fn a_proxy_that_left_on_the_way_is_waited_for_and_then_forgotten() {
    let all = Enforcement::default();
    aim(&all, "1", "/a", "/b");
    let streams = proxy(&all, "web");
    settle(&streams);
    aim(&all, "2", "/c", "/d");
    drop(streams);
    assert_eq!(all.progress(POLITE).standing.waiting, 1);
    let later = all.started.elapsed() + FORGOTTEN_AFTER;
    all.desk().look(later);
    assert_eq!(all.progress(POLITE).standing.waiting, 0);
}

#[test]
fn who_asks_for_what_is_not_served_is_told_nothing_and_waited_for_by_nobody() {
    let all = Enforcement::default();
    aim(&all, "1", "/a", "/b");
    let stream = Stream::open(&all, "odd", "something");
    assert_eq!((stream.offered(), all.progress(POLITE).standing.waiting), (None, 0));
    assert!(stream.served.resources.has_changed().is_ok(), "its stream stays open");
}
