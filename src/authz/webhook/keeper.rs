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
/// The pause between two attempts to read the roots afresh.
const CATCH_UP_PAUSE: Duration = Duration::from_secs(1);

/// Keeps the configuration of that name fresh. Clones share where it is told how it stands.
#[derive(Clone)]
pub struct ConfigurationKeeper {
    /// Talks to the API server.
    pub client: Client,
    /// The `ValidatingWebhookConfiguration`.
    pub name: String,
    /// Where we run: an entry that leads elsewhere is another installation's.
    pub namespace: String,
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
        let mut wrong = Wrong::default();
        self.catch_up(&mut wrong).await;
        let api = Api::<ValidatingWebhookConfiguration>::all(self.client.clone());
        let mut shown = pin!(k8s::watch(api.clone(), &k8s::named(&self.name)));
        let mut held: Option<ValidatingWebhookConfiguration> = None;
        let mut failures = 0u32;
        loop {
            let retry = match &held {
                None => None,
                Some(known) => match self.write(&api, known).await {
                    Ok(Written::Nothing) => {
                        (wrong.object, failures) = (None, 0);
                        None
                    }
                    Ok(Written::NotOurs) => {
                        wrong.object = Some(self.missing());
                        None
                    }
                    Ok(Written::Now(now)) => {
                        held = Some(*now);
                        continue;
                    }
                    Err(trouble) => {
                        failures = failures.saturating_add(1);
                        let sentence = format!("ValidatingWebhookConfiguration `{}`: {trouble}", self.name);
                        wrong.object = Some(sentence);
                        Some(PAUSE.saturating_mul(1 << failures.min(10)).min(LONGEST_PAUSE))
                    }
                },
            };
            self.tell(&wrong);
            tokio::select! {
                Some(seen) = shown.next() => self.seen(seen, &mut held, &mut wrong),
                changed = self.issuer.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = pause(retry) => {}
            }
        }
    }

    fn seen(
        &self,
        seen: Seen<ValidatingWebhookConfiguration>,
        held: &mut Option<ValidatingWebhookConfiguration>,
        wrong: &mut Wrong,
    ) {
        wrong.watch = match &seen {
            Seen::Trouble(trouble) => {
                Some(format!("the watch of ValidatingWebhookConfiguration `{}`: {trouble}", self.name))
            }
            _ => None,
        };
        match seen {
            Seen::There(object) => *held = Some(object),
            Seen::Begins | Seen::Gone(_) => *held = None,
            Seen::Complete | Seen::Trouble(_) | Seen::Well => {}
        }
        if held.is_none() && wrong.watch.is_none() {
            wrong.object = Some(self.missing());
        }
    }

    /// A term begins with a fresh look: what this process knows of the roots may be older than what an earlier leader has written.
    async fn catch_up(&self, wrong: &mut Wrong) {
        while let Err(trouble) = (self.latest)().await {
            wrong.object = Some(format!("the roots for the webhook cannot be read afresh: {trouble}"));
            self.tell(wrong);
            tokio::time::sleep(CATCH_UP_PAUSE).await;
        }
        wrong.object = None;
    }

    /// Writes what is due.
    async fn write(
        &mut self,
        api: &Api<ValidatingWebhookConfiguration>,
        held: &ValidatingWebhookConfiguration,
    ) -> Result<Written, Trouble> {
        let bundle = self.issuer.borrow_and_update().bundle().to_pem();
        let patch = match stands(held, &self.namespace, &bundle) {
            Stands::Right => return Ok(Written::Nothing),
            Stands::NotOurs => return Ok(Written::NotOurs),
            Stands::Behind(patch) => Patch::Strategic(patch),
        };
        if !self.leadership.holds() {
            return Err(Trouble::NotLeading);
        }
        let params = PatchParams::default();
        let written = Trouble::within(TIMEOUT, api.patch(&self.name, &params, &patch)).await?;
        tracing::info!(name = self.name, "the webhook's configuration has the present roots");
        Ok(Written::Now(Box::new(written)))
    }

    fn missing(&self) -> String {
        format!(
            "there is no ValidatingWebhookConfiguration `{}` with an entry of ours, so bad policies are not refused; apply deploy/",
            self.name
        )
    }

    fn tell(&self, wrong: &Wrong) {
        let wrong = wrong.watch.as_ref().or(wrong.object.as_ref());
        self.trouble.send_if_modified(|told| {
            if told.as_ref() == wrong {
                return false;
            }
            match wrong {
                Some(error) => tracing::warn!(error, "the webhook's configuration is not as it should be"),
                None => tracing::info!("the webhook's configuration is as it should be"),
            }
            *told = wrong.cloned();
            true
        });
    }
}

/// What is wrong with the watch, and with what it shows.
#[derive(Default)]
struct Wrong {
    watch: Option<String>,
    object: Option<String>,
}

/// What was written.
enum Written {
    Nothing,
    /// Nothing, as there is no entry of ours to be written to.
    NotOurs,
    /// And this is there now.
    Now(Box<ValidatingWebhookConfiguration>),
}

async fn pause(length: Option<Duration>) {
    match length {
        Some(length) => tokio::time::sleep(length).await,
        None => std::future::pending().await,
    }
}

/// Whoever no longer leads no longer knows.
struct Forget(watch::Sender<Option<String>>);

impl Drop for Forget {
    fn drop(&mut self) {
        self.0.send_replace(None);
    }
}
