//! CSR in, chain out.
//!
//! ```text
//! CSR    service → attest → verify csr → grant → prepare (lint) → sign → chain out
//!                                                   │ audit: the intent, before the signature
//! ```
//!
//! Each step's result is a type that only that step makes and the next one consumes, so "signed without being
//! checked" does not compile. `pipeline` has the steps: who attests differs, everything after it is [`issue_to`] for the
//! certificate service here and for the pod certificates of `pod_certificates`. `profile`, `grant` and `prepare` decide.

pub(crate) mod audit;
mod grant;
mod metrics;
mod pipeline;
mod prepare;
mod profile;
mod service;
mod serving;

pub use grant::Grant;
pub use grant::GrantPolicy;
pub use grant::NotGranted;
pub use metrics::IssuanceMetrics;
pub use pipeline::Asked;
pub use pipeline::Encoded;
pub use pipeline::Issued;
pub use pipeline::Pipeline;
pub use pipeline::Refused;
pub use pipeline::Request;
pub use pipeline::issue_to;
pub use prepare::NotPrepared;
pub use prepare::Prepared;
pub use prepare::prepare;
pub use profile::InvalidProfile;
pub use profile::Profile;
pub use service::CertificateService;
pub use service::bearer_token;
pub use serving::ServingError;
pub use serving::ServingNames;
pub use serving::serving_certificate;
