//! Pure: does an environment variable look like a setting of ours but is none?

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
    names: impl IntoIterator<Item = &'a str>,
    known: &[&str],
) -> Result<(), UnknownVariable> {
    let ours = names.into_iter().filter(|name| name.starts_with(PREFIX));
    match ours.into_iter().find(|name| !known.contains(name) && !is_service_link(name)) {
        Some(name) => Err(UnknownVariable(name.to_owned(), hint(name, known))),
        None => Ok(()),
    }
}

fn is_service_link(name: &str) -> bool {
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT")
        || name.contains("_PORT_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_miss_is_refused_and_service_links_are_let_through() {
        let known = ["BURGRAVE_TRUST_DOMAIN", "BURGRAVE_LISTEN"];
        let check = |name| check_environment([name], &known).map_err(|error| error.to_string());
        for fine in [
            "PATH",
            "BURGRAVE_LISTEN",
            "BURGRAVE_CA_SERVICE_HOST",
            "BURGRAVE_PORT",
            "BURGRAVE_CA_PORT_443_TCP_ADDR",
        ] {
            assert_eq!(check(fine), Ok(()));
        }
        assert_eq!(
            check("BURGRAVE_TRUSTDOMAIN"),
            Err("environment variable `BURGRAVE_TRUSTDOMAIN` sets nothing; did you mean `BURGRAVE_TRUST_DOMAIN`?"
                .to_owned())
        );
    }
}
