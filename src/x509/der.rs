//! Pure: how is DER written, and how is it walked? (ITU-T X.690)
//!
//! The writer serves the leaf template, where every byte of the issuer's name and of the subject's
//! key must be copied as it stands; the reader serves the lint that looks at the template's output
//! before it is signed. Whole certificates from elsewhere are read by `x509-parser`, not by this.

/// DER tags that appear in certificates and requests.
pub mod tag {
    #![expect(missing_docs, reason = "the names are X.690's and RFC 5280's own")]
    pub const BOOLEAN: u8 = 0x01;
    pub const INTEGER: u8 = 0x02;
    pub const BIT_STRING: u8 = 0x03;
    pub const OCTET_STRING: u8 = 0x04;
    pub const OID: u8 = 0x06;
    pub const UTC_TIME: u8 = 0x17;
    pub const GENERALIZED_TIME: u8 = 0x18;
    pub const SEQUENCE: u8 = 0x30;
    /// `[3] EXPLICIT`, the extensions of a TBSCertificate.
    pub const CONTEXT_3: u8 = 0xa3;
    /// `[0] EXPLICIT`, the version of a TBSCertificate.
    pub const CONTEXT_0: u8 = 0xa0;
}

/// Appends one element: `tag`, the length of what `content` writes, and that content.
pub fn element(out: &mut Vec<u8>, tag: u8, content: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    let length_at = out.len();
    out.push(0);
    let start = out.len();
    content(out);
    let length = out.len() - start;
    match u8::try_from(length) {
        Ok(short @ 0..=0x7f) => {
            if let Some(octet) = out.get_mut(length_at) {
                *octet = short;
            }
        }
        _ => {
            let octets = length.to_be_bytes();
            let significant = octets.iter().skip_while(|octet| **octet == 0).copied();
            let count = significant.clone().count() as u8;
            out.splice(length_at..start, std::iter::once(0x80 | count).chain(significant));
        }
    }
}

/// Appends one element whose content is already at hand.
pub fn primitive(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    element(out, tag, |out| out.extend_from_slice(content));
}

/// A walk over consecutive DER elements. It never panics and never looks past its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(&'a [u8]);

/// One DER element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element<'a> {
    /// Its tag byte.
    pub tag: u8,
    /// Its content, without tag and length.
    pub content: &'a [u8],
    /// The whole of it, as it stands in the input.
    pub raw: &'a [u8],
}

/// The bytes are not the DER that was expected there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not well-formed DER")]
pub struct Malformed;

impl<'a> Reader<'a> {
    /// Starts to walk `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The tag of the next element, if there is one.
    pub fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// Takes the next element, whatever its tag.
    ///
    /// # Errors
    /// If the bytes end early, or a length is indefinite, not minimal or over four bytes.
    pub fn next_element(&mut self) -> Result<Element<'a>, Malformed> {
        let (&tag, rest) = self.0.split_first().ok_or(Malformed)?;
        let (&first, rest) = rest.split_first().ok_or(Malformed)?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f)).ok_or(Malformed)?;
                let length = bytes.iter().fold(0, |sum, b| sum << 8 | usize::from(*b));
                let minimal = bytes.first() != Some(&0) && length >= 0x80;
                if !minimal {
                    return Err(Malformed);
                }
                (length, rest)
            }
            _ => return Err(Malformed),
        };
        let (content, rest) = rest.split_at_checked(length).ok_or(Malformed)?;
        let (raw, _) = self.0.split_at(self.0.len() - rest.len());
        self.0 = rest;
        Ok(Element { tag, content, raw })
    }

    /// Takes the next element, which must have `tag`.
    ///
    /// # Errors
    /// If it has another tag, or as [`Reader::next_element`].
    pub fn expect(&mut self, tag: u8) -> Result<Element<'a>, Malformed> {
        match self.peek() {
            Some(found) if found == tag => self.next_element(),
            _ => Err(Malformed),
        }
    }

    /// Takes the next element and walks into it.
    ///
    /// # Errors
    /// As [`Reader::expect`].
    pub fn enter(&mut self, tag: u8) -> Result<Reader<'a>, Malformed> {
        Ok(Reader(self.expect(tag)?.content))
    }

    /// Ends the walk.
    ///
    /// # Errors
    /// If something is left.
    pub fn finish(self) -> Result<(), Malformed> {
        self.is_empty().then_some(()).ok_or(Malformed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_are_minimal() {
        for (length, header) in [
            (0, vec![0x04, 0]),
            (127, vec![0x04, 0x7f]),
            (128, vec![0x04, 0x81, 0x80]),
            (256, vec![0x04, 0x82, 1, 0]),
            (65536, vec![0x04, 0x83, 1, 0, 0]),
        ] {
            let mut out = Vec::new();
            primitive(&mut out, tag::OCTET_STRING, &vec![7; length]);
            assert_eq!(out[..header.len()], header);
            let element = Reader::new(&out).next_element().unwrap();
            assert_eq!(element.content.len(), length);
            assert_eq!(element.raw, out);
        }
    }

    #[test]
    fn sloppy_lengths_are_refused() {
        for bad in [
            &[0x04][..],
            &[0x04, 1],
            &[0x04, 0x80, 0, 0],
            &[0x04, 0x81, 1, 0],
            &[0x04, 0x82, 0, 0x80],
            &[0x04, 0x85, 0, 0, 0, 0, 0],
            &[0x04, 0xff],
        ] {
            assert_eq!(Reader::new(bad).next_element(), Err(Malformed), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_walked_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut reader = Reader::new(&bytes);
            while reader.next_element().is_ok() {}
        }
    }
}
