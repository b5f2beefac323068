//! A secret reaches Envoy and is acknowledged.
//!
//! ```text
//! secrets (verified) → offer: name → version ──┐
//!                                              ▼
//! Envoy ── request, ACK, NACK ──────► subscription: what to push, what was acknowledged
//!       ◄─ response (encode) ───────  discovery: does it, for `service` and for other types of resources
//! ```
//!
//! `subscription` decides and knows only names and versions; `discovery` does, whatever the type of the resources; `encode` is
//! the one road by which a private key leaves the process.

pub mod bootstrap;
mod client;
mod discovery;
mod ear;
mod encode;
mod metrics;
mod notice;
mod redact;
mod roll;
mod secret;
mod service;
mod subscribers;
mod subscription;
mod version;

pub use client::ClientError;
pub use client::connect;
pub use client::served;
pub use discovery::Discovery;
pub use discovery::Hello;
pub use discovery::Resources;
pub use discovery::Responses;
pub use discovery::Served;
pub use ear::Ear;
pub use encode::SECRET_TYPE;
pub use metrics::SdsMetrics;
pub use notice::InvalidNotice;
pub use notice::Notice;
pub use redact::redact;
pub use roll::Answer;
pub use roll::Standing;
pub use roll::Subscriber;
pub use secret::Identity;
pub use secret::Secrets;
pub use secret::Trust;
pub use secret::UnfitSecret;
pub use secret::names;
pub use service::SecretService;
pub use subscribers::Changes;
pub use subscribers::Subscribers;
pub use subscription::Effect;
pub use subscription::Event;
pub use subscription::Offer;
pub use subscription::Refusal;
pub use subscription::Request;
pub use subscription::Subscription;
pub use version::Version;
