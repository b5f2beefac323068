//! Chance, where it only spreads work out or tells two of the same name apart. Serial numbers and keys have their own.

use ring::rand::SecureRandom;
use ring::rand::SystemRandom;

/// A random number from 0 up to but not including 1; the middle, if there is no randomness: whatever is spread by it may
/// come together, and nothing is signed then either.
pub fn draw() -> f64 {
    let mut octets = [0; 4];
    match SystemRandom::new().fill(&mut octets) {
        Ok(()) => f64::from(u32::from_be_bytes(octets)) / (f64::from(u32::MAX) + 1.0),
        Err(_) => 0.5,
    }
}

/// Eight hexadecimal digits.
pub fn tag() -> String {
    format!("{:08x}", (draw() * (f64::from(u32::MAX) + 1.0)) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_lie_between_zero_and_one_and_tags_differ() {
        let draws: Vec<_> = (0..100).map(|_| draw()).collect();
        assert!(draws.iter().all(|draw| (0.0..1.0).contains(draw)), "{draws:?}");
        assert_eq!(tag().len(), 8);
        assert_ne!(tag(), tag());
    }
}
