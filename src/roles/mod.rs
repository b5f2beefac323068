//! The processes: each builds its parts, connects them, waits, and drains.

pub mod agent;
pub mod ca;
mod ext_authz;
pub mod quickstart;
mod signals;

pub use signals::on_signal;
pub use signals::renew_on_hangup;
