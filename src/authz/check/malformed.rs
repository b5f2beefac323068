//! Pure: why is there nothing to be said of a question?

/// What is wrong with a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedCheck {
    /// It lacks what every question has.
    #[error("the check lacks `{0}`")]
    Missing(&'static str),
    /// An address is none.
    #[error("the check's `{0}` is not an address with a port")]
    Address(&'static str),
    /// The peer's certificate cannot be read, or has a name with control characters.
    #[error("the peer's certificate cannot be read")]
    Certificate,
    /// The path is none that a proxy lets through.
    #[error("the request's path has control characters or a fragment, or does not begin with `/`")]
    Path,
}
