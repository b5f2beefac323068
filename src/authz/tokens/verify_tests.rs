use std::time::Duration;

use serde_json::json;
use time::macros::datetime;

use super::*;
use crate::authz::tokens::key_book::KeyBook;
use crate::authz::tokens::test_support::Signer;

const NOW: OffsetDateTime = datetime!(2030-01-01 0:00 UTC);

fn inline(signer: &Signer) -> Keys {
    Keys::Inline(Arc::new(KeySet::parse(&signer.jwks()).unwrap()))
}

fn claims() -> Value {
    json!({"iss": "here", "sub": "alice", "aud": ["shop"], "exp": NOW.unix_timestamp() + 600})
}

fn ask(issuers: &[Issuer], headers: &[(&str, &str)]) -> Result<Option<Verified>, BadToken> {
    verify(&Http { path: "/", headers, ..Http::default() }, issuers, NOW)
}

fn bearer(issuers: &[Issuer], token: &str) -> Result<Option<Verified>, BadToken> {
    ask(issuers, &[("authorization", &format!("Bearer {token}"))])
}

fn shop(keys: Keys) -> Issuer {
    Issuer { audiences: vec!["shop".into()], ..Issuer::new("here", keys) }
}

#[test]
fn a_good_token_gives_its_claims_and_none_is_no_fault() {
    let signer = Signer::new("k");
    let issuers = [shop(inline(&signer))];
    assert_eq!(ask(&issuers, &[]), Ok(None));
    for other in ["Basic abc", "Bearer ", "bearer abc"] {
        assert_eq!(ask(&issuers, &[("authorization", other)]), Ok(None));
    }
    let token = signer.token(&claims());
    let verified = bearer(&issuers, &token).unwrap().unwrap();
    assert_eq!(verified.claims.get("sub"), Some(&json!("alice")));
    assert_eq!(Some(&*verified.payload), token.split('.').nth(1));
}

#[test]
fn every_other_token_is_refused_with_its_own_reason() {
    let signer = Signer::new("k");
    let issuers = [shop(inline(&signer))];
    let with = |key: &str, value: Value| {
        let mut changed = claims();
        changed[key] = value;
        signer.token(&changed)
    };
    let now = NOW.unix_timestamp();
    let good = signer.token(&claims());
    let (signed, _) = good.rsplit_once('.').unwrap();
    let under = |header: Value| signer.signed(&header, &claims());
    for (reason, token) in [
        (BadToken::Malformed, "not.a.token".to_owned()),
        (BadToken::Malformed, format!("{good},Bearer {good}")),
        (BadToken::Malformed, with("iss", json!(7))),
        (BadToken::Malformed, with("exp", json!("soon"))),
        (BadToken::TooLong, "a".repeat(MAX_LENGTH + 1)),
        (BadToken::Expired, with("exp", json!(now - 60))),
        (BadToken::Expired, with("exp", json!(-1.5e300))),
        (BadToken::NotYetValid, with("nbf", json!(now + 61))),
        (BadToken::WrongAudience, with("aud", json!("other"))),
        (BadToken::WrongAudience, with("aud", json!(["https://shop", "shop/"]))),
        (BadToken::WrongAudience, with("aud", json!([]))),
        (BadToken::WrongAudience, with("aud", Value::Null)),
        (BadToken::UnknownIssuer, with("iss", json!("there"))),
        (BadToken::UnknownIssuer, with("iss", json!("here/"))),
        (BadToken::BadSignature, Signer::new("k").token(&claims())),
        (BadToken::BadSignature, format!("{signed}.AAAA")),
        (BadToken::UnknownKey, under(json!({"alg": "ES256", "kid": "other"}))),
        (BadToken::UnknownKey, under(json!({"alg": "HS256", "kid": "k"}))),
        (BadToken::UnknownKey, under(json!({"alg": "RS256", "kid": "k"}))),
        (BadToken::Malformed, under(json!({"alg": "none", "kid": "k"}))),
        (BadToken::Malformed, under(json!({"alg": "ES256", "kid": "k", "crit": ["x"], "x": 1}))),
    ] {
        assert_eq!(bearer(&issuers, &token), Err(reason), "{token:.200}");
    }
}

#[test]
fn clocks_may_differ_by_a_minute_as_in_envoy() {
    let signer = Signer::new("k");
    let issuers = [Issuer::new("here", inline(&signer))];
    let now = NOW.unix_timestamp();
    let good = |claims: Value| bearer(&issuers, &signer.token(&claims)).is_ok();
    assert!(good(json!({"iss": "here", "exp": now - 59, "nbf": now + 60})));
    assert!(good(json!({"iss": "here"})), "a token without an end is good for ever");
}

#[test]
fn two_different_tokens_are_refused_and_the_same_one_twice_is_not() {
    let signer = Signer::new("k");
    let issuers = [shop(inline(&signer))];
    let (one, mut other) = (format!("Bearer {}", signer.token(&claims())), claims());
    other["sub"] = json!("bob");
    let other = format!("Bearer {}", signer.token(&other));
    assert_eq!(ask(&issuers, &[("authorization", &one), ("authorization", &other)]), Err(BadToken::Several));
    assert!(ask(&issuers, &[("authorization", &one), ("authorization", &one)]).unwrap().is_some());
}

#[test]
fn a_token_counts_only_where_its_own_issuer_has_its_place() {
    let signer = Signer::new("k");
    let place = Place::Header { name: "x-there".into(), prefix: "".into() };
    let there = Issuer { places: vec![place], ..Issuer::new("there", inline(&signer)) };
    let issuers = [shop(inline(&signer)), there];
    let token = signer.token(&claims());
    assert_eq!(ask(&issuers, &[("x-there", &token)]), Err(BadToken::UnknownIssuer));
    let theirs = signer.token(&json!({"iss": "there", "sub": "bob"}));
    assert_eq!(ask(&issuers, &[("x-there", &theirs)]).unwrap().unwrap().issuer, 1);
}

#[test]
fn without_keys_no_token_is_good() {
    let signer = Signer::new("k");
    let token = signer.token(&claims());
    let published = KeyBook::default().follow("https://keys.test");
    for keys in [Keys::None, Keys::Published(published.clone())] {
        assert_eq!(bearer(&[shop(keys)], &token), Err(BadToken::NoKeys));
    }
    let until = NOW + Duration::from_secs(1);
    published.put(KeySet::parse(&signer.jwks()).unwrap(), until);
    let issuers = [shop(Keys::Published(published))];
    assert!(bearer(&issuers, &token).is_ok());
    let authorization = format!("Bearer {token}");
    let later =
        verify(&Http { headers: &[("authorization", &authorization)], ..Http::default() }, &issuers, until);
    assert_eq!(later, Err(BadToken::NoKeys), "keys that are too old are as good as none");
}

#[test]
fn a_key_that_is_not_published_is_asked_for_and_a_wrong_signature_is_not() {
    let signer = Signer::new("k");
    let published = KeyBook::default().follow("https://keys.test");
    published.put(KeySet::parse(&signer.jwks()).unwrap(), NOW + Duration::from_secs(600));
    let issuers = [shop(Keys::Published(published.clone()))];
    assert_eq!(bearer(&issuers, &Signer::new("k").token(&claims())), Err(BadToken::BadSignature));
    assert!(!published.take_missed());
    assert_eq!(bearer(&issuers, &Signer::new("new").token(&claims())), Err(BadToken::UnknownKey));
    assert!(published.take_missed());
}

#[test]
fn claims_of_several_words_become_lists() {
    let signer = Signer::new("k");
    let token = signer.token(&json!({
        "iss": "here", "scope": "read  write", "permission": "one", "groups": "a b", "nested": {"scope": "a b"}
    }));
    let found = bearer(&[Issuer::new("here", inline(&signer))], &token).unwrap().unwrap().claims;
    assert_eq!(found.get("scope"), Some(&json!(["read", "write"])));
    assert_eq!(found.get("permission"), Some(&json!(["one"])));
    assert_eq!(found.get("groups"), Some(&json!("a b")));
    assert_eq!(found.get("nested"), Some(&json!({"scope": "a b"})));
}
