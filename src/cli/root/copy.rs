//! A sealed copy of the authorities: out of a CA that runs, and back into a store that is empty.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use anyhow::bail;
use zeroize::Zeroizing;

use crate::authority;
use crate::authority::EmbeddedStore;
use crate::authority::KubernetesStore;
use crate::authority::Record;
use crate::authority::Store;
use crate::authority::Swap;
use crate::cli::console::Console;
use crate::cli::ending::Ending;
use crate::cli::reach::Reach;
use crate::cli::reach::ReachError;
use crate::cli::words;
use crate::config::Output;
use crate::k8s;

/// Where a copy is restored to.
#[derive(Debug)]
pub(super) enum Target {
    /// A state directory.
    Directory(PathBuf),
    /// A Secret.
    Secret { name: String, namespace: Option<String>, kubeconfig: Option<PathBuf> },
}

/// Has the authorities sealed, and writes them to a new file.
pub(super) async fn export(
    reach: &mut Reach,
    console: &mut Console,
    file: &Path,
    passphrase_file: &Path,
) -> anyhow::Result<Ending> {
    let passphrase = passphrase(passphrase_file)?;
    if file.exists() {
        bail!("`{}` is there already, and is not overwritten; choose another --file", file.display());
    }
    let sealed = match reach.export(passphrase.to_string()).await {
        Ok(sealed) => sealed,
        Err(ReachError::Refused(sentence)) => {
            console.refuse(&sentence);
            return Ok(Ending::NotDone);
        }
        Err(error) => return Err(error.into()),
    };
    keep(file, &sealed).map_err(|error| anyhow::anyhow!("`{}`: {error}", file.display()))?;
    let json = serde_json::json!({"file": file.display().to_string(), "bytes": sealed.len()}).to_string();
    console.show(
        || {
            format!(
                "the authorities and their keys are in `{}`, and whoever has its passphrase has the CA; \
                 after each rotation, make a new copy and destroy this one\n",
                file.display()
            )
        },
        &json,
    );
    Ok(Ending::Done)
}

fn keep(file: &Path, text: &str) -> std::io::Result<()> {
    let mut made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    let written = made.write_all(text.as_bytes()).and_then(|()| made.sync_all());
    if written.is_err() {
        // Half a copy would be taken for one.
        let _ = std::fs::remove_file(file);
    }
    written
}

/// Puts what is in a sealed file where nothing is kept yet.
pub(super) async fn import(
    console: &mut Console,
    file: &Path,
    passphrase_file: &Path,
    target: Target,
) -> anyhow::Result<Ending> {
    let passphrase = passphrase(passphrase_file)?;
    let text =
        std::fs::read_to_string(file).map_err(|error| anyhow::anyhow!("`{}`: {error}", file.display()))?;
    let parts = authority::open(&text, &passphrase)
        .map_err(|error| anyhow::anyhow!("`{}`: {error}", file.display()))?;
    let record = Record::from_parts(&parts)
        .map_err(|damage| anyhow::anyhow!("`{}` holds no authority: {damage}", file.display()))?;
    let store: Box<dyn Store> = match target {
        Target::Directory(directory) => Box::new(EmbeddedStore::new(&directory)),
        Target::Secret { name, namespace, kubeconfig } => {
            let client = k8s::connect(kubeconfig.as_deref()).await?;
            let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
            Box::new(KubernetesStore::new(client, &namespace, &name))
        }
    };
    if let Some(kept) = store.load().await? {
        console.refuse(&occupied(&store.place(), &kept.record));
        return Ok(Ending::NotDone);
    }
    match store.swap(None, &record).await? {
        Swap::Done(_) => {}
        Swap::Overtaken => {
            console.refuse(&format!(
                "something else was kept in {} at the same moment; nothing was restored: end what runs there first",
                store.place()
            ));
            return Ok(Ending::NotDone);
        }
    }
    match console.output {
        Output::Text => console.result(&restored(&store.place(), &record)),
        Output::Json => console.result(&format!("{}\n", restored_json(&store.place(), &record))),
    }
    Ok(Ending::Done)
}

fn occupied(place: &str, record: &Record) -> String {
    let active = record.state.active();
    format!(
        "{place} keeps authority `{}` ({}) already, and a copy is restored only where nothing is kept; \
         to give that one up for the copy, take it away first, knowing that whoever trusts only its root will trust nothing that is signed then",
        active.id,
        active.certificate().facts().subject_text
    )
}

fn restored(place: &str, record: &Record) -> String {
    let state = &record.state;
    let rows: Vec<_> = state
        .authorities()
        .iter()
        .map(|one| {
            let subject = one.certificate().facts().subject_text.clone();
            vec![one.id.to_string(), one.stage.name().to_owned(), one.not_after().date().to_string(), subject]
        })
        .collect();
    let roots = words::count(state.bundle().roots().len(), "trusted root");
    let mut out = format!("restored to {place}, with {roots} (bundle {}):\n", state.sequence());
    out.push_str(&words::table(&["id", "stage", "expires", "subject"], &rows));
    if state.rotation().is_some() {
        out.push_str("a rotation was under way when the copy was made; it goes on when a CA runs\n");
    }
    out.push_str("start the CA: it looks first whether this is the root that is trusted\n");
    out
}

fn restored_json(place: &str, record: &Record) -> serde_json::Value {
    let state = &record.state;
    let authorities: Vec<_> = state
        .authorities()
        .iter()
        .map(|one| {
            let subject = &one.certificate().facts().subject_text;
            serde_json::json!({"id": one.id.as_str(), "stage": one.stage.name(), "subject": subject})
        })
        .collect();
    serde_json::json!({
        "place": place,
        "sequence": state.sequence(),
        "digest": state.bundle().digest(),
        "active": state.active().id.as_str(),
        "authorities": authorities,
        "rotation": state.rotation().is_some(),
    })
}

/// The passphrase is the first and only line of a file, so that it stands in no list of processes.
fn passphrase(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let text = std::fs::read_to_string(path)
        .map(Zeroizing::new)
        .map_err(|error| anyhow::anyhow!("passphrase file `{}`: {error}", path.display()))?;
    let line = text.trim_end_matches(['\n', '\r']);
    if line.is_empty() || line.contains('\n') {
        bail!("passphrase file `{}` must hold one line, the passphrase", path.display());
    }
    Ok(Zeroizing::new(line.to_owned()))
}
