//! Pure: what is written in a `RequestAuthentication`?
//!
//! Of a rule that cannot be read whole, no token is good. The same holds of all rules where it is not known whom they are for: a
//! token that is believed where none was meant to be would open what asks for one.

use std::time::Duration;

use serde_json::Value;

use crate::authz::jwt_issuer::JwtIssuer;
use crate::authz::jwt_issuer::Keys;
use crate::authz::jwt_issuer::TokenPlace;
use crate::authz::resource::authorization_policy::OBJECT;
use crate::authz::resource::id::ResourceId;
use crate::authz::resource::place::Place;
use crate::authz::resource::place::shown;
use crate::authz::resource::selection::Selection;

/// The most rules, and the most items of each list in one.
pub(crate) const MAX_RULES: usize = 4096;
const MAX_ITEMS: usize = 512;
/// The longest JWKS, in bytes.
const MAX_KEYS: usize = 256 << 10;
/// How long fetching keys may take if nothing is said.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The fields of the spec.
pub(crate) const SPEC: [&str; 4] = ["selector", "targetRef", "targetRefs", "jwtRules"];
/// The fields of a rule.
pub(crate) const RULE: [&str; 11] = [
    "issuer",
    "audiences",
    "jwksUri",
    "jwks",
    "fromHeaders",
    "fromParams",
    "fromCookies",
    "outputPayloadToHeader",
    "outputClaimToHeaders",
    "forwardOriginalToken",
    "timeout",
];

const OF_RULE: &str = "no token of this issuer is good until it is corrected";
const OF_ALL: &str = "no token is good until it is corrected, at all workloads of its scope";

/// A `RequestAuthentication`, as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestAuthentication {
    /// Which workloads it is for.
    pub selection: Selection,
    /// Its rules. One of [`Keys::None`] could not be read whole.
    pub issuers: Vec<JwtIssuer>,
}

impl RequestAuthentication {
    /// Reads the spec of `object`.
    pub(crate) fn read(id: &ResourceId, object: &Place<'_>) -> Self {
        let object = object.or_else(OF_ALL);
        let is_sound = object.has_only(&OBJECT);
        let Some(spec) = object.field("spec") else { return Self::default() };
        let is_sound = spec.has_only(&SPEC) && is_sound;
        let selection = Selection::read(&spec);
        let list = spec.field("jwtRules");
        let rules = list.as_ref().map_or(Some(Vec::new()), |list| list.items(MAX_RULES));
        let Some(rules) = rules else {
            return Self { selection, issuers: vec![unknown(id, 0)] };
        };
        let mut issuers: Vec<JwtIssuer> =
            rules.iter().enumerate().map(|(index, rule)| issuer(id, index, &rule.or_else(OF_RULE))).collect();
        if !is_sound || selection == Selection::Unreadable {
            issuers.iter_mut().for_each(|issuer| issuer.keys = Keys::None);
            if issuers.is_empty() {
                issuers.push(unknown(id, 0));
            }
        }
        Self { selection, issuers }
    }
}

/// An issuer that no token can be of.
fn unknown(id: &ResourceId, index: usize) -> JwtIssuer {
    JwtIssuer {
        by: id.clone(),
        index,
        issuer: String::new(),
        audiences: Vec::new(),
        keys: Keys::None,
        places: Vec::new(),
        is_forwarded: false,
        payload_header: None,
        claim_headers: Vec::new(),
        timeout: TIMEOUT,
    }
}

fn issuer(id: &ResourceId, index: usize, rule: &Place<'_>) -> JwtIssuer {
    let unknown = unknown(id, index);
    let mut is_sound = rule.has_only(&RULE);
    let mut sound = |is: bool| is_sound &= is;
    let issuer = match rule.field("issuer") {
        Some(place) => place.text(),
        None => {
            rule.error("has no `issuer`");
            None
        }
    };
    sound(issuer.is_some());
    let issuer = issuer.unwrap_or_default();
    let audiences = texts(rule, "audiences", |item| item.text().map(str::to_owned));
    sound(audiences.is_some());
    let keys = keys(rule, issuer);
    sound(keys.is_some());
    let places = places(rule);
    sound(places.is_some());
    let claim_headers = texts(rule, "outputClaimToHeaders", claim_header);
    sound(claim_headers.is_some());
    let payload_header = optional(rule, "outputPayloadToHeader", header);
    sound(payload_header.is_some());
    let is_forwarded = optional(rule, "forwardOriginalToken", |place| place.flag());
    sound(is_forwarded.is_some());
    let timeout = optional(rule, "timeout", duration);
    sound(timeout.is_some());
    JwtIssuer {
        issuer: issuer.to_owned(),
        audiences: audiences.unwrap_or_default(),
        keys: keys.filter(|_| is_sound).unwrap_or(Keys::None),
        places: places.unwrap_or_default(),
        is_forwarded: is_forwarded.flatten().unwrap_or_default(),
        payload_header: payload_header.flatten(),
        claim_headers: claim_headers.unwrap_or_default(),
        timeout: timeout.flatten().unwrap_or(TIMEOUT),
        ..unknown
    }
}

/// A field that may be left out: `None` if it is there and cannot be read.
fn optional<T>(rule: &Place<'_>, name: &str, read: impl Fn(&Place<'_>) -> Option<T>) -> Option<Option<T>> {
    rule.field(name).map_or(Some(None), |place| read(&place).map(Some))
}

/// A list that may be left out: `None` if it is there and cannot be read whole.
fn texts<T>(rule: &Place<'_>, name: &str, read: impl Fn(&Place<'_>) -> Option<T>) -> Option<Vec<T>> {
    let Some(list) = rule.field(name) else { return Some(Vec::new()) };
    let read: Vec<Option<T>> = list.items(MAX_ITEMS)?.iter().map(read).collect();
    read.into_iter().collect()
}

fn keys(rule: &Place<'_>, issuer: &str) -> Option<Keys> {
    match (rule.field("jwks"), rule.field("jwksUri")) {
        (Some(_), Some(second)) => {
            second.error("a rule has only one of `jwks` and `jwksUri`");
            None
        }
        (Some(inline), None) => {
            let text = inline.text_within(MAX_KEYS)?;
            let keys = serde_json::from_str::<Value>(text).ok();
            if keys.as_ref().and_then(|keys| keys.get("keys")).and_then(Value::as_array).is_none() {
                inline.error("is no JWKS: a JSON text with a list `keys`");
                return None;
            }
            Some(Keys::Inline(text.to_owned()))
        }
        (None, Some(address)) => {
            let text = address.text()?;
            if !is_address(text) {
                address.error(format!("`{}` is no address; write it as `https://…`", shown(text)));
                return None;
            }
            if text.starts_with("http://") {
                address.warning(
                    "keys that are fetched by `http://` are whoever's stands on the way; use `https://`",
                );
            }
            Some(Keys::At(text.to_owned()))
        }
        (None, None) if is_address(issuer) => Some(Keys::Discovered),
        (None, None) => {
            rule.error("has neither `jwks` nor `jwksUri`, and its issuer is no address to ask for them");
            None
        }
    }
}

fn is_address(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
        && text.chars().all(|c| c.is_ascii_graphic())
}

fn places(rule: &Place<'_>) -> Option<Vec<TokenPlace>> {
    let headers = texts(rule, "fromHeaders", |item| {
        let is_sound = item.has_only(&["name", "prefix"]);
        let Some(name) = item.field("name") else {
            item.error("has no `name`");
            return None;
        };
        let name = header(&name)?;
        let prefix = item.field("prefix");
        let text = prefix.as_ref().map_or(Some(""), |prefix| prefix.text_or_empty())?;
        // Envoy refuses the filter of all issuers over one that no header can have.
        if !text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
            item.error("its `prefix` may only have visible ASCII signs and spaces");
            return None;
        }
        is_sound.then(|| TokenPlace::Header { name, prefix: text.to_owned() })
    });
    let parameters = texts(rule, "fromParams", |item| Some(TokenPlace::Parameter(item.text()?.to_owned())));
    let cookies = texts(rule, "fromCookies", |item| Some(TokenPlace::Cookie(item.text()?.to_owned())));
    Some([headers?, parameters?, cookies?].concat())
}

fn claim_header(item: &Place<'_>) -> Option<(String, String)> {
    let is_sound = item.has_only(&["header", "claim"]);
    let (Some(name), Some(claim)) = (item.field("header"), item.field("claim")) else {
        item.error("needs both `header` and `claim`");
        return None;
    };
    let (name, claim) = (header(&name)?, claim.text()?.to_owned());
    is_sound.then_some((name, claim))
}

/// The name of a header, in lower case.
fn header(place: &Place<'_>) -> Option<String> {
    let name = place.text()?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if !name.bytes().all(allowed) || name.len() > 256 {
        place.error(format!("`{}` is no name of a header; letters, digits, `-` and `_` are", shown(name)));
        return None;
    }
    Some(name.to_ascii_lowercase())
}

/// A time, as `5s` or `1m30s`; a millisecond at least, an hour at most.
fn duration(place: &Place<'_>) -> Option<Duration> {
    let text = place.text()?;
    let duration =
        parse(text).filter(|time| (Duration::from_millis(1)..=Duration::from_secs(3600)).contains(time));
    if duration.is_none() {
        place.error(format!("`{}` is no time from `1ms` to `1h`; write it as `5s`", shown(text)));
    }
    duration
}

fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, behind) = rest.split_at_checked(digits)?;
        let unit = behind.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at_checked(unit)?;
        let of = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * of;
        rest = behind;
    }
    Duration::try_from_secs_f64(seconds).ok()
}
