//! Pure: yes, no, or not to be told from what is known?

/// An answer; [`Truth::or`] is the greater of two, [`Truth::and`] the lesser.
///
/// What follows from it is never wrong, and sometimes less than could be known: of two questions that hang on the same unknown fact,
/// each counts as unknown for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Truth {
    /// It is not so, whatever is not known.
    No,
    /// It depends on what is not known.
    Unknown,
    /// It is so, whatever is not known.
    Yes,
}

impl Truth {
    /// Whether both are so.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        self.min(other)
    }

    /// Whether one of them is so.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        self.max(other)
    }

    /// Whether it is expected.
    #[must_use]
    pub fn is(self, expected: bool) -> Self {
        match (self, expected) {
            (Self::Yes, false) => Self::No,
            (Self::No, false) => Self::Yes,
            (same, _) => same,
        }
    }

    /// Whether each of them is so.
    pub fn all(answers: impl IntoIterator<Item = Self>) -> Self {
        answers.into_iter().fold(Self::Yes, Self::and)
    }

    /// Whether any of them is so.
    pub fn any(answers: impl IntoIterator<Item = Self>) -> Self {
        answers.into_iter().fold(Self::No, Self::or)
    }
}

impl From<bool> for Truth {
    fn from(is_so: bool) -> Self {
        if is_so { Self::Yes } else { Self::No }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unknown_decides_nothing_that_the_rest_decides() {
        use Truth::*;
        assert_eq!([Unknown.and(No), Unknown.or(Yes)], [No, Yes]);
        assert_eq!([Unknown.and(Yes), Unknown.or(No), Unknown.is(false)], [Unknown; 3]);
        assert_eq!([Yes.is(false), No.is(false), Yes.is(true)], [No, Yes, Yes]);
        assert_eq!([Truth::all([]), Truth::any([])], [Yes, No]);
    }
}
