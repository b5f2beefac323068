//! What went wrong between us and the API server, in one sentence, and whether to come again.

use std::future::Future;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use time::OffsetDateTime;

/// A call to the API server that came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// It took too long.
    #[error("the API server did not answer within {} s", .0.as_secs_f32())]
    Silent(Duration),
    /// It was not called: the right to write was lost.
    #[error("this process no longer leads")]
    NotLeading,
    /// It said no, or could not be reached.
    #[error("{}", sentence(.0))]
    Answer(#[from] Box<kube::Error>),
    /// A watch broke.
    #[error("{}", watch_sentence(.0))]
    Watch(#[from] Box<kube::runtime::watcher::Error>),
}

impl Trouble {
    /// Waits for `call` for no longer than `limit`.
    ///
    /// # Errors
    /// If it fails or takes longer.
    pub async fn within<T>(
        limit: Duration,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Self> {
        match tokio::time::timeout(limit, call).await {
            Ok(answer) => answer.map_err(|error| Self::Answer(Box::new(error))),
            Err(_) => Err(Self::Silent(limit)),
        }
    }

    /// Whether somebody else has written, made or removed the object since we read it.
    pub fn is_overtaken(&self) -> bool {
        matches!(self.code(), Some(404 | 409 | 410))
    }

    /// Whether we lack a rule.
    pub fn is_forbidden(&self) -> bool {
        self.code() == Some(403)
    }

    /// Whether the object, or its kind, is not there.
    pub fn is_absent(&self) -> bool {
        self.code() == Some(404)
    }

    /// Whether the API server will say the same to the same write, however often it is sent.
    pub fn is_final(&self) -> bool {
        matches!(self.code(), Some(400 | 413 | 422))
    }

    fn code(&self) -> Option<u16> {
        match self {
            Self::Answer(error) => match error.as_ref() {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            Self::Watch(error) => match error.as_ref() {
                kube::runtime::watcher::Error::InitialListFailed(kube::Error::Api(status))
                | kube::runtime::watcher::Error::WatchStartFailed(kube::Error::Api(status))
                | kube::runtime::watcher::Error::WatchFailed(kube::Error::Api(status))
                | kube::runtime::watcher::Error::WatchError(status) => Some(status.code),
                _ => None,
            },
            Self::Silent(_) | Self::NotLeading => None,
        }
    }
}

/// The API server's own words where it has some: they name the user, the verb and the object.
fn sentence(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => words(status),
        other => {
            let mut last: &dyn std::error::Error = other;
            while let Some(deeper) = last.source() {
                last = deeper;
            }
            format!("the API server cannot be reached: {last}")
        }
    }
}

fn words(status: &kube::core::Status) -> String {
    match status.code {
        403 => format!("{}; `burgrave install check` names the rules that are missing", status.message),
        _ if status.message.is_empty() => format!("the API server says {} {}", status.code, status.reason),
        _ => status.message.clone(),
    }
}

fn watch_sentence(error: &kube::runtime::watcher::Error) -> String {
    use kube::runtime::watcher::Error;
    match error {
        Error::InitialListFailed(error) | Error::WatchStartFailed(error) | Error::WatchFailed(error) => {
            sentence(error)
        }
        Error::WatchError(status) => words(status),
        Error::NoResourceVersion => "the API server's list has no resourceVersion".to_owned(),
    }
}

/// A moment as Kubernetes' types have it; beyond the year 9999 the last one that they have.
pub fn moment(at: OffsetDateTime) -> Timestamp {
    Timestamp::from_nanosecond(at.unix_timestamp_nanos()).unwrap_or(Timestamp::MAX)
}
