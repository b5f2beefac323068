//! What does a decision cost, and how does that grow with the number of policies?
//!
//! For each kind of match, and a mix, sets of 1 to 100,000 policies with one rule each are compiled, and asked about requests of which
//! half match one policy and half match none; the cost counts everything from the request's parts to the decision. Beside it, in the
//! same run, walking through the same policies, which is what a linear evaluator does. A figure is the median of several batches; the
//! growth exponent is the slope of log time over log count, from 10 policies up.
//!
//! Before anything is timed, both must decide alike. Then, how soon a change is in force (`updates`), and what the same policies cost
//! in a real Envoy (`envoy`).

#![allow(missing_docs, reason = "a bench has no readers of its API")]
#![allow(
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "a bench reads the real clock, and fails by panicking"
)]

mod envoy;
mod shapes;
#[path = "../../tests/support/mod.rs"]
mod support;
mod updates;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use burgrave::authz::PolicySet;
use burgrave::authz::model::Policy;
use burgrave::authz::walk;
use shapes::Asked;
use shapes::Shape;
use support::figure;

const COUNTS: [usize; 6] = [1, 10, 100, 1_000, 10_000, 100_000];
const REQUESTS: usize = 64;
const BATCHES: usize = 9;
const BATCH: Duration = Duration::from_millis(8);

fn main() {
    let mut worst: f64 = 0.0;
    let mut gain: f64 = f64::INFINITY;
    println!(
        "ns for a decision, by the number of policies; the last column is what walking through them costs"
    );
    for shape in shapes::ALL {
        let points: Vec<Point> = COUNTS.iter().map(|count| measure(shape, *count)).collect();
        let exponent = slope(&points[1..].iter().map(|one| (one.count as f64, one.ns)).collect::<Vec<_>>());
        let row: Vec<String> = points.iter().map(|one| format!("{:>8.0}", one.ns)).collect();
        let last = &points[COUNTS.len() - 1];
        println!(
            "{:>20} {}  exponent {exponent:>5.2}  {:>6.0} B/policy  compile {:>6.1} ms  walk {:>9.0} ns",
            format!("{shape:?}"),
            row.join(""),
            last.bytes,
            last.compile.as_secs_f64() * 1e3,
            last.walk_ns
        );
        if shape.is_adversarial() {
            // How much less each further policy costs than in a walk.
            gain = gain.min((last.walk_ns - points[1].walk_ns) / (last.ns - points[1].ns).max(1.0));
        } else {
            worst = worst.max(exponent);
        }
        if shape == Shape::Mix {
            for one in &points {
                figure(&format!("decide_ns_{}", one.count), format!("{:.0}", one.ns), "ns");
            }
            figure("decide_growth_exponent", format!("{exponent:.3}"), "exponent");
            figure("decide_linear_over_ours_100000", format!("{:.0}", last.walk_ns / last.ns), "ratio");
            figure("decide_bytes_per_policy", format!("{:.0}", last.bytes), "B");
            figure(
                "decide_compile_us_per_policy",
                format!("{:.2}", last.compile.as_secs_f64() * 1e6 / last.count as f64),
                "us",
            );
        }
    }
    figure("decide_growth_exponent_worst", format!("{worst:.3}"), "exponent");
    figure("decide_adversarial_gain", format!("{gain:.0}"), "ratio");
    updates::measure();
    envoy::measure();
}

struct Point {
    count: usize,
    ns: f64,
    walk_ns: f64,
    bytes: f64,
    compile: Duration,
}

fn measure(shape: Shape, count: usize) -> Point {
    let policies = shape.policies(count);
    let started = Instant::now();
    let set = PolicySet::new(policies.clone());
    let compile = started.elapsed();
    // Spread over the whole set; every other one is beyond its end.
    let asked: Vec<Asked> = (0..REQUESTS)
        .map(|at| Asked::of(shape, at / 2 * count / (REQUESTS / 2) + at % 2 * 200_000))
        .collect();
    agree(&policies, &set, &asked);
    let ns = median_ns(BATCHES, BATCH, || {
        for asked in &asked {
            black_box(asked.ask(|request| set.decide(black_box(request))));
        }
    }) / REQUESTS as f64;
    let few = &asked[..4];
    let walk_ns = median_ns(3, Duration::from_millis(1), || {
        for asked in few {
            black_box(asked.ask(|request| walk(&policies, black_box(request))));
        }
    }) / few.len() as f64;
    Point { count, ns, walk_ns, bytes: set.size() as f64 / count as f64, compile }
}

/// Without this no figure means anything.
fn agree(policies: &[Arc<Policy>], set: &PolicySet, asked: &[Asked]) {
    for asked in asked.iter().take(8) {
        asked.ask(|request| {
            assert_eq!(set.decide(request), walk(policies, request));
        });
    }
}

/// The time of one call, as the median of `batches` batches that each last at least `least`.
fn median_ns(batches: usize, least: Duration, mut call: impl FnMut()) -> f64 {
    call();
    let mut times: Vec<f64> = (0..batches)
        .map(|_| {
            let (started, mut calls) = (Instant::now(), 0);
            while calls == 0 || started.elapsed() < least {
                call();
                calls += 1;
            }
            started.elapsed().as_secs_f64() * 1e9 / f64::from(calls)
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// The least-squares slope of log y over log x.
fn slope(points: &[(f64, f64)]) -> f64 {
    let logs: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
    let count = logs.len() as f64;
    let (mean_x, mean_y) =
        (logs.iter().map(|(x, _)| x).sum::<f64>() / count, logs.iter().map(|(_, y)| y).sum::<f64>() / count);
    let covariance: f64 = logs.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    covariance / logs.iter().map(|(x, _)| (x - mean_x).powi(2)).sum::<f64>()
}
