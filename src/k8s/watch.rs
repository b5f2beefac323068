//! A watch that does not end: what is there, then what changes; and what is wrong, as long as it is.

use std::fmt::Debug;

use futures_util::Stream;
use futures_util::StreamExt;
use kube::Api;
use kube::Resource;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher;
use serde::de::DeserializeOwned;

use crate::k8s::trouble::Trouble;

/// What a watch tells.
#[derive(Debug)]
pub enum Seen<K> {
    /// All that follows until [`Seen::Complete`] is the whole list; what is not in it is gone.
    Begins,
    /// The object is there, or has changed.
    There(K),
    /// The object is gone.
    Gone(K),
    /// The list is complete; from here on there are only changes.
    Complete,
    /// It does not get on, for this reason; it goes on trying, with ever longer pauses of up to half a minute.
    Trouble(Trouble),
}

/// Watches the objects of `api` whose fields match `fields` (all if it is empty).
///
/// It survives closed streams, expired versions and an API server that is away.
pub fn watch<K>(api: Api<K>, fields: &str) -> impl Stream<Item = Seen<K>> + Send + use<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    // The API server closes a watch after at most this time; without it a connection that hangs would look quiet.
    let config = watcher::Config::default().fields(fields).timeout(290);
    watcher::watcher(api, config).default_backoff().map(|event| match event {
        Ok(watcher::Event::Init) => Seen::Begins,
        Ok(watcher::Event::InitApply(object) | watcher::Event::Apply(object)) => Seen::There(object),
        Ok(watcher::Event::InitDone) => Seen::Complete,
        Ok(watcher::Event::Delete(object)) => Seen::Gone(object),
        Err(error) => Seen::Trouble(Trouble::Watch(Box::new(error))),
    })
}

/// The field selector of one object.
pub fn named(name: &str) -> String {
    format!("metadata.name={name}")
}
