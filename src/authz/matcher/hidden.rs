//! Pure: which policies of a compiled set do not count any more?

/// Some of the policies, by their places; a bit each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hidden {
    words: Vec<u64>,
    count: usize,
}

impl Hidden {
    /// Hides a policy.
    pub(crate) fn hide(&mut self, policy: u32) {
        let (word, bit) = (policy as usize / 64, 1_u64 << (policy % 64));
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        if let Some(word) = self.words.get_mut(word)
            && *word & bit == 0
        {
            *word |= bit;
            self.count += 1;
        }
    }

    /// Whether it is hidden.
    pub(crate) fn contains(&self, policy: u32) -> bool {
        self.words.get(policy as usize / 64).is_some_and(|word| word & (1 << (policy % 64)) != 0)
    }

    /// Whether none is.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }
}
