//! `burgrave proxy`: who reads the roots, and what do they have?

mod describe;

use clap::Args;
use clap::Subcommand;
use serde_json::Value;

use crate::cli::asked::Asked;
use crate::cli::ending::Ending;
use crate::config::Surroundings;

/// What can be asked about readers.
#[derive(Debug, Subcommand)]
pub(super) enum ProxyCommand {
    /// List everybody who reads the roots: which they have, and whose certificate
    ///
    /// Examples:
    ///
    ///   burgrave proxy list
    ///   burgrave proxy list --output json | jq -r '.readers[] | select(.is_current | not) | .spiffe_id'
    ///
    /// KIND: `agent` holds a stream open and answers for its proxies; `client` hears of roots only with its next certificate;
    /// `pod` reads files that its kubelet brings; `unheard` may have been certified by a replica that is gone.
    /// ROOTS: `current`; `old`; `refused` (see `proxy show`); `-` if it is not known.
    ///
    /// JSON: one object: at, sequence, digest, active, and readers, a list; each has
    ///
    ///   id, spiffe_id, pod, node, kind         who it is; the id is for `proxy show`
    ///   connected, connected_since, lost_at    its stream
    ///   sent, acknowledged, is_current         digests of the roots it was sent and is known to trust
    ///   last_nack                              why it last refused something, or null
    ///   leaves                                 a list: authority, expires_at
    ///   replica                                the replica that knows it, or null
    ///
    /// Exit codes: 0 done; 1 an error; 3 refused.
    #[command(verbatim_doc_comment)]
    List(List),
    /// Show all that is known of one reader, or of all that fit
    ///
    /// Examples:
    ///
    ///   burgrave proxy show shop/web-6d4f
    ///   burgrave proxy show spiffe://cluster.local/ns/shop/sa/web
    ///
    /// JSON: a list of readers, as in `burgrave proxy list`.
    ///
    /// Exit codes: 0 done; 1 nobody fits, or an error; 3 refused.
    #[command(verbatim_doc_comment)]
    Show(Show),
}

/// Nothing but which CA.
#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    asked: Asked,
}

/// Who is shown.
#[derive(Debug, Args)]
pub(super) struct Show {
    /// Its id, its SPIFFE ID, or its pod, with or without the namespace
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    asked: Asked,
}

impl ProxyCommand {
    pub(super) async fn run(self, around: Surroundings) -> anyhow::Result<Ending> {
        match self {
            Self::List(List { asked }) => {
                let (mut reach, mut console) = asked.resolve(around).await?;
                let (json, readers) = reach.readers().await?;
                console.show(|| describe::table(&readers), &json);
            }
            Self::Show(Show { id, asked }) => {
                let (mut reach, mut console) = asked.resolve(around).await?;
                let (json, readers) = reach.readers().await?;
                let fitting = describe::fitting(&readers, &id);
                if fitting.is_empty() {
                    anyhow::bail!("nobody is known as `{id}`; `burgrave proxy list` shows everybody");
                }
                let json: Value = serde_json::from_str(&json)?;
                let all = json.get("readers").and_then(Value::as_array).cloned().unwrap_or_default();
                let is_meant = |one: &Value| {
                    let id = one.get("id").and_then(Value::as_str);
                    fitting.iter().any(|reader| Some(reader.id.as_str()) == id)
                };
                let json = Value::Array(all.into_iter().filter(is_meant).collect());
                console.show(
                    || {
                        let texts = fitting.iter().map(|reader| describe::text(reader, &readers));
                        texts.collect::<Vec<_>>().join("\n")
                    },
                    &json.to_string(),
                );
            }
        }
        Ok(Ending::Done)
    }
}
