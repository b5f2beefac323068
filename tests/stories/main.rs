//! Stories: the real `burgrave` beside a real etcd, a real kube-apiserver and, where one is told, a real Envoy.
//!
//! A test's name is a sentence that is true when it passes. Nothing is skipped: a part that is missing fails the story.

#![allow(
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a story waits by the real clock, points at what it has just made, and fails by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

/// How a story puts an Envoy that asks before a workload.
mod asking;
/// How a story runs and asks `burgrave ca`.
mod ca;
/// How a story makes requests and certificates that Burgrave itself would never make.
mod crafted;
/// How a story gets a cluster for replicas to live in.
mod home;
/// How a story runs workloads with an agent and an Envoy each.
mod mesh;
/// How a story types what an operator types.
mod operator;
/// How a story gives orders.
mod orders;
/// How a story runs the signer of pod certificates, and asks it as a kubelet does.
mod pod_signer;
/// How a story rotates the root under requests.
mod traffic;

mod absent;
mod agent;
mod agreement;
mod chains;
mod crash;
mod envoys;
mod ext_authz;
mod filters;
mod hindered;
mod install;
mod operating;
mod operators;
mod plugged_in;
mod pod_certificates;
mod policies_live;
mod policy_cli;
mod policy_cluster;
mod publishing;
mod quickstart;
mod refusals;
mod replicas;
mod requests;
mod rights;
mod rotation;
mod shared;
mod turned_back;
mod ways_in;
