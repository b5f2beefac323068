//! Burgrave: a workload certificate authority and SDS secret service.
//!
//! # The flows
//!
//! ```text
//! CSR      service → attest → verify csr → grant → prepare (lint) → sign → chain out      (audit beside it)
//! secret   renewal due → new key + CSR → chain in → verified secret → version → push → ACK / NACK
//! pod      request → pod (watched) → attest → the same steps → status, written once
//! trust    issuer's roots → board: what is wrong where → write by the version that was seen
//! root     store → is it the trusted one? → issuer → follow
//! rotation order or age → step, with proof → compare-and-swap → follow → acknowledgements → proof
//! policy   object → resource → model → matcher → decision; the same, told to Envoy, over a bridge that no request falls from
//! ```
//!
//! # What always holds
//!
//! - A workload's private key is made by the agent and leaves it by one road, `sds/encode.rs`, over a socket of its node,
//!   to the proxy it was made for. No type that holds a key prints it.
//! - Nothing is signed that was not attested, granted, prepared and linted. The identity comes from the attestor, never
//!   from the CSR.
//! - The intent is on record before the signature, for the CA's own certificate too.
//! - A leaf never outlives its issuer.
//! - A root is in the store before it signs, and is never made anew while another one is trusted.
//! - Nothing signs with a root before all who count trust it, and no root leaves the bundle while one of them may need it, unless an
//!   operator said so by name. Each step is in the store before it is acted on.
//! - What is written to the cluster names the version it was decided on, and is written only while this process leads.
//! - A secret that is unchanged is never pushed; a NACK never loops; the last good secret stays served while the CA is away,
//!   until it expires.
//! - What of a policy cannot be read only ever reduces access, and is told with its path. Nobody is let in before all policies are
//!   known.
//! - Only `clock` reads the time. Only `config` knows the names of settings.
//!
//! # The map
//!
//! One folder a flow. A module imports only from those above it in this list, and a file that opens with `//! Pure:` touches
//! no socket, disk, clock, runtime or API client; `tests/architecture.rs` keeps both true.

pub mod proto;

pub mod clock;

pub mod chance;

pub mod telemetry;

pub mod k8s;

pub mod identity;

pub mod x509;

pub mod tls;

pub mod signer;

pub mod attest;

pub mod census;

pub mod issuance;

pub mod authority;

pub mod distribution;

pub mod pod_certificates;

pub mod sds;

pub mod authz;

pub mod rotation;

pub mod agent;

pub mod admin;

pub mod install;

pub mod config;

pub mod roles;

pub mod cli;
