//! Which root signs, which are trusted, and how do they change?
//!
//! Either self-signed roots, the first of them made at first start, kept in a [`Store`]: an embedded one in a state directory,
//! or a Secret that many replicas share. Or one plugged in from files. All end as an [`crate::signer::Issuer`], which exists only
//! if key, certificates and roots belong together. For the safe, all of it is sealed with a passphrase into a text.
//!
//! ```text
//! store ── empty? ── witness: is a root trusted already? ── yes: stop, and say how to restore
//!   │                                                    └─ no: make one, compare-and-swap, all take the first
//!   └───── kept ──── is it the trusted one? ── follow ── what the store says, each process does
//!
//! event + evidence ── gate: a proof, or whom it waits for ── machine: step ── compare-and-swap ── follow
//! ```
//!
//! `state`, `gate`, `machine` and `advance` decide; `keeper` writes what they decide, and `follow` takes over what is written,
//! whoever has written it.

mod advance;
mod age;
mod embedded;
mod follow;
mod gate;
mod keeper;
mod kubernetes;
mod machine;
#[cfg(test)]
mod model_tests;
mod plugged;
mod record;
mod sealed;
mod state;
mod state_dir;
mod store;
mod take;
#[cfg(test)]
mod test_support;
mod wire;
mod witness;

pub use advance::Next;
pub use advance::advance;
pub use advance::largest_leaf_lifetime_a_scheduled_rotation_never_cuts_short;
pub use advance::present_gate;
pub use advance::scheduled_rotation_begins;
pub use advance::window_that_asks_for_at_most;
pub use age::UnreadableAge;
pub use embedded::EmbeddedStore;
pub use follow::Complain;
pub use follow::Follower;
pub use follow::Held;
pub use follow::InForce;
pub use follow::Newest;
pub use gate::Distributed;
pub use gate::Evidence;
pub use gate::Gate;
pub use gate::Link;
pub use gate::Publication;
pub use gate::Reader;
pub use gate::ReaderKind;
pub use gate::Replica;
pub use gate::Unneeded;
pub use gate::Waiting;
pub use gate::distributed;
pub use gate::distribution;
pub use gate::reissue;
pub use gate::unneeded;
pub use keeper::Keeper;
pub use keeper::KeeperError;
pub use keeper::Step;
pub use kubernetes::Change;
pub use kubernetes::KubernetesStore;
pub use machine::Effect;
pub use machine::Event;
pub use machine::Refusal;
pub use machine::Terms;
pub use machine::phase;
pub use machine::step;
pub use plugged::Plugged;
pub use plugged::PluggedError;
pub use plugged::load_plugged;
pub use plugged::plugged;
pub use record::Damage;
pub use record::NewAuthority;
pub use record::NoNewRoot;
pub use record::Parts;
pub use record::Record;
pub use record::UnfitRecord;
pub use record::part;
pub use sealed::SealError;
pub use sealed::open;
pub use sealed::open_within;
pub use sealed::seal;
pub use state::Authority;
pub use state::AuthorityId;
pub use state::Kind;
pub use state::Outcome;
pub use state::Past;
pub use state::Rotation;
pub use state::Stage;
pub use state::State;
pub use state::Unsound;
pub use state_dir::StateDirError;
pub use state_dir::open_state_dir;
pub use store::Kept;
pub use store::Revision;
pub use store::Store;
pub use store::StoreError;
pub use store::Swap;
pub use take::AuthorityError;
pub use take::Origin;
pub use take::Taken;
pub use take::confirm;
pub use take::take;
pub use witness::Contradiction;
pub use witness::NoWitness;
pub use witness::Trusted;
pub use witness::TrustedBy;
pub use witness::Witness;
pub use witness::short;
