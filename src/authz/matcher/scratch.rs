//! Pure: room for one decision at a time, so that none has to ask for memory.

use crate::authz::matcher::templates::Waiting;
use crate::authz::matcher::trie::Atom;

/// Room that is used again and again; it grows to what the largest decision needed.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// The atoms that hold, in ascending order.
    pub(super) truths: Vec<Atom>,
    /// Places of a walk through templates.
    pub(super) waiting: Vec<Waiting>,
    /// A host in lower case.
    pub(super) lower: String,
    /// Which clauses may still match, a bit each.
    pub(super) alive: Vec<u64>,
    /// Which of them have one of their terms, a bit each.
    pub(super) satisfied: Vec<u64>,
    /// Rules that have to be looked at.
    pub(super) candidates: Vec<u32>,
}
