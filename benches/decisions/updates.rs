//! How soon is a change of one policy among ten thousand in force, and do readers notice?

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use arc_swap::ArcSwap;
use burgrave::authz::Effect;
use burgrave::authz::Library;
use burgrave::authz::Mesh;
use burgrave::authz::PolicySet;
use burgrave::authz::Workload;
use burgrave::authz::resource::Resource;
use serde_json::json;

use crate::shapes::Asked;
use crate::shapes::Shape;
use crate::support::figure;

const POLICIES: usize = 10_000;
const CHANGES: usize = 300;
const BETWEEN: Duration = Duration::from_millis(10);

/// All of them are for one workload, which is the worst that can be.
pub fn measure() {
    let library = Library::new(Mesh::of("td".parse().expect("it is a trust domain")));
    let all = (0..POLICIES).map(|at| policy(at, at)).collect();
    library.replace(burgrave::authz::resource::ResourceKind::AuthorizationPolicy, all);
    library.complete();
    let workload = Workload { namespace: "shop".to_owned(), ..Workload::default() };
    let told = library.follow(&workload);
    let policies = || told.borrow().as_ref().expect("all is known").policies.clone();
    let started = Instant::now();
    let set = Arc::new(ArcSwap::from_pointee(PolicySet::new(policies())));
    let compile = started.elapsed();
    let (idle, _) = read_while(&set, || std::thread::sleep(BETWEEN * 100));
    let (busy, mut visible) = read_while(&set, || {
        let mut visible = Vec::with_capacity(CHANGES);
        for change in 0..CHANGES {
            // One that was for one account is for another, and back again.
            let at = change / 2 * 31 % POLICIES;
            let changed = policy(at, if change % 2 == 0 { at + 1_000_000 } else { at });
            let begun = Instant::now();
            library.set(changed);
            set.store(Arc::new(set.load().with(policies())));
            visible.push(begun.elapsed().as_secs_f64() * 1e3);
            Asked::of(Shape::Principal, at).ask(|request| {
                let expected = if change % 2 == 0 { Effect::Deny } else { Effect::Allow };
                assert_eq!(set.load().decide(request).effect, expected, "a change must be in force");
            });
            std::thread::sleep(BETWEEN);
        }
        visible
    });
    visible.sort_by(f64::total_cmp);
    figure("decide_update_p50_ms", format!("{:.2}", visible[visible.len() / 2]), "ms");
    figure("decide_update_p99_ms", format!("{:.2}", visible[visible.len() * 99 / 100]), "ms");
    figure("decide_compile_10000_ms", format!("{:.1}", compile.as_secs_f64() * 1e3), "ms");
    figure("decide_readers_p999_over_idle", format!("{:.2}", busy / idle), "ratio");
}

/// Decides again and again on another thread while `work` is done; the time that one in a thousand of these takes longer than.
fn read_while<T>(set: &Arc<ArcSwap<PolicySet>>, work: impl FnOnce() -> T) -> (f64, T) {
    let stop = Arc::new(AtomicBool::new(false));
    let reader = std::thread::spawn({
        let (set, stop) = (Arc::clone(set), Arc::clone(&stop));
        move || {
            let asked: Vec<Asked> = (0..64).map(|at| Asked::of(Shape::Principal, at * 151)).collect();
            let mut times = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                for asked in &asked {
                    let begun = Instant::now();
                    asked.ask(|request| std::hint::black_box(set.load().decide(request)));
                    times.push(begun.elapsed().as_nanos());
                }
                std::thread::yield_now();
            }
            times.sort_unstable();
            times[times.len() * 999 / 1000] as f64
        }
    });
    let done = work();
    stop.store(true, Ordering::Relaxed);
    (reader.join().expect("it reads until it is told to stop"), done)
}

fn policy(at: usize, account: usize) -> Resource {
    let principal = format!("td/ns/n{}/sa/account-{account}", account % 500);
    let object = json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": {"namespace": "shop", "name": format!("p{at:06}")},
        "spec": {"rules": [{"from": [{"source": {"principals": [principal]}}]}]},
    });
    Resource::read(&object).expect("it is a policy")
}
