//! Pure: what does the environment say: who is at the keyboard, and is a setting of ours in it that is none?

use crate::config::layers::hint;

const PREFIX: &str = "BURGRAVE_";

/// A variable with our prefix that sets nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("environment variable `{0}` sets nothing{1}")]
pub struct UnknownVariable(String, String);

/// Refuses variables that begin with `BURGRAVE_` and are not in `known`.
///
/// Those that Kubernetes makes for a Service named `burgrave…` (`…_SERVICE_HOST`, `…_PORT`, `…_PORT_443_TCP_ADDR`) are
/// let through.
///
/// # Errors
/// If there is one; it says which setting was probably meant.
pub fn check_environment<'a>(
    variables: impl IntoIterator<Item = (&'a str, &'a str)>,
    known: &[&str],
) -> Result<(), UnknownVariable> {
    let mut ours = variables.into_iter().filter(|(name, _)| name.starts_with(PREFIX));
    match ours.find(|(name, value)| !known.contains(name) && !is_service_link(name, value)) {
        Some((name, _)) => Err(UnknownVariable(name.to_owned(), hint(name, known))),
        None => Ok(()),
    }
}

/// Who types, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// What the user is called, also behind sudo; empty if nothing says so.
    pub operator: String,
    /// Whether the terminal cannot move its cursor.
    pub is_dumb: bool,
}

impl Surroundings {
    /// What `variables` say of it.
    pub fn of<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)> + Clone) -> Self {
        let value = |wanted: &str| {
            let found =
                variables.clone().into_iter().find(|(name, value)| *name == wanted && !value.is_empty());
            found.map(|(_, value)| value.to_owned())
        };
        let operator = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(value);
        Self {
            operator: operator.unwrap_or_default(),
            is_dumb: value("TERM").is_some_and(|term| term == "dumb"),
        }
    }
}

fn is_service_link(name: &str, value: &str) -> bool {
    let is_url = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || (name.ends_with("_PORT") && is_url)
        || ["_TCP", "_UDP", "_SCTP"].iter().any(|kind| name.contains("_PORT_") && name.contains(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operator_is_who_called_sudo_or_else_the_user() {
        let of = |variables: &[(&'static str, &'static str)]| Surroundings::of(variables.to_vec());
        let sudo = of(&[("USER", "root"), ("SUDO_USER", "alice"), ("TERM", "dumb")]);
        assert_eq!(sudo, Surroundings { operator: "alice".to_owned(), is_dumb: true });
        let plain = of(&[("USER", "bob"), ("SUDO_USER", ""), ("TERM", "xterm")]);
        assert_eq!(plain, Surroundings { operator: "bob".to_owned(), is_dumb: false });
        assert_eq!(of(&[]), Surroundings::default());
    }

    #[test]
    fn a_near_miss_is_refused_and_service_links_are_let_through() {
        let known = ["BURGRAVE_TRUST_DOMAIN", "BURGRAVE_LISTEN"];
        let check = |name| {
            check_environment([(name, "tcp://10.0.0.1:80")], &known).map_err(|error| error.to_string())
        };
        for fine in [
            "PATH",
            "BURGRAVE_LISTEN",
            "BURGRAVE_CA_SERVICE_HOST",
            "BURGRAVE_PORT",
            "BURGRAVE_CA_PORT_443_TCP_ADDR",
        ] {
            assert_eq!(check(fine), Ok(()));
        }
        assert!(check_environment([("BURGRAVE_LISTEN_PORT", "80")], &known).is_err());
        assert_eq!(
            check("BURGRAVE_TRUSTDOMAIN"),
            Err("environment variable `BURGRAVE_TRUSTDOMAIN` sets nothing; did you mean `BURGRAVE_TRUST_DOMAIN`?"
                .to_owned())
        );
    }
}
