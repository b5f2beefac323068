//! Pure: which path does a policy see, when the proxy has made one form of many? (Istio's `pathNormalization`)
//!
//! Policies are asked after the proxy has normalised the path, so whoever asks about a path as it was sent has to do the same first.
//! A query stays, and counts for nothing.

use std::fmt;
use std::str::FromStr;

/// What the proxy does to a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// Nothing.
    None,
    /// `.` and `..` are followed, `\` is `/`, letters and digits are not escaped: Istio's default.
    #[default]
    Base,
    /// And several slashes are one.
    MergeSlashes,
    /// And escaped slashes are slashes, before all that.
    DecodeAndMergeSlashes,
}

/// A text that names no form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no path normalisation; it is one of `none`, `base`, `merge-slashes`, `decode-and-merge-slashes`"
)]
pub struct UnknownForm(pub String);

impl Form {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::None, Self::Base, Self::MergeSlashes, Self::DecodeAndMergeSlashes];

    /// As it is typed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Base => "base",
            Self::MergeSlashes => "merge-slashes",
            Self::DecodeAndMergeSlashes => "decode-and-merge-slashes",
        }
    }

    /// `path` in this form. What is no absolute path (`*`) stays as it is.
    pub fn of(self, path: &str) -> String {
        let end = path.find(['?', '#']).unwrap_or(path.len());
        let Some((bare, rest)) = path.split_at_checked(end) else { return path.to_owned() };
        if self == Self::None || !bare.starts_with(['/', '\\']) {
            return path.to_owned();
        }
        let mut bare = match self {
            Self::DecodeAndMergeSlashes => decode_slashes(bare),
            _ => bare.to_owned(),
        };
        bare = follow_dots(&unescape(&bare));
        if matches!(self, Self::MergeSlashes | Self::DecodeAndMergeSlashes) {
            bare = merge_slashes(&bare);
        }
        bare + rest
    }
}

impl FromStr for Form {
    type Err = UnknownForm;

    /// Reads it as it is typed, or as Istio's mesh configuration has it (`MERGE_SLASHES`).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let typed = text.to_ascii_lowercase().replace('_', "-");
        Self::ALL.into_iter().find(|form| form.as_str() == typed).ok_or_else(|| UnknownForm(text.to_owned()))
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The byte that a text's two first characters stand for in an escape.
fn escaped(text: &str) -> Option<u8> {
    let digits = text.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
    u8::from_str_radix(digits, 16).ok()
}

/// Walks through `path`; `place` says what an escaped byte becomes, if it does not stay an escape.
fn with_escapes(path: &str, place: impl Fn(u8) -> Option<char>, plain: impl Fn(&mut String, char)) -> String {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(next) = rest.chars().next() {
        rest = rest.get(next.len_utf8()..).unwrap_or_default();
        match escaped(rest).filter(|_| next == '%') {
            Some(byte) => {
                let digits = rest.get(..2).unwrap_or_default();
                match place(byte) {
                    Some(found) => out.push(found),
                    None => out.extend(['%'].into_iter().chain(digits.chars())),
                }
                rest = rest.get(2..).unwrap_or_default();
            }
            None => plain(&mut out, next),
        }
    }
    out
}

fn decode_slashes(path: &str) -> String {
    with_escapes(path, |byte| matches!(byte, b'/' | b'\\').then_some('/'), |out, next| out.push(next))
}

/// What need not be escaped is not, and what has to be is.
fn unescape(path: &str) -> String {
    let is_free = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    with_escapes(
        path,
        |byte| is_free(byte).then_some(char::from(byte)),
        |out, next| match next {
            '\\' => out.push('/'),
            ' ' | '"' | '<' | '>' | '`' | '{' | '}' => escape(out, next),
            next if !next.is_ascii() || next.is_ascii_control() => escape(out, next),
            next => out.push(next),
        },
    )
}

fn escape(out: &mut String, next: char) {
    for byte in next.encode_utf8(&mut [0; 4]).bytes() {
        out.push_str(&format!("%{byte:02X}"));
    }
}

fn follow_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    for (at, part) in parts.iter().enumerate() {
        let is_last = at + 1 == parts.len();
        match *part {
            "." | ".." => {
                if *part == ".." {
                    kept.pop();
                }
                if is_last {
                    kept.push("");
                }
            }
            part => kept.push(part),
        }
    }
    format!("/{}", kept.join("/"))
}

fn merge_slashes(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for next in path.chars() {
        if next != '/' || !out.ends_with('/') {
            out.push(next);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_takes_the_form_that_the_proxy_gives_it() {
        use Form::*;
        for (form, sent, seen) in [
            (None, "/a/../b//c", "/a/../b//c"),
            (Base, "/a/../b//c", "/b//c"),
            (Base, "/a/./b/.", "/a/b/"),
            (Base, "/a/b/..", "/a/"),
            (Base, "/../..", "/"),
            (Base, "/%2e%2E/a", "/a"),
            (Base, "/a%2fb", "/a%2fb"),
            (Base, "/%61%7Eb", "/a~b"),
            (Base, "\\a\\b", "/a/b"),
            (Base, "/a b\u{e4}", "/a%20b%C3%A4"),
            (Base, "/a%zz%", "/a%zz%"),
            (Base, "/a/../b?x=/../y", "/b?x=/../y"),
            (Base, "*", "*"),
            (MergeSlashes, "//a///b/", "/a/b/"),
            (MergeSlashes, "/a%2F%2Fb", "/a%2F%2Fb"),
            (DecodeAndMergeSlashes, "/a%2F%2fb%5c..", "/a/"),
            (DecodeAndMergeSlashes, "/a%252Fb", "/a%252Fb"),
        ] {
            assert_eq!(form.of(sent), seen, "{form} {sent}");
        }
    }

    #[test]
    fn a_form_is_read_as_people_and_as_istio_write_it() {
        for form in Form::ALL {
            assert_eq!(form.as_str().parse(), Ok(form));
        }
        assert_eq!("DECODE_AND_MERGE_SLASHES".parse(), Ok(Form::DecodeAndMergeSlashes));
        assert!("all".parse::<Form>().unwrap_err().to_string().contains("one of `none`, `base`"));
    }
}
