//! What an operator sees: help that names every setting, refusals of what nobody knows, and the pages of a running CA.

use crate::ca::AUDIENCE;
use crate::ca::Ca;
use crate::ca::Plan;
use crate::ca::binary;
use crate::ca::until;
use crate::crafted;
use crate::crafted::hierarchy;
use crate::support::apiserver::ApiServer;
use crate::support::scratch;

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use burgrave::x509::Certificate;
use burgrave::x509::TrustBundle;
use time::OffsetDateTime;

/// Each command with its flags and an environment variable for each, or none. A flag that is added is added here too; the
/// test below fails until it is.
const COMMANDS: [(&[&str], bool, &[&str]); 27] = [
    (
        &["ca"],
        true,
        &[
            "--config",
            "--trust-domain",
            "--listen",
            "--admin-listen",
            "--serving-names",
            "--drain",
            "--authority-secret",
            "--state-dir",
            "--ca-dir",
            "--root-lifetime",
            "--rotate-at-age",
            "--reissue-per-second",
            "--bundle-refresh",
            "--admin-socket",
            "--bundle-file",
            "--leaf-lifetime",
            "--max-leaf-lifetime",
            "--backdate",
            "--token-audiences",
            "--kubeconfig",
            "--token-jwks",
            "--token-issuer",
            "--namespace",
            "--lease",
            "--lease-duration",
            "--replica-name",
            "--bundle-config-map",
            "--signer-name",
            "--policies",
            "--root-namespace",
            "--trust-domain-aliases",
            "--cluster-domain",
            "--webhook-listen",
            "--webhook-configuration",
            "--ext-authz",
            "--ext-authz-audit-rate",
            "--ext-authz-providers",
            "--ext-authz-trusted-hops",
            "--ext-authz-name-policies",
            "--token-issuer-root-file",
        ],
    ),
    (
        &["agent"],
        true,
        &[
            "--config",
            "--admin-listen",
            "--ca-address",
            "--ca-root-file",
            "--ca-server-name",
            "--token-file",
            "--leaf-lifetime",
            "--socket",
            "--socket-mode",
            "--ext-authz",
            "--ext-authz-audit-rate",
            "--ext-authz-providers",
            "--ext-authz-trusted-hops",
            "--ext-authz-name-policies",
            "--token-issuer-root-file",
        ],
    ),
    (&["quickstart"], false, &["--envoy", "--keep", "--dir", "--rotations", "--output"]),
    (
        &["root", "status"],
        false,
        &[
            "--socket",
            "--address",
            "--root-file",
            "--server-name",
            "--token-file",
            "--kubeconfig",
            "--output",
        ],
    ),
    (
        &["root", "plan"],
        false,
        &[
            "--from",
            "--socket",
            "--address",
            "--root-file",
            "--server-name",
            "--token-file",
            "--kubeconfig",
            "--output",
        ],
    ),
    (
        &["root", "rotate"],
        false,
        &[
            "--window",
            "--from",
            "--cross-sign",
            "--timeout",
            "--force",
            "--yes",
            "--detach",
            "--watch",
            "--socket",
            "--address",
            "--root-file",
            "--server-name",
            "--token-file",
            "--kubeconfig",
            "--output",
        ],
    ),
    (
        &["root", "prepare"],
        false,
        &[
            "--from",
            "--cross-sign",
            "--wait",
            "--timeout",
            "--socket",
            "--address",
            "--root-file",
            "--server-name",
            "--token-file",
            "--kubeconfig",
            "--output",
        ],
    ),
    (
        &["root", "activate"],
        false,
        &[
            "--wait",
            "--timeout",
            "--force",
            "--yes",
            "--socket",
            "--address",
            "--root-file",
            "--server-name",
            "--token-file",
            "--kubeconfig",
            "--output",
        ],
    ),
    (
        &["root", "retire"],
        false,
        &[
            "--wait",
            "--timeout",
            "--force",
            "--yes",
            "--socket",
            "--address",
            "--root-file",
            "--server-name",
            "--token-file",
            "--kubeconfig",
            "--output",
        ],
    ),
    (
        &["root", "abort"],
        false,
        &[
            "--socket",
            "--address",
            "--root-file",
            "--server-name",
            "--token-file",
            "--kubeconfig",
            "--output",
        ],
    ),
    (
        &["root", "rollback"],
        false,
        &[
            "--socket",
            "--address",
            "--root-file",
            "--server-name",
            "--token-file",
            "--kubeconfig",
            "--output",
        ],
    ),
    (
        &["root", "taint"],
        false,
        &[
            "--timeout",
            "--force",
            "--yes",
            "--detach",
            "--socket",
            "--address",
            "--root-file",
            "--server-name",
            "--token-file",
            "--kubeconfig",
            "--output",
        ],
    ),
    (
        &["root", "export"],
        false,
        &[
            "--file",
            "--passphrase-file",
            "--socket",
            "--address",
            "--root-file",
            "--server-name",
            "--token-file",
            "--kubeconfig",
            "--output",
        ],
    ),
    (
        &["bundle", "show"],
        false,
        &[
            "--socket",
            "--address",
            "--root-file",
            "--server-name",
            "--token-file",
            "--kubeconfig",
            "--output",
        ],
    ),
    (
        &["bundle", "diff"],
        false,
        &[
            "--socket",
            "--address",
            "--root-file",
            "--server-name",
            "--token-file",
            "--kubeconfig",
            "--output",
        ],
    ),
    (
        &["proxy", "list"],
        false,
        &[
            "--socket",
            "--address",
            "--root-file",
            "--server-name",
            "--token-file",
            "--kubeconfig",
            "--output",
        ],
    ),
    (
        &["proxy", "show"],
        false,
        &[
            "--socket",
            "--address",
            "--root-file",
            "--server-name",
            "--token-file",
            "--kubeconfig",
            "--output",
        ],
    ),
    (
        &["root", "import"],
        false,
        &[
            "--file",
            "--passphrase-file",
            "--state-dir",
            "--authority-secret",
            "--namespace",
            "--kubeconfig",
            "--output",
        ],
    ),
    (&["cert", "inspect"], false, &["--sds", "--roots", "--output"]),
    (
        &["policy", "explain"],
        false,
        &[
            "--output",
            "--request",
            "--curl",
            "--log-line",
            "--method",
            "--path",
            "--normalize",
            "--host",
            "--header",
            "--from",
            "--plaintext",
            "--source-ip",
            "--remote-ip",
            "--destination-ip",
            "--port",
            "--sni",
            "--claim",
            "--claims-file",
            "--no-token",
            "--property",
            "--tcp",
            "--policies",
            "--cluster",
            "--kubeconfig",
            "--workload",
            "--workload-namespace",
            "--label",
            "--service",
            "--service-account",
            "--cluster-domain",
            "--trust-domain",
            "--alias",
            "--root-namespace",
        ],
    ),
    (
        &["policy", "can"],
        false,
        &[
            "--who",
            "--account",
            "--output",
            "--what",
            "--request",
            "--curl",
            "--log-line",
            "--method",
            "--path",
            "--normalize",
            "--host",
            "--header",
            "--from",
            "--plaintext",
            "--source-ip",
            "--remote-ip",
            "--destination-ip",
            "--port",
            "--sni",
            "--claim",
            "--claims-file",
            "--no-token",
            "--property",
            "--tcp",
            "--policies",
            "--cluster",
            "--kubeconfig",
            "--workload",
            "--workload-namespace",
            "--label",
            "--service",
            "--service-account",
            "--cluster-domain",
            "--trust-domain",
            "--alias",
            "--root-namespace",
        ],
    ),
    (
        &["policy", "test"],
        false,
        &[
            "--output",
            "--policies",
            "--cluster",
            "--kubeconfig",
            "--workload",
            "--workload-namespace",
            "--label",
            "--service",
            "--service-account",
            "--cluster-domain",
            "--trust-domain",
            "--alias",
            "--root-namespace",
        ],
    ),
    (
        &["policy", "diff"],
        false,
        &[
            "--output",
            "--requests",
            "--seed",
            "--show",
            "--access-log",
            "--workload",
            "--workload-namespace",
            "--label",
            "--service",
            "--service-account",
            "--cluster-domain",
            "--trust-domain",
            "--alias",
            "--root-namespace",
        ],
    ),
    (&["policy", "validate"], false, &["--output", "--strict", "--policies", "--cluster", "--kubeconfig"]),
    (
        &["policy", "compile"],
        false,
        &[
            "--output",
            "--to",
            "--tcp",
            "--maps",
            "--provider",
            "--policies",
            "--cluster",
            "--kubeconfig",
            "--workload",
            "--workload-namespace",
            "--label",
            "--service",
            "--service-account",
            "--cluster-domain",
            "--trust-domain",
            "--alias",
            "--root-namespace",
        ],
    ),
    (
        &["policy", "migrate"],
        false,
        &[
            "--output",
            "--policies",
            "--cluster",
            "--kubeconfig",
            "--requests",
            "--seed",
            "--show",
            "--trust-domain",
            "--alias",
            "--root-namespace",
        ],
    ),
    (&["install", "check"], false, &["--namespace", "--kubeconfig", "--output"]),
];

/// What every command has besides.
const EVERYWHERE: [&str; 4] = ["--log-format", "--log-level", "--help", "--version"];

/// Exit code, standard output and standard error of a run that ends by itself.
fn run(arguments: &[&str], environment: &[(&str, &str)]) -> (i32, String, String) {
    let output = Command::new(binary()).args(arguments).envs(environment.iter().copied()).output();
    let output = output.expect("the program can be run");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// The flags that a help text explains: what begins its line, alone or after the short form.
fn flags(help: &str) -> BTreeSet<&str> {
    let words =
        help.lines().flat_map(|line| line.split_whitespace().take_while(|word| word.starts_with('-')));
    // `--flag[=VALUE]` is a flag whose value may be left out.
    words.filter(|word| word.starts_with("--")).filter_map(|word| word.split('[').next()).collect()
}

#[test]
fn the_help_of_each_command_explains_all_its_flags() {
    let (code, overview, _) = run(&["--help"], &[]);
    assert_eq!(code, 0);
    for (command, from_environment, own) in COMMANDS {
        assert!(
            overview.lines().any(|line| line.trim_start().starts_with(&format!("{} ", command[0]))),
            "{overview}"
        );
        for help_flag in ["--help", "-h"] {
            let (code, help, _) = run(&[command, &[help_flag]].concat(), &[]);
            assert_eq!(code, 0);
            let all: BTreeSet<_> = own.iter().chain(&EVERYWHERE).copied().collect();
            assert_eq!(flags(&help), all, "burgrave {} {help_flag}", command.join(" "));
            for flag in own.iter().filter(|_| from_environment) {
                let variable = flag.replace("--", "BURGRAVE_").replace('-', "_").to_uppercase();
                assert!(help.contains(&format!("[env: {variable}=")), "{variable}: {help}");
            }
        }
    }
}

#[test]
fn flags_that_cannot_go_together_are_refused_by_name() {
    for (arguments, said) in [
        (&["root", "rotate", "--watch", "--force"][..], "'--watch' cannot be used with '--force'"),
        (&["root", "rotate", "--detach", "--timeout=1m"], "'--detach' cannot be used with"),
        (&["root", "rotate", "--yes"], "--force"),
        (&["root", "activate", "--wait", "--force"], "cannot be used with"),
        (&["root", "retire", "--timeout=1m"], "--wait"),
        (&["root", "import", "--file=f", "--passphrase-file=p"], "--state-dir <DIR>"),
        (&["root", "rotate", "--window=soon"], "`soon` is not a duration; write for example 90s"),
    ] {
        let (code, _, error) = run(arguments, &[]);
        assert_eq!(code, 2, "{arguments:?}: {error}");
        assert!(error.contains(said), "{arguments:?}: {error}");
    }
}

#[test]
fn a_ca_that_is_not_there_is_told_with_the_way_to_it() {
    for command in [&["root", "status"][..], &["root", "rotate"], &["bundle", "show"], &["proxy", "list"]] {
        let (code, out, error) = run(command, &[("BURGRAVE_ADMIN_SOCKET", "/nowhere.sock")]);
        assert_eq!((code, out.as_str()), (1, ""), "{error}");
        let sentence = "burgrave: no CA answers on the socket `/nowhere.sock`: No such file or directory (os error 2); start the CA, ";
        assert!(error.starts_with(sentence), "{error}");
        let (code, _, error) = run(command, &[("BURGRAVE_CA_ADDRESS", "https://localhost:1")]);
        assert_eq!(code, 1, "{error}");
        assert!(error.starts_with("burgrave: `--root-file` is not set; "), "{error}");
    }
}

#[test]
fn whoever_gives_no_command_or_asks_for_the_version_is_answered() {
    let (code, said, error) = run(&[], &[]);
    assert_eq!(code, 2);
    assert!(format!("{said}{error}").contains("Usage: burgrave"), "{said}{error}");
    let version = format!("burgrave {}", env!("CARGO_PKG_VERSION"));
    assert_eq!(run(&["--version"], &[]), (0, format!("{version}\n"), String::new()));
}

#[test]
fn a_flag_that_nobody_knows_is_refused_with_the_one_that_was_meant() {
    for (given, meant) in [
        ("--trust-domian=td", "--trust-domain"),
        ("--state_dir=x", "--state-dir"),
        ("--tokens-audience=x", "--token-audiences"),
    ] {
        let (code, _, error) = run(&["ca", given], &[]);
        assert_eq!(code, 2, "{error}");
        assert!(error.contains("unexpected argument") && error.contains(&format!("'{meant}'")), "{error}");
    }
    let (code, _, error) = run(&["agnet"], &[]);
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("a similar subcommand exists: 'agent'"), "{error}");
}

#[test]
fn an_environment_variable_that_sets_nothing_is_refused_with_the_one_that_was_meant() {
    let (code, _, error) = run(&["ca"], &[("BURGRAVE_TRUSTDOMAIN", "td")]);
    assert_eq!(code, 1, "{error}");
    let sentence = "burgrave: environment variable `BURGRAVE_TRUSTDOMAIN` sets nothing; did you mean `BURGRAVE_TRUST_DOMAIN`?\n";
    assert_eq!(error, sentence);
    // The one that was meant is read.
    let (code, _, error) =
        run(&["ca"], &[("BURGRAVE_TRUST_DOMAIN", "Not A Domain"), ("BURGRAVE_STATE_DIR", "/x")]);
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("`--trust-domain`: trust domain `Not A Domain`"), "{error}");
}

#[test]
fn a_key_in_the_file_that_nobody_knows_is_refused_with_the_one_that_was_meant() {
    let dir = scratch("config");
    let path = dir.join("ca.yaml");
    let file = path.to_str().expect("a scratch's path is UTF-8");
    for (content, said) in [
        ("trustdomain: td\n", "unknown key `trustdomain`; did you mean `trust-domain`?"),
        ("trust-domain: td\nlisten: nowhere\n", "listen"),
        ("- a list\n", file),
        ("leaf-lifetime: 10 minutes\n", "`10 minutes` is not a duration; write for example 90s, 10m"),
        ("trust-domain: Not A Domain\nstate-dir: /x\n", "`--trust-domain`: trust domain `Not A Domain`"),
    ] {
        std::fs::write(&path, content).expect("a scratch can be written to");
        let (code, _, error) = run(&["ca", "--config", file], &[]);
        assert_eq!(code, 1, "{content}: {error}");
        assert!(error.starts_with("burgrave: ") && error.contains(said), "{content}: {error}");
    }
    let (code, _, error) = run(&["ca", "--config", "/nowhere.yaml"], &[]);
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("configuration file `/nowhere.yaml`: No such file"), "{error}");
}

#[test]
fn settings_that_are_missing_or_contradict_each_other_are_refused_by_name() {
    for (arguments, said) in [
        (
            &["ca"][..],
            "`--state-dir` is not set; set it to a directory for a self-signed root, or --authority-secret",
        ),
        (&["ca", "--state-dir=/x", "--ca-dir=/y"], "more than one of `--authority-secret`, `--state-dir`"),
        (&["ca", "--state-dir=/x", "--lease=ca"], "`--lease` and `--state-dir` are both set"),
        (&["ca", "--state-dir=/x", "--token-jwks=/k"], "`--token-issuer` is not set"),
        (&["ca", "--state-dir=/x", "--token-audiences="], "`--token-audiences`: an audience is empty"),
        (&["ca", "--state-dir=/x", "--leaf-lifetime=2d"], "is above the maximum"),
        (&["ca", "--state-dir=/x", "--backdate=2h"], "at most one hour"),
    ] {
        let (code, _, error) = run(arguments, &[]);
        assert_eq!(code, 1, "{arguments:?}: {error}");
        assert!(error.contains(said), "{arguments:?}: {error}");
    }
}

/// A level that is taken for the name of a module would silence the log.
#[test]
fn a_log_level_that_is_none_is_refused() {
    for level in ["loud", "inof", "burgrave=loud"] {
        let (code, _, error) = run(&["--log-level", level, "ca"], &[]);
        assert_eq!(code, 1, "{level}: {error}");
        let sentence =
            format!("burgrave: log level `{level}` is not a level (error, warn, info, debug, trace)");
        assert!(error.starts_with(&sentence), "{level}: {error}");
    }
}

#[test]
fn an_address_in_use_is_refused_with_the_flag_that_names_another() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let dir = scratch("taken");
    let (keys, state) = (dir.join("jwks.json"), dir.join("state"));
    let jwks = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    std::fs::write(&keys, jwks).expect("a scratch can be written to");
    let [state, keys] = [&state, &keys].map(|path| path.to_str().expect("a scratch's path is UTF-8"));
    for flag in ["--listen", "--admin-listen"] {
        let other = if flag == "--listen" { "--admin-listen" } else { "--listen" };
        let arguments =
            ["ca", "--state-dir", state, "--token-jwks", keys, "--token-issuer", "i", other, "127.0.0.1:0"];
        let (code, _, error) = run(&[&arguments[..], &[flag, &address]].concat(), &[]);
        assert_eq!(code, 1, "{error}");
        assert!(error.contains(&format!("cannot listen on {address}")), "{error}");
        assert!(error.contains(&format!("choose another with {flag}")), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_ca_tells_its_health_its_readiness_and_how_long_each_certificate_lives() {
    let api = ApiServer::shared().await;
    let namespace = api.namespace("pages").await;
    let files = hierarchy(&["--depth", "2"]);
    let ca = Ca::start(api, &namespace, &files.options()).await;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(ca.plan().page(path).await, Some((200, "ok\n".to_owned())), "{path}");
    }
    assert_eq!(ca.plan().page("/nothing").await.map(|page| page.0), Some(404));

    let seconds_left =
        |one: &Certificate| (one.facts().not_after - OffsetDateTime::now_utc()).as_seconds_f64();
    let read = |file: &str| {
        TrustBundle::from_pem(files.read(file).as_bytes()).expect("it is a CA's").roots().to_vec()
    };
    for (kind, certificates) in [("root", read("root-cert.pem")), ("issuer", read("cert-chain.pem"))] {
        for one in certificates {
            let id = &one.fingerprint()[..16];
            let left = ca
                .metric(&format!("burgrave_certificate_expiry_seconds{{kind=\"{kind}\",id=\"{id}\"}}"))
                .await;
            assert!((left - seconds_left(&one)).abs() < 5.0, "{kind} {id}: {left}");
        }
    }
    let serving = ca.metric("burgrave_certificate_expiry_seconds{kind=\"serving\",id=\"ca\"}").await;
    assert!((86_000.0..=86_400.0).contains(&serving), "{serving}");

    namespace.service_account("web").await;
    let token = namespace.token("web", None, AUDIENCE, 600).await;
    let timed = "burgrave_certificate_request_seconds_count";
    let (issued, answered) = (ca.issued().await, ca.metric(timed).await);
    ca.create(Some(&token), &crafted::csr(), 60).await.expect("a good request is answered");
    ca.create(None, &crafted::csr(), 60).await.expect_err("there is no token");
    assert_eq!(ca.issued().await, issued + 1.0);
    assert_eq!(ca.refused("no_token").await, 1.0);
    assert_eq!(ca.metric(timed).await, answered + 2.0);
    // Prometheus reads the page to its end.
    let (_, page) = ca.plan().page("/metrics").await.expect("the CA serves");
    assert!(page.ends_with("# EOF\n"), "{page}");
    for name in [
        "burgrave_certificate_requests",
        "burgrave_certificate_request_seconds",
        "burgrave_certificate_expiry_seconds",
    ] {
        assert!(
            page.contains(&format!("# HELP {name} ")) && page.contains(&format!("# TYPE {name} ")),
            "{page}"
        );
    }
    assert!(!page.contains(&namespace.name) && !page.contains("spiffe://"), "labels are bounded: {page}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_really_signs_so_a_root_that_has_run_out_is_not_ready() {
    let api = ApiServer::shared().await;
    let namespace = api.namespace("run-out").await;
    let plan = Plan::new(api, &namespace, &["--root-lifetime", "3s"]).await;
    let part = plan.spawn();
    plan.until_ready(&part).await;
    let (status, why) =
        until("the end of the root", Duration::from_secs(10), async || match plan.page("/readyz").await {
            Some((200, _)) => Err("it is still ready".to_owned()),
            answer => answer.ok_or_else(|| part.log_tail(5)),
        })
        .await;
    assert_eq!(status, 503);
    assert!(why.contains("the issuer's certificates expired at"), "{why}");
    assert_eq!(plan.page("/healthz").await.map(|page| page.0), Some(200));
    // A start with a root that has run out says so, and makes no new one.
    part.kill9();
    let (code, said) = plan.run_to_its_end();
    assert_eq!(code, 1, "{said}");
    assert!(
        said.lines().last().unwrap_or_default().contains("the stored root cannot be used: certificate `"),
        "{said}"
    );
    assert!(said.contains("which is not now"), "{said}");
}
