//! Pure: may it, all in all? First the end user's token, then the policies, then whether all that they ask for could be told.

use std::sync::Arc;

use serde_json::Map;
use serde_json::Value;
use time::OffsetDateTime;

use crate::authz::decide::By;
use crate::authz::decide::Decision;
use crate::authz::decide::Effect;
use crate::authz::decide::RuleRef;
use crate::authz::enforced::Enforced;
use crate::authz::header_lines;
use crate::authz::joined;
use crate::authz::model::Action;
use crate::authz::model::Policy;
use crate::authz::model::PolicyName;
use crate::authz::request::Http;
use crate::authz::request::JWT_FILTER;
use crate::authz::request::JWT_PAYLOAD;
use crate::authz::request::Request;
use crate::authz::tokens::BadToken;
use crate::authz::tokens::Verified;
use crate::authz::tokens::verify;

/// What becomes of a request, and why.
#[derive(Clone, Debug)]
pub struct Ruling {
    /// Whether it may.
    pub effect: Effect,
    /// Why.
    pub reason: Reason,
    /// What the policies say; `None` if they were not asked.
    pub decided: Option<Decided>,
    /// The end user's token, if there is one.
    pub token: Option<Verified>,
    /// By which policies and issuers; `None` if there are none yet.
    pub enforced: Option<Arc<Enforced>>,
}

/// What policies say, with the policies that say it.
#[derive(Clone, Debug)]
pub struct Decided {
    /// What they say.
    pub decision: Decision,
    /// Who says it.
    pub enforced: Arc<Enforced>,
    /// Whether it was asked for an HTTP request.
    is_http: bool,
}

/// A rule, by its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named<'a> {
    /// Its policy.
    pub policy: &'a PolicyName,
    /// Its place in the object.
    pub rule: usize,
}

/// Why a request may or may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A rule matches, which allows or denies.
    Rule,
    /// There are policies that allow, and none of their rules matches.
    NoAllowingRule,
    /// There are no policies that allow, and none that denies matches.
    NoAllowingPolicy,
    /// The policies have not been received yet.
    NotReady,
    /// The question makes no sense.
    Malformed,
    /// The end user's token is not good.
    Token(BadToken),
    /// A policy asks for a header whose lines came joined, and depends on how many there were.
    AmbiguousHeader,
    /// A policy asks for the client's address, and it is not known whether to believe what is said of it.
    ClientUnknown,
    /// Somebody else has to be asked first, and nobody knows whether they were.
    CustomNotAsked,
    /// Whoever asks is not known, or may not ask.
    UnknownAsker,
}

/// What the asker could not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Doubts {
    /// Header lines of one name came joined with commas.
    pub joined_headers: bool,
    /// The client's address is unknown, as nobody said which proxies are believed.
    pub client_unknown: bool,
}

impl Reason {
    /// A short name for logs, metrics and headers, from a closed set.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::NoAllowingRule => "no_allowing_rule",
            Self::NoAllowingPolicy => "no_allowing_policy",
            Self::NotReady => "policies_not_received",
            Self::Malformed => "malformed_check",
            Self::Token(why) => why.reason(),
            Self::AmbiguousHeader => "ambiguous_header",
            Self::ClientUnknown => "client_address_unknown",
            Self::CustomNotAsked => "custom_provider_not_asked",
            Self::UnknownAsker => "unknown_asker",
        }
    }
}

impl Ruling {
    /// A denial for which no policy was asked.
    pub fn denied(reason: Reason) -> Self {
        Self { effect: Effect::Deny, reason, decided: None, token: None, enforced: None }
    }

    /// Whether it may.
    pub fn is_allowed(&self) -> bool {
        self.effect == Effect::Allow
    }

    /// The rule that decides, if one does.
    pub fn rule(&self) -> Option<Named<'_>> {
        let decided = self.decided.as_ref()?;
        match (self.reason, decided.decision.by) {
            (Reason::Rule, By::Rule(rule)) => decided.named(rule),
            (Reason::CustomNotAsked, _) => decided.named(decided.decision.custom?),
            _ => None,
        }
    }
}

impl Decided {
    /// The names of a rule that the decision points at.
    pub fn named(&self, rule: RuleRef) -> Option<Named<'_>> {
        let found = self.enforced.policies().rule(&self.sample(), rule)?;
        Some(Named { policy: &found.policy.name, rule: found.rule.index })
    }

    /// A request of the same kind.
    fn sample(&self) -> Request<'static> {
        Request { http: self.is_http.then(Http::default), ..Request::default() }
    }
}

/// Rules on `request`. `asked_elsewhere` are the providers of `CUSTOM` rules that are known to be asked by somebody else, or are us.
pub(super) fn rule_on(
    enforced: &Arc<Enforced>,
    request: &Request<'_>,
    doubts: Doubts,
    asked_elsewhere: &[Box<str>],
    now: OffsetDateTime,
) -> Ruling {
    let denied = |reason| Ruling { enforced: Some(enforced.clone()), ..Ruling::denied(reason) };
    let token = match request.http.as_ref().map(|http| verify(http, enforced.issuers(), now)) {
        Some(Err(why)) => return denied(Reason::Token(why)),
        Some(Ok(token)) => token,
        None => None,
    };
    let with_claims = token.as_ref().map(|token| with_claims(request.metadata, token));
    let request = Request { metadata: with_claims.as_ref().or(request.metadata), ..*request };
    let decision = enforced.policies().decide(&request);
    let decided = Decided { decision, enforced: enforced.clone(), is_http: request.http.is_some() };
    let (effect, reason) = match (decision.effect, decision.by) {
        (Effect::Deny, By::NoAllowingRule) => (Effect::Deny, Reason::NoAllowingRule),
        (Effect::Deny, _) => (Effect::Deny, Reason::Rule),
        (Effect::Allow, by) => match hindrance(enforced, &decided, &request, doubts, asked_elsewhere) {
            Some(hindrance) => (Effect::Deny, hindrance),
            None if by == By::NoAllowingPolicy => (Effect::Allow, Reason::NoAllowingPolicy),
            None => (Effect::Allow, Reason::Rule),
        },
    };
    Ruling { effect, reason, decided: Some(decided), token, enforced: Some(enforced.clone()) }
}

/// Why what the policies allow is denied all the same.
fn hindrance(
    enforced: &Enforced,
    decided: &Decided,
    request: &Request<'_>,
    doubts: Doubts,
    asked_elsewhere: &[Box<str>],
) -> Option<Reason> {
    let is_asked = |provider: &str| asked_elsewhere.iter().any(|known| **known == *provider);
    if decided.decision.custom.is_some() && asks_others(enforced, request, is_asked) {
        return Some(Reason::CustomNotAsked);
    }
    if doubts.client_unknown && enforced.asks_for_client() {
        return Some(Reason::ClientUnknown);
    }
    let lines = request.http.map_or(&[][..], |http| http.headers);
    // Of some headers Envoy has made one line before anybody saw them, its own filter of rules too.
    let is_certain = |(name, value): &(&str, &str)| {
        header_lines::is_joined(name) || joined::is_certain(enforced.asked_of(name), value)
    };
    if doubts.joined_headers && !lines.iter().all(is_certain) {
        return Some(Reason::AmbiguousHeader);
    }
    None
}

/// Whether a `CUSTOM` policy matches whose provider nobody asks. A decision names the first one only, so each is looked at; it is rare
/// that there are any.
fn asks_others(enforced: &Enforced, request: &Request<'_>, is_asked: impl Fn(&str) -> bool) -> bool {
    let asks_another = |policy: &&Arc<Policy>| match &policy.action {
        Action::Custom { provider } => !is_asked(provider),
        Action::Allow | Action::Deny | Action::Audit => false,
    };
    let matches = |policy: &Arc<Policy>| match request.http {
        Some(_) => policy.first_match(request).is_some(),
        None => policy.for_connections().first_match(request).is_some(),
    };
    enforced.policies().policies().filter(asks_another).any(matches)
}

/// The metadata with the claims of the token, in place of what was said of one before.
fn with_claims(before: Option<&Map<String, Value>>, token: &Verified) -> Map<String, Value> {
    let mut metadata = before.cloned().unwrap_or_default();
    let mut found = Map::new();
    found.insert(JWT_PAYLOAD.to_owned(), Value::Object(token.claims.clone()));
    metadata.insert(JWT_FILTER.to_owned(), Value::Object(found));
    metadata
}

#[cfg(test)]
#[path = "ruling_tests.rs"]
mod tests;
