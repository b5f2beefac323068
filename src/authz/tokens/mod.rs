//! Who is the end user? The tokens (JWT) that `RequestAuthentication` asks for, verified by the keys that their issuers publish.
//!
//! ```text
//! policy: issuer, keys at a URI → key book ──► keeper → fetch → key set ─┐ (last good one, until it is too old)
//! request → places → tokens → verify ◄───────────────────────────────────┘
//!                               └► claims, or why not
//! ```
//!
//! A request without a token is no fault; one with a token that is not good is refused, whatever policies say. Without keys no
//! token is good: there are no keys to fall back to (CVE-2026-31837).

mod calendar;
mod fetch;
mod issuer;
mod keeper;
mod key_book;
mod key_set;
mod place;
#[cfg(test)]
pub(crate) mod test_support;
mod verify;

pub use crate::authz::tokens::calendar::Times;
pub use crate::authz::tokens::fetch::FetchError;
pub use crate::authz::tokens::fetch::Fetcher;
pub use crate::authz::tokens::fetch::UnusableRoots;
pub use crate::authz::tokens::issuer::Issuer;
pub use crate::authz::tokens::issuer::Keys;
pub use crate::authz::tokens::keeper::Keeper;
pub use crate::authz::tokens::key_book::KeyBook;
pub use crate::authz::tokens::key_book::Published;
pub use crate::authz::tokens::key_set::KeySet;
pub use crate::authz::tokens::key_set::UnusableKeySet;
pub use crate::authz::tokens::place::Place;
pub use crate::authz::tokens::verify::BadToken;
pub use crate::authz::tokens::verify::Verified;
pub use crate::authz::tokens::verify::verify;
