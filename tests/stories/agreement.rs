//! A real Envoy with the compiled policies decides as `decide` does.

#[path = "../agreement/mod.rs"]
mod parts;

use crate::support::figure;

use parts::Form;

/// In one run of the tests. The bench of the same name takes any number.
const PAIRS: usize = 20_000;
/// Always the same, so that what fails here fails again.
const SEED: u64 = 6;

#[tokio::test(flavor = "multi_thread")]
async fn envoy_decides_as_we_do() {
    let mut pairs = 0;
    for form in [Form::Json, Form::Messages] {
        let outcome = parts::run(PAIRS / 2, SEED, form).await;
        assert!(
            outcome.differences.is_empty(),
            "{form:?}: {} differences in {} pairs, the first:\n{}",
            outcome.differences.len(),
            outcome.pairs,
            outcome.differences[0]
        );
        // Neither is worth much if nearly all of it is decided alike.
        let share = outcome.allowed * 100 / outcome.pairs;
        assert!((20..=80).contains(&share), "{share} of 100 are allowed");
        assert!(outcome.connections * 20 > outcome.pairs, "only {} are connections", outcome.connections);
        pairs += outcome.pairs;
    }
    figure("envoy_pairs", pairs, "pairs");
    figure("envoy_differences", 0, "differences");
}
