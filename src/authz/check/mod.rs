//! Envoy's question (`envoy.service.auth.v3.Authorization/Check`) as a request to rule on, and the ruling as its answer.
//!
//! ```text
//! CheckRequest → ask → Asked → judge → Ruling → answer → CheckResponse
//! ```

mod answer;
mod ask;
mod malformed;
mod metadata;
mod peer;

pub use crate::authz::check::answer::DECISION;
pub use crate::authz::check::answer::REASON;
pub use crate::authz::check::answer::Wording;
pub use crate::authz::check::answer::answer;
pub use crate::authz::check::ask::Asked;
pub use crate::authz::check::ask::Trusted;
pub use crate::authz::check::malformed::MalformedCheck;
