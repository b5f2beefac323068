//! Trust reaches everyone: the roots, in every namespace and in the cluster.
//!
//! ```text
//! issuer's bundle ─┐
//! namespaces ──────┤ board (what is wrong where) ── write by the version that was seen ── done, or again later
//! ConfigMaps ──────┤
//! ClusterTrustBundle
//! ```
//!
//! Level-triggered: what counts is what is there, not who changed it. `board` decides, `publisher` does; only the leader runs
//! it. `survey` reads the same objects at start, as evidence of roots that are trusted already.

mod board;
mod objects;
mod publisher;
mod status;
mod survey;

pub use objects::Names;
pub use publisher::Publisher;
pub use status::Distribution;
pub use status::DistributionMetrics;
pub use status::Status;
pub use survey::ROOT_ANNOTATION;
pub use survey::Survey;
