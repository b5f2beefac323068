//! Pure: what is written in a `PeerAuthentication`?
//!
//! Where a mode cannot be read, mutual TLS is asked for; where it is not known whom or which port a mode is for, at all workloads
//! of the scope and on all ports.

use std::collections::BTreeMap;

use crate::authz::mtls::MtlsMode;
use crate::authz::resource::authorization_policy::OBJECT;
use crate::authz::resource::place::Place;
use crate::authz::resource::place::shown;
use crate::authz::resource::selection::Selection;

/// The fields of the spec.
pub(crate) const SPEC: [&str; 3] = ["selector", "mtls", "portLevelMtls"];

const OF_MODE: &str = "mutual TLS is required there until it is corrected";
const OF_ALL: &str = "mutual TLS is required at all workloads that it is for until it is corrected";
const OF_SCOPE: &str = "mutual TLS is required at all workloads of its scope until it is corrected";

/// A `PeerAuthentication`, as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerAuthentication {
    /// Which workloads it is for.
    pub selection: Selection,
    /// What it asks of callers; `None` leaves it to the namespace or the mesh.
    pub mode: Option<MtlsMode>,
    /// What it asks on single ports; `None` leaves it to the mode.
    pub ports: BTreeMap<u16, Option<MtlsMode>>,
}

impl PeerAuthentication {
    /// Reads the spec of `object`.
    pub(crate) fn read(object: &Place<'_>) -> Self {
        let object = object.or_else(OF_ALL);
        let is_sound = object.has_only(&OBJECT);
        let Some(spec) = object.field("spec") else {
            return Self { mode: (!is_sound).then_some(MtlsMode::Strict), ..Self::default() };
        };
        let is_sound = spec.has_only(&SPEC) && is_sound;
        let selection = Selection::read(&spec.or_else(OF_SCOPE));
        let mode = spec.field("mtls").and_then(|mtls| mode(&mtls.or_else(OF_MODE)));
        let list = spec.field("portLevelMtls");
        let ports = list.as_ref().map_or(Some(BTreeMap::new()), |list| ports(list, &selection));
        match ports {
            Some(ports) if is_sound && selection != Selection::Unreadable => Self { selection, mode, ports },
            _ => Self { selection, mode: Some(MtlsMode::Strict), ports: BTreeMap::new() },
        }
    }
}

/// The mode in `mtls`, `None` if it is left open.
fn mode(mtls: &Place<'_>) -> Option<MtlsMode> {
    if !mtls.has_only(&["mode"]) {
        return Some(MtlsMode::Strict);
    }
    let modes = [
        ("UNSET", None),
        ("DISABLE", Some(MtlsMode::Disable)),
        ("PERMISSIVE", Some(MtlsMode::Permissive)),
        ("STRICT", Some(MtlsMode::Strict)),
    ];
    mtls.field("mode")?.one_of(&modes).unwrap_or(Some(MtlsMode::Strict))
}

fn ports(list: &Place<'_>, selection: &Selection) -> Option<BTreeMap<u16, Option<MtlsMode>>> {
    let mut ports = BTreeMap::new();
    let entries = list.entries()?;
    if entries.is_empty() {
        list.or_else("").warning("is empty, and says nothing");
    }
    for (name, place) in entries {
        let is_number = name.bytes().all(|byte| byte.is_ascii_digit());
        let Some(port) = name.parse::<u16>().ok().filter(|port| is_number && *port != 0) else {
            place.error(format!("`{}` is no port; write a number from 1 to 65535", shown(name)));
            return None;
        };
        let place = place.or_else(OF_MODE);
        let mode = mode(&place);
        match selection {
            Selection::All => {
                place.error("single ports are only for objects with a `selector`");
                ports.insert(port, Some(MtlsMode::Strict));
            }
            _ => {
                ports.insert(port, mode);
            }
        }
    }
    Some(ports)
}
