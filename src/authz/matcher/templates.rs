//! Pure: which of many path templates does a path fit? A trie over segments.

use std::collections::BTreeMap;
use std::collections::HashMap;

use foldhash::fast::FixedState;

use crate::authz::matcher::trie::Atom;
use crate::authz::matcher::trie::Trie;
use crate::authz::matcher::trie::number;
use crate::authz::model::Template;
use crate::authz::model::template::Segment;

/// Templates, each with an atom.
#[derive(Clone, Debug, Default)]
pub(super) struct Templates {
    nodes: Vec<Node>,
}

/// A place between segments.
#[derive(Clone, Debug, Default)]
struct Node {
    /// Where any one segment leads.
    one: Option<u32>,
    /// Where a text leads.
    literals: HashMap<Box<str>, u32, FixedState>,
    /// What fits if the path ends here.
    ends: Option<Atom>,
    /// What fits whatever follows.
    rest: Option<Atom>,
    /// What fits whatever follows, if it ends so.
    rest_before: Trie,
}

/// A place where a walk through the templates goes on.
pub(super) type Waiting = (u32, u32);

impl Templates {
    /// Takes templates, each of which occurs once.
    pub(super) fn new<'a>(templates: impl IntoIterator<Item = (&'a Template, Atom)>) -> Self {
        let mut made = Self::default();
        let mut endings: BTreeMap<u32, Vec<(Vec<u8>, Atom)>> = BTreeMap::new();
        for (template, atom) in templates {
            if made.nodes.is_empty() {
                made.nodes.push(Node::default());
            }
            let mut segments = template.segments().iter();
            let mut node = 0;
            loop {
                match segments.next() {
                    None => made.change(node, |node| node.ends = Some(atom)),
                    Some(Segment::Rest) => {
                        let mut ending = String::new();
                        for segment in segments.by_ref() {
                            let Segment::Literal(text) = segment else { continue };
                            ending.push('/');
                            ending.push_str(text);
                        }
                        match ending.is_empty() {
                            true => made.change(node, |node| node.rest = Some(atom)),
                            false => {
                                endings.entry(node).or_default().push((ending.bytes().rev().collect(), atom));
                            }
                        }
                    }
                    Some(Segment::One) => {
                        node = made.one(node);
                        continue;
                    }
                    Some(Segment::Literal(text)) => {
                        node = made.literal(node, text);
                        continue;
                    }
                }
                break;
            }
        }
        for (node, endings) in endings {
            let trie = Trie::new(endings.iter().map(|(text, atom)| (text.as_slice(), *atom)));
            made.change(node, |node| node.rest_before = trie);
        }
        made
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Calls `found` for each template that `path`, which has no query, fits. `waiting` is room for the walk.
    pub(super) fn matching(&self, path: &str, waiting: &mut Vec<Waiting>, mut found: impl FnMut(Atom)) {
        if self.is_empty() || !Template::may_match(path) {
            return;
        }
        waiting.clear();
        waiting.push((0, 1));
        while let Some((node, from)) = waiting.pop() {
            let Some(node_at) = self.nodes.get(node as usize) else { continue };
            // Behind the last segment there is no slash, and `from` is one further than the path is long.
            let Some(left) = path.get(from as usize..) else {
                node_at.ends.into_iter().for_each(&mut found);
                continue;
            };
            node_at.rest.into_iter().for_each(&mut found);
            node_at.rest_before.suffixes(left.as_bytes(), &mut found);
            let segment = left.split('/').next().unwrap_or_default();
            let behind = from + number(segment.len()) + 1;
            if let Some(next) = node_at.literals.get(segment) {
                waiting.push((*next, behind));
            }
            if let Some(next) = node_at.one.filter(|_| !segment.is_empty()) {
                waiting.push((next, behind));
            }
        }
    }

    fn change(&mut self, node: u32, change: impl FnOnce(&mut Node)) {
        if let Some(node) = self.nodes.get_mut(node as usize) {
            change(node);
        }
    }

    fn one(&mut self, node: u32) -> u32 {
        let next = number(self.nodes.len());
        let known = self.nodes.get_mut(node as usize).map(|node| *node.one.get_or_insert(next));
        self.led(known, next)
    }

    fn literal(&mut self, node: u32, text: &str) -> u32 {
        let next = number(self.nodes.len());
        let known = self.nodes.get_mut(node as usize);
        let known = known.map(|node| *node.literals.entry(text.into()).or_insert(next));
        self.led(known, next)
    }

    /// The node that was known, or a new one with the number `next`.
    fn led(&mut self, known: Option<u32>, next: u32) -> u32 {
        if known == Some(next) {
            self.nodes.push(Node::default());
        }
        known.unwrap_or(next)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn they_find_what_each_template_says_for_itself(
            texts in proptest::collection::btree_set("(/(a|b|\\{\\*\\})){0,3}(/\\{\\*\\*\\})?(/(a|b)){0,2}/?", 0..30),
            path in "(/[ab]{0,2}){0,5}(/\\*)?",
        ) {
            let templates: BTreeSet<Template> =
                texts.iter().filter_map(|text| Template::parse(text).ok()).collect();
            let templates: Vec<Template> = templates.into_iter().collect();
            let index = Templates::new(templates.iter().zip(0..));
            let mut found = BTreeSet::new();
            index.matching(&path, &mut Vec::new(), |atom| { found.insert(atom); });
            let expected = templates.iter().zip(0..).filter(|(template, _)| template.matches(&path));
            prop_assert_eq!(found, expected.map(|(_, atom)| atom).collect());
        }
    }
}
