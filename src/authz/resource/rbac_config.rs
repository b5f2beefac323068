//! Pure: what is written in a `ClusterRbacConfig` or `RbacConfig`? (the `rbac.istio.io/v1alpha1` of Istio up to 1.5)
//!
//! What cannot be read switches roles and bindings on everywhere, and so denies what they do not grant.

use crate::authz::resource::authorization_policy::MAX_VALUES;
use crate::authz::resource::authorization_policy::OBJECT;
use crate::authz::resource::place::Place;
use crate::authz::resource::role;
use crate::authz::resource::role::field;

/// The fields of the spec.
pub(crate) const SPEC: [&str; 4] = ["mode", "inclusion", "exclusion", "enforcementMode"];
/// The only name that counts.
pub(crate) const NAME: &str = "default";

const EFFECT: &str = "roles and bindings are switched on everywhere until it is corrected";

/// A `ClusterRbacConfig` or `RbacConfig`, as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RbacConfig {
    /// Where roles and bindings are switched on.
    pub mode: RbacMode,
    /// Whether they only say what they would deny (`PERMISSIVE`).
    pub is_permissive: bool,
}

/// Where roles and bindings are switched on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RbacMode {
    /// Nowhere.
    #[default]
    Off,
    /// Everywhere.
    On,
    /// Here only.
    Inclusion(Extent),
    /// Everywhere but here.
    Exclusion(Extent),
}

/// Part of a mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Names of services, in full.
    pub services: Vec<String>,
    /// Namespaces.
    pub namespaces: Vec<String>,
}

impl RbacConfig {
    /// Reads the spec of `object`.
    pub(crate) fn read(name: &str, object: &Place<'_>) -> Self {
        let object = object.or_else(EFFECT);
        if name != NAME {
            object.or_else("it is without effect").error(format!("only the one called `{NAME}` counts"));
        }
        let is_sound = object.has_only(&OBJECT);
        let Some(spec) = object.field("spec") else {
            return Self { mode: if is_sound { RbacMode::Off } else { RbacMode::On }, is_permissive: false };
        };
        let is_sound = role::has_only(&spec, &SPEC) && is_sound;
        let permissive = field(&spec, "enforcementMode").map_or(Some(false), |mode| {
            mode.or_else("it is enforced").one_of(&[("ENFORCED", false), ("PERMISSIVE", true)])
        });
        Self { mode: mode(&spec, is_sound), is_permissive: permissive.unwrap_or_default() }
    }
}

fn mode(spec: &Place<'_>, is_sound: bool) -> RbacMode {
    let modes = [("OFF", 0), ("ON", 1), ("ON_WITH_INCLUSION", 2), ("ON_WITH_EXCLUSION", 3)];
    let mode = match spec.field("mode") {
        Some(mode) => mode.one_of(&modes),
        None => is_sound.then_some(0),
    };
    let inclusion = extent(spec, "inclusion");
    let exclusion = extent(spec, "exclusion");
    match (mode, inclusion, exclusion) {
        // What is not known might have switched something on.
        (Some(0), _, _) if is_sound => RbacMode::Off,
        // What is not known might have been more to include.
        (Some(2), Some(inclusion), _) if is_sound => RbacMode::Inclusion(inclusion),
        (Some(3), _, Some(exclusion)) => RbacMode::Exclusion(exclusion),
        _ => RbacMode::On,
    }
}

fn extent(spec: &Place<'_>, name: &str) -> Option<Extent> {
    let Some(place) = spec.field(name) else { return Some(Extent::default()) };
    let is_sound = place.has_only(&["services", "namespaces"]);
    let (services, namespaces) = (names(&place, "services")?, names(&place, "namespaces")?);
    is_sound.then_some(Extent { services, namespaces })
}

fn names(place: &Place<'_>, name: &str) -> Option<Vec<String>> {
    let Some(list) = place.field(name) else { return Some(Vec::new()) };
    let read: Vec<Option<String>> =
        list.items(MAX_VALUES)?.iter().map(|item| item.text().map(str::to_owned)).collect();
    read.into_iter().collect()
}
