//! Pure: which request do people mean, by how they have it: described, as a curl line, or as a line of an access log?
//!
//! Each says some of it. What it does not say is not known, and stays so until somebody adds it ([`Described::onto`]).

pub mod access_log;
pub mod cases;
pub mod curl;
pub mod described;
pub mod shell;
pub mod token;
pub mod unread;
pub mod workload;

pub use crate::authz::recorded::access_log::Logged;
pub use crate::authz::recorded::described::Described;
pub use crate::authz::recorded::unread::Unread;
