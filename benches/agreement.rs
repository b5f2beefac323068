//! The long run of the agreement with a real Envoy: any number of pairs of policies and requests, from a seed of its own each time.
//!
//! `cargo bench --bench agreement -- 1000000` tries so many; a second number is the seed. Without numbers it tries as many as the
//! story of the same name.

#![allow(missing_docs, reason = "a bench has no readers of its API")]
#![allow(
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    dead_code,
    reason = "a bench reads the real clock, and fails by panicking"
)]

#[path = "../tests/agreement/mod.rs"]
mod agreement;
#[path = "../tests/stories/crafted.rs"]
mod crafted;
#[path = "../tests/support/mod.rs"]
mod support;

use std::time::Instant;

use agreement::Form;
use support::figure;

/// Without a number.
const PAIRS: usize = 20_000;
/// Between two lines that say how far it is, and a fresh Envoy.
const STRETCH: usize = 100_000;

#[tokio::main]
async fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<u64>().ok());
    let wanted = numbers.next().and_then(|count| usize::try_from(count).ok()).unwrap_or(PAIRS);
    let seed = numbers.next().unwrap_or_else(random);
    let start = Instant::now();
    let (mut pairs, mut connections, mut stretch) = (0, 0, 0);
    while pairs < wanted {
        let form = if stretch % 2 == 0 { Form::Messages } else { Form::Json };
        let outcome = agreement::run(STRETCH.min(wanted - pairs), seed.wrapping_add(stretch), form).await;
        pairs += outcome.pairs;
        connections += outcome.connections;
        stretch += 1;
        println!("{pairs} pairs, seed {seed}, {} s", start.elapsed().as_secs());
        if let Some(first) = outcome.differences.first() {
            figure("envoy_differences", outcome.differences.len(), "differences");
            panic!("seed {seed}, {form:?}, stretch {}: {first}", stretch - 1);
        }
    }
    figure("envoy_pairs", pairs, "pairs");
    figure("envoy_pairs_connections", connections, "pairs");
    figure("envoy_differences", 0, "differences");
}

fn random() -> u64 {
    u64::from_str_radix(&support::random_hex(8), 16).expect("it is hexadecimal")
}
