//! Pure: an explanation as people read it on a terminal.

use std::fmt;

use crate::authz::explain::explanation::Asked;
use crate::authz::explain::explanation::Explanation;
use crate::authz::explain::explanation::Outcome;
use crate::authz::explain::explanation::RuleName;
use crate::authz::explain::explanation::Verdict;
use crate::authz::explain::explanation::Weighed;
use crate::authz::explain::explanation::Why;
use crate::authz::model::Kind;

/// How many values of a field are shown.
const SHOWN: usize = 6;

impl Verdict {
    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allowed",
            Self::Deny => "denied",
            Self::Depends => "cannot tell",
        }
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == Kind::ServiceRoleBinding.as_str() {
            return write!(
                f,
                "access rule {} that {} {}/{} grants",
                self.rule, self.kind, self.namespace, self.name
            );
        }
        write!(f, "rule {} of {} {}/{} ({})", self.rule, self.kind, self.namespace, self.name, self.action)
    }
}

impl Explanation {
    /// What is not known and decides, each once.
    pub fn hangs_on(&self) -> Vec<&str> {
        let mut parts = Vec::new();
        let fields = self.depends_on.iter().flat_map(|hinge| &hinge.fields);
        for field in fields.filter(|field| field.outcome == Outcome::Unknown) {
            if !parts.contains(&field.part.as_str()) {
                parts.push(&field.part);
            }
        }
        parts
    }

    /// The decision and its reason in one line.
    pub fn summary(&self) -> String {
        let because = match (self.why, &self.by) {
            (Why::Rule, Some(by)) => format!("{} matches", by.rule),
            (Why::Rule, None) => "a rule matches".to_owned(),
            (Why::NoAllowingPolicy, _) if self.policies.deny == 0 => {
                "no policy allows or denies anything here, so everything is allowed".to_owned()
            }
            (Why::NoAllowingPolicy, _) => format!(
                "no rule of the {} that deny matches, and without a policy that allows everything else is allowed",
                count(self.policies.deny, "policy", "policies")
            ),
            (Why::NoAllowingRule, _) => match self.policies.allow {
                1 => "there is a policy that allows, and none of its rules matches".to_owned(),
                many => format!("there are {many} policies that allow, and none of their rules matches"),
            },
            (Why::Unknown, _) => format!("it depends on what is not known: {}", self.hangs_on().join(", ")),
        };
        format!("{}: {because}", self.decision.as_str())
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.summary())?;
        if let Some(by) = &self.by {
            fields(f, by)?;
        }
        if let Some(nearest) = &self.nearest {
            let missed = nearest.fields.iter().filter(|one| one.outcome == Outcome::Missed).count();
            let total = count(nearest.fields.len(), "field", "fields");
            writeln!(f, "\nthe nearest is {}; it misses in {missed} of {total}", nearest.rule)?;
            fields(f, nearest)?;
        }
        for hinge in &self.depends_on {
            let effect = if hinge.rule.action == "DENY" { "denied" } else { "allowed" };
            writeln!(f, "\n{effect} if {} matches", hinge.rule)?;
            fields(f, hinge)?;
        }
        if !self.besides.is_empty() {
            writeln!(f)?;
        }
        for beside in &self.besides {
            match &beside.rule {
                Some(rule) => writeln!(f, "besides: {}: {rule}", beside.says)?,
                None => writeln!(f, "besides: {}", beside.says)?,
            }
        }
        request(f, self)
    }
}

fn request(f: &mut fmt::Formatter<'_>, explanation: &Explanation) -> fmt::Result {
    writeln!(f, "\nthe request, as policies see it")?;
    let width = explanation.request.iter().map(|known| known.part.chars().count()).max().unwrap_or_default();
    for known in &explanation.request {
        write!(f, "  {:<width$}  {}", known.part, known.is)?;
        match known.remark.is_empty() {
            true => writeln!(f)?,
            false => writeln!(f, " ({})", known.remark)?,
        }
    }
    if !explanation.unknown.is_empty() {
        writeln!(f, "  not known, and asked for: {}", explanation.unknown.join(", "))?;
    }
    for remark in &explanation.remarks {
        writeln!(f, "note: {remark}")?;
    }
    Ok(())
}

fn fields(f: &mut fmt::Formatter<'_>, weighed: &Weighed) -> fmt::Result {
    for asked in &weighed.fields {
        let mark = match asked.outcome {
            Outcome::Met => "yes",
            Outcome::Missed => "NO",
            Outcome::Unknown => "?",
        };
        writeln!(f, "  {mark:<4}{}: {}", asked.path, line(asked))?;
        if let Some(remark) = &asked.remark {
            writeln!(f, "      {remark}")?;
        }
    }
    Ok(())
}

/// What was asked, and what was.
fn line(asked: &Asked) -> String {
    let shown: Vec<&str> = match (&asked.matched, asked.negated) {
        (Some(matched), _) if asked.outcome != Outcome::Unknown => vec![matched],
        _ => asked.values.iter().take(SHOWN).map(String::as_str).collect(),
    };
    let left = match asked.matched {
        None => asked.values.len().saturating_sub(SHOWN),
        Some(_) => 0,
    };
    let more = if left > 0 { format!(" and {left} more") } else { String::new() };
    let values = match shown.is_empty() {
        true => "(nothing)".to_owned(),
        false => shown.join(", "),
    };
    let word = match asked.negated {
        true => "asked for none of",
        false => "asked for",
    };
    match &asked.was {
        Some(was) => format!("{word} {values}{more}; {} was {was}", asked.part),
        None => format!("{word} {values}{more}; {} is not known", asked.part),
    }
}

fn count(number: usize, one: &str, many: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        _ => format!("{number} {many}"),
    }
}
