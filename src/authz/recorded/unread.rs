//! Pure: which part of what somebody wrote is no request, and what ought to stand there?

use std::fmt;

/// The longest line that is read, in bytes.
pub const MAX_LENGTH: usize = 256 << 10;

/// What cannot be read, with its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Unread {
    /// Where: `request.headers.x-a`, `option -X`, `field 19 (downstream local address)`. Empty for the whole.
    pub place: String,
    /// What is wrong, and how it ought to be.
    pub problem: String,
}

impl Unread {
    /// `problem` at `place`.
    pub fn at(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { place: place.into(), problem: problem.into() }
    }

    /// The same with what its place is part of.
    #[must_use]
    pub fn within(self, whole: &str) -> Self {
        let place = match self.place.as_str() {
            "" => whole.to_owned(),
            place => format!("{whole}.{place}"),
        };
        Self { place, ..self }
    }

    /// That `name`, at `place`, is none of the names that are `known`.
    pub fn unknown(place: &str, what: &str, name: &str, known: &[&str]) -> Self {
        let near = known.iter().map(|one| (strsim::damerau_levenshtein(one, name), *one)).min();
        let hint = match near {
            Some((distance, nearest)) if distance <= 2 => format!("did you mean `{nearest}`?"),
            _ => format!("it may have {}", known.join(", ")),
        };
        Self::at(place, format!("`{}` is no field of {what}; {hint}", shown(name)))
    }
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place.is_empty() {
            true => f.write_str(&self.problem),
            false => write!(f, "{}: {}", self.place, self.problem),
        }
    }
}

/// Somebody's text in an error: not too much of it, and nothing that commands a terminal.
pub fn shown(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut out: String =
        text.chars().take(LONGEST).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() {
        out.push('…');
    }
    out
}
