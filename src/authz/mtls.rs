//! Pure: may callers of a workload speak plain text?

use std::collections::BTreeMap;

/// What is asked of callers, by port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mtls {
    /// What is asked on all other ports.
    pub mode: MtlsMode,
    /// Ports, of the workload, where something else is asked.
    pub ports: BTreeMap<u16, MtlsMode>,
}

/// What is asked of callers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MtlsMode {
    /// Plain text only.
    Disable,
    /// Mutual TLS or plain text.
    #[default]
    Permissive,
    /// Mutual TLS only.
    Strict,
}

impl Mtls {
    /// What is asked on a port.
    pub fn at(&self, port: u16) -> MtlsMode {
        self.ports.get(&port).copied().unwrap_or(self.mode)
    }
}

impl MtlsMode {
    /// As the object says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "DISABLE",
            Self::Permissive => "PERMISSIVE",
            Self::Strict => "STRICT",
        }
    }
}
