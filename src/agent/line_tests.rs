//! A push, from the CA to the proxies and back.

use super::*;
use crate::agent::test_support::Authority;
use crate::agent::test_support::NOW;
use crate::proto::envoy::Any;
use crate::proto::envoy::DataSource;
use crate::proto::envoy::GenericSecret;
use crate::proto::envoy::Secret;
use crate::proto::envoy::SecretType;
use crate::proto::envoy::Specifier;
use prost::Message;

const PATIENCE: Patience = Patience {
    start: Duration::ZERO,
    start_seen: Duration::ZERO,
    own: Duration::from_secs(2),
    silence: Duration::from_secs(15),
};

fn push(notice: &Notice, nonce: &str) -> DiscoveryResponse {
    let source =
        DataSource { specifier: Some(Specifier::InlineBytes(notice.to_json())), ..DataSource::default() };
    let secret = GenericSecret { secret: Some(source), ..GenericSecret::default() };
    let secret = Secret { name: names::ISSUER.to_owned(), r#type: Some(SecretType::GenericSecret(secret)) };
    DiscoveryResponse {
        version_info: notice.version().to_string(),
        nonce: nonce.to_owned(),
        resources: vec![Any { value: secret.encode_to_vec(), ..Any::default() }],
        ..DiscoveryResponse::default()
    }
}

fn of(authority: &Authority) -> Secrets {
    Secrets { identity: Some(authority.identity()), ..Secrets::default() }
}

fn say(line: &mut Line, secrets: &Secrets, seconds: u64, waiting: usize) -> Say {
    let stand = |name: &str, version: &Version| {
        assert_eq!(
            (name, Some(version)),
            (names::IDENTITY, secrets.identity.as_ref().map(|one| one.version()))
        );
        Standing { waiting, is_anybody_seen: true, ..Standing::default() }
    };
    let enforced = &authz::Progress::default();
    line.say(&Sight {
        secrets,
        stand: &stand,
        enforced,
        now: Duration::from_secs(seconds),
        patience: &PATIENCE,
    })
}

fn hear(line: &mut Line, message: &DiscoveryResponse, seconds: u64) -> Heard {
    let mut heard = Heard::default();
    line.take(message, &mut heard, NOW, Duration::from_secs(seconds)).unwrap();
    heard
}

fn refusal(say: &Say) -> Option<&str> {
    match say {
        Say::Answer { refusal: Some(why), .. } => Some(why),
        _ => None,
    }
}

#[test]
fn a_notice_is_acknowledged_once_our_leaf_is_of_that_authority_and_every_proxy_uses_it() {
    let (old, new) = (Authority::new(), Authority::new());
    let (notice, mut line) = (new.notice(Duration::from_secs(60)), Line::issuer());
    assert_eq!(hear(&mut line, &push(&notice, "1"), 0).notice.as_ref(), Some(&notice));
    let before = of(&old);
    assert_eq!(say(&mut line, &before, 1, 0), Say::Nothing);
    let told = say(&mut line, &before, 2, 0);
    assert_eq!(refusal(&told), Some("the agent asks for a certificate of this authority within 60 s"));
    assert_eq!(line.reason(), "later");
    // The CA is answered, so that it can change its mind; what comes of it is told on another stream.
    let after = of(&new);
    assert_eq!(say(&mut line, &after, 30, 1), Say::Nothing);
    assert_eq!(line.waits_for(), Some("1 of the proxies' streams to answer"));
    assert_eq!(line.acknowledged(), None);
    assert_eq!(say(&mut line, &after, 31, 0), Say::Reopen);
    let stand = |_: &str, _: &Version| Standing::default();
    let enforced = &authz::Progress::default();
    let sight =
        Sight { secrets: &after, stand: &stand, enforced, now: Duration::from_secs(31), patience: &PATIENCE };
    assert_eq!(line.opens(&sight), Some(notice.version()));
    assert_eq!((line.acknowledged(), line.waits_for()), (Some(&notice.version()), None));
}

#[test]
fn a_notice_of_the_authority_that_we_are_of_is_acknowledged_at_once() {
    let only = Authority::new();
    let (notice, mut line) = (only.notice(Duration::from_secs(60)), Line::issuer());
    hear(&mut line, &push(&notice, "1"), 0);
    let held = Some(notice.version());
    assert_eq!(say(&mut line, &of(&only), 0, 0), Say::Answer { held, nonce: "1".to_owned(), refusal: None });
}

#[test]
fn a_push_that_is_repeated_on_a_new_stream_is_not_a_new_case() {
    let (old, new) = (Authority::new(), Authority::new());
    let (notice, mut line) = (new.notice(Duration::ZERO), Line::issuer());
    hear(&mut line, &push(&notice, "1"), 0);
    hear(&mut line, &push(&notice, "2"), 10);
    assert!(refusal(&say(&mut line, &of(&old), 15, 0)).unwrap().contains("has not come to it in time"));
    // Another one is.
    hear(&mut line, &push(&Authority::new().notice(Duration::ZERO), "3"), 20);
    assert_eq!(say(&mut line, &of(&old), 21, 0), Say::Nothing);
}

#[test]
fn what_cannot_be_read_is_refused_and_what_was_heard_before_stays() {
    let only = Authority::new();
    let mut line = Line::trust();
    let mut heard = Heard { trust: Some(only.trust()), ..Heard::default() };
    let message = push(&only.notice(Duration::ZERO), "1");
    let (_, told) = line.take(&message, &mut heard, NOW, Duration::ZERO).unwrap_err();
    assert!(refusal(&told).unwrap().contains("no secret `ROOTCA`"), "{told:?}");
    assert_eq!((heard.trust, line.reason()), (Some(only.trust()), "unreadable"));
    assert!(!line.is_unsettled());
}

#[test]
fn policies_are_acknowledged_once_all_proxies_follow_them_and_who_refuses_is_named() {
    let mesh = crate::authz::Mesh::of("td".parse().unwrap());
    let offered = Some(authz::Rulebook::new(Vec::new(), &authz::Workload::default(), &mesh));
    let version = offered.as_ref().unwrap().version().clone();
    let message = DiscoveryResponse {
        version_info: version.to_string(),
        nonce: "1".to_owned(),
        resources: crate::sds::Resources::resource(&offered, RULEBOOK).into_iter().collect(),
        ..DiscoveryResponse::default()
    };
    let (mut line, secrets) = (Line::policies(), Secrets::default());
    assert_eq!(hear(&mut line, &message, 0).policies.map(|policies| policies.version), Some(version.clone()));
    let mut say = |seconds, enforced: &authz::Progress| {
        let stand = |_: &str, _: &Version| Standing::default();
        let now = Duration::from_secs(seconds);
        line.say(&Sight { secrets: &secrets, stand: &stand, enforced, now, patience: &PATIENCE })
    };
    assert_eq!(say(1, &authz::Progress::default()), Say::Nothing);
    let refused = Some(("web".to_owned(), "no".to_owned()));
    let standing = Standing { refusals: 1, refusal: refused, ..Standing::default() };
    let enforced = authz::Progress { version: Some(version.clone()), standing, ..authz::Progress::default() };
    assert_eq!(refusal(&say(1, &enforced)), Some("proxy web: no"));
    let enforced = authz::Progress { version: Some(version), ..authz::Progress::default() };
    assert_eq!(say(2, &enforced), Say::Reopen);
}

#[test]
fn policies_that_cannot_be_read_are_refused_and_those_before_stay() {
    let mut line = Line::policies();
    let message = push(&Authority::new().notice(Duration::ZERO), "1");
    let (_, told) = line.take(&message, &mut Heard::default(), NOW, Duration::ZERO).unwrap_err();
    assert!(
        refusal(&told).unwrap().contains("no policies under the name `burgrave.dev/policies`"),
        "{told:?}"
    );
}
