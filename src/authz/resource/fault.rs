//! Pure: what is wrong with an object, where, and what is done about it.

use std::fmt;

/// Something that is wrong with an object, or ought to be known of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// Where: `spec.rules[1].from[0].source.ipBlocks[2]`.
    pub path: String,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, and how it ought to be.
    pub problem: String,
    /// What is done with it: `the rule allows nothing until it is corrected`. Empty if it changes nothing.
    pub effect: String,
}

/// How bad a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// It can be read, and may not mean what its author thinks. It is admitted.
    Warning,
    /// It cannot be read. It reduces access, and is refused at admission.
    Error,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.problem)?;
        match self.effect.is_empty() {
            true => Ok(()),
            false => write!(f, "; {}", self.effect),
        }
    }
}
