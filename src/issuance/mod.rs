//! CSR in, chain out.
//!
//! ```text
//! CSR    service → attest → verify csr → grant → prepare (lint) → sign → chain out
//!                                                   │ audit: the intent, before the signature
//! ```
//!
//! Each step's result is a type that only that step makes and the next one consumes, so "signed without being
//! checked" does not compile. `pipeline` has the steps in one function; `profile`, `grant` and `prepare` decide.

mod audit;
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
pub use pipeline::Issued;
pub use pipeline::Pipeline;
pub use pipeline::Refused;
pub use pipeline::Request;
pub use prepare::NotPrepared;
pub use prepare::Prepared;
pub use prepare::prepare;
pub use profile::InvalidProfile;
pub use profile::Profile;
pub use service::CertificateService;
pub use serving::ServingError;
pub use serving::ServingNames;
pub use serving::serving_certificate;
