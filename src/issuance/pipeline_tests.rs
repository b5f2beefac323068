use std::io::Write;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use time::macros::datetime;
use tracing_subscriber::fmt::MakeWriter;

use super::*;
use crate::attest::ApiPod;
use crate::attest::ClaimedPod;
use crate::issuance::Profile;
use crate::signer::FileSigner;
use crate::x509::PrivateKey;
use crate::x509::TrustBundle;
use crate::x509::root;

const NOW: OffsetDateTime = datetime!(2030-01-01 0:00 UTC);
const HOUR: Duration = Duration::from_secs(3600);

/// A caller who was attested by their live pod, and not by a token.
fn pod_s_account() -> Attested {
    let live = json!({
        "metadata": {"name": "web-0", "namespace": "shop", "uid": "u1"},
        "spec": {"serviceAccountName": "web", "nodeName": "n1"},
    });
    let claimed = ClaimedPod {
        namespace: "shop".to_owned(),
        name: "web-0".to_owned(),
        uid: "u1".to_owned(),
        service_account: "web".to_owned(),
        node: "n1".to_owned(),
    };
    claimed.attest(&serde_json::from_value::<ApiPod>(live).unwrap().into()).unwrap()
}

fn issuer() -> Arc<Issuer> {
    let key = PrivateKey::generate().unwrap();
    let certificate = root::self_signed(&key, &"td".parse().unwrap(), NOW - HOUR, 100 * HOUR).unwrap();
    let bundle = TrustBundle::new(vec![certificate.clone()]).unwrap();
    let signer = Arc::new(FileSigner::new(&key).unwrap());
    Arc::new(Issuer::new(signer, vec![certificate], bundle, NOW).unwrap())
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[test]
fn whoever_attested_the_caller_the_intent_is_on_record_before_the_signature_and_names_the_pod() {
    let lines = Lines::default();
    let log = tracing_subscriber::fmt().json().flatten_event(true).with_writer(lines.clone()).finish();
    let profile = Profile::new(Duration::from_secs(60), HOUR, 24 * HOUR).unwrap();
    let policy = GrantPolicy::new("td".parse().unwrap(), profile);
    let csr = PrivateKey::generate().unwrap().csr_pem().unwrap();
    let asked = Asked {
        id: "request-1",
        csr: Encoded::Pem(&csr),
        lifetime: 7200,
        for_another: false,
        by_files: false,
    };
    let census = Census::in_memory(crate::clock::Clock::simulated(NOW).0);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let issued = tracing::subscriber::with_default(log, || {
        runtime.block_on(issue_to(&pod_s_account(), asked, &policy, issuer(), &census, NOW)).unwrap()
    });
    census.fence(Some("nobody would hear of it".to_owned()));
    let refused =
        runtime.block_on(issue_to(&pod_s_account(), asked, &policy, issuer(), &census, NOW)).unwrap_err();
    assert!(refused.to_string().contains("nobody would hear of it"), "{refused}");
    assert_eq!((issued.not_before, issued.not_after), (NOW - Duration::from_secs(60), NOW + 2 * HOUR));
    assert_eq!((issued.chain.len(), issued.without_roots().len()), (2, 1));
    let [holder] = &census.holders()[..] else { panic!("it is not in the census") };
    assert_eq!(
        (holder.spiffe_id.as_str(), holder.pod.as_deref()),
        ("spiffe://td/ns/shop/sa/web", Some("shop/web-0"))
    );

    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [intended, signed] = &events[..] else { panic!("not two events: {text}") };
    for (field, value) in [
        ("event", "intended"),
        ("request_id", "request-1"),
        ("spiffe_id", "spiffe://td/ns/shop/sa/web"),
        ("pod", "web-0"),
        ("pod_uid", "u1"),
        ("node", "n1"),
    ] {
        assert_eq!(intended[field], value, "{intended}");
    }
    assert_eq!((&signed["event"], &signed["serial"]), (&json!("issued"), &intended["serial"]));
}
