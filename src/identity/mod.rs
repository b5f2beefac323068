//! Who is it? Trust domains and SPIFFE IDs, refused at the edge unless the standard allows them.
//!
//! Everything here is a decision on text: past this folder an identity is well-formed.

mod spiffe_id;
mod trust_domain;

pub use spiffe_id::InvalidSpiffeId;
pub use spiffe_id::SpiffeId;
pub use trust_domain::InvalidTrustDomain;
pub use trust_domain::TrustDomain;
