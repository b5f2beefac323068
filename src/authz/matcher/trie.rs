//! Pure: which of many texts does a text begin with? A radix trie over bytes, in a few flat arrays.
//!
//! The cost is that of walking along the text as far as anything in the trie goes; how many texts there are hardly matters.

/// What stands for a text: the number of its atom.
pub(super) type Atom = u32;
const NONE: Atom = Atom::MAX;
/// Up to so many children are looked through one by one.
const FEW: usize = 8;

/// Texts, each with an atom.
#[derive(Clone, Debug, Default)]
pub(super) struct Trie {
    nodes: Vec<Node>,
    /// The labels of all nodes, one after the other.
    labels: Vec<u8>,
    /// The first byte of each node's label, at the node's place: children lie side by side, so a child is looked for here.
    firsts: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    label: u32,
    length: u32,
    children: u32,
    count: u32,
    atom: Atom,
}

impl Trie {
    /// Takes texts, each of which occurs once.
    pub(super) fn new<'a>(texts: impl IntoIterator<Item = (&'a [u8], Atom)>) -> Self {
        let mut texts: Vec<_> = texts.into_iter().collect();
        texts.sort_unstable();
        let mut trie = Self::default();
        if texts.is_empty() {
            return trie;
        }
        trie.push(&[]);
        let mut waiting = std::collections::VecDeque::from([(0_usize, texts.as_slice(), 0_usize)]);
        while let Some((node, mut texts, depth)) = waiting.pop_front() {
            if let Some(((text, atom), rest)) = texts.split_first()
                && text.len() == depth
            {
                trie.set(node, |node| node.atom = *atom);
                texts = rest;
            }
            let children = number(trie.nodes.len());
            let mut count = 0;
            while let Some((first, _)) = texts.first() {
                let byte = first.get(depth);
                let end = texts.partition_point(|(text, _)| text.get(depth) <= byte);
                let (same, others) = texts.split_at(end);
                let shared = same.last().map_or(first.len(), |(last, _)| common(first, last));
                waiting.push_back((trie.nodes.len(), same, shared));
                trie.push(first.get(depth..shared).unwrap_or_default());
                count += 1;
                texts = others;
            }
            trie.set(node, |node| (node.children, node.count) = (children, count));
        }
        trie
    }

    /// The memory it takes, in bytes.
    pub(super) fn size(&self) -> usize {
        self.nodes.len() * size_of::<Node>() + self.labels.len() + self.firsts.len()
    }

    /// Calls `found` for each text that `text` begins with, the shortest first.
    pub(super) fn prefixes(&self, text: &[u8], found: impl FnMut(Atom)) {
        self.walk(text.iter().copied(), found);
    }

    /// The same from the end, for a trie of reversed texts.
    pub(super) fn suffixes(&self, text: &[u8], found: impl FnMut(Atom)) {
        self.walk(text.iter().rev().copied(), found);
    }

    fn walk(&self, mut text: impl Iterator<Item = u8>, mut found: impl FnMut(Atom)) {
        let Some(mut node) = self.nodes.first() else { return };
        loop {
            if node.atom != NONE {
                found(node.atom);
            }
            let Some(byte) = text.next() else { return };
            let Some(child) = self.child(node, byte) else { return };
            node = child;
            let label = self.labels.get(node.label as usize..(node.label + node.length) as usize);
            let rest = label.unwrap_or_default().get(1..).unwrap_or_default();
            if !rest.iter().all(|expected| text.next() == Some(*expected)) {
                return;
            }
        }
    }

    fn child(&self, node: &Node, byte: u8) -> Option<&Node> {
        let start = node.children as usize;
        let firsts = self.firsts.get(start..start + node.count as usize)?;
        let place = match firsts.len() <= FEW {
            true => firsts.iter().position(|first| *first == byte)?,
            false => firsts.binary_search(&byte).ok()?,
        };
        self.nodes.get(start + place)
    }

    fn push(&mut self, label: &[u8]) {
        let (start, length) = (number(self.labels.len()), number(label.len()));
        self.firsts.push(label.first().copied().unwrap_or_default());
        self.labels.extend_from_slice(label);
        self.nodes.push(Node { label: start, length, children: 0, count: 0, atom: NONE });
    }

    fn set(&mut self, node: usize, change: impl FnOnce(&mut Node)) {
        if let Some(node) = self.nodes.get_mut(node) {
            change(node);
        }
    }
}

/// How many leading bytes two texts share.
fn common(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

/// Places are counted in 32 bits: four thousand million bytes of policies do not fit in any mesh.
pub(super) fn number(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_finds_what_looking_at_each_text_finds(
            texts in proptest::collection::btree_set("[ab/é]{0,6}", 0..40),
            asked in "[ab/é]{0,8}",
        ) {
            let texts: Vec<String> = texts.into_iter().collect();
            let numbered = || texts.iter().zip(0..);
            let forward = Trie::new(numbered().map(|(text, atom)| (text.as_bytes(), atom)));
            let mut found = BTreeSet::new();
            forward.prefixes(asked.as_bytes(), |atom| { found.insert(atom); });
            let expected = numbered().filter(|(text, _)| asked.starts_with(*text)).map(|(_, atom)| atom);
            prop_assert_eq!(found, expected.collect());

            let reversed: Vec<Vec<u8>> = texts.iter().map(|text| text.bytes().rev().collect()).collect();
            let backward = Trie::new(reversed.iter().map(Vec::as_slice).zip(0..));
            let mut found = BTreeSet::new();
            backward.suffixes(asked.as_bytes(), |atom| { found.insert(atom); });
            let expected = numbered().filter(|(text, _)| asked.ends_with(*text)).map(|(_, atom)| atom);
            prop_assert_eq!(found, expected.collect());
        }
    }
}
