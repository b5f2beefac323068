//! Where the policies of a cluster go to.

use std::fmt;

use crate::authz::resource::Resource;
use crate::authz::resource::ResourceId;
use crate::authz::resource::ResourceKind;

/// Takes policies as a watch shows them. Each call returns at once.
pub trait Sink: fmt::Debug + Send + Sync {
    /// The object is there, or has changed.
    fn set(&self, resource: Resource);

    /// The object is gone.
    fn remove(&self, id: &ResourceId);

    /// All objects of that kind are known by now. It may be said again, after a watch was broken; what has gone meanwhile was removed.
    fn complete(&self, kind: ResourceKind);
}

/// Nobody asks for policies here; they are watched for their statuses alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unheard;

impl Sink for Unheard {
    fn set(&self, _: Resource) {}

    fn remove(&self, _: &ResourceId) {}

    fn complete(&self, _: ResourceKind) {}
}
