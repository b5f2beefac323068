//! Pure: where does a request carry its token?

use crate::authz::jwt_issuer::TokenPlace;
use crate::authz::request::Http;

/// A place where a request may carry a token.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// A header.
    Header {
        /// Its name, in lower case.
        name: Box<str>,
        /// What stands before the token; case counts. A header without it carries none.
        prefix: Box<str>,
    },
    /// A parameter of the query.
    Parameter(Box<str>),
    /// A cookie.
    Cookie(Box<str>),
}

impl Place {
    /// The places of an issuer that names none: `Authorization: Bearer …` and the parameter `access_token`.
    pub fn usual() -> [Self; 2] {
        let (name, prefix) = TokenPlace::USUAL_HEADER;
        let header = Self::Header { name: name.into(), prefix: prefix.into() };
        [header, Self::Parameter(TokenPlace::USUAL_PARAMETER.into())]
    }

    /// What stands there; several, if the header, parameter or cookie is there several times.
    pub fn tokens<'a>(&'a self, http: &'a Http<'a>) -> Box<dyn Iterator<Item = &'a str> + 'a> {
        match self {
            Self::Header { name, prefix } => {
                Box::new(http.values(name).filter_map(|value| value.strip_prefix(&**prefix)).map(str::trim))
            }
            Self::Parameter(name) => {
                let query = http.path.split_once('?').map_or("", |(_, query)| query);
                let query = query.split('#').next().unwrap_or_default();
                Box::new(named(query.split('&'), name))
            }
            Self::Cookie(name) => {
                let cookies = http.values("cookie").flat_map(|line| line.split(';'));
                Box::new(named(cookies.map(str::trim), name).map(|value| value.trim_matches('"')))
            }
        }
    }
}

/// The values of those pairs that have this name.
fn named<'a>(pairs: impl Iterator<Item = &'a str> + 'a, name: &'a str) -> impl Iterator<Item = &'a str> + 'a {
    pairs.filter_map(|pair| pair.split_once('=')).filter(move |(key, _)| *key == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_where_it_stands_and_nowhere_else() {
        let headers = [
            ("authorization", "Bearer a"),
            ("authorization", "Basic b"),
            ("authorization", "bearer c"),
            ("x-token", " d "),
            ("cookie", "one=e; two=f"),
            ("cookie", "one=\"g\"; xone=h"),
        ];
        let http = Http {
            path: "/p?access_token=i&xaccess_token=j&access_token=k#l",
            headers: &headers,
            ..Http::default()
        };
        let found = |place: Place| place.tokens(&http).map(str::to_owned).collect::<Vec<_>>();
        let header = |name: &str, prefix: &str| Place::Header { name: name.into(), prefix: prefix.into() };
        let [usual, parameter] = Place::usual();
        assert_eq!(found(usual), ["a"]);
        assert_eq!(found(parameter), ["i", "k"]);
        assert_eq!(found(header("x-token", "")), ["d"]);
        assert_eq!(found(header("x-other", "")), [""; 0]);
        assert_eq!(found(Place::Cookie("one".into())), ["e", "g"]);
    }
}
