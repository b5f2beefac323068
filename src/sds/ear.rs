//! Who hears what happens on one stream.

use std::fmt::Debug;

use crate::sds::version::Version;

/// Hears what happens on one stream, from its beginning until it is dropped.
pub trait Ear: Debug + Send + Sync {
    /// The other end has said what it is called.
    fn called(&self, node: &str);

    /// This was sent.
    fn pushed(&self, name: &str, version: &Version);

    /// It was taken, or refused with a reason that is fit to be written down.
    fn answered(&self, name: &str, version: &Version, answer: Result<(), &str>);
}
