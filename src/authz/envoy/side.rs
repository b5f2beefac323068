//! Pure: how does Envoy ask one question, of the request (a permission) or of who sent it (a principal)?
//!
//! Envoy asks some things on one side only: who the peer is and where it is are asked of principals, the server's name, our own
//! address and path templates of permissions. Headers, paths and metadata may stand on either.

use prost::Message;
use prost::Name;

use crate::authz::envoy::text::Case;
use crate::authz::envoy::text::WORKLOAD;
use crate::authz::envoy::text::constant;
use crate::authz::envoy::text::matcher;
use crate::authz::envoy::text::matcher_or_any;
use crate::authz::model::Atom;
use crate::authz::model::Cidr;
use crate::authz::model::Conjunction;
use crate::authz::model::Pattern;
use crate::authz::model::Shape;
use crate::authz::model::Template;
use crate::authz::model::Term;
use crate::authz::model::Value;
use crate::proto::envoy::Any;
use crate::proto::filters::CidrRange;
use crate::proto::filters::HeaderMatchSpecifier;
use crate::proto::filters::HeaderMatcher;
use crate::proto::filters::ListMatcher;
use crate::proto::filters::MetadataMatcher;
use crate::proto::filters::MetadataSource;
use crate::proto::filters::MtlsAuthenticated;
use crate::proto::filters::PathMatcher;
use crate::proto::filters::Permission;
use crate::proto::filters::Principal;
use crate::proto::filters::SanType;
use crate::proto::filters::SourcedMetadata;
use crate::proto::filters::StringMatcher;
use crate::proto::filters::SubjectAltNameMatcher;
use crate::proto::filters::TypedExtensionConfig;
use crate::proto::filters::UInt32Value;
use crate::proto::filters::UriTemplateMatchConfig;
use crate::proto::filters::ValueMatcher;
use crate::proto::filters::list_matcher;
use crate::proto::filters::metadata_matcher;
use crate::proto::filters::path_matcher;
use crate::proto::filters::permission;
use crate::proto::filters::permission::Rule;
use crate::proto::filters::principal;
use crate::proto::filters::principal::Identifier;
use crate::proto::filters::value_matcher;

/// The name under which Envoy has the principal that only mutual TLS proves.
const MTLS_AUTHENTICATED: &str = "envoy.rbac.principals.mtls_authenticated";
/// The name under which Envoy has path templates.
const URI_TEMPLATE: &str = "envoy.path.match.uri_template.uri_template_matcher";

/// One side of Envoy's policies: what can be asked there, and how questions are put together.
pub(super) trait Side: Sized {
    /// It is always so.
    fn always() -> Self;
    /// Whether it is always so, and says so.
    fn is_always(&self) -> bool;
    /// It is not so. (Never `invert_match`, which a missing header does not match either.)
    fn not(self) -> Self;
    /// All of them, at least two.
    fn and(list: Vec<Self>) -> Self;
    /// Any of them, at least two.
    fn or(list: Vec<Self>) -> Self;
    /// Whether `atom` can be asked on this side.
    fn takes(atom: &Atom) -> bool;
    /// Asks it; `None` on the wrong side.
    fn atom(atom: &Atom) -> Option<Self>;

    /// All of them; of none, always.
    fn all(mut list: Vec<Self>) -> Self {
        match (list.len(), list.pop()) {
            (_, None) => Self::always(),
            (1, Some(only)) => only,
            (_, Some(last)) => {
                list.push(last);
                Self::and(list)
            }
        }
    }

    /// Any of them; of none, never. Envoy refuses lists without entries.
    fn any(mut list: Vec<Self>) -> Self {
        match (list.len(), list.pop()) {
            (_, None) => Self::always().not(),
            (1, Some(only)) => only,
            (_, Some(last)) => {
                list.push(last);
                Self::or(list)
            }
        }
    }

    /// Whether all of a term can be asked here.
    fn takes_term(term: &Term) -> bool {
        term.values.iter().flat_map(Value::atoms).all(Self::takes)
    }

    /// Whether all of a conjunction can be asked here.
    fn takes_all(conjunction: &Conjunction) -> bool {
        conjunction.terms.iter().all(Self::takes_term)
    }

    /// A term; `None` if some of it cannot be asked here.
    fn term(term: &Term) -> Option<Self> {
        let one_of = Self::any(term.values.iter().map(Self::value).collect::<Option<_>>()?);
        Some(if term.negated { one_of.not() } else { one_of })
    }

    /// A value; `None` if some of it cannot be asked here.
    fn value(value: &Value) -> Option<Self> {
        let signed = |(atom, expected): &(Atom, bool)| {
            let asked = Self::atom(atom)?;
            Some(if *expected { asked } else { asked.not() })
        };
        match value {
            Value::Is(atom) => Self::atom(atom),
            Value::All(all) => Some(Self::all(all.iter().map(signed).collect::<Option<_>>()?)),
        }
    }
}

impl Side for Permission {
    fn always() -> Self {
        asked(Rule::Any(true))
    }

    fn is_always(&self) -> bool {
        self.rule == Some(Rule::Any(true))
    }

    fn not(self) -> Self {
        asked(Rule::NotRule(Box::new(self)))
    }

    fn and(rules: Vec<Self>) -> Self {
        asked(Rule::AndRules(permission::Set { rules }))
    }

    fn or(rules: Vec<Self>) -> Self {
        asked(Rule::OrRules(permission::Set { rules }))
    }

    fn takes(atom: &Atom) -> bool {
        !atom.is_of_peer() && !matches!(atom, Atom::SourceIp(_) | Atom::RemoteIp(_))
    }

    fn atom(atom: &Atom) -> Option<Self> {
        Some(asked(match atom {
            Atom::Peer | Atom::PeerUri(_) | Atom::PeerIsWorkload | Atom::SourceIp(_) | Atom::RemoteIp(_) => {
                return None;
            }
            Atom::DestinationIp(block) => Rule::DestinationIp(range(*block)),
            Atom::DestinationPort(port) => Rule::DestinationPort(u32::from(*port)),
            Atom::Sni(value) => {
                matcher(value, Case::Counts).map_or(Rule::Any(true), Rule::RequestedServerName)
            }
            Atom::Host(value) => {
                pseudo(":authority", value, Case::Ignored).map_or(Rule::Any(true), Rule::Header)
            }
            Atom::Method(value) => {
                pseudo(":method", value, Case::Counts).map_or(Rule::Any(true), Rule::Header)
            }
            Atom::Path(value) => path(value).map_or(Rule::Any(true), Rule::UrlPath),
            Atom::PathTemplate(template) => Rule::UriTemplate(uri_template(template)),
            Atom::Header { name, value } => Rule::Header(header(name, value)),
            Atom::Metadata { filter, path, shape, value } => {
                Rule::SourcedMetadata(metadata(filter, path, *shape, value))
            }
        }))
    }
}

impl Side for Principal {
    fn always() -> Self {
        named(Identifier::Any(true))
    }

    fn is_always(&self) -> bool {
        self.identifier == Some(Identifier::Any(true))
    }

    fn not(self) -> Self {
        named(Identifier::NotId(Box::new(self)))
    }

    fn and(ids: Vec<Self>) -> Self {
        named(Identifier::AndIds(principal::Set { ids }))
    }

    fn or(ids: Vec<Self>) -> Self {
        named(Identifier::OrIds(principal::Set { ids }))
    }

    fn takes(atom: &Atom) -> bool {
        !matches!(
            atom,
            Atom::DestinationIp(_) | Atom::DestinationPort(_) | Atom::Sni(_) | Atom::PathTemplate(_)
        )
    }

    fn atom(atom: &Atom) -> Option<Self> {
        Some(named(match atom {
            Atom::DestinationIp(_) | Atom::DestinationPort(_) | Atom::Sni(_) | Atom::PathTemplate(_) => {
                return None;
            }
            Atom::Peer => Identifier::Custom(mtls(None)),
            Atom::PeerUri(value) => Identifier::Custom(mtls(Some(matcher_or_any(value)))),
            Atom::PeerIsWorkload => Identifier::Custom(mtls(Some(constant(WORKLOAD)))),
            Atom::SourceIp(block) => Identifier::DirectRemoteIp(range(*block)),
            Atom::RemoteIp(block) => Identifier::RemoteIp(range(*block)),
            Atom::Host(value) => {
                pseudo(":authority", value, Case::Ignored).map_or(Identifier::Any(true), Identifier::Header)
            }
            Atom::Method(value) => {
                pseudo(":method", value, Case::Counts).map_or(Identifier::Any(true), Identifier::Header)
            }
            Atom::Path(value) => path(value).map_or(Identifier::Any(true), Identifier::UrlPath),
            Atom::Header { name, value } => Identifier::Header(header(name, value)),
            Atom::Metadata { filter, path, shape, value } => {
                Identifier::SourcedMetadata(metadata(filter, path, *shape, value))
            }
        }))
    }
}

fn asked(rule: Rule) -> Permission {
    Permission { rule: Some(rule) }
}

fn named(identifier: Identifier) -> Principal {
    Principal { identifier: Some(identifier) }
}

// === the parts of Envoy's messages ===

/// Without `prefix_len` Envoy would take every address.
fn range(block: Cidr) -> CidrRange {
    CidrRange {
        address_prefix: block.address().to_string(),
        prefix_len: Some(UInt32Value { value: u32::from(block.length()) }),
    }
}

/// A part of a request that every request has; `None` if any text is meant.
fn pseudo(name: &str, value: &Pattern, case: Case) -> Option<HeaderMatcher> {
    let specifier = HeaderMatchSpecifier::StringMatch(matcher(value, case)?);
    Some(HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(specifier),
        ..HeaderMatcher::default()
    })
}

/// A header that may be missing, and then matches nothing.
fn header(name: &str, value: &Pattern) -> HeaderMatcher {
    let specifier = match matcher(value, Case::Counts) {
        Some(text) => HeaderMatchSpecifier::StringMatch(text),
        None => HeaderMatchSpecifier::PresentMatch(true),
    };
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(specifier),
        ..HeaderMatcher::default()
    }
}

fn path(value: &Pattern) -> Option<PathMatcher> {
    Some(PathMatcher { rule: Some(path_matcher::Rule::Path(matcher(value, Case::Counts)?)) })
}

fn uri_template(template: &Template) -> TypedExtensionConfig {
    extension(URI_TEMPLATE, &UriTemplateMatchConfig { path_template: template.to_envoy() })
}

/// Only what mutual TLS proved: Envoy's older `authenticated` also takes DNS names, subjects, and certificates nobody verified.
fn mtls(uri: Option<StringMatcher>) -> TypedExtensionConfig {
    let san_matcher = uri.map(|matcher| SubjectAltNameMatcher {
        san_type: SanType::Uri.into(),
        matcher: Some(matcher),
        oid: String::new(),
    });
    let any_validated_client_certificate = san_matcher.is_none();
    extension(MTLS_AUTHENTICATED, &MtlsAuthenticated { san_matcher, any_validated_client_certificate })
}

fn metadata(filter: &str, path: &[Box<str>], shape: Shape, value: &Pattern) -> SourcedMetadata {
    let segment = |key: &str| metadata_matcher::PathSegment {
        segment: Some(metadata_matcher::path_segment::Segment::Key(key.to_owned())),
    };
    let text = value_matcher::MatchPattern::StringMatch(matcher_or_any(value));
    let text = ValueMatcher { match_pattern: Some(text) };
    let value = match shape {
        Shape::Text => text,
        Shape::List => {
            let one_of = list_matcher::MatchPattern::OneOf(Box::new(text));
            let list = ListMatcher { match_pattern: Some(one_of) };
            ValueMatcher { match_pattern: Some(value_matcher::MatchPattern::ListMatch(Box::new(list))) }
        }
    };
    SourcedMetadata {
        metadata_matcher: Some(MetadataMatcher {
            filter: filter.to_owned(),
            path: path.iter().map(|key| segment(key)).collect(),
            value: Some(value),
            invert: false,
        }),
        metadata_source: MetadataSource::Dynamic.into(),
    }
}

/// A message under the name of the extension that reads it.
fn extension<M: Message + Name>(name: &str, message: &M) -> TypedExtensionConfig {
    let config = Any { type_url: M::type_url(), value: message.encode_to_vec() };
    TypedExtensionConfig { name: name.to_owned(), typed_config: Some(config) }
}
