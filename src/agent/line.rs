//! Pure: one name that the CA is listened to for: what it has pushed, how far that has come here, and what is answered.

use std::time::Duration;

use time::OffsetDateTime;

use crate::agent::heard;
use crate::agent::heard::Heard;
use crate::agent::heard::InvalidPush;
use crate::agent::policies;
use crate::agent::policies::Policies;
use crate::agent::verdict::Case;
use crate::agent::verdict::Objection;
use crate::agent::verdict::Patience;
use crate::agent::verdict::Progress;
use crate::agent::verdict::Verdict;
use crate::agent::word::Say;
use crate::agent::word::Word;
use crate::authz;
use crate::authz::RULEBOOK;
use crate::proto::envoy::DiscoveryResponse;
use crate::sds::Notice;
use crate::sds::Secrets;
use crate::sds::Standing;
use crate::sds::Trust;
use crate::sds::Version;
use crate::sds::names;

/// What we look at, to judge.
pub(super) struct Sight<'a> {
    /// What is published to the proxies.
    pub(super) secrets: &'a Secrets,
    /// How they stand to a version of a name.
    pub(super) stand: &'a dyn Fn(&str, &Version) -> Standing,
    /// How far the policies have come to them.
    pub(super) enforced: &'a authz::Progress,
    /// The time since the agent's start.
    pub(super) now: Duration,
    /// How long each thing is waited for.
    pub(super) patience: &'a Patience,
}

/// What may be pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Pushed {
    Trust(Trust),
    Notice(Box<Notice>),
    Policies(Box<Policies>),
}

/// One name.
#[derive(Clone, Debug)]
pub(super) struct Line {
    name: &'static str,
    word: Word,
    case: Option<(Case, Pushed)>,
    verdict: Option<Verdict>,
    /// Whether the leaf of this version is of the authority in the notice; it costs a signature to find out.
    covered: Option<(Version, bool)>,
}

impl Line {
    /// Listens for roots.
    pub(super) fn trust() -> Self {
        Self::of(names::TRUST)
    }

    /// Listens for who ought to sign.
    pub(super) fn issuer() -> Self {
        Self::of(names::ISSUER)
    }

    /// Listens for the policies of the workload.
    pub(super) fn policies() -> Self {
        Self::of(RULEBOOK)
    }

    fn of(name: &'static str) -> Self {
        Self { name, word: Word::default(), case: None, verdict: None, covered: None }
    }

    /// The name.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// The version that was acknowledged last.
    pub(super) fn acknowledged(&self) -> Option<&Version> {
        self.word.held()
    }

    /// What is waited for, in words.
    pub(super) fn waits_for(&self) -> Option<&str> {
        match &self.verdict {
            Some(Verdict::Waiting(what) | Verdict::Objected(_, what)) if self.is_unsettled() => Some(what),
            _ => None,
        }
    }

    /// The kind of the last objection.
    pub(super) fn reason(&self) -> &'static str {
        match &self.verdict {
            Some(Verdict::Objected(Objection::Later, _)) => "later",
            Some(Verdict::Objected(Objection::Silent, _)) => "silent",
            Some(Verdict::Objected(Objection::Refused, _)) => "refused",
            _ => "unreadable",
        }
    }

    /// Whether there is something to be judged.
    pub(super) fn is_unsettled(&self) -> bool {
        self.case.is_some() && self.word.is_unsettled()
    }

    /// The version that a new stream begins with.
    pub(super) fn opens(&mut self, sight: &Sight<'_>) -> Option<Version> {
        self.look(sight);
        let (word, version) = std::mem::take(&mut self.word).opens(self.verdict.as_ref());
        self.word = word;
        version
    }

    /// The CA has pushed something at the moment `at`. It is written into `all` that was heard.
    ///
    /// # Errors
    /// If it cannot be read or must not be used; with what is to be answered.
    pub(super) fn take(
        &mut self,
        message: &DiscoveryResponse,
        all: &mut Heard,
        at: OffsetDateTime,
        now: Duration,
    ) -> Result<(), (InvalidPush, Say)> {
        let word = std::mem::take(&mut self.word)
            .pushed(Version::from(message.version_info.as_str()), message.nonce.clone());
        let read = match self.name {
            names::TRUST => heard::trust(message, self.name, at).map(Pushed::Trust),
            RULEBOOK => match policies::policies(message) {
                Ok(policies) => Ok(Pushed::Policies(Box::new(policies))),
                Err(error) => Err(Box::new(error).into()),
            },
            _ => heard::notice(message, self.name).map(|notice| Pushed::Notice(Box::new(notice))),
        };
        match read {
            Ok(pushed) => {
                self.word = word;
                match &pushed {
                    Pushed::Trust(trust) => all.trust = Some(trust.clone()),
                    Pushed::Notice(notice) => all.notice = Some(Notice::clone(notice)),
                    Pushed::Policies(policies) => all.policies = Some(Policies::clone(policies)),
                }
                let case = match self.case.take() {
                    Some((case, known)) if known.is_same(&pushed) => case,
                    _ => Case::new(now),
                };
                (self.case, self.verdict, self.covered) = (Some((case, pushed)), None, None);
                Ok(())
            }
            Err(error) => {
                (self.case, self.verdict) = (None, None);
                let (word, say) = word.unreadable(error.to_string());
                self.word = word;
                Err((error, say))
            }
        }
    }

    /// What the CA is to be told now.
    pub(super) fn say(&mut self, sight: &Sight<'_>) -> Say {
        if !self.is_unsettled() {
            return Say::Nothing;
        }
        self.look(sight);
        let Some(verdict) = &self.verdict else { return Say::Nothing };
        let (word, say) = std::mem::take(&mut self.word).judged(verdict);
        self.word = word;
        say
    }

    fn look(&mut self, sight: &Sight<'_>) {
        let Some((case, pushed)) = self.case.take() else { return };
        let progress = self.progress(&pushed, sight);
        let (case, verdict) = case.judge(&progress, sight.now, sight.patience);
        (self.case, self.verdict) = (Some((case, pushed)), Some(verdict));
    }

    fn progress(&mut self, pushed: &Pushed, sight: &Sight<'_>) -> Progress {
        match pushed {
            Pushed::Trust(trust) if sight.secrets.trust.as_ref() == Some(trust) => {
                Progress::Offered((sight.stand)(names::TRUST, trust.version()))
            }
            Pushed::Trust(_) => Progress::OurTurn {
                within: Duration::ZERO,
                doing: "asks for a certificate under these roots before it uses them alone".to_owned(),
            },
            Pushed::Notice(notice) => match &sight.secrets.identity {
                Some(identity) if self.is_covered(notice, identity.version(), sight.secrets) => {
                    Progress::Offered((sight.stand)(names::IDENTITY, identity.version()))
                }
                _ => {
                    let seconds = notice.window.as_secs_f64().ceil();
                    let doing = format!("asks for a certificate of this authority within {seconds} s");
                    Progress::OurTurn { within: notice.window, doing }
                }
            },
            Pushed::Policies(policies) if sight.enforced.version.as_ref() == Some(&policies.version) => {
                Progress::Offered(sight.enforced.standing.clone())
            }
            Pushed::Policies(_) => {
                Progress::OurTurn { within: Duration::ZERO, doing: "takes these policies up".to_owned() }
            }
        }
    }

    fn is_covered(&mut self, notice: &Notice, version: &Version, secrets: &Secrets) -> bool {
        match &self.covered {
            Some((known, is_covered)) if known == version => *is_covered,
            _ => {
                let is_covered =
                    secrets.identity.as_ref().is_some_and(|held| notice.covers(held.chain().leaf()));
                self.covered = Some((version.clone(), is_covered));
                is_covered
            }
        }
    }
}

impl Pushed {
    /// Whether the same thing is asked for, in other words maybe.
    fn is_same(&self, other: &Pushed) -> bool {
        match (self, other) {
            (Self::Trust(one), Self::Trust(other)) => one == other,
            (Self::Notice(one), Self::Notice(other)) => one.version() == other.version(),
            (Self::Policies(one), Self::Policies(other)) => one == other,
            _ => false,
        }
    }
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
