//! Pure: in which of many blocks of addresses is an address?
//!
//! A trie that takes six bits at a time and keeps only what differs, found by counting bits (Asai and Ohara, "Poptrie", 2015). It leads
//! to the smallest block; each block knows the next larger one around it.

use std::net::IpAddr;

use crate::authz::matcher::trie::Atom;
use crate::authz::matcher::trie::number;
use crate::authz::model::Cidr;

/// Bits taken at a time.
const STRIDE: u32 = 6;
const NONE: u32 = u32::MAX;

/// Blocks, each with an atom.
#[derive(Clone, Debug, Default)]
pub(super) struct Blocks {
    v4: Family,
    v6: Family,
}

/// Blocks of one kind of address. Addresses stand at the upper end of 128 bits.
#[derive(Clone, Debug, Default)]
struct Family {
    nodes: Vec<Node>,
    /// The smallest block around what is behind each leaf; [`NONE`] if there is none.
    leaves: Vec<u32>,
    blocks: Vec<Block>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Node {
    /// For which of the 64 there is a node below.
    inner: u64,
    /// At which of the others a leaf begins that differs from the one before.
    leaf: u64,
    first_inner: u32,
    first_leaf: u32,
}

#[derive(Clone, Copy, Debug)]
struct Block {
    bits: u128,
    length: u8,
    atom: Atom,
    /// The next larger block around it.
    around: u32,
}

impl Blocks {
    /// Takes blocks, each of which occurs once.
    pub(super) fn new(blocks: impl IntoIterator<Item = (Cidr, Atom)>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (block, atom) in blocks {
            let bits = bits(block.address());
            let one = Block { bits, length: block.length(), atom, around: NONE };
            match block.address() {
                IpAddr::V4(_) => v4.push(one),
                IpAddr::V6(_) => v6.push(one),
            }
        }
        Self { v4: Family::new(v4), v6: Family::new(v6) }
    }

    /// Calls `found` for each block that `address` is in, the smallest first.
    pub(super) fn containing(&self, address: IpAddr, found: impl FnMut(Atom)) {
        let address = address.to_canonical();
        match address {
            IpAddr::V4(_) => self.v4.containing(bits(address), found),
            IpAddr::V6(_) => self.v6.containing(bits(address), found),
        }
    }

    /// The memory it takes, in bytes.
    pub(super) fn size(&self) -> usize {
        let family = |family: &Family| {
            family.nodes.len() * size_of::<Node>()
                + family.leaves.len() * size_of::<u32>()
                + family.blocks.len() * size_of::<Block>()
        };
        family(&self.v4) + family(&self.v6)
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The six bits of `bits` behind the first `offset`.
fn slot(bits: u128, offset: u32) -> u32 {
    let shifted = bits.checked_shl(offset).unwrap_or(0) >> (128 - STRIDE);
    u32::try_from(shifted).unwrap_or(0)
}

impl Family {
    fn new(mut blocks: Vec<Block>) -> Self {
        if blocks.is_empty() {
            return Self::default();
        }
        // Larger blocks come before what is in them.
        blocks.sort_unstable_by_key(|block| (block.bits, block.length));
        let mut open: Vec<u32> = Vec::new();
        for at in 0..blocks.len() {
            let Some(bits) = blocks.get(at).map(|block| block.bits) else { break };
            while let Some(last) = open.last().and_then(|last| blocks.get(*last as usize)) {
                if last.holds(bits) {
                    break;
                }
                open.pop();
            }
            if let Some(block) = blocks.get_mut(at) {
                block.around = open.last().copied().unwrap_or(NONE);
            }
            open.push(number(at));
        }
        let mut family = Self { nodes: vec![Node::default()], leaves: Vec::new(), blocks };
        let all = (0, family.blocks.len());
        let mut waiting = std::collections::VecDeque::from([(0, all, 0, NONE)]);
        while let Some((node, range, offset, outer)) = waiting.pop_front() {
            let made = family.node(range, offset, outer, &mut waiting);
            if let Some(place) = family.nodes.get_mut(node) {
                *place = made;
            }
        }
        family
    }

    /// The node for those blocks of `range` that are longer than `offset` bits; `outer` is the smallest block around all of it.
    fn node(
        &mut self,
        (mut start, end): (usize, usize),
        offset: u32,
        outer: u32,
        waiting: &mut std::collections::VecDeque<(usize, (usize, usize), u32, u32)>,
    ) -> Node {
        let mut node = Node {
            first_inner: number(self.nodes.len()),
            first_leaf: number(self.leaves.len()),
            ..Node::default()
        };
        // The smallest block, of those that end within this stride, around each slot.
        let mut best = [outer; 64];
        let mut below = [(0_usize, 0_usize); 64];
        while let Some(block) = self.blocks.get(start).filter(|_| start < end) {
            let first = slot(block.bits, offset);
            if u32::from(block.length) <= offset + STRIDE {
                let spread = 1_u32 << (offset + STRIDE - u32::from(block.length)).min(STRIDE);
                for place in first..(first + spread).min(64) {
                    if let Some(place) = best.get_mut(place as usize) {
                        *place = number(start);
                    }
                }
                start += 1;
            } else {
                let rest = self.blocks.get(start..end).unwrap_or_default();
                let count = rest.partition_point(|block| slot(block.bits, offset) <= first);
                if let Some(place) = below.get_mut(first as usize) {
                    *place = (start, start + count);
                }
                start += count;
            }
        }
        let mut last = None;
        for (place, (best, range)) in best.into_iter().zip(below).enumerate() {
            if range.0 < range.1 {
                node.inner |= 1 << place;
                waiting.push_back((self.nodes.len(), range, offset + STRIDE, best));
                self.nodes.push(Node::default());
            } else if last != Some(best) {
                node.leaf |= 1 << place;
                self.leaves.push(best);
                last = Some(best);
            }
        }
        node
    }

    fn containing(&self, bits: u128, mut found: impl FnMut(Atom)) {
        let mut block = self.smallest(bits);
        while let Some(one) = self.blocks.get(block as usize) {
            found(one.atom);
            block = one.around;
        }
    }

    fn smallest(&self, bits: u128) -> u32 {
        let (mut at, mut offset) = (0_usize, 0_u32);
        while let Some(node) = self.nodes.get(at) {
            let bit = slot(bits, offset);
            let up_to = (2_u64 << bit).wrapping_sub(1);
            if node.inner & (1 << bit) == 0 {
                let before = (node.leaf & up_to).count_ones();
                let leaf = node.first_leaf as usize + (before as usize).wrapping_sub(1);
                return self.leaves.get(leaf).copied().unwrap_or(NONE);
            }
            at = node.first_inner as usize + (node.inner & up_to).count_ones() as usize - 1;
            offset += STRIDE;
        }
        NONE
    }
}

impl Block {
    fn holds(&self, bits: u128) -> bool {
        let mask = u128::MAX.checked_shl(128 - u32::from(self.length)).unwrap_or(0);
        bits & mask == self.bits
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::Ipv4Addr;
    use std::net::Ipv6Addr;

    use proptest::prelude::*;

    use super::*;

    fn block() -> impl Strategy<Value = Cidr> {
        // Few distinct bits, so that blocks lie in each other.
        let v4 = (prop_oneof![any::<u32>(), (0_u32..8).prop_map(|low| 0x0a00_0000 | low)], 0_u8..=32)
            .prop_map(|(bits, length)| format!("{}/{length}", Ipv4Addr::from_bits(bits)));
        let v6 = (prop_oneof![any::<u128>(), (0_u128..8).prop_map(|low| (0x2001 << 112) | low)], 0_u8..=128)
            .prop_map(|(bits, length)| format!("{}/{length}", Ipv6Addr::from_bits(bits)));
        prop_oneof![v4, v6].prop_map(|text| text.parse().unwrap())
    }

    proptest! {
        #[test]
        fn they_find_what_each_block_says_for_itself(
            blocks in proptest::collection::btree_set(block(), 0..40),
            others in proptest::collection::vec(block(), 1..10),
        ) {
            let blocks: Vec<Cidr> = blocks.into_iter().collect();
            let index = Blocks::new(blocks.iter().copied().zip(0..));
            for address in others.iter().chain(&blocks).map(Cidr::address) {
                let mut found = BTreeSet::new();
                index.containing(address, |atom| { found.insert(atom); });
                let expected = blocks.iter().zip(0..).filter(|(block, _)| block.contains(address));
                prop_assert_eq!(found, expected.map(|(_, atom)| atom).collect());
            }
        }
    }
}
