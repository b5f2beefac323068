//! Keeps the roots in the webhook's configuration fresh: only our entry, by the version that was seen, and only on the leader.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::Api;
use kube::Client;
use kube::api::Patch;
use kube::api::PatchParams;
use tokio::sync::watch;

use crate::authz::webhook::configuration::Stands;
use crate::authz::webhook::configuration::stands;
use crate::distribution::Latest;
use crate::k8s;
use crate::k8s::Leadership;
use crate::k8s::Seen;
use crate::k8s::Trouble;
use crate::signer::Issuer;

/// How long a write may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The pause after a failure; each further one is twice as long, up to the longest.
const PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// Keeps the configuration of that name fresh. Clones share where it is told how it stands.
#[derive(Clone)]
pub struct ConfigurationKeeper {
    /// Talks to the API server.
    pub client: Client,
    /// The `ValidatingWebhookConfiguration`.
    pub name: String,
    /// Whose roots our certificate can be verified with.
    pub issuer: watch::Receiver<Arc<Issuer>>,
    /// Whether this process may write.
    pub leadership: Leadership,
    /// Makes sure that `issuer` is the latest there is.
    pub latest: Latest,
    /// What is wrong, if anything.
    pub trouble: watch::Sender<Option<String>>,
}

impl fmt::Debug for ConfigurationKeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigurationKeeper").field("name", &self.name).finish_non_exhaustive()
    }
}

impl ConfigurationKeeper {
    /// Keeps it fresh until it is dropped.
    pub async fn run(mut self) {
        let _forget = Forget(self.trouble.clone());
        self.catch_up().await;
        let api = Api::<ValidatingWebhookConfiguration>::all(self.client.clone());
        let mut shown = pin!(k8s::watch(api.clone(), &k8s::named(&self.name)));
        let mut held: Option<ValidatingWebhookConfiguration> = None;
        let (mut is_listing, mut failures) = (false, 0u32);
        loop {
            let written = match &held {
                Some(held) => self.write(&api, held).await,
                None => Ok(None),
            };
            let retry = match written {
                Ok(Some(now)) => {
                    (held, failures) = (Some(now), 0);
                    None
                }
                Ok(None) => None,
                Err(trouble) => {
                    failures = failures.saturating_add(1);
                    self.tell(format!("ValidatingWebhookConfiguration `{}`: {trouble}", self.name));
                    Some(PAUSE.saturating_mul(1 << failures.min(10)).min(LONGEST_PAUSE))
                }
            };
            tokio::select! {
                Some(seen) = shown.next() => match seen {
                    Seen::Begins => (held, is_listing) = (None, true),
                    Seen::There(object) => held = Some(object),
                    Seen::Gone(_) => {
                        held = None;
                        self.missing();
                    }
                    Seen::Complete => {
                        if held.is_none() && is_listing {
                            self.missing();
                        }
                        is_listing = false;
                    }
                    Seen::Trouble(trouble) => {
                        self.tell(format!("the watch of ValidatingWebhookConfiguration `{}`: {trouble}", self.name));
                    }
                    Seen::Well => {}
                },
                changed = self.issuer.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = async { match retry {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                } } => {}
            }
        }
    }

    /// A term begins with a fresh look: what this process knows of the roots may be older than what an earlier leader has written.
    async fn catch_up(&self) {
        while let Err(trouble) = (self.latest)().await {
            self.tell(format!("the roots for the webhook cannot be read afresh: {trouble}"));
            tokio::time::sleep(LONGEST_PAUSE / 20).await;
        }
    }

    /// Writes what is due; returns what is there afterwards if anything was.
    async fn write(
        &mut self,
        api: &Api<ValidatingWebhookConfiguration>,
        held: &ValidatingWebhookConfiguration,
    ) -> Result<Option<ValidatingWebhookConfiguration>, Trouble> {
        let bundle = self.issuer.borrow_and_update().bundle().to_pem();
        match stands(held, &bundle) {
            Stands::Right => {
                self.trouble.send_if_modified(|trouble| trouble.take().is_some());
                Ok(None)
            }
            Stands::NotOurs => {
                self.missing();
                Ok(None)
            }
            Stands::Behind(patch) => {
                if !self.leadership.holds() {
                    return Err(Trouble::NotLeading);
                }
                let (params, patch) = (PatchParams::default(), Patch::Strategic(patch));
                let written = Trouble::within(TIMEOUT, api.patch(&self.name, &params, &patch)).await?;
                tracing::info!(name = self.name, "the webhook's configuration has the present roots");
                Ok(Some(written))
            }
        }
    }

    fn missing(&self) {
        self.tell(format!(
            "there is no ValidatingWebhookConfiguration `{}` with an entry of ours, so bad policies are not refused; apply deploy/",
            self.name
        ));
    }

    fn tell(&self, wrong: String) {
        self.trouble.send_if_modified(|told| {
            let is_news = told.as_ref() != Some(&wrong);
            if is_news {
                tracing::warn!(error = wrong, "the webhook's configuration is not as it should be");
                *told = Some(wrong);
            }
            is_news
        });
    }
}

/// Whoever no longer leads no longer knows.
struct Forget(watch::Sender<Option<String>>);

impl Drop for Forget {
    fn drop(&mut self) {
        self.0.send_replace(None);
    }
}
