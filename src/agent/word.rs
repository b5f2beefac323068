//! Pure: what is the CA told about one name, on one stream after the other?
//!
//! A push is answered once, so what turns out later needs a new stream: it begins with the version that is held, which
//! counts as an ACK, or with none, and then the CA pushes anew what can be refused again.

use crate::agent::verdict::Objection;
use crate::agent::verdict::Verdict;
use crate::sds::Version;

/// What has been said, and what is still to be said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Word {
    /// What was acknowledged last.
    held: Option<Version>,
    pushed: Option<Pushed>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pushed {
    version: Version,
    /// `None` on a stream that has not brought it (yet).
    nonce: Option<String>,
    told: Option<Told>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Accepted,
    /// In these words.
    Objected(Objection, String),
    /// It cannot be read, so there is nothing to judge.
    Unreadable,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Say {
    /// Nothing.
    Nothing,
    /// Answer the push.
    Answer {
        /// The version that is held after it.
        held: Option<Version>,
        /// The push's nonce.
        nonce: String,
        /// Why it is refused; `None` for an ACK.
        refusal: Option<String>,
    },
    /// End the stream and open another, which begins with the version that is held.
    Reopen,
}

impl Word {
    /// A stream is to be opened, `verdict` being what can be said of the last push. Returns the version to begin with.
    ///
    /// That is the last one that was pushed, or none: proxies may use a later one than that which they all used once, and
    /// who claims to hold the earlier one is not sent it when the CA goes back to it.
    pub(super) fn opens(self, verdict: Option<&Verdict>) -> (Self, Option<Version>) {
        let Some(pushed) = self.pushed else { return (self, None) };
        let is_held = match &pushed.told {
            Some(Told::Unreadable) => false,
            Some(Told::Accepted) => true,
            None | Some(Told::Objected(..)) => verdict == Some(&Verdict::Accepted),
        };
        let begin = is_held.then(|| pushed.version.clone());
        // Whatever the new stream brings has to be answered on it.
        let told = is_held.then_some(Told::Accepted);
        let held = begin.clone().or(self.held);
        (Self { held, pushed: Some(Pushed { nonce: None, told, ..pushed }) }, begin)
    }

    /// The CA pushes a version.
    pub(super) fn pushed(self, version: Version, nonce: String) -> Self {
        Self { pushed: Some(Pushed { version, nonce: Some(nonce), told: None }), ..self }
    }

    /// What was just pushed cannot be read.
    pub(super) fn unreadable(self, why: String) -> (Self, Say) {
        self.tell(Told::Unreadable, Some(why))
    }

    /// What was pushed has been judged.
    pub(super) fn judged(self, verdict: &Verdict) -> (Self, Say) {
        let told = self.pushed.as_ref().and_then(|pushed| pushed.told.as_ref());
        match (verdict, told) {
            (_, Some(Told::Accepted | Told::Unreadable)) | (Verdict::Waiting(_), _) => (self, Say::Nothing),
            (Verdict::Accepted, None) => self.tell(Told::Accepted, None),
            (Verdict::Objected(kind, why), None) => {
                self.tell(Told::Objected(*kind, why.clone()), Some(why.clone()))
            }
            (Verdict::Accepted, Some(Told::Objected(..))) => (self, Say::Reopen),
            (Verdict::Objected(kind, why), Some(Told::Objected(before, said))) => {
                let is_another = *kind == Objection::Refused && named(why) != named(said);
                let say =
                    if kind > before || kind == before && is_another { Say::Reopen } else { Say::Nothing };
                (self, say)
            }
        }
    }

    /// The version that was acknowledged last.
    pub(super) fn held(&self) -> Option<&Version> {
        self.held.as_ref()
    }

    /// Whether there is something to be judged.
    pub(super) fn is_unsettled(&self) -> bool {
        self.pushed.as_ref().is_some_and(|pushed| matches!(pushed.told, None | Some(Told::Objected(..))))
    }

    fn tell(self, told: Told, refusal: Option<String>) -> (Self, Say) {
        let Some(Pushed { version, nonce: Some(nonce), .. }) = self.pushed.clone() else {
            return (self, Say::Nothing);
        };
        let held = if told == Told::Accepted { Some(version.clone()) } else { self.held };
        let pushed = Some(Pushed { version, nonce: Some(nonce.clone()), told: Some(told) });
        (Self { held: held.clone(), pushed }, Say::Answer { held, nonce, refusal })
    }
}

/// Who refuses, and why. How many more there are changes too often to be worth a new stream.
fn named(why: &str) -> &str {
    why.rsplit_once(" (and ").map_or(why, |(named, _)| named)
}

#[cfg(test)]
#[path = "word_tests.rs"]
mod tests;
