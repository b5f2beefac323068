//! Pure: which version of a resource is that?

use std::fmt;

use ring::digest;

use crate::x509::certificate::hex;

/// A digest of a resource's public content. Replicas and reconnecting clients agree on it, and it tells nothing of the key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(String);

impl Version {
    /// The version of a resource called `name` whose public content is `parts`.
    pub fn of<'a>(name: &'a str, parts: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut digest = digest::Context::new(&digest::SHA256);
        for part in std::iter::once(name.as_bytes()).chain(parts) {
            digest.update(&(part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        Self(hex(digest.finish().as_ref().first_chunk::<16>().map_or(&[][..], |half| half)))
    }

    /// The version as it stands in a discovery response.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Version {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(name: &str, parts: &[&[u8]]) -> Version {
        Version::of(name, parts.iter().copied())
    }

    #[test]
    fn the_same_content_has_the_same_version_and_any_other_has_another() {
        let one = version("default", &[b"leaf", b"issuer"]);
        assert_eq!(one, version("default", &[b"leaf", b"issuer"]));
        for (name, parts) in [
            ("ROOTCA", &[&b"leaf"[..], b"issuer"][..]),
            ("default", &[b"issuer", b"leaf"]),
            ("default", &[b"leafissuer"]),
            ("default", &[b"leaf"]),
        ] {
            assert_ne!(one, version(name, parts));
        }
    }
}
