//! Which root signs, and where is it kept?
//!
//! Either a self-signed one, made at first start and kept in a [`Store`]: an embedded one in a state directory, or a Secret
//! that many replicas share. Or one plugged in from files. All end as an [`crate::signer::Issuer`], which exists only if key,
//! certificates and roots belong together. For the safe, one is sealed with a passphrase into a text.
//!
//! ```text
//! store ── empty? ── witness: is a root trusted already? ── yes: stop, and say how to restore
//!   │                                                    └─ no: make one, compare-and-swap, all take the first
//!   └───── kept ──── is it the trusted one? ── follow ── trusted roots change at once, the signing root never by itself
//! ```

mod age;
mod embedded;
mod evidence;
mod follow;
mod kubernetes;
mod plugged;
mod record;
mod sealed;
mod state_dir;
mod store;
mod take;

pub use age::UnreadableAge;
pub use embedded::EmbeddedStore;
pub use evidence::Contradiction;
pub use evidence::NoWitness;
pub use evidence::Trusted;
pub use evidence::TrustedBy;
pub use evidence::Witness;
pub use evidence::short;
pub use follow::Complain;
pub use follow::Follower;
pub use follow::Newest;
pub use kubernetes::Change;
pub use kubernetes::KubernetesStore;
pub use plugged::PluggedError;
pub use plugged::load_plugged;
pub use record::NoNewRoot;
pub use record::Record;
pub use record::UnfitRecord;
pub use sealed::SealError;
pub use sealed::open;
pub use sealed::open_within;
pub use sealed::seal;
pub use state_dir::StateDirError;
pub use state_dir::open_state_dir;
pub use store::Kept;
pub use store::Revision;
pub use store::Store;
pub use store::StoreError;
pub use store::Swap;
pub use take::AuthorityError;
pub use take::Origin;
pub use take::confirm;
pub use take::take;
