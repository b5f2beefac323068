//! A real Envoy, and what its admin page says of it.

use super::apiserver::eventually;
use super::http;
use super::part::NO_ENV;
use super::part::Part;
use super::ports;
use super::tools;
use super::write_private;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;

const START: Duration = Duration::from_secs(60);

/// A running Envoy; dropping it stops it.
pub struct Envoy {
    part: Part,
    admin_port: u16,
}

impl Envoy {
    /// Starts Envoy with that bootstrap and returns once its admin page answers, which is before it is ready. The
    /// bootstrap and the log go to `scratch`; the admin page gets a port unless the bootstrap gives it one.
    pub async fn start(name: &str, bootstrap: &Value, scratch: &Path) -> Envoy {
        let mut bootstrap = bootstrap.clone();
        let port_field = "/admin/address/socket_address/port_value";
        let admin_port =
            bootstrap.pointer(port_field).and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
        let admin_port = admin_port.unwrap_or_else(|| {
            let port = ports::free();
            bootstrap["admin"] =
                json!({"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}});
            port
        });
        let config = scratch.join(format!("{name}.json"));
        write_private(&config, bootstrap.to_string());
        let args = [
            "--config-path".to_owned(),
            config.display().to_string(),
            "--concurrency".to_owned(),
            "1".to_owned(),
            // Without it two Envoys of one machine share memory by number, and the second one refuses to start.
            "--disable-hot-restart".to_owned(),
            "--log-level".to_owned(),
            "warning".to_owned(),
        ];
        let log = scratch.join(format!("{name}.log"));
        let part = Part::spawn(name, &tools::envoy(), args, NO_ENV, &log);
        let envoy = Envoy { part, admin_port };
        eventually("Envoy's admin page", START, Some(&envoy.part), || envoy.get("/server_info")).await;
        envoy
    }

    /// The program itself, for signals and its log.
    pub fn part(&self) -> &Part {
        &self.part
    }

    pub fn admin_port(&self) -> u16 {
        self.admin_port
    }

    /// Waits until it is LIVE, so that its listeners accept connections.
    pub async fn ready(&self, limit: Duration) {
        eventually("Envoy to be ready", limit, Some(&self.part), || self.get("/ready")).await;
    }

    /// A counter or gauge by its full name; one that is not there yet counts as 0.
    pub async fn stat(&self, name: &str) -> u64 {
        self.stats(name).await.get(name).copied().unwrap_or(0)
    }

    /// All counters and gauges whose name begins so.
    pub async fn stats(&self, prefix: &str) -> BTreeMap<String, u64> {
        let text = self.admin("/stats").await;
        let numbers = text.lines().filter_map(|line| line.rsplit_once(": "));
        numbers
            .filter(|(name, _)| name.starts_with(prefix))
            .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
            .collect()
    }

    /// The certificates in use, as `/certs` shows them.
    pub async fn certs(&self) -> Value {
        serde_json::from_str(&self.admin("/certs").await).expect("Envoy's /certs is JSON")
    }

    /// Any other page of the admin port, for example `/config_dump`.
    pub async fn admin(&self, path: &str) -> String {
        self.get(path).await.unwrap_or_else(|refusal| {
            panic!("Envoy's admin page {path} did not answer: {refusal}\n{}", self.part.log_tail(15))
        })
    }

    async fn get(&self, path: &str) -> Result<String, String> {
        http::get(("127.0.0.1", self.admin_port), path).await
    }
}
