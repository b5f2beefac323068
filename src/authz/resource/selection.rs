//! Pure: which workloads does an object select, as it is written? (selectors, and references to targets)

use std::collections::BTreeMap;

use crate::authz::resource::place::Place;
use crate::authz::resource::place::shown;

/// The most targets an object may name.
pub(crate) const MAX_TARGETS: usize = 16;

/// Labels that pods must have; without any, all pods are meant.
pub type Selector = BTreeMap<String, String>;

/// What an object selects within its scope: its namespace, or the whole mesh if it stands in the root namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Selection {
    /// All workloads.
    #[default]
    All,
    /// Workloads with these labels; there is at least one.
    Labels(Selector),
    /// What stands before these; there is at least one.
    Targets(Vec<Target>),
    /// It cannot be read. Whatever it may have meant, it is within the scope.
    Unreadable,
}

/// What a `targetRef` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// What kind of object.
    pub kind: TargetKind,
    /// Its name.
    pub name: String,
    /// Its namespace, if one is given.
    pub namespace: Option<String>,
}

/// The kinds of targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// `Gateway` of `gateway.networking.k8s.io`.
    Gateway,
    /// `GatewayClass` of `gateway.networking.k8s.io`.
    GatewayClass,
    /// `Service` of the core group.
    Service,
    /// `ServiceEntry` of `networking.istio.io`.
    ServiceEntry,
}

impl TargetKind {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "Gateway",
            Self::GatewayClass => "GatewayClass",
            Self::Service => "Service",
            Self::ServiceEntry => "ServiceEntry",
        }
    }
}

impl Selection {
    /// Reads `selector`, `targetRef` and `targetRefs` of a spec.
    pub(crate) fn read(spec: &Place<'_>) -> Self {
        let selector = spec.field("selector");
        let one = spec.field("targetRef");
        let several = spec.field("targetRefs");
        if let Some(second) = [selector, one, several].into_iter().flatten().nth(1) {
            second.error("an object has only one of `selector`, `targetRef` and `targetRefs`");
            return Self::Unreadable;
        }
        let read = match (selector, one, several) {
            (Some(selector), _, _) => labels(&selector),
            (_, Some(one), _) => target(&one).map(|target| Self::Targets(vec![target])),
            (_, _, Some(several)) => targets(&several),
            (None, None, None) => Some(Self::All),
        };
        read.unwrap_or(Self::Unreadable)
    }
}

fn labels(selector: &Place<'_>) -> Option<Selection> {
    if !selector.has_only(&["matchLabels"]) {
        return None;
    }
    let Some(labels) = selector.field("matchLabels") else { return Some(Selection::All) };
    let mut read = Selector::new();
    for (name, value) in labels.entries()? {
        let text = value.text_or_empty()?;
        if name.is_empty() || name.contains('*') || text.contains('*') {
            value.error(format!(
                "label `{}={}`: a name is needed, and `*` is no wildcard here",
                shown(name),
                shown(text)
            ));
            return None;
        }
        read.insert(name.to_owned(), text.to_owned());
    }
    Some(if read.is_empty() { Selection::All } else { Selection::Labels(read) })
}

fn targets(list: &Place<'_>) -> Option<Selection> {
    let targets: Vec<Target> = list.items(MAX_TARGETS)?.iter().map(target).collect::<Option<_>>()?;
    Some(if targets.is_empty() { Selection::All } else { Selection::Targets(targets) })
}

fn target(place: &Place<'_>) -> Option<Target> {
    if !place.has_only(&["group", "kind", "name", "namespace"]) {
        return None;
    }
    let text = |name| place.field(name).map_or(Some(""), |place| place.text_or_empty());
    let (group, kind, name, namespace) = (text("group")?, text("kind")?, text("name")?, text("namespace")?);
    let kind = match (group, kind) {
        ("gateway.networking.k8s.io", "Gateway") => TargetKind::Gateway,
        ("gateway.networking.k8s.io", "GatewayClass") => TargetKind::GatewayClass,
        ("" | "core", "Service") => TargetKind::Service,
        ("networking.istio.io", "ServiceEntry") => TargetKind::ServiceEntry,
        _ => {
            place.error(format!(
                "`{}` of group `{}` is no target; known are Gateway and GatewayClass of gateway.networking.k8s.io, Service of the core group, ServiceEntry of networking.istio.io",
                shown(kind),
                shown(group)
            ));
            return None;
        }
    };
    if name.is_empty() {
        place.error("has no `name`");
        return None;
    }
    let namespace = (!namespace.is_empty()).then(|| namespace.to_owned());
    Some(Target { kind, name: name.to_owned(), namespace })
}
