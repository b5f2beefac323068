//! Policies of a cluster: what is there, whom it concerns, and what is said of it in its status.

mod board;
mod kinds;
mod status;
mod workloads;
