//! Pure: which addresses does a block stand for? (Istio's `ipBlocks`: an address or a CIDR, IPv4 or IPv6)

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A block of addresses; bits behind the prefix are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    address: IpAddr,
    length: u8,
}

/// Why a text is no block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an address or CIDR; write it like `10.0.0.0/8`, `10.1.2.3` or `2001:db8::/32`")]
pub struct InvalidCidr(pub String);

impl Cidr {
    /// The first address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many leading bits count.
    pub fn length(&self) -> u8 {
        self.length
    }

    /// Whether `address` is in it. An IPv4 address in IPv6 form is an IPv4 address, as in Envoy.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => own.to_bits() == other.to_bits() & mask_v4(self.length),
            (IpAddr::V6(own), IpAddr::V6(other)) => own.to_bits() == other.to_bits() & mask_v6(self.length),
            _ => false,
        }
    }
}

fn mask_v4(length: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0)
}

fn mask_v6(length: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0)
}

impl FromStr for Cidr {
    type Err = InvalidCidr;

    /// Reads an address or CIDR. Bits behind the prefix are dropped, as Envoy does. A block of IPv4 addresses in IPv6 form is kept as
    /// it is, and holds nothing, as in Envoy.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidCidr(text.to_owned());
        let (address, length) = match text.split_once('/') {
            None => (text, None),
            Some((address, length)) => {
                if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err(invalid());
                }
                (address, Some(length.parse::<u8>().map_err(|_| invalid())?))
            }
        };
        match address.parse().map_err(|_| invalid())? {
            IpAddr::V4(address) => {
                let length = length.unwrap_or(32);
                let address = IpAddr::V4((address.to_bits() & mask_v4(length)).into());
                (length <= 32).then_some(Self { address, length }).ok_or_else(invalid)
            }
            IpAddr::V6(address) => {
                let length = length.unwrap_or(128);
                let address = IpAddr::V6((address.to_bits() & mask_v6(length)).into());
                (length <= 128).then_some(Self { address, length }).ok_or_else(invalid)
            }
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_holds_what_envoy_says_it_holds() {
        for (block, address, expected) in [
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.9.9.9/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("0.0.0.0/0", "255.1.2.3", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "10.0.0.1", false),
            ("::/0", "::ffff:10.0.0.1", false),
            ("::ffff:0:0/96", "::ffff:10.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
            ("2001:db8::/32", "2001:db8:1::", true),
            ("2001:db8::/32", "2001:db9::", false),
        ] {
            let block: Cidr = block.parse().unwrap();
            assert_eq!(block.contains(address.parse().unwrap()), expected, "{block} {address}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for bad in [
            "",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0",
            "a",
            "10.0.0.1/8/8",
            "10.0.0.0/ 8",
        ] {
            assert_eq!(bad.parse::<Cidr>(), Err(InvalidCidr(bad.to_owned())));
        }
    }
}
