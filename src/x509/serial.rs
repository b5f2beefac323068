//! Which serial number does the next certificate get?

use ring::rand::SecureRandom;
use ring::rand::SystemRandom;

use crate::x509::certificate::SerialNumber;

/// The operating system gave no randomness.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gave no randomness for a serial number")]
pub struct NoRandomness;

/// Draws a serial number: 16 octets of which 126 bits are random, positive and always of the same length.
///
/// The chance that any two of 10¹² certificates share one is below 10⁻¹⁴, however many replicas draw them
/// (the CA/Browser Forum asks for 64 bits).
///
/// # Errors
/// If the operating system gives no randomness.
pub fn draw() -> Result<SerialNumber, NoRandomness> {
    let mut octets = [0; 16];
    SystemRandom::new().fill(&mut octets).map_err(|_| NoRandomness)?;
    octets[0] = octets[0] & 0x7f | 0x40;
    Ok(SerialNumber::new(octets.to_vec()))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn serial_numbers_are_positive_of_one_length_and_never_repeat() {
        let drawn: HashSet<_> = (0..20_000).map(|_| draw().unwrap()).collect();
        assert_eq!(drawn.len(), 20_000);
        assert!(drawn.iter().all(|serial| serial.as_bytes().len() == 16));
        assert!(drawn.iter().all(|serial| serial.as_bytes()[0] & 0xc0 == 0x40));
    }
}
