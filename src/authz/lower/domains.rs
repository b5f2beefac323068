//! Pure: by which trust domains is a principal known?
//!
//! A mesh may have had other names, or be told under `cluster.local`; a policy that names one of them means all of them
//! (istio: `pilot/pkg/security/trustdomain`).

use crate::authz::workload::Mesh;

/// What stands for the mesh's own trust domain, whatever that is.
const LOCAL: &str = "cluster.local";

/// The trust domains that are one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Domains(Vec<String>);

impl Domains {
    /// Those of a mesh: its own first.
    pub(crate) fn of(mesh: &Mesh) -> Self {
        let own = mesh.trust_domain.as_str().to_owned();
        let mut all = vec![own];
        for alias in mesh.aliases.iter().filter(|alias| !alias.is_empty()) {
            if !all.contains(alias) {
                all.push(alias.clone());
            }
        }
        Self(all)
    }

    /// The principals that `principal` stands for, itself among them unless it names the mesh by a word for it.
    pub(crate) fn principals(&self, principal: &str) -> Vec<String> {
        let Some((domain, path)) = expandable(principal) else { return vec![principal.to_owned()] };
        if !self.is_own(domain) {
            return vec![principal.to_owned()];
        }
        let mut all: Vec<String> = Vec::new();
        for own in &self.0 {
            // `*.example/…` takes in `a.example` already.
            let domain = if is_suffix_of(domain, own) { domain } else { own };
            let expanded = format!("{domain}/{path}");
            if !all.contains(&expanded) {
                all.push(expanded);
            }
        }
        all
    }

    /// The trust domains that `domain` stands for. One with a wildcard stands for itself.
    pub(crate) fn domains(&self, domain: &str) -> Vec<String> {
        match self.0.iter().any(|own| own == domain) || (domain == LOCAL && !self.0.is_empty()) {
            true => self.0.clone(),
            false => vec![domain.to_owned()],
        }
    }

    fn is_own(&self, domain: &str) -> bool {
        !self.0.is_empty()
            && (domain == LOCAL || self.0.iter().any(|own| matches(domain, own) || matches(own, domain)))
    }
}

/// Trust domain and the rest of a principal, if it is one of those that are known by several: five segments, and not all domains.
fn expandable(principal: &str) -> Option<(&str, &str)> {
    let (domain, path) = principal.split_once('/')?;
    (domain != "*" && path.split('/').count() == 4).then_some((domain, path))
}

fn matches(pattern: &str, domain: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(suffix), _) => domain.ends_with(suffix),
        (None, Some(prefix)) => domain.starts_with(prefix),
        (None, None) => pattern == domain,
    }
}

fn is_suffix_of(pattern: &str, domain: &str) -> bool {
    pattern.strip_prefix('*').is_some_and(|suffix| domain.ends_with(suffix))
}
