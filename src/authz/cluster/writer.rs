//! Writes a status: applied by a field manager of our own, by the version that it was decided on.

use std::time::Duration;

use kube::Api;
use kube::Client;
use kube::api::Patch;
use kube::api::PatchParams;
use kube::core::DynamicObject;
use serde_json::json;
use time::OffsetDateTime;

use crate::authz::cluster::board::Write;
use crate::authz::cluster::kinds;
use crate::authz::cluster::status::Held;
use crate::authz::resource::ResourceId;
use crate::k8s::Trouble;

/// Who wrote it, as the API server keeps track of it.
const FIELD_MANAGER: &str = "burgrave-policies";
/// How long a write may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What it takes to write.
pub(super) struct Writer {
    pub(super) client: Client,
}

impl Writer {
    /// Writes it; returns what is held afterwards.
    pub(super) async fn write(
        &self,
        id: &ResourceId,
        write: &Write,
        now: OffsetDateTime,
    ) -> Result<Held, Trouble> {
        let resource = kinds::api_resource(id.kind, write.held.version_of_api());
        let (name, version) = (&id.name, &write.held.version);
        let (api, metadata): (Api<DynamicObject>, _) = match id.namespace.as_str() {
            "" => {
                let metadata = json!({ "name": name, "resourceVersion": version });
                (Api::all_with(self.client.clone(), &resource), metadata)
            }
            namespace => {
                let metadata = json!({ "name": name, "namespace": namespace, "resourceVersion": version });
                (Api::namespaced_with(self.client.clone(), namespace, &resource), metadata)
            }
        };
        let status = write.held.patch(&metadata, id.kind.as_str(), &write.wanted, now);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let written =
            Trouble::within(TIMEOUT, api.patch_status(&id.name, &params, &Patch::Apply(&status))).await?;
        Ok(Held::by(&serde_json::to_value(&written).unwrap_or_default()))
    }
}
