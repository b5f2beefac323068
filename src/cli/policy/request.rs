//! Which request is asked about, as flags, a description, a curl line or a line of an access log say it.

use std::io::Read;
use std::net::IpAddr;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use serde_json::Map;
use serde_json::Value;

use crate::authz::explain::facts::Facts;
use crate::authz::explain::facts::HttpFacts;
use crate::authz::path::Form;
use crate::authz::recorded::Described;
use crate::authz::recorded::Logged;
use crate::authz::recorded::access_log;
use crate::authz::recorded::access_log::Outcome;
use crate::authz::recorded::curl;
use crate::authz::recorded::described::Line;
use crate::authz::recorded::described::peer_uri;
use crate::authz::recorded::token;
use crate::cli::policy::mesh::pair;
use crate::identity::TrustDomain;

/// What the request is made of.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Which request")]
pub(super) struct RawRequest {
    /// The request as JSON or YAML in a file; `-` for standard input
    #[arg(long, value_name = "FILE", group = "whole")]
    request: Option<PathBuf>,
    /// The request that this curl command line sends, in quotes
    #[arg(long, value_name = "LINE", group = "whole")]
    curl: Option<String>,
    /// The request that a line of an access log records: Istio's default text, or JSON
    #[arg(long, value_name = "LINE", group = "whole")]
    log_line: Option<String>,
    /// The method
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// The path as it is sent, with or without a query
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// What the proxy makes of paths: none, base, merge-slashes, decode-and-merge-slashes [default: base]
    #[arg(long, value_name = "FORM")]
    normalize: Option<Form>,
    /// The host as it is sent; the port counts
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// A header, as `name: value`; may be given several times
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// Who calls: `namespace/account`, or a whole SPIFFE ID
    #[arg(long, value_name = "SOURCE", conflicts_with = "plaintext")]
    from: Option<String>,
    /// Who calls shows no certificate
    #[arg(long)]
    plaintext: bool,
    /// The other end of the socket
    #[arg(long, value_name = "IP")]
    source_ip: Option<IpAddr>,
    /// The client, as X-Forwarded-For tells it
    #[arg(long, value_name = "IP")]
    remote_ip: Option<IpAddr>,
    /// The workload's own address
    #[arg(long, value_name = "IP")]
    destination_ip: Option<IpAddr>,
    /// The workload's own port; not the service's
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// The server's name that is asked for
    #[arg(long, value_name = "NAME")]
    sni: Option<String>,
    /// A claim of a verified token, as iss=https://issuer; lists and objects as JSON. May be given several times
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = pair)]
    claims: Vec<(String, String)>,
    /// JSON file with all claims of a verified token
    #[arg(long, value_name = "FILE")]
    claims_file: Option<PathBuf>,
    /// There is no token
    #[arg(long, conflicts_with_all = ["claims", "claims_file"])]
    no_token: bool,
    /// A custom property, as tenant=blue; may be given several times. Others are not there
    #[arg(long = "property", value_name = "KEY=VALUE", value_parser = pair)]
    properties: Vec<(String, String)>,
    /// It is a bare connection, without a request
    #[arg(long)]
    tcp: bool,
}

impl RawRequest {
    /// The same with another caller.
    pub(super) fn with_caller(self, source: &str) -> anyhow::Result<Self> {
        anyhow::ensure!(
            self.from.is_none() && !self.plaintext,
            "who calls is said twice: as SOURCE, and by `--from` or `--plaintext`; keep one"
        );
        Ok(match source {
            "plaintext" => Self { plaintext: true, ..self },
            source => Self { from: Some(source.to_owned()), ..self },
        })
    }

    /// Whether nothing is said.
    pub(super) fn is_empty(&self) -> bool {
        self.request.is_none()
            && self.curl.is_none()
            && self.log_line.is_none()
            && self.method.is_none()
            && self.path.is_none()
            && self.host.is_none()
            && self.headers.is_empty()
            && self.from.is_none()
            && !self.plaintext
            && self.source_ip.is_none()
            && self.remote_ip.is_none()
            && self.destination_ip.is_none()
            && self.port.is_none()
            && self.sni.is_none()
            && self.claims.is_empty()
            && self.claims_file.is_none()
            && !self.no_token
            && self.properties.is_empty()
            && !self.tcp
    }

    /// What is known of the request.
    ///
    /// # Errors
    /// With the flag or field that does not fit.
    pub(super) fn facts(self, trust_domain: &TrustDomain) -> anyhow::Result<Facts> {
        let form = self.normalize.unwrap_or_default();
        let facts = match (&self.request, &self.curl, &self.log_line) {
            (Some(file), _, _) => {
                let value = read_yaml(file)?;
                let described = Described::read(&value, trust_domain);
                described
                    .map_err(|error| anyhow::anyhow!("`{}`: {}", file.display(), error.within("request")))?
                    .facts()
            }
            (_, Some(line), _) => {
                curl::read(line, form).map_err(|error| anyhow::anyhow!("`--curl`: {error}"))?
            }
            (_, _, Some(line)) => {
                let logged =
                    access_log::read(line).map_err(|error| anyhow::anyhow!("`--log-line`: {error}"))?;
                with_outcome(logged)
            }
            _ => Facts { http: Some(HttpFacts::default()), ..Facts::default() },
        };
        let described = self.described(form, trust_domain)?;
        described.check()?;
        Ok(described.onto(facts))
    }

    fn described(self, form: Form, trust_domain: &TrustDomain) -> anyhow::Result<Described> {
        let flag = |name: &'static str| move |error| anyhow::anyhow!("`--{name}`: {error}");
        let lines = self.headers.iter().map(|text| Line::parse(text).map_err(flag("header")));
        let from = self.from.as_deref().map(|from| peer_uri(from, trust_domain).map_err(flag("from")));
        let peer = match (from.transpose()?, self.plaintext) {
            (Some(uri), _) => Some(Some(vec![uri])),
            (None, true) => Some(None),
            (None, false) => None,
        };
        let properties = self.properties.into_iter().map(|(key, value)| (key, Value::String(value)));
        let properties: Map<String, Value> = properties.collect();
        Ok(Described {
            is_tcp: self.tcp,
            headers: lines.collect::<Result<_, _>>()?,
            claims: match self.no_token {
                true => Some(None),
                false => claims(&self.claims, self.claims_file.as_deref())?.map(Some),
            },
            method: self.method,
            path: self.path,
            form,
            host: self.host,
            peer,
            source_ip: self.source_ip,
            remote_ip: self.remote_ip,
            destination_ip: self.destination_ip,
            port: self.port,
            sni: self.sni,
            properties: (!properties.is_empty()).then_some(properties),
            filters: Map::new(),
        })
    }
}

/// What a line records, and what it says was decided.
fn with_outcome(logged: Logged) -> Facts {
    let mut facts = logged.facts;
    let said = match logged.outcome {
        None => return facts,
        Some(Outcome::Allowed) => "the line says that it was allowed".to_owned(),
        Some(Outcome::Denied(None)) => "the line says that it was denied, for no rule allowed it".to_owned(),
        Some(Outcome::Denied(Some(rule))) => format!("the line says that it was denied by {rule}"),
    };
    facts.remarks.push(said);
    facts
}

fn claims(pairs: &[(String, String)], file: Option<&Path>) -> anyhow::Result<Option<Map<String, Value>>> {
    if pairs.is_empty() && file.is_none() {
        return Ok(None);
    }
    let mut claims = match file.map(read_yaml).transpose()? {
        None => Map::new(),
        Some(Value::Object(claims)) => claims,
        Some(_) => anyhow::bail!("`--claims-file`: a JSON object is meant"),
    };
    for (name, text) in pairs {
        let value = match text.starts_with(['[', '{', '"']) {
            true => serde_json::from_str(text)
                .map_err(|error| anyhow::anyhow!("`--claim {name}=…`: it is no JSON: {error}"))?,
            false => Value::String(text.clone()),
        };
        let known = claims.remove(name);
        claims.insert(
            name.clone(),
            match known {
                None => value,
                Some(Value::Array(list)) => Value::Array(list.into_iter().chain([value]).collect()),
                Some(one) => Value::Array(vec![one, value]),
            },
        );
    }
    Ok(Some(token::as_passed_on(claims)))
}

/// A YAML or JSON document of a file, or of standard input.
pub(super) fn read_yaml(path: &Path) -> anyhow::Result<Value> {
    let (name, text) = read_text(path)?;
    serde_saphyr::from_str(&text).map_err(|error| anyhow::anyhow!("`{name}`: this is no YAML: {error}"))
}

/// The text of a file, or of standard input, with its name.
pub(super) fn read_text(path: &Path) -> anyhow::Result<(String, String)> {
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).context("standard input cannot be read")?;
        return Ok(("standard input".to_owned(), text));
    }
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| anyhow::anyhow!("`{name}`: {error}"))?;
    Ok((name, text))
}
