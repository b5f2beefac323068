//! What happened in the cluster, for whoever reads about a story that failed.

use super::Cluster;
use crate::support::scratch;

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

/// Enough to see why a container ended; the whole log is in the directory.
const SHOWN: usize = 12;

impl Cluster {
    /// What every container of every pod has said, by `namespace/pod/container/run`; read from the node, so a pod that
    /// ends, or an API server that is away, is no hindrance.
    pub fn logs_of_every_pod(&self) -> BTreeMap<String, String> {
        let mut logs = BTreeMap::new();
        for (pod, folder) in entries(&self.dir.join("podlogs")) {
            // The folder of a pod is NAMESPACE_POD_UID, and none of the three may have the mark in it.
            let pod = pod.rsplit_once('_').map_or(pod.clone(), |(pod, _)| pod.replace('_', "/"));
            for (container, folder) in entries(&folder) {
                for (run, file) in entries(&folder) {
                    let text = std::fs::read(&file).unwrap_or_default();
                    let run = run.trim_end_matches(".log");
                    logs.insert(format!("{pod}/{container}/{run}"), plain(&String::from_utf8_lossy(&text)));
                }
            }
        }
        logs
    }

    /// Writes all that tells of the cluster's state into a directory that stays, says where it is, and shows the ends.
    pub async fn keep_evidence(&self) -> PathBuf {
        let kept = scratch("evidence").keep();
        let write = |name: &str, text: &str| {
            std::fs::write(kept.join(name), text).unwrap_or_else(|error| eprintln!("{name}: {error}"));
        };
        let logs = self.logs_of_every_pod();
        for (container, log) in &logs {
            write(&format!("{}.log", container.replace('/', "_")), log);
        }
        for (part, file) in entries(&self.dir.join("log")) {
            write(
                &format!("part-{part}.log"),
                &String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default()),
            );
        }
        let pods = self.told(&["get", "pods", "--all-namespaces", "--output=wide"]).await;
        write("pods", &pods);
        let by_time = "--sort-by=.metadata.creationTimestamp";
        write("events", &self.told(&["get", "events", "--all-namespaces", by_time]).await);
        let unready = self.descriptions_of_unready_pods().await;
        write("unready-pods", &unready);

        eprintln!("--- the pods\n{}", pods.trim_end());
        if !unready.is_empty() {
            eprintln!("--- those that are not ready\n{}", unready.trim_end());
        }
        for (container, log) in logs {
            eprintln!("--- the last lines of {container}\n{}", tail(&log));
        }
        eprintln!("--- all of it, with the logs of the node's own parts, is in {}", kept.display());
        kept
    }

    async fn descriptions_of_unready_pods(&self) -> String {
        // One line a pod: its namespace, its name, its containers' readiness.
        let columns =
            "custom-columns=A:.metadata.namespace,B:.metadata.name,C:.status.containerStatuses[*].ready";
        let table =
            self.told(&["get", "pods", "--all-namespaces", "--no-headers", "--output", columns]).await;
        let mut descriptions = String::new();
        for line in table.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [namespace, pod, ready] = words.as_slice() else { continue };
            if ready.contains("false") || *ready == "<none>" {
                descriptions += &self.told(&["describe", "pod", pod, "--namespace", namespace]).await;
            }
        }
        descriptions
    }

    /// What kubectl says, be it a refusal: the API server may be what failed.
    async fn told(&self, arguments: &[&str]) -> String {
        let told = self.try_kubectl(&[arguments, &["--request-timeout=5s"]].concat()).await;
        told.unwrap_or_else(|refusal| format!("kubectl {}: {refusal}", arguments.join(" ")))
    }
}

/// What is in a folder, by name; nothing, if the folder is gone.
fn entries(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut entries: Vec<_> =
        entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())).collect();
    entries.sort();
    entries
}

/// The lines as the program wrote them; containerd puts a time, a stream and a mark in front of each.
fn plain(log: &str) -> String {
    log.lines().map(|line| line.splitn(4, ' ').nth(3).unwrap_or(line).to_owned() + "\n").collect()
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines.get(lines.len().saturating_sub(SHOWN)..).unwrap_or_default().join("\n")
}
