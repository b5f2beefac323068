//! The Kubernetes store: one Secret that all replicas share, replaced by its resourceVersion.

use std::fmt;
use std::time::Duration;

use futures_util::Stream;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::Client;
use kube::api::ObjectMeta;
use kube::api::PostParams;
use zeroize::Zeroize;
use zeroize::Zeroizing;

use crate::authority::record::Record;
use crate::authority::store::Kept;
use crate::authority::store::Revision;
use crate::authority::store::Store;
use crate::authority::store::StoreError;
use crate::authority::store::Swap;
use crate::k8s;
use crate::k8s::Trouble;

/// The Secret's type, so that nobody mistakes it for one of another use.
const TYPE: &str = "burgrave.dev/authority";

/// How long a call may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A store in a Secret.
#[derive(Clone)]
pub struct KubernetesStore {
    secrets: Api<Secret>,
    namespace: String,
    name: String,
}

impl fmt::Debug for KubernetesStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KubernetesStore").field(&self.place()).finish()
    }
}

/// What a watch of the store tells.
#[derive(Debug)]
pub enum Change {
    /// This is kept now.
    Kept(Box<Kept>),
    /// What is kept cannot be used.
    Damaged(StoreError),
    /// Nothing is kept any more.
    Gone,
    /// The watch does not get on.
    Trouble(Trouble),
    /// The watch gets on again, and nothing has changed.
    Well,
}

impl KubernetesStore {
    /// The store in the Secret `name` of `namespace`.
    pub fn new(client: Client, namespace: &str, name: &str) -> Self {
        let secrets = Api::namespaced(client, namespace);
        Self { secrets, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// All changes from now on, beginning with what is there.
    pub fn watch(&self) -> impl Stream<Item = Change> + Send + use<> {
        let store = self.clone();
        let mut listed = true;
        k8s::watch(self.secrets.clone(), &k8s::named(&self.name)).filter_map(move |seen| {
            let change = match seen {
                k8s::Seen::Begins => {
                    listed = false;
                    None
                }
                k8s::Seen::There(secret) => {
                    listed = true;
                    Some(store.kept(secret).map_or_else(Change::Damaged, |kept| Change::Kept(Box::new(kept))))
                }
                k8s::Seen::Gone(mut secret) => {
                    forget(&mut secret);
                    Some(Change::Gone)
                }
                // A whole list without it: it went while we did not look.
                k8s::Seen::Complete => (!listed).then_some(Change::Gone),
                k8s::Seen::Trouble(trouble) => Some(Change::Trouble(trouble)),
                k8s::Seen::Well => Some(Change::Well),
            };
            std::future::ready(change)
        })
    }

    fn kept(&self, mut secret: Secret) -> Result<Kept, StoreError> {
        let revision = secret.metadata.resource_version.take().unwrap_or_default();
        let data = secret.data.take().unwrap_or_default();
        let parts = data.into_iter().map(|(name, value)| (name, Zeroizing::new(value.0))).collect();
        match Record::from_parts(&parts) {
            Ok(record) => Ok(Kept { record, revision: Revision(revision) }),
            Err(damage) => Err(StoreError::Damaged { place: self.place(), what: damage.to_string() }),
        }
    }

    fn secret(&self, over: Option<&Revision>, record: &Record) -> Secret {
        let data = record.to_parts().into_iter().map(|(name, value)| (name, ByteString(value.to_vec())));
        Secret {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                resource_version: over.map(|revision| revision.0.clone()),
                labels: Some(k8s::labels()),
                ..ObjectMeta::default()
            },
            type_: Some(TYPE.to_owned()),
            data: Some(data.collect()),
            ..Secret::default()
        }
    }

    async fn write(&self, over: Option<&Revision>, record: &Record) -> Result<Swap, StoreError> {
        let mut secret = self.secret(over, record);
        let params = PostParams::default();
        let written = match over {
            None => Trouble::within(TIMEOUT, self.secrets.create(&params, &secret)).await,
            Some(_) => Trouble::within(TIMEOUT, self.secrets.replace(&self.name, &params, &secret)).await,
        };
        forget(&mut secret);
        match written {
            Ok(written) => Ok(Swap::Done(Revision(written.metadata.resource_version.unwrap_or_default()))),
            // A missing namespace is no race: with nothing to replace, nobody can have been faster in taking it away.
            Err(trouble) if trouble.is_overtaken() && !(over.is_none() && trouble.is_absent()) => {
                Ok(Swap::Overtaken)
            }
            Err(source) => Err(StoreError::Api { place: self.place(), source }),
        }
    }
}

/// Overwrites what a Secret holds before its memory is given back.
fn forget(secret: &mut Secret) {
    secret.data.iter_mut().flatten().for_each(|(_, value)| value.0.zeroize());
}

impl Store for KubernetesStore {
    fn load(&self) -> BoxFuture<'_, Result<Option<Kept>, StoreError>> {
        Box::pin(async {
            // Without a resourceVersion this is read from etcd's quorum, not from a cache that may be late.
            match Trouble::within(TIMEOUT, self.secrets.get_opt(&self.name)).await {
                Ok(secret) => secret.map(|secret| self.kept(secret)).transpose(),
                Err(source) => Err(StoreError::Api { place: self.place(), source }),
            }
        })
    }

    fn swap<'a>(
        &'a self,
        over: Option<&'a Revision>,
        record: &'a Record,
    ) -> BoxFuture<'a, Result<Swap, StoreError>> {
        Box::pin(self.write(over, record))
    }

    fn place(&self) -> String {
        format!("Secret `{}/{}`", self.namespace, self.name)
    }
}
