//! A rotation from beginning to end: who has acknowledged what, what is done next, and what operators see and order.

mod bulletin;
mod merge;
pub mod report;

pub use bulletin::Bulletin;
pub use merge::Known;
pub use merge::Merged;
pub use merge::Patience;
pub use merge::evidence;
pub use merge::holders;
