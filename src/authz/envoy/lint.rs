//! Pure: is there anything in a filter that Envoy would refuse, misread, or die of?
//!
//! Envoy takes in silence a block of addresses without a length (it is everybody), rules beside a map (they do not count) and a
//! filter without rules (it allows everything); a path template that it cannot read ends the process, now and after each start. So
//! nothing is sent or written that has not passed here, whoever made it.

use prost::Message;
use prost::Name;

use crate::authz::envoy::config::Config;
use crate::authz::envoy::filter::Filter;
use crate::authz::envoy::text::ANY;
use crate::authz::envoy::text::NOT_EMPTY;
use crate::authz::envoy::text::WORKLOAD;
use crate::authz::model::Cidr;
use crate::authz::model::Template;
use crate::proto::filters::CidrRange;
use crate::proto::filters::HeaderMatchSpecifier;
use crate::proto::filters::HeaderMatcher;
use crate::proto::filters::MatchPattern;
use crate::proto::filters::Matcher;
use crate::proto::filters::MetadataMatcher;
use crate::proto::filters::MtlsAuthenticated;
use crate::proto::filters::PathMatcher;
use crate::proto::filters::Permission;
use crate::proto::filters::Policy;
use crate::proto::filters::Principal;
use crate::proto::filters::Rules;
use crate::proto::filters::RulesAction;
use crate::proto::filters::SanType;
use crate::proto::filters::SourcedMetadata;
use crate::proto::filters::StringMatcher;
use crate::proto::filters::TypedExtensionConfig;
use crate::proto::filters::UriTemplateMatchConfig;
use crate::proto::filters::ValueMatcher;
use crate::proto::filters::list_matcher;
use crate::proto::filters::matcher;
use crate::proto::filters::metadata_matcher::path_segment::Segment;
use crate::proto::filters::path_matcher;
use crate::proto::filters::permission::Rule;
use crate::proto::filters::principal::Identifier;
use crate::proto::filters::value_matcher;

/// The longest path template that Envoy takes, in characters.
const MAX_TEMPLATE: usize = 256;

/// How deep rules may lie in rules. What is made here lies five deep.
const MAX_DEPTH: usize = 16;

/// What is unsound, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("filter `{filter}`{}: {what}", rule.as_ref().map(|rule| format!(", rule `{rule}`")).unwrap_or_default())]
pub struct Unsound {
    /// The filter's name.
    pub filter: String,
    /// The rule's name, if it is in one.
    pub rule: Option<String>,
    /// What is wrong.
    pub what: &'static str,
}

type Sound = Result<(), &'static str>;

/// Looks through a filter.
///
/// # Errors
/// What is wrong first, if something is.
pub fn filter(filter: &Filter) -> Result<(), Unsound> {
    let unsound = |rule, what| Unsound { filter: filter.name(), rule, what };
    let (rules, map, shadow, has_other) = match &filter.config {
        Config::HttpRbac(one) => (&one.rules, &one.matcher, &one.shadow_rules, one.shadow_matcher.is_some()),
        Config::NetworkRbac(one) => {
            (&one.rules, &one.matcher, &one.shadow_rules, one.shadow_matcher.is_some())
        }
        Config::JwtAuthn(one) => {
            let is_sound = when(!one.providers.is_empty(), "no issuer whose tokens are verified");
            return is_sound.map_err(|what| unsound(None, what));
        }
        Config::HttpExtAuthz(one) => {
            let is_sound = one.filter_enabled_metadata.as_ref().map_or(Ok(()), metadata);
            return is_sound.map_err(|what| unsound(None, what));
        }
        Config::NetworkExtAuthz(one) => {
            let is_sound = one.filter_enabled_metadata.as_ref().map_or(Ok(()), metadata);
            return is_sound.map_err(|what| unsound(None, what));
        }
    };
    match (rules, map) {
        (Some(_), Some(_)) => return Err(unsound(None, "Envoy does not read rules beside a map")),
        (None, None) if shadow.is_none() => {
            return Err(unsound(None, "without rules Envoy allows everything"));
        }
        _ if has_other => return Err(unsound(None, "a map for dry run is not made here")),
        _ => {}
    }
    if let Some(map) = map {
        peers(map).map_err(|what| unsound(None, what))?;
    }
    for (name, one) in [rules, shadow].into_iter().flatten().flat_map(|rules| &rules.policies) {
        policy(one).map_err(|what| unsound(Some(name.clone()), what))?;
    }
    let all = [rules, shadow];
    let mut all = all.into_iter().flatten();
    all.try_for_each(of_whole).map_err(|what| unsound(None, what))
}

fn when(holds: bool, what: &'static str) -> Sound {
    if holds { Ok(()) } else { Err(what) }
}

fn of_whole(rules: &Rules) -> Sound {
    when(RulesAction::try_from(rules.action).is_ok(), "it has an action that Envoy does not know")?;
    when(rules.audit_logging_options.is_none(), "Envoy takes options for audit logs and does not follow them")
}

fn policy(policy: &Policy) -> Sound {
    when(!policy.permissions.is_empty(), "a policy without permissions")?;
    when(!policy.principals.is_empty(), "a policy without principals")?;
    let has_condition =
        policy.condition.is_some() || policy.checked_condition.is_some() || policy.cel_config.is_some();
    when(!has_condition, "a condition is not made here")?;
    policy.permissions.iter().try_for_each(|one| permission(one, MAX_DEPTH))?;
    policy.principals.iter().try_for_each(|one| principal(one, MAX_DEPTH))
}

fn permission(one: &Permission, depth: usize) -> Sound {
    let depth = depth.checked_sub(1).ok_or("rules lie too deep in rules")?;
    match one.rule.as_ref().ok_or("a permission that says nothing")? {
        Rule::AndRules(set) | Rule::OrRules(set) => {
            when(!set.rules.is_empty(), "an empty set of permissions")?;
            set.rules.iter().try_for_each(|one| permission(one, depth))
        }
        Rule::NotRule(one) => permission(one, depth),
        Rule::Any(any) => when(*any, "`any: false`"),
        Rule::Header(one) => header(one),
        Rule::UrlPath(one) => path(one),
        Rule::DestinationIp(block) => range(block),
        Rule::DestinationPort(port) => when(*port <= u32::from(u16::MAX), "a port above 65535"),
        Rule::RequestedServerName(one) => text(one),
        Rule::UriTemplate(one) => template(one),
        Rule::SourcedMetadata(one) => sourced(one),
        _ => Err("a permission of a kind that is not made here"),
    }
}

fn principal(one: &Principal, depth: usize) -> Sound {
    let depth = depth.checked_sub(1).ok_or("rules lie too deep in rules")?;
    match one.identifier.as_ref().ok_or("a principal that says nothing")? {
        Identifier::AndIds(set) | Identifier::OrIds(set) => {
            when(!set.ids.is_empty(), "an empty set of principals")?;
            set.ids.iter().try_for_each(|one| principal(one, depth))
        }
        Identifier::NotId(one) => principal(one, depth),
        Identifier::Any(any) => when(*any, "`any: false`"),
        Identifier::DirectRemoteIp(block) | Identifier::RemoteIp(block) => range(block),
        Identifier::Header(one) => header(one),
        Identifier::UrlPath(one) => path(one),
        Identifier::SourcedMetadata(one) => sourced(one),
        Identifier::Custom(one) => mtls(one),
        Identifier::Authenticated(_) => Err("`authenticated` also takes names that no mutual TLS proved"),
        _ => Err("a principal of a kind that is not made here"),
    }
}

fn header(one: &HeaderMatcher) -> Sound {
    let is_name = |byte: u8| byte.is_ascii_graphic() && !byte.is_ascii_uppercase();
    when(!one.name.is_empty() && one.name.bytes().all(is_name), "a header's name is not one in lower case")?;
    let is_plain = !one.invert_match && !one.treat_missing_header_as_empty;
    when(is_plain, "an inverted header matcher does not match a missing header")?;
    match &one.header_match_specifier {
        Some(HeaderMatchSpecifier::PresentMatch(present)) => when(*present, "`present_match: false`"),
        Some(HeaderMatchSpecifier::StringMatch(one)) => text(one),
        _ => Err("a header matcher of a kind that is not made here"),
    }
}

fn path(one: &PathMatcher) -> Sound {
    match &one.rule {
        Some(path_matcher::Rule::Path(one)) => text(one),
        None => Err("an empty path matcher"),
    }
}

fn text(one: &StringMatcher) -> Sound {
    match one.match_pattern.as_ref().ok_or("an empty string matcher")? {
        MatchPattern::Exact(_) => Ok(()),
        MatchPattern::Prefix(value) | MatchPattern::Suffix(value) | MatchPattern::Contains(value) => {
            when(!value.is_empty(), "a prefix, suffix or part of no length")
        }
        MatchPattern::SafeRegex(regex) => {
            when([ANY, NOT_EMPTY, WORKLOAD].contains(&regex.regex.as_str()), "a regex that is none of ours")
        }
        MatchPattern::Custom(_) => Err("a string matcher of a kind that is not made here"),
    }
}

fn range(one: &CidrRange) -> Sound {
    let length = one.prefix_len.as_ref().ok_or("a block without a length is every address")?;
    let block: Result<Cidr, _> = format!("{}/{}", one.address_prefix, length.value).parse();
    when(block.is_ok(), "a block that is none")
}

fn sourced(one: &SourcedMetadata) -> Sound {
    metadata(one.metadata_matcher.as_ref().ok_or("an empty metadata matcher")?)
}

fn metadata(one: &MetadataMatcher) -> Sound {
    when(!one.filter.is_empty(), "metadata of no filter")?;
    when(!one.path.is_empty(), "metadata without a path")?;
    let is_key = |key: &Option<Segment>| matches!(key, Some(Segment::Key(key)) if !key.is_empty());
    when(one.path.iter().all(|segment| is_key(&segment.segment)), "metadata with an empty key in its path")?;
    when(!one.invert, "an inverted metadata matcher matches what is missing")?;
    value(one.value.as_ref().ok_or("metadata without a value")?)
}

fn value(one: &ValueMatcher) -> Sound {
    match &one.match_pattern {
        Some(value_matcher::MatchPattern::StringMatch(one)) => text(one),
        Some(value_matcher::MatchPattern::ListMatch(list)) => match &list.match_pattern {
            Some(list_matcher::MatchPattern::OneOf(one)) => value(one),
            None => Err("an empty list matcher"),
        },
        _ => Err("a value matcher of a kind that is not made here"),
    }
}

/// Envoy has its own reader of templates, which ends the process over what it cannot read; ours is stricter.
fn template(one: &TypedExtensionConfig) -> Sound {
    let config: UriTemplateMatchConfig = unpacked(one)?;
    let written = config.path_template;
    when(written.len() <= MAX_TEMPLATE, "a path template of more than 256 bytes")?;
    let as_istio_has_it: Vec<String> = written
        .split('/')
        .map(|segment| match segment {
            "*" | "**" => format!("{{{segment}}}"),
            literal => literal.to_owned(),
        })
        .collect();
    let read = Template::parse(&as_istio_has_it.join("/"));
    when(read.is_ok_and(|read| read.to_envoy() == written), "a path template that could end an Envoy")
}

fn mtls(one: &TypedExtensionConfig) -> Sound {
    let config: MtlsAuthenticated = unpacked(one)?;
    match (&config.san_matcher, config.any_validated_client_certificate) {
        (None, true) => Ok(()),
        (Some(san), false) => {
            when(san.san_type == i32::from(SanType::Uri), "a name of a certificate that is no URI")?;
            text(san.matcher.as_ref().ok_or("a name of a certificate without a matcher")?)
        }
        _ => Err("either a name of a certificate or any certificate"),
    }
}

fn unpacked<M: Message + Name + Default>(one: &TypedExtensionConfig) -> Result<M, &'static str> {
    let config = one.typed_config.as_ref().filter(|config| config.type_url == M::type_url());
    let config = config.ok_or("an extension that is not the one that stands there")?;
    M::decode(config.value.as_slice()).map_err(|_| "an extension that cannot be read")
}

/// What is found nowhere in a map must be denied, and said so.
fn peers(map: &Matcher) -> Sound {
    when(map.on_no_match.is_some(), "a map that does not say what happens to others")?;
    match &map.matcher_type {
        Some(matcher::MatcherType::MatcherTree(tree)) => match &tree.tree_type {
            Some(matcher::matcher_tree::TreeType::ExactMatchMap(map)) => {
                when(!map.map.is_empty(), "an empty map")
            }
            _ => Err("a tree of a kind that is not made here"),
        },
        _ => Err("a matcher of a kind that is not made here"),
    }
}
