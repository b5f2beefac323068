//! The agent beside a proxy: it makes keys, has them certified, and serves what it got on a socket of its node.
//!
//! ```text
//! schedule: due? → new key + CSR → ca_client → chain in → verified secret → publish (roots first) → sds
//! ```

mod ca_client;
mod metrics;
mod renewal;
mod roots;
mod schedule;
mod socket;

pub use ca_client::Answer;
pub use ca_client::CaClient;
pub use ca_client::CaClientError;
pub use metrics::AgentMetrics;
pub use renewal::Renewal;
pub use renewal::RenewalError;
pub use roots::watch_file as watch_root_file;
pub use schedule::Due;
pub use schedule::Schedule;
pub use socket::Held as HeldSocket;
pub use socket::SocketError;
pub use socket::bind as bind_socket;
