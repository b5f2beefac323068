//! Watches the mounted root file: what is published there is heard of without waiting for the next renewal.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::x509::TrustBundle;

/// How often the file is looked at. A mounted ConfigMap is swapped by a symbolic link several levels up, which a look finds
/// and a watch of the file does not.
const LOOK: Duration = Duration::from_secs(2);

/// Sends the roots in the file at `path` whenever they have changed since the start, until `stop` is cancelled. What cannot be
/// read is as good as unchanged: each request to the CA says what is wrong with it.
pub async fn watch_file(path: PathBuf, changed: watch::Sender<Option<TrustBundle>>, stop: CancellationToken) {
    let mut known = tokio::fs::read(&path).await.unwrap_or_default();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let Ok(text) = tokio::fs::read(&path).await else { continue };
        if text == known {
            continue;
        }
        match TrustBundle::from_pem(&text) {
            Ok(roots) => drop(changed.send_replace(Some(roots))),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the root file has changed to something that is no bundle, and is not followed");
            }
        }
        known = text;
    }
}
