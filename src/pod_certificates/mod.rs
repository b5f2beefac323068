//! Certificates for pods without any agent: answers `PodCertificateRequest`s (`certificates.k8s.io/v1`, Kubernetes 1.37).
//!
//! ```text
//! request → acceptable? → pod (watched, read freshly before a denial) → attest ─┐
//!     ┌─────────────────────────────────────────────────────────────────────────┘
//!     └→ life → verify csr → grant → prepare (lint) → sign → status, written once      (audit beside it)
//! ```
//!
//! The kubelet makes the key and the request, we sign, the kubelet mounts key and chain into the pod and asks again at
//! `beginRefreshAt`. One of several replicas works at a time: the leader.
//!
//! # What a request proves
//!
//! A kubelet's request has been compared with the live pod by the API server's NodeRestriction. **Anybody else who may
//! `create podcertificaterequests` in a namespace can name any of its pods and gets a certificate for that pod's service
//! account with a key of their own.** What we compare with the live pod (UID, service account, node, not being deleted) is
//! public to whoever may read pods, and the API server does not write down who made a request, so this cannot be told from
//! here. The permission must stay with kubelets; Kubernetes' own roles give it to nobody else.
//!
//! # What the signer promises
//!
//! - Subject: empty; the only name is the SPIFFE ID of the pod's service account, `spiffe://<trust domain>/ns/<namespace>/sa/<name>`.
//! - Usages: digital signature (and key encipherment for RSA); server and client authentication.
//! - Life: the shorter of `maxExpirationSeconds` and the CA's maximum, never beyond the issuer's end, and at least an hour.
//! - Keys: ECDSAP256, ECDSAP384, ED25519, RSA3072, RSA4096. Others are denied, as is every user annotation.
//! - Trust: the CA's bundle, which is not part of the chain.
//! - `Denied` is final for the pod, so only what will never be right is denied. `Failed` is never written: trouble of ours
//!   leaves a request pending, and it is tried again until it has an answer or is gone.
//!
//! `desk` knows what is to be done, and with `decide`, `times`, `queue` decides; `controller` and `worker` do it.

mod controller;
mod decide;
mod desk;
mod hindrance;
mod metrics;
mod queue;
mod request;
mod state;
mod status;
mod times;
mod troubles;
mod worker;

pub use controller::PodCertificates;
pub use metrics::PodCertificateMetrics;
pub use state::Board;
pub use state::State;
pub use times::PodProfile;
pub use times::TooShortForPods;
