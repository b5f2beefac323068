//! How does an authority leave for the safe? As one encrypted text, which nobody can read or change without its passphrase.
//!
//! It is a plain file of [age](https://age-encryption.org/v1), so what is in it can be had without Burgrave too, with
//! `age --decrypt FILE`. Inside is a JSON document, in which each part stands line by line if it is text, and else in base64:
//!
//! ```json
//! {
//!   "format": "burgrave.dev/authority",
//!   "version": 1,
//!   "parts": {
//!     "root-cert.pem": {
//!       "text": [
//!         "-----BEGIN CERTIFICATE-----",
//!         "…",
//!         "-----END CERTIFICATE-----",
//!         ""
//!       ]
//!     },
//!     "seed": {
//!       "base64": "AP8="
//!     }
//!   }
//! }
//! ```
//!
//! `age --decrypt FILE | jq -r '.parts["root-cert.pem"].text | join("\n")'` is a part as it was, and a newline of `jq`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand;
use ring::rand::SystemRandom;
use serde::Deserialize;
use serde::Serialize;
use zeroize::Zeroize;
use zeroize::Zeroizing;

use crate::authority::age;
use crate::authority::age::Drawn;
use crate::authority::age::UnreadableAge;

/// The work of trying one passphrase: 2^18 rounds of scrypt take 256 MiB, and about half a second. It is what `age` itself writes
/// with, and more is not read either: a file that somebody has sent must not take all memory.
const WORK: u8 = 18;

/// The largest document, in octets. An authority takes some kilobytes.
const LARGEST: usize = 1024 * 1024;

/// The largest text: the largest document in base64, and some more for the ends of lines.
const LARGEST_TEXT: usize = LARGEST / 2 * 3;

/// The shortest passphrase, in characters. Whoever has the file can try passphrases for years.
const SHORTEST: usize = 12;

const FORMAT: &str = "burgrave.dev/authority";
const VERSION: u32 = 1;

/// Why an authority cannot be sealed, or a sealed one not be opened. Never quotes a passphrase, or any of what is sealed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// There is no passphrase.
    #[error("the passphrase is empty; give one of at least {SHORTEST} characters")]
    Empty,
    /// The passphrase can be guessed.
    #[error(
        "the passphrase is shorter than {SHORTEST} characters, and whoever gets the file can try passphrases for years; give a longer one, best of six random words or more"
    )]
    Short,
    /// There is too much in it.
    #[error("the authority takes {0} octets, and an export holds {LARGEST} at most; remove what is retired")]
    Large(usize),
    /// A file that cannot be one of ours.
    #[error(
        "it has {0} octets, and no export has more than {LARGEST_TEXT}; name a file that `burgrave root export` has written"
    )]
    LargeText(usize),
    /// The operating system gave no randomness.
    #[error("it cannot be encrypted: the operating system gives no randomness; try again later")]
    NoRandomness,
    /// The encrypted file cannot be read.
    #[error(transparent)]
    Unreadable(#[from] UnreadableAge),
    /// It could be decrypted, and is something else.
    #[error(
        "the passphrase opens it, and there is no authority in it; name a file that `burgrave root export` has written"
    )]
    Foreign,
    /// It is of a later version of burgrave.
    #[error(
        "it is an export of version {0}, and this burgrave reads version {VERSION}; use the burgrave that wrote it, or a newer one"
    )]
    Version(u32),
}

/// Seals the parts of an authority with a passphrase, as text that is fit for any file. Takes half a second or more, and 256 MiB.
///
/// # Errors
/// If the passphrase is too short, the parts are too large, or there is no randomness.
pub fn seal(parts: &BTreeMap<String, Zeroizing<Vec<u8>>>, passphrase: &str) -> Result<String, SealError> {
    seal_with(parts, passphrase, WORK)
}

/// Opens what [`seal`] has made: every part as it was. Takes half a second or more, and 256 MiB.
///
/// # Errors
/// If it is no sealed authority, is damaged, or is not sealed with this passphrase.
pub fn open(text: &str, passphrase: &str) -> Result<BTreeMap<String, Zeroizing<Vec<u8>>>, SealError> {
    open_within(text, passphrase, WORK)
}

/// As [`open`], for those who can spare less: files with a work factor above `most_work` are refused, and trying the
/// passphrase takes 2^(`most_work` + 10) octets of memory at most.
///
/// # Errors
/// As [`open`], and if the file asks for more work.
pub fn open_within(
    text: &str,
    passphrase: &str,
    most_work: u8,
) -> Result<BTreeMap<String, Zeroizing<Vec<u8>>>, SealError> {
    // A short passphrase is not refused here: the file may have been encrypted with it by other hands.
    if passphrase.is_empty() {
        return Err(SealError::Empty);
    }
    if text.len() > LARGEST_TEXT {
        return Err(SealError::LargeText(text.len()));
    }
    read(&age::decrypt(text, passphrase, most_work.min(WORK))?)
}

fn seal_with(
    parts: &BTreeMap<String, Zeroizing<Vec<u8>>>,
    passphrase: &str,
    work: u8,
) -> Result<String, SealError> {
    if passphrase.trim().is_empty() {
        return Err(SealError::Empty);
    }
    if passphrase.chars().count() < SHORTEST {
        return Err(SealError::Short);
    }
    let document = write(parts)?;
    let drawn = draw().map_err(|_| SealError::NoRandomness)?;
    Ok(age::encrypt(&document, passphrase, work, &drawn))
}

fn draw() -> Result<Drawn, ring::error::Unspecified> {
    let random = SystemRandom::new();
    let octets = || rand::generate::<[u8; 16]>(&random).map(rand::Random::expose);
    Ok(Drawn { file_key: Zeroizing::new(octets()?), salt: octets()?, nonce: octets()? })
}

// === the document ===

/// What is looked at first, in a document of any version.
#[derive(Deserialize)]
struct Heading<'a> {
    #[serde(borrow)]
    format: Cow<'a, str>,
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document<'a> {
    #[serde(borrow)]
    format: Cow<'a, str>,
    version: u32,
    #[serde(borrow)]
    parts: BTreeMap<Cow<'a, str>, Content<'a>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Content<'a> {
    /// The lines of a text, without the newlines between them. Not one string: in JSON its newlines would be escaped, and the
    /// reader of escapes keeps a copy that is not wiped. PEM has nothing else to escape.
    Text(#[serde(borrow)] Vec<Piece<'a>>),
    /// Anything else, in base64.
    Base64(#[serde(borrow)] Piece<'a>),
}

/// A line of a document, which may be one of a key.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Piece<'a>(#[serde(borrow)] Cow<'a, str>);

impl Drop for Piece<'_> {
    fn drop(&mut self) {
        if let Cow::Owned(text) = &mut self.0 {
            text.zeroize();
        }
    }
}

impl<'a> Content<'a> {
    fn of(octets: &'a [u8]) -> Self {
        match std::str::from_utf8(octets) {
            Ok(text) => Self::Text(text.split('\n').map(|line| Piece(line.into())).collect()),
            Err(_) => Self::Base64(Piece(STANDARD.encode(octets).into())),
        }
    }

    /// The octets again; `None` if they are not in base64.
    fn octets(&self) -> Option<Zeroizing<Vec<u8>>> {
        match self {
            Self::Text(lines) => {
                // Sized beforehand: growing would leave copies behind.
                let length = lines.iter().map(|line| line.0.len() + 1).sum();
                let mut text = Zeroizing::new(Vec::with_capacity(length));
                for (at, line) in lines.iter().enumerate() {
                    if at > 0 {
                        text.push(b'\n');
                    }
                    text.extend_from_slice(line.0.as_bytes());
                }
                Some(text)
            }
            Self::Base64(text) => STANDARD.decode(text.0.as_bytes()).ok().map(Zeroizing::new),
        }
    }
}

fn write(parts: &BTreeMap<String, Zeroizing<Vec<u8>>>) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let parts = parts.iter().map(|(name, octets)| (name.into(), Content::of(octets))).collect();
    let document = Document { format: FORMAT.into(), version: VERSION, parts };
    let mut length = Length(0);
    serde_json::to_writer_pretty(&mut length, &document).expect("names and texts can be written as JSON");
    if length.0 > LARGEST {
        return Err(SealError::Large(length.0));
    }
    let mut octets = Zeroizing::new(Vec::with_capacity(length.0));
    serde_json::to_writer_pretty(&mut *octets, &document).expect("it was written once already");
    Ok(octets)
}

fn read(document: &[u8]) -> Result<BTreeMap<String, Zeroizing<Vec<u8>>>, SealError> {
    // What serde says is dropped: it may quote a key.
    let heading: Heading<'_> = serde_json::from_slice(document).map_err(|_| SealError::Foreign)?;
    match heading.version {
        _ if heading.format != FORMAT => return Err(SealError::Foreign),
        VERSION => {}
        other => return Err(SealError::Version(other)),
    }
    let document: Document<'_> = serde_json::from_slice(document).map_err(|_| SealError::Foreign)?;
    let part = |(name, content): (Cow<'_, str>, Content<'_>)| Some((name.into_owned(), content.octets()?));
    document.parts.into_iter().map(part).collect::<Option<_>>().ok_or(SealError::Foreign)
}

/// Counts what is written.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0 += octets.len();
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::x509::PrivateKey;

    const PASSPHRASE: &str = "correct horse battery";

    fn parts() -> BTreeMap<String, Zeroizing<Vec<u8>>> {
        let key = PrivateKey::generate().unwrap().secret_pem();
        [
            ("root-key.pem", key.as_bytes()),
            ("record.json", b"{\n \"sequence\": 3, \"name\": \"\xc3\xa4\\u0000\"\r\n}"),
            ("seed", &[0, 255, 1]),
            ("empty", b""),
            ("newline", b"\n"),
        ]
        .map(|(name, octets)| (name.to_owned(), Zeroizing::new(octets.to_vec())))
        .into()
    }

    fn age_of(document: &str) -> String {
        age::encrypt(document.as_bytes(), PASSPHRASE, 1, &draw().unwrap())
    }

    #[test]
    fn what_is_sealed_opens_again_as_it_was() {
        let parts = parts();
        let text = seal(&parts, PASSPHRASE).unwrap();
        assert_eq!(open(&text, PASSPHRASE), Ok(parts));
    }

    #[test]
    fn nothing_of_a_key_is_in_the_sealed_text() {
        let parts = parts();
        let text = seal_with(&parts, PASSPHRASE, 1).unwrap();
        let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
        let file = STANDARD.decode(body).unwrap();
        let key = std::str::from_utf8(&parts["root-key.pem"]).unwrap();
        for line in key.lines().filter(|line| !line.starts_with("-----")) {
            assert!(!text.contains(line));
            for piece in line.as_bytes().windows(8) {
                assert!(!file.windows(8).any(|octets| octets == piece));
            }
        }
        let again = seal_with(&parts, PASSPHRASE, 1).unwrap();
        assert_ne!(text, again, "salt, key and nonce are new each time");
    }

    #[test]
    fn the_document_is_as_it_is_described() {
        let parts = [("a.pem", &b"one\ntwo\n"[..]), ("seed", &[0, 255])]
            .map(|(name, octets)| (name.to_owned(), Zeroizing::new(octets.to_vec())));
        let document = String::from_utf8(write(&parts.into()).unwrap().to_vec()).unwrap();
        let expected = r#"{
  "format": "burgrave.dev/authority",
  "version": 1,
  "parts": {
    "a.pem": {
      "text": [
        "one",
        "two",
        ""
      ]
    },
    "seed": {
      "base64": "AP8="
    }
  }
}"#;
        assert_eq!(document, expected);
    }

    #[test]
    fn a_passphrase_that_can_be_guessed_is_refused() {
        let nothing = BTreeMap::new();
        for empty in ["", "   ", "\n"] {
            assert_eq!(seal(&nothing, empty), Err(SealError::Empty));
        }
        assert_eq!(seal(&nothing, "elevenchars"), Err(SealError::Short));
        assert_eq!(seal(&nothing, "\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}"), Err(SealError::Short));
        assert!(seal_with(&nothing, "twelve chars", 1).is_ok());
        assert_eq!(open("", ""), Err(SealError::Empty));
    }

    #[test]
    fn another_passphrase_does_not_open_it() {
        let text = seal_with(&parts(), PASSPHRASE, 1).unwrap();
        for other in ["correct horse batter", "correct horse battery ", "Correct horse battery"] {
            assert_eq!(open(&text, other), Err(UnreadableAge::WrongPassphrase.into()));
        }
    }

    #[test]
    fn a_text_that_was_cut_off_or_changed_does_not_open() {
        let text = seal_with(&parts(), PASSPHRASE, 1).unwrap();
        for at in (0..text.len()).step_by(7) {
            let mut changed = text.clone().into_bytes();
            changed[at] ^= 1;
            let changed = String::from_utf8(changed).unwrap();
            assert!(open_within(&changed, PASSPHRASE, 4).is_err(), "character {at}");
            assert!(open_within(&text[..at], PASSPHRASE, 4).is_err(), "cut off at {at}");
        }
    }

    #[test]
    fn size_and_work_are_bounded() {
        let large = |octets| BTreeMap::from([("large".to_owned(), Zeroizing::new(vec![b'a'; octets]))]);
        let most = LARGEST - write(&large(0)).unwrap().len();
        let text = seal_with(&large(most), PASSPHRASE, 1).unwrap();
        assert_eq!(open(&text.replace('\n', "\r\n"), PASSPHRASE), Ok(large(most)));
        assert_eq!(seal(&large(most + 1), PASSPHRASE), Err(SealError::Large(LARGEST + 1)));
        let long = " ".repeat(LARGEST_TEXT + 1);
        assert_eq!(open(&long, PASSPHRASE), Err(SealError::LargeText(LARGEST_TEXT + 1)));
        let text = seal_with(&large(1), PASSPHRASE, 5).unwrap();
        assert_eq!(open_within(&text, PASSPHRASE, 4), Err(UnreadableAge::TooMuchWork(4).into()));
    }

    #[test]
    fn what_is_encrypted_and_no_authority_is_told_apart() {
        let newer = r#"{"format": "burgrave.dev/authority", "version": 2, "authorities": []}"#;
        assert_eq!(open(&age_of(newer), PASSPHRASE), Err(SealError::Version(2)));
        for other in [
            "",
            "a letter",
            "{}",
            r#"{"format": "example.com/letter", "version": 1, "parts": {}}"#,
            r#"{"format": "burgrave.dev/authority", "version": 1}"#,
            r#"{"format": "burgrave.dev/authority", "version": 1, "parts": {}, "more": 1}"#,
            r#"{"format": "burgrave.dev/authority", "version": 1, "parts": {"a": {"text": "one"}}}"#,
            r#"{"format": "burgrave.dev/authority", "version": 1, "parts": {"a": {"base64": "AP8"}}}"#,
        ] {
            assert_eq!(open(&age_of(other), PASSPHRASE), Err(SealError::Foreign), "{other}");
        }
    }

    #[test]
    fn errors_are_one_line_in_lower_case_and_quote_nothing() {
        let secret = r#"{"format": "burgrave.dev/authority", "version": 1, "parts": {"a": "hunter2"}}"#;
        let foreign = open(&age_of(secret), PASSPHRASE).unwrap_err();
        let errors = [
            foreign,
            SealError::Empty,
            SealError::Short,
            SealError::Large(2_000_000),
            SealError::LargeText(2_000_000),
            SealError::NoRandomness,
            SealError::Version(2),
            UnreadableAge::NotArmoured.into(),
            UnreadableAge::NotByPassphrase.into(),
            UnreadableAge::TooMuchWork(18).into(),
            UnreadableAge::WrongPassphrase.into(),
            UnreadableAge::Damaged.into(),
        ];
        for error in errors {
            let text = error.to_string();
            assert!(text.starts_with(|first: char| first.is_ascii_lowercase()), "{text}");
            assert!(!text.contains('\n') && !text.ends_with('.') && text.contains(';'), "{text}");
            assert!(!format!("{text} {error:?}").contains("hunter2"), "{text}");
        }
    }
}
