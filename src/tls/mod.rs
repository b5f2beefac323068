//! TLS ends of our own: a listener whose certificate can be swapped, and a peer that is known by its SPIFFE ID.

mod acceptor;
mod hot;
mod peer;

pub use acceptor::Accepted;
pub use acceptor::incoming;
pub use acceptor::incoming_up_to;
pub use hot::HotCertificate;
pub use peer::spiffe_client;
