//! What strangers' bytes are read by, one function each: none of them may panic, whatever the bytes.
//!
//! The fuzz targets run these under a coverage-guided fuzzer; `tests/fuzz_smoke.rs` runs them on mutated good inputs.

use std::sync::Arc;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use burgrave::authority;
use burgrave::authz;
use burgrave::authz::Enforced;
use burgrave::authz::Http;
use burgrave::authz::Judge;
use burgrave::authz::Mesh;
use burgrave::authz::PolicySet;
use burgrave::authz::Reason;
use burgrave::authz::Request as Asked;
use burgrave::authz::Ruling;
use burgrave::authz::Tally;
use burgrave::authz::Workload;
use burgrave::authz::apply;
use burgrave::authz::check::Asked as Question;
use burgrave::authz::check::Wording;
use burgrave::authz::check::answer;
use burgrave::authz::explain::explain;
use burgrave::authz::explain::facts::Facts;
use burgrave::authz::model::Action;
use burgrave::authz::model::Atom;
use burgrave::authz::model::Conjunction;
use burgrave::authz::model::Field;
use burgrave::authz::model::Kind;
use burgrave::authz::model::Pattern;
use burgrave::authz::model::Policy;
use burgrave::authz::model::PolicyName;
use burgrave::authz::model::Rule;
use burgrave::authz::model::Template;
use burgrave::authz::model::Term;
use burgrave::authz::model::Value;
use burgrave::authz::path::Form;
use burgrave::authz::recorded;
use burgrave::authz::resource::from_yaml;
use burgrave::authz::tokens::Issuer;
use burgrave::authz::tokens::KeySet;
use burgrave::authz::tokens::Keys;
use burgrave::authz::tokens::verify;
use burgrave::authz::walk;
use burgrave::clock::Clock;
use burgrave::identity::SpiffeId;
use burgrave::proto::envoy::CheckRequest;
use burgrave::proto::envoy::HttpResponse;
use burgrave::sds::Effect;
use burgrave::sds::Event;
use burgrave::sds::Request;
use burgrave::sds::Subscription;
use burgrave::sds::redact;
use burgrave::x509::Certificate;
use burgrave::x509::CertificateChain;
use burgrave::x509::Csr;
use burgrave::x509::TrustBundle;
use burgrave::x509::describe;
use burgrave::x509::diagnose;
use burgrave::x509::key::KeyAlgorithm;
use prost::Message;
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

/// A certification request: DER and PEM, parsed and verified.
pub(crate) fn csr(bytes: &[u8]) {
    let _ = Csr::from_der(bytes).and_then(Csr::verify);
    let _ = Csr::from_pem(bytes).and_then(Csr::verify);
}

/// A certificate: parsed, linted, described, and verified as a chain of its own.
pub(crate) fn certificate(bytes: &[u8]) {
    let now = OffsetDateTime::UNIX_EPOCH;
    let _ = KeyAlgorithm::of_spki(bytes);
    let _ = CertificateChain::from_pem(bytes);
    if let Ok(one) = Certificate::from_der(CertificateDer::from(bytes)) {
        let _ = (describe::line(&one, now), describe::paragraph(&one, now), one.is_self_signed());
        let bundle = TrustBundle::new(vec![one.clone()]).ok();
        let _ = diagnose::chain(&[one.clone(), one], bundle.as_ref(), now);
    }
}

/// A SPIFFE ID: what is read prints as it reads.
pub(crate) fn spiffe_id(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(id) = text.parse::<SpiffeId>() {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
}

/// A proxy's error message.
pub(crate) fn message(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    assert!(redact(&text).len() <= 304);
}

/// A sequence of requests and offers on one stream: nonces are never given twice.
pub(crate) fn subscription(bytes: &[u8]) {
    let mut stream = Subscription::default();
    let mut last = 0_u64;
    for step in bytes.chunks_exact(4) {
        let &[kind, names, version, nonce] = step else { return };
        let set = |bits: u8| (0..8).filter(move |at| bits >> at & 1 == 1).map(|at: u8| at.to_string());
        let event = match kind % 3 {
            0 => Event::Offered(
                set(names).map(|name| (name.clone(), format!("{name}{version}").as_str().into())).collect(),
            ),
            kind => Event::Requested(Request {
                names: set(names).collect(),
                version: format!("{}{version}", names % 8),
                nonce: if nonce == 0 { String::new() } else { (nonce % 16).to_string() },
                error: (kind == 2).then(|| "no".to_owned()),
            }),
        };
        let Ok((next, effects)) = stream.step(event) else { return };
        stream = next;
        for effect in effects {
            if let Effect::Push { nonce, .. } = effect {
                let nonce: u64 = nonce.parse().expect("our nonces are numbers");
                assert!(nonce > last, "nonce {nonce} was given twice");
                last = nonce;
            }
        }
    }
}

/// A sealed authority, as text and as what is in the armour. Next to no work is allowed, so that each try is cheap.
pub(crate) fn sealed(bytes: &[u8]) {
    const PASSPHRASE: &str = "correct horse battery";
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = authority::open_within(text, PASSPHRASE, 2);
    }
    let mut text = String::from("-----BEGIN AGE ENCRYPTED FILE-----\n");
    for line in bytes.chunks(48) {
        text.push_str(&STANDARD.encode(line));
        text.push('\n');
    }
    text.push_str("-----END AGE ENCRYPTED FILE-----\n");
    let _ = authority::open_within(&text, PASSPHRASE, 2);
}

/// A path on the first line, and values of `paths` on the others: what is compiled decides what walking decides.
pub(crate) fn paths(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines();
    let path = lines.next().unwrap_or_default();
    let atom = |line: &str| match Template::parse(line) {
        Ok(template) if Template::is_meant(line) => {
            assert_eq!(Template::parse(&template.to_string()), Ok(template.clone()));
            Atom::PathTemplate(template)
        }
        _ => Atom::Path(Pattern::of(line)),
    };
    let policy = |line: &str| {
        let values = vec![Value::Is(atom(line))];
        let term = Term { field: Field::List("paths"), negated: false, values };
        let any = Conjunction::default;
        let to = vec![Conjunction { index: 0, terms: vec![term] }];
        Policy {
            name: PolicyName { kind: Kind::AuthorizationPolicy, namespace: "n".into(), name: "p".into() },
            action: Action::Allow,
            dry_run: false,
            rules: vec![Rule { index: 0, from: vec![any()], to, when: any() }],
        }
    };
    let policies: Vec<Arc<Policy>> = lines.take(16).map(policy).map(Arc::new).collect();
    let http = Http { method: "GET", path, host: "h", headers: &[] };
    let request = Asked { http: Some(http), ..Asked::default() };
    assert_eq!(PolicySet::new(policies.clone()).decide(&request), walk(&policies, &request));
}

/// Policies, as YAML. What is read reads the same again, applies, and migrates; and of what cannot be read nothing is allowed.
pub(crate) fn policy(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(documents) = authz::resource::from_yaml(text) else { return };
    let resources: Vec<authz::resource::Resource> = documents.resources.into_iter().flatten().collect();
    for resource in &resources {
        assert_eq!(authz::resource::Resource::read(&resource.to_json()).as_ref(), Ok(resource));
        if let authz::resource::Spec::AuthorizationPolicy(lowered) = &resource.spec {
            no_faulty_rule_allows(&lowered.policy, &resource.faults);
        }
    }
    let mesh = authz::Mesh::of("cluster.local".parse().expect("it is a trust domain"));
    let workload = authz::Workload { namespace: "default".to_owned(), ..authz::Workload::default() };
    let applied = authz::apply(&resources, &workload, &mesh);
    let _ = authz::PolicySet::new(applied.policies).decide(&authz::Request::default());
    for migrated in authz::migrate(&resources, &[], &mesh).policies {
        let read = authz::resource::Resource::read(&migrated).expect("what is migrated can be read");
        assert!(!read.is_faulty(), "{:?}", read.faults);
    }
}

fn no_faulty_rule_allows(policy: &authz::model::Policy, faults: &[authz::resource::Fault]) {
    let errors = faults.iter().filter(|fault| fault.severity == authz::resource::Severity::Error);
    for path in errors.map(|fault| fault.path.as_str()) {
        let place = path.strip_prefix("spec.rules[").and_then(|rest| rest.split(']').next());
        let index = place.and_then(|place| place.parse::<usize>().ok());
        let allows = policy.action == authz::model::Action::Allow && !policy.dry_run;
        let is_left = policy.rules.iter().any(|rule| index.is_none_or(|index| rule.index == index));
        assert!(!(allows && is_left), "{path} cannot be read, and is allowed by");
    }
}

/// Lets in one peer, by one method, to one path.
const ONLY: &str = r#"{
    "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": {"name": "only", "namespace": "n"},
    "spec": {"rules": [{
        "from": [{"source": {"principals": ["td/in"]}}],
        "to": [{"operation": {"methods": ["GET"], "paths": ["/in"]}}]
    }]}
}"#;

/// The public half of the key of RFC 7515, appendix A.3.
const KEYS: &str = r#"{"keys": [{"kty": "EC", "crv": "P-256", "kid": "k",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;

fn issuer() -> Issuer {
    Issuer::new("joe", Keys::Inline(Arc::new(KeySet::parse(KEYS).expect("it is a key set"))))
}

/// A proxy's question: whatever it is, the answer says yes or no, and yes only to what the policy lets in.
pub(crate) fn check_request(bytes: &[u8]) {
    let _ = is_let_in(bytes);
}

/// Whether that question is answered with yes.
pub(crate) fn is_let_in(bytes: &[u8]) -> bool {
    static JUDGE: LazyLock<Judge> = LazyLock::new(|| {
        let only: Vec<_> = from_yaml(ONLY).expect("it is YAML").resources.into_iter().flatten().collect();
        let workload = Workload { namespace: "n".to_owned(), ..Workload::default() };
        let policies =
            apply(&only, &workload, &Mesh::of("td".parse().expect("it is a trust domain"))).policies;
        assert_eq!(policies.len(), 1);
        Judge::of(Enforced::new(PolicySet::new(policies), vec![issuer()], &Tally::default()), Clock::system())
    });
    let Ok(question) = CheckRequest::decode(bytes) else { return false };
    let ruling = match Question::read(question.clone(), Some(1)) {
        Ok(asked) => asked.with(|request| JUDGE.rule_in_doubt(request, asked.doubts())),
        Err(_) => Ruling::denied(Reason::Malformed),
    };
    let told = answer(&ruling, Wording { names_policies: true });
    let code = told.status.expect("an answer has a status").code;
    let is_yes = matches!(told.http_response, Some(HttpResponse::OkResponse(_)));
    assert_eq!((code == 0, is_yes), (ruling.is_allowed(), ruling.is_allowed()));
    if ruling.is_allowed() {
        let asked = question.attributes.expect("nothing was asked, and it came in");
        let http = asked.request.and_then(|request| request.http).expect("a connection came in");
        let source = asked.source.expect("nobody came in");
        assert_eq!((http.method.as_str(), http.path.split('?').next()), ("GET", Some("/in")));
        assert!(source.principal == "spiffe://td/in" || !source.certificate.is_empty());
    }
    ruling.is_allowed()
}

/// An end user's token, and the keys that an issuer publishes: nothing that its issuer has not signed is good.
pub(crate) fn token(bytes: &[u8]) {
    static ISSUERS: LazyLock<[Issuer; 1]> = LazyLock::new(|| [issuer()]);
    let text = String::from_utf8_lossy(bytes);
    let _ = KeySet::parse(&text);
    let bearer = format!("Bearer {text}");
    let headers = [("authorization", bearer.as_str()), ("cookie", text.as_ref())];
    let http = Http { method: "GET", path: &text, host: "h", headers: &headers };
    assert!(!matches!(verify(&http, &*ISSUERS, OffsetDateTime::UNIX_EPOCH), Ok(Some(_))));
}

/// A request as people have it: a curl line, a line of an access log, a description, a file of cases. What is read is explained, and
/// what is refused is refused in a line that commands no terminal.
pub(crate) fn requests(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let domain = "td".parse().expect("it is one");
    let explained = |facts: &Facts| drop(explain(&[] as &[Policy], facts).to_string());
    let refused = |error: &recorded::Unread| {
        let told = error.to_string();
        assert!(told.len() < 4096 && !told.contains(['\n', '\u{1b}']), "{told}");
    };
    for form in Form::ALL {
        let path = form.of(&text);
        assert!(!text.starts_with('/') || path.starts_with('/'));
    }
    match recorded::curl::read(&text, Form::DecodeAndMergeSlashes) {
        Ok(facts) => explained(&facts),
        Err(error) => refused(&error),
    }
    match recorded::access_log::read(&text) {
        Ok(logged) => explained(&logged.facts),
        Err(error) => refused(&error),
    }
    if let Ok(value) = serde_json::from_str(&text) {
        match recorded::Described::read(&value, &domain) {
            Ok(described) => explained(&described.facts()),
            Err(error) => refused(&error),
        }
        let _ = recorded::cases::read(&value, &domain);
    }
}
