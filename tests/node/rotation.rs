//! The root of a cluster is rotated by one command, with two replicas, and the leader is killed at every step of it.

use crate::at_home::CA;
use crate::at_home::EXAMPLE;
use crate::at_home::Load;
use crate::at_home::SOON;
use crate::at_home::SYSTEM;
use crate::at_home::Workloads;
use crate::at_home::address_of;
use crate::at_home::nothing_secret_is_told;
use crate::at_home::operator;
use crate::at_home::service_address;
use crate::support::cluster::Cluster;
use crate::support::figure;
use crate::support::http;

use std::path::Path;
use std::process::Output;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use burgrave::rotation::report::Report;
use k8s_openapi::api::core::v1 as core;
use kube::Api;
use kube::ResourceExt;
use tokio::process::Child;
use tokio::process::Command;

/// Four leaders are killed, and each time the Lease has to run out.
const PATIENCE: Duration = Duration::from_secs(400);

#[test]
fn one_command_rotates_the_root_of_a_cluster_though_the_leader_is_killed_at_every_step() {
    Cluster::start().inside(async |cluster| {
        cluster.kubectl(&["apply", "-k", "deploy/"]).await;
        // Mounted files follow within a while; this story has no reader of files whom that could hurt.
        let refresh = "BURGRAVE_BUNDLE_REFRESH=5s";
        cluster.kubectl(&["set", "env", "deployment/burgrave-ca", "-n", SYSTEM, refresh]).await;
        // Nobody is certified by a replica that the rollout is about to end: what one signs right before its end, for somebody who holds no
        // stream yet, others may not hear of, and then it holds a rotation for as long as such a certificate lives.
        let rollout = ["rollout", "status", "deployment/burgrave-ca", "-n", SYSTEM, "--timeout=120s"];
        cluster.kubectl(&rollout).await;
        cluster.wait_for_pods(SYSTEM, CA, 2, SOON).await;
        cluster.kubectl(&["apply", "-k", "deploy/example/"]).await;
        let address = cluster
            .eventually("the client's Service", SOON, async || {
                service_address(cluster, EXAMPLE, "client").await
            })
            .await;
        cluster
            .eventually("the first request", SOON, async || http::get((address.as_str(), 8080), "/").await)
            .await;
        let workloads = Workloads::find(cluster).await;
        let operator = operator(cluster).await;
        let root_file = cluster.dir().join("root.pem");
        std::fs::write(&root_file, roots_of(cluster).await).expect("a scratch can be written");
        let ca = service_address(cluster, SYSTEM, "burgrave-ca").await.expect("deploy/ has a Service");
        let burgrave =
            Burgrave { address: format!("https://{ca}:15012"), root_file: &root_file, kubeconfig: &operator };
        // Replicas that the rollout has ended are still known for half a minute.
        let before: Report = cluster
            .eventually("two replicas that know two agents", SOON, async || {
                let report: Report = burgrave.says(&["root", "status", "--output=json"]).await;
                match report.replicas.len() == 2 && report.readers.get("agent") == Some(&2) {
                    true => Ok(report),
                    false => Err(format!("{report:#?}")),
                }
            })
            .await;

        let load = Load::start(&address);
        let begun = Instant::now();
        let rotating = burgrave.begins(&["root", "rotate", "--window=3s", "--timeout=380s", "--output=json"]);
        let mut killed = 0;
        for phase in ["distribute", "reissue", "withdraw", "over"] {
            until_phase(cluster, phase, &before.active).await;
            let pod = living_leader(cluster).await;
            let process = cluster.process_of(&pod.uid().expect("a pod has a uid"), "burgrave");
            cluster.signal(process, "KILL");
            killed += 1;
        }
        let output = tokio::time::timeout(PATIENCE, rotating.wait_with_output()).await;
        let output = output.expect("it comes to an end").expect("it ran");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
        figure("cluster_root_rotation_s", format!("{:.1}", begun.elapsed().as_secs_f64()), "s");
        cluster.wait_for_pods(SYSTEM, CA, 2, SOON).await;

        // The last that was killed may not have been missed yet.
        cluster
            .eventually("all replicas to answer", SOON * 2, async || {
                let pods = Api::<core::Pod>::namespaced(cluster.admin(), SYSTEM);
                let found = pods.list(&kube::api::ListParams::default().labels(CA)).await;
                for pod in found.map_err(|error| error.to_string())?.items {
                    http::get((address_of(&pod).as_str(), 15014), "/readyz").await?;
                }
                Ok(())
            })
            .await;

        // All of it has moved: workloads, what is published, and who answers.
        std::fs::write(&root_file, roots_of(cluster).await).expect("a scratch can be written");
        let after: Report = burgrave.says(&["root", "status", "--output=json"]).await;
        assert!(after.rotation.is_none() && after.active != before.active, "{after:#?}");
        assert_eq!(after.bundle.roots.len(), 1);
        assert_eq!(roots_of(cluster).await, after.bundle.pem);
        workloads.renew(cluster, "the rotation").await;
        let (requests, failed) = load.end().await;
        figure("cluster_root_rotation_requests", requests, "requests");
        figure("cluster_root_rotation_failed", failed.len(), "requests");
        figure("cluster_root_rotation_leaders_killed", killed, "leaders");
        assert!(failed.is_empty(), "{} of {requests} failed: {failed:?}", failed.len());
        nothing_secret_is_told(cluster).await;
    });
}

/// The command line of somebody with the operators' rights.
struct Burgrave<'a> {
    address: String,
    root_file: &'a Path,
    kubeconfig: &'a Path,
}

impl Burgrave<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_burgrave"));
        command
            .args(arguments)
            .args([
                "--address",
                &self.address,
                "--server-name",
                "burgrave-ca.burgrave-system.svc",
                "--root-file",
            ])
            .arg(self.root_file)
            .arg("--kubeconfig")
            .arg(self.kubeconfig)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    fn begins(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().expect("the program runs")
    }

    async fn says(&self, arguments: &[&str]) -> Report {
        let Output { status, stdout, stderr } =
            self.command(arguments).output().await.expect("the program runs");
        assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
        serde_json::from_slice(&stdout).expect("it is a report")
    }
}

async fn roots_of(cluster: &Cluster) -> String {
    let maps = Api::<core::ConfigMap>::namespaced(cluster.admin(), SYSTEM);
    let map = maps.get("istio-ca-root-cert").await.expect("it is published");
    map.data.and_then(|mut data| data.remove("root-cert.pem")).expect("it has roots")
}

/// The pod that leads and says so itself: the Lease names one that was killed for a while.
async fn living_leader(cluster: &Cluster) -> core::Pod {
    let pods = Api::<core::Pod>::namespaced(cluster.admin(), SYSTEM);
    cluster
        .eventually("a leader that lives", SOON, async || {
            let found = pods.list(&kube::api::ListParams::default().labels(CA)).await;
            for pod in found.map_err(|error| error.to_string())?.items {
                let Some(_) = pod.status.as_ref().and_then(|status| status.pod_ip.as_ref()) else { continue };
                let Ok(page) = http::get((address_of(&pod).as_str(), 15014), "/state").await else {
                    continue;
                };
                let state: serde_json::Value =
                    serde_json::from_str(&page).map_err(|error| error.to_string())?;
                if state["election"]["leads"] == true {
                    return Ok(pod);
                }
            }
            Err("nobody says that it leads".to_owned())
        })
        .await
}

/// Waits until a replica says that the rotation is in that phase; `over` when it has ended.
async fn until_phase(cluster: &Cluster, wanted: &str, old: &str) {
    cluster
        .eventually(&format!("the phase `{wanted}`"), PATIENCE, async || {
            let pods = Api::<core::Pod>::namespaced(cluster.admin(), SYSTEM);
            let pods = pods.list(&kube::api::ListParams::default().labels(CA)).await;
            let mut seen = Vec::new();
            for pod in pods.map_err(|error| error.to_string())?.items {
                let Some(_) = pod.status.as_ref().and_then(|status| status.pod_ip.as_ref()) else { continue };
                let Ok(page) = http::get((address_of(&pod).as_str(), 15014), "/state").await else {
                    continue;
                };
                let state: serde_json::Value =
                    serde_json::from_str(&page).map_err(|error| error.to_string())?;
                let report = &state["rotation"];
                let phase = match report["rotation"]["phase"].as_str() {
                    Some(phase) => phase,
                    None if report["active"] != old => "over",
                    None => "not begun",
                };
                if phase == wanted {
                    return Ok(());
                }
                seen.push(format!("{phase}: {}", report["rotation"]["waiting"]));
            }
            // A phase may be over before anybody has looked; the next one is as good a moment.
            let order = ["not begun", "distribute", "reissue", "withdraw", "over"];
            let rank = |phase: &str| order.iter().position(|known| phase.starts_with(known)).unwrap_or(0);
            match seen.iter().any(|phase| rank(phase) > rank(wanted)) {
                true => Ok(()),
                false => Err(seen.join("; ")),
            }
        })
        .await;
}
