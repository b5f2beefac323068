//! A rotation from beginning to end: who has acknowledged what, what is done next, and what operators see and order.
//!
//! ```text
//! census (this replica) ──┐
//! exchange (the others) ──┤ known ── merge: evidence ── conductor: advance ──┐
//! distribution (leader) ──┘             │                                    ├─ keeper: step, compare-and-swap
//!                                       └── orders ◄── service ◄── operator ─┘
//! what is in force ── stream ── agents, whose acknowledgements are the census
//! ```

mod access;
mod audit;
mod bulletin;
mod conductor;
mod exchange;
mod graves;
mod known;
mod merge;
mod metrics;
mod orders;
mod pods;
mod policies;
pub mod report;
mod service;
mod shelf;
mod stream;
mod telling;

pub use access::GROUP;
pub use access::Guard;
pub use access::RESOURCE;
pub use bulletin::Bulletin;
pub use conductor::conduct;
pub use exchange::Exchange;
pub use exchange::Others;
pub use graves::look_for_the_gone;
pub use known::Memory;
pub use known::Sources;
pub use known::keep_bulletin;
pub use merge::Gathered;
pub use merge::Known;
pub use merge::Merged;
pub use merge::Patience;
pub use merge::evidence;
pub use merge::gather;
pub use merge::holders;
pub use metrics::RotationMetrics;
pub use orders::NewOrder;
pub use orders::NotDone;
pub use orders::Order;
pub use orders::Orders;
pub use orders::Troubles;
pub use orders::View;
pub use pods::Pods;

pub use policies::PolicyService;
pub use policies::Rulebooks;
pub use service::AdminService;
pub use service::Door;
pub use shelf::Shelf;
pub use stream::AgentService;
pub use stream::announce;
pub use stream::announcement;
