//! The demo tells the truth: in its steps, in its summary and by its exit code.

use std::process::Output;
use std::time::Duration;

use serde_json::Value;

use crate::ca::binary;
use crate::support::part::NO_ENV;
use crate::support::part::Part;
use crate::support::scratch;
use crate::support::tools;

fn run(arguments: &[&str]) -> (Option<i32>, Vec<Value>) {
    let Output { status, stdout, .. } = std::process::Command::new(binary())
        .args(["quickstart", "--output", "json"])
        .args(arguments)
        .output()
        .expect("the program runs");
    let said = String::from_utf8(stdout).expect("it is text");
    let steps = said.lines().map(|line| serde_json::from_str(line).expect("each line is an object"));
    (status.code(), steps.collect())
}

#[test]
fn with_an_envoy_every_step_holds_and_no_request_fails() {
    let envoy = tools::envoy().display().to_string();
    let (code, steps) = run(&["--envoy", &envoy, "--rotations", "3"]);
    assert_eq!(code, Some(0), "{steps:?}");
    let names: Vec<_> = steps.iter().map(|step| step["step"].as_str().unwrap_or_default()).collect();
    assert_eq!(
        names,
        ["ca", "token", "csr", "chain", "sds", "renewal", "envoys", "root", "traffic", "policy", "summary"]
    );
    let summary = steps.last().expect("there is a summary");
    assert_eq!(summary["ok"], true);
    assert_eq!(summary["failed"], 0);
    assert_eq!(summary["leaf_rotations"], 3);
    assert_eq!(summary["root_rotations"], 1);
    assert!(summary["requests"].as_u64() > Some(50), "{summary}");
    assert!(summary["push_to_handshake_ms"].is_number(), "{summary}");
}

#[test]
fn an_envoy_that_does_not_run_makes_it_fail_with_a_summary() {
    let (code, steps) = run(&["--envoy", "/bin/false"]);
    assert_eq!(code, Some(1), "{steps:?}");
    let summary = steps.last().expect("there is a summary");
    assert_eq!((&summary["step"], &summary["ok"]), (&"summary".into(), &false.into()));
    assert_eq!(summary["requests"], 0);
    assert!(summary["error"].as_str().unwrap_or_default().contains("Envoy"), "{summary}");
}

#[test]
fn what_is_kept_stays_until_it_is_stopped_and_puts_its_sockets_away() {
    let dir = scratch("kept");
    let place = dir.join("here");
    let envoy = tools::envoy().display().to_string();
    let arguments = [
        "quickstart",
        "--keep",
        "--rotations",
        "1",
        "--envoy",
        &envoy,
        "--dir",
        &place.display().to_string(),
    ]
    .map(str::to_owned);
    let part = Part::spawn("quickstart", &binary(), &arguments, NO_ENV, &dir.join("log"));
    let end = std::time::Instant::now() + Duration::from_secs(30);
    while !part.log().contains("It stays until Ctrl-C") {
        assert!(std::time::Instant::now() < end && part.running(), "{}", part.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(place.join("client.sock").exists());
    part.signal("INT");
    assert_eq!(part.wait(Duration::from_secs(15)), Some(0), "{}", part.log());
    assert!(!place.join("client.sock").exists() && !place.join("server.sock").exists());
}
