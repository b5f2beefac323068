//! The processes: each builds its parts, connects them, waits, and drains.

pub mod ca;
mod shutdown;

pub use shutdown::on_signal;
