//! Lays flags and environment over a file, and refuses keys that nobody knows.

use std::path::Path;
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Map;
use serde_json::Value;

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration file `{path}`: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// A key in the file is unknown.
    #[error("configuration file `{path}`: unknown key `{key}`{hint}")]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key as written.
        key: String,
        /// `; did you mean …?`, or the known keys.
        hint: String,
    },
    /// The file is not YAML, or a value is not of its kind.
    #[error("configuration file `{path}`: {what}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, with its place.
        what: String,
    },
    /// A setting is missing.
    #[error("`--{setting}` is not set; {hint}")]
    Missing {
        /// Its name on the command line.
        setting: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// A setting is not what it should be.
    #[error("`--{setting}`: {what}")]
    Invalid {
        /// Its name on the command line.
        setting: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// Two settings contradict each other.
    #[error("{0}")]
    Conflict(String),
}

/// What `given` leaves open, filled from the YAML file at `path`.
///
/// # Errors
/// If the file cannot be read, has an unknown key, or a value that does not fit.
pub(super) fn over_file<R>(given: R, path: Option<&Path>) -> Result<R, ConfigError>
where
    R: Serialize + DeserializeOwned + Default,
{
    let Some(path) = path else { return Ok(given) };
    let text =
        std::fs::read_to_string(path).map_err(|source| ConfigError::Io { path: path.to_owned(), source })?;
    over_text(given, &text, path)
}

fn over_text<R>(given: R, text: &str, path: &Path) -> Result<R, ConfigError>
where
    R: Serialize + DeserializeOwned + Default,
{
    let malformed = |what: String| ConfigError::Malformed { path: path.to_owned(), what };
    let keys = |raw: &R| match serde_json::to_value(raw) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) | Err(_) => Err(malformed("the settings are not a map".to_owned())),
    };
    let known = keys(&R::default())?;
    let in_file: Option<Map<String, Value>> =
        serde_saphyr::from_str(text).map_err(|error| malformed(error.to_string()))?;
    for key in in_file.unwrap_or_default().keys() {
        if !known.contains_key(key) {
            let known: Vec<_> = known.keys().map(String::as_str).collect();
            return Err(ConfigError::UnknownKey {
                path: path.to_owned(),
                key: key.clone(),
                hint: hint(key, &known),
            });
        }
    }
    // Read again with the types, so that a value of the wrong kind is refused with its line.
    let typed: Option<R> = serde_saphyr::from_str(text).map_err(|error| malformed(error.to_string()))?;
    let mut merged = keys(&typed.unwrap_or_default())?;
    merged.extend(keys(&given)?.into_iter().filter(|(_, value)| !value.is_null()));
    serde_json::from_value(Value::Object(merged)).map_err(|error| malformed(error.to_string()))
}

/// `; did you mean …?` for a near miss, else all that would be right.
pub(super) fn hint(written: &str, known: &[&str]) -> String {
    let distance = |name: &&&str| strsim::damerau_levenshtein(written, name);
    match known.iter().min_by_key(distance) {
        Some(nearest) if strsim::damerau_levenshtein(written, nearest) <= 1 + nearest.len() / 4 => {
            format!("; did you mean `{nearest}`?")
        }
        _ => format!("; known are {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
    struct Raw {
        trust_domain: Option<String>,
        listen: Option<u16>,
    }

    fn over(given: Raw, text: &str) -> Result<Raw, String> {
        over_text(given, text, Path::new("ca.yaml")).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_given_wins_over_the_file_and_the_file_fills_the_rest() {
        let given = Raw { trust_domain: Some("given".to_owned()), listen: None };
        let merged = over(given, "trust-domain: file\nlisten: 7\n").unwrap();
        assert_eq!(merged, Raw { trust_domain: Some("given".to_owned()), listen: Some(7) });
        assert_eq!(over(Raw::default(), ""), Ok(Raw::default()));
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_one_that_was_meant() {
        let refused = over(Raw::default(), "trustdomain: x\n").unwrap_err();
        assert_eq!(
            refused,
            "configuration file `ca.yaml`: unknown key `trustdomain`; did you mean `trust-domain`?"
        );
        let far = over(Raw::default(), "colour: x\n").unwrap_err();
        assert!(far.ends_with("known are trust-domain, listen"), "{far}");
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_refused() {
        let refused = over(Raw::default(), "listen: many\n").unwrap_err();
        assert!(refused.starts_with("configuration file `ca.yaml`: "), "{refused}");
    }
}
