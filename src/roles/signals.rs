//! What signals mean: SIGTERM and SIGINT to stop, SIGHUP to renew.

use std::io;
use std::sync::Arc;

use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// A token that is cancelled at the first SIGTERM or SIGINT.
///
/// # Errors
/// If the operating system does not let us hear signals.
pub fn on_signal() -> io::Result<CancellationToken> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let heard = stop.clone();
    tokio::spawn(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "stopping: no new work is taken, work under way is finished");
        heard.cancel();
    });
    Ok(stop)
}

/// Tells `renew` at each SIGHUP.
///
/// # Errors
/// If the operating system does not let us hear signals.
pub fn renew_on_hangup(renew: Arc<Notify>) -> io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            renew.notify_one();
        }
    });
    Ok(())
}
