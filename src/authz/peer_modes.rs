//! Pure: which of several `PeerAuthentication`s counts at a workload? (istio: `ComposePeerAuthentication`)

use std::collections::BTreeMap;

use time::OffsetDateTime;

use crate::authz::mtls::Mtls;
use crate::authz::mtls::MtlsMode;
use crate::authz::resource::PeerAuthentication;
use crate::authz::resource::Resource;
use crate::authz::resource::ResourceId;
use crate::authz::resource::Selection;
use crate::authz::workload::Mesh;

/// The objects that are for one workload.
#[derive(Debug, Default)]
pub(crate) struct Modes<'a> {
    mesh: Option<Candidate<'a>>,
    namespace: Option<Candidate<'a>>,
    workload: Option<Candidate<'a>>,
}

type Candidate<'a> = (Option<OffsetDateTime>, &'a ResourceId, &'a PeerAuthentication);

impl<'a> Modes<'a> {
    /// Takes one in that is for the workload.
    pub(crate) fn add(&mut self, resource: &'a Resource, written: &'a PeerAuthentication, mesh: &Mesh) {
        let is_of_mesh = resource.id.namespace == mesh.root_namespace;
        let place = match (&written.selection, is_of_mesh) {
            (Selection::All, true) => &mut self.mesh,
            (Selection::All, false) => &mut self.namespace,
            // Of the root namespace, only what is for all counts; what cannot be read is for all.
            (Selection::Unreadable, true) => &mut self.mesh,
            (Selection::Labels(_) | Selection::Targets(_), true) => return,
            (Selection::Labels(_) | Selection::Targets(_) | Selection::Unreadable, false) => {
                &mut self.workload
            }
        };
        let new = (resource.created, &resource.id, written);
        let is_older = place.is_none_or(|(created, id, _)| (new.0, new.1) < (created, id));
        if is_older {
            *place = Some(new);
        }
    }

    /// What they say together, and which of them say it.
    pub(crate) fn mtls(&self) -> (Mtls, Vec<ResourceId>) {
        let mut mode = MtlsMode::default();
        let mut ports = BTreeMap::new();
        let in_order = [self.mesh, self.namespace, self.workload];
        for (_, _, written) in in_order.iter().flatten() {
            mode = written.mode.unwrap_or(mode);
            ports.extend(written.ports.iter().filter_map(|(port, mode)| Some((*port, (*mode)?))));
        }
        let by = in_order.iter().flatten().map(|(_, id, _)| (*id).clone()).collect();
        (Mtls { mode, ports }, by)
    }
}
