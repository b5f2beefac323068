//! The policies of a cluster: what is there, whom it concerns, and what is said of it in its status.
//!
//! ```text
//! seven kinds ─┬─ desk (what of that is news?) ─► library
//!              └─ board (whose status is behind?) ── write by the version that was seen ── done, or again later
//! pods, services ─► workloads ─► directory, and reach (how many workloads has each policy?) ─► board
//! ```
//!
//! Every replica watches, so that each can tell its agents what applies to them; the leader alone writes. A kind that the cluster does
//! not serve holds nobody up.

mod board;
mod controller;
mod desk;
mod directory;
mod kind_watch;
mod kinds;
mod reach;
mod standing;
mod status;
mod troubles;
mod workloads;
mod writer;

pub use controller::Policies;
pub use directory::Directory;
pub use standing::Notice;
pub use standing::OfKind;
pub use standing::PolicyMetrics;
pub use standing::Standing;
pub(crate) use workloads::workload_among;
