//! The agent beside a proxy: it makes keys, has them certified, and serves what it got on a socket of its node. For its CA it
//! answers what all of its proxies use.
//!
//! ```text
//! schedule: due? → new key + CSR → ca_client → chain in → verified secret → publication (roots first) → sds → proxies
//!            ▲ moving: sooner?                                 ▲ roots: which?                              │
//!            └──────────── renewal ◄── heard ◄── upstream ◄────┼── CA (roots, and who ought to sign)        │
//!                                                 │ word ──────┼──► CA (ACK, NACK)                          │
//!                                                 └ verdict ◄──┴────────── who has answered what ◄──────────┘
//!
//! policies: upstream → heard → enforcement (authz): a bridge for each proxy → proxies → who has answered what → verdict
//! ```

mod backoff;
mod ca_client;
mod door;
mod enforcing;
mod heard;
mod line;
mod metrics;
mod moving;
mod policies;
mod publication;
mod renewal;
mod report;
mod root_file;
mod roots;
mod schedule;
mod socket;
#[cfg(test)]
pub(crate) mod test_support;
mod upstream;
mod verdict;
mod word;

pub use ca_client::Answer;
pub use ca_client::CaClient;
pub use ca_client::CaClientError;
pub use door::DoorError;
pub use enforcing::enforce;
pub use heard::Heard;
pub use metrics::AgentMetrics;
pub use policies::Policies;
pub use publication::Publication;
pub use renewal::Renewal;
pub use renewal::RenewalError;
pub use report::Upward;
pub use report::state;
pub use root_file::watch_file as watch_root_file;
pub use schedule::Due;
pub use schedule::Schedule;
pub use socket::Held as HeldSocket;
pub use socket::SocketError;
pub use socket::bind as bind_socket;
pub use upstream::Upstream;
pub use verdict::Patience;
