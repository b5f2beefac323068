//! Pure: which paths does a path template stand for? (Istio's `{*}` and `{**}`; Envoy's URI template match)
//!
//! `{*}` stands for one segment that is not empty, `{**}` for any number of them, none too; both for whole segments only. A template
//! is checked here against the whole of Envoy's grammar: one that Envoy cannot read would end the Envoy.

use std::fmt;

/// The most segments that a template may have; Envoy's own bound on variables is lower and does not matter, for we name none.
const MAX_SEGMENTS: usize = 64;

/// The longest template in bytes; Envoy takes no longer one.
const MAX_LENGTH: usize = 256;

/// A path template.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Template(Box<[Segment]>);

/// A part of it between slashes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    /// This text.
    Literal(Box<str>),
    /// `{*}`: any text but the empty one.
    One,
    /// `{**}`: any texts.
    Rest,
}

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTemplate {
    /// It does not begin with a slash.
    #[error("path template `{0}` does not begin with `/`")]
    NotAbsolute(String),
    /// Braces that are neither of the two.
    #[error(
        "path template `{0}`: only `{{*}}` and `{{**}}` may stand in braces, and only as a whole segment"
    )]
    Braces(String),
    /// Something after `{**}`.
    #[error("path template `{0}`: neither `{{*}}` nor `{{**}}` may follow `{{**}}`")]
    AfterRest(String),
    /// A literal that Envoy does not take.
    #[error("path template `{0}`: segment `{1}` may only have letters, digits and any of -._~%!$&'()+,;:@=")]
    Literal(String, String),
    /// Too long.
    #[error(
        "a path template of {0} segments or bytes is longer than allowed ({MAX_SEGMENTS} segments, {MAX_LENGTH} bytes)"
    )]
    TooLong(usize),
}

impl Template {
    /// Whether a value of `paths` is meant as a template: it has a brace of an operator in it.
    pub fn is_meant(value: &str) -> bool {
        value.contains(['{', '}'])
    }

    /// Reads a template.
    ///
    /// # Errors
    /// As the variants say.
    pub fn parse(text: &str) -> Result<Self, InvalidTemplate> {
        let rest = text.strip_prefix('/').ok_or_else(|| InvalidTemplate::NotAbsolute(text.to_owned()))?;
        if text.len() > MAX_LENGTH {
            return Err(InvalidTemplate::TooLong(text.len()));
        }
        let count = rest.split('/').count();
        if count > MAX_SEGMENTS {
            return Err(InvalidTemplate::TooLong(count));
        }
        let mut segments: Vec<Segment> = Vec::with_capacity(count);
        for (at, part) in rest.split('/').enumerate() {
            let segment = match part {
                "{*}" => Segment::One,
                "{**}" => Segment::Rest,
                _ if part.contains(['{', '}']) => return Err(InvalidTemplate::Braces(text.to_owned())),
                // A slash at the end is a literal that matches a slash at the end.
                "" if at + 1 == count => Segment::Literal("".into()),
                _ if !part.is_empty() && part.bytes().all(is_literal) => Segment::Literal(part.into()),
                _ => return Err(InvalidTemplate::Literal(text.to_owned(), part.to_owned())),
            };
            if segment.is_operator() && segments.contains(&Segment::Rest) {
                return Err(InvalidTemplate::AfterRest(text.to_owned()));
            }
            segments.push(segment);
        }
        Ok(Self(segments.into()))
    }

    /// Its segments.
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// Whether any template could fit `path`, which has no query. A path with signs in it that Envoy takes in no segment, as `|` or `[`,
    /// fits none.
    pub fn may_match(path: &str) -> bool {
        path.starts_with('/') && path.bytes().all(|byte| is_literal(byte) || matches!(byte, b'/' | b'*'))
    }

    /// Whether `path`, which has no query, is one of them.
    pub fn matches(&self, path: &str) -> bool {
        let Some(path) = path.strip_prefix('/').filter(|_| Self::may_match(path)) else { return false };
        let rest_at = self.0.iter().position(|segment| *segment == Segment::Rest);
        let Some(rest_at) = rest_at else {
            let mut parts = path.split('/');
            return self.0.iter().all(|segment| parts.next().is_some_and(|part| segment.is(part)))
                && parts.next().is_none();
        };
        let (before, after) = self.0.split_at(rest_at);
        let after = after.get(1..).unwrap_or_default();
        // Each segment before takes its slash along, so what is left for `{**}` begins behind a slash.
        let mut left = path;
        for segment in before {
            let Some((part, rest)) = left.split_once('/') else { return false };
            if !segment.is(part) {
                return false;
            }
            left = rest;
        }
        // The literals after it, from the end; each has its slash before it.
        let tail: usize = after.iter().map(|segment| segment.length() + 1).sum();
        let Some(start) = left.len().checked_sub(tail) else {
            // `{**}` may stand for nothing, and then gives up no slash: `/a/{**}/b` takes `/a//b`, not `/a/b`.
            return false;
        };
        let Some(mut end) = left.get(start..) else { return false };
        for segment in after {
            let Some(rest) = end.strip_prefix('/').and_then(|rest| segment.strip(rest)) else { return false };
            end = rest;
        }
        end.is_empty()
    }

    /// How Envoy writes it.
    pub fn to_envoy(&self) -> String {
        self.written("*", "**")
    }

    fn written(&self, one: &str, rest: &str) -> String {
        let mut text = String::new();
        for segment in &self.0 {
            text.push('/');
            text.push_str(match segment {
                Segment::Literal(value) => value,
                Segment::One => one,
                Segment::Rest => rest,
            });
        }
        text
    }
}

/// What Envoy takes in a literal of a template; in a path it takes `*` too.
fn is_literal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()+,;:@=".contains(&byte)
}

impl Segment {
    fn is_operator(&self) -> bool {
        !matches!(self, Self::Literal(_))
    }

    fn is(&self, part: &str) -> bool {
        match self {
            Self::Literal(value) => part == &**value,
            Self::One => !part.is_empty(),
            Self::Rest => true,
        }
    }

    fn length(&self) -> usize {
        match self {
            Self::Literal(value) => value.len(),
            Self::One | Self::Rest => 0,
        }
    }

    fn strip<'a>(&self, text: &'a str) -> Option<&'a str> {
        match self {
            Self::Literal(value) => text.strip_prefix(&**value),
            Self::One | Self::Rest => None,
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written("{*}", "{**}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_decides_as_istio_says() {
        for (template, path, expected) in [
            ("/allow/admin/{**}", "/allow/admin/", true),
            ("/allow/admin/{**}", "/allow/admin", false),
            ("/allow/admin/{**}", "/allow/admin/a/b", true),
            ("/foo/{*}/bar/{**}", "/foo//bar/bat.txt", false),
            ("/foo/{*}/bar/{**}", "/foo/x/bar/bat.txt", true),
            ("/foo/{*}/bar/{**}", "/foo/x/y/bar/bat.txt", false),
            ("/store/{**}/cart", "/store//cart", true),
            ("/store/{**}/cart", "/store/cart", false),
            ("/store/{**}/cart", "/store/a/b/cart", true),
            ("/store/{**}/cart", "/store/a/b/cart/", false),
            ("/v/{*}/x", "/v/1/x", true),
            ("/v/{*}/x", "/v/%2F/x", true),
            ("/v/{*}/x", "/v/1/x/", false),
            ("/v/{*}", "/v/", false),
            ("/{**}", "/", true),
            ("/{**}", "/a*b", true),
            ("/{*}", "/*", true),
            ("/v/{*}/x", "/v/*/x", true),
            ("/{*}", "/a|b", false),
            ("/{**}", "/a/[b]/c", false),
            ("/{**}", "/a\\b", false),
        ] {
            assert_eq!(Template::parse(template).unwrap().matches(path), expected, "{template} {path}");
        }
    }

    #[test]
    fn what_would_end_an_envoy_is_refused() {
        for bad in [
            "v/x",
            "",
            "/{a}",
            "/a{*}",
            "/{*}a",
            "/{**}/{**}",
            "/{**}/{*}",
            "/a{",
            "/}",
            "/{a=**}",
            "/a/*/{*}",
            "/a b/{*}",
            "//{*}",
            "/{***}",
            "/ä/{*}",
        ] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
        assert!(Template::parse(&format!("/{}{{*}}", "a/".repeat(100))).is_err());
        let long = format!("/{{*}}/{}", "a".repeat(256 - 5));
        assert!(Template::parse(&long).is_ok());
        assert!(Template::parse(&format!("{long}a")).is_err());
    }

    #[test]
    fn it_prints_as_it_was_written_and_as_envoy_writes_it() {
        let template = Template::parse("/a/{*}/b/{**}/c").unwrap();
        assert_eq!(
            (template.to_string().as_str(), template.to_envoy().as_str()),
            ("/a/{*}/b/{**}/c", "/a/*/b/**/c")
        );
    }
}
