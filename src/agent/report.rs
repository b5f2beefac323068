//! Pure: how do things stand with an agent, for people who look?

use serde_json::Value;
use serde_json::json;

use crate::authz::Progress;
use crate::sds::Answer;
use crate::sds::Secrets;
use crate::sds::Subscriber;

/// How things stand with the CA's stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upward {
    /// Whether there is one.
    pub is_connected: bool,
    /// Why there is none.
    pub trouble: Option<String>,
    /// The version of the roots that we told the CA all proxies use.
    pub bundle: Option<String>,
    /// The authority of which we told the CA that all that proxies use is signed by it.
    pub authority: Option<String>,
    /// The version of the policies that we told the CA all proxies use.
    pub policies: Option<String>,
    /// Why the CA tells us no policies.
    pub policies_trouble: Option<String>,
    /// What keeps us from telling more.
    pub waits_for: Vec<String>,
}

/// The page `/state`.
pub fn state(secrets: &Secrets, proxies: &[Subscriber], upward: &Upward, policies: &Progress) -> Value {
    let identity = secrets.identity.as_ref().map(|identity| {
        let facts = identity.chain().leaf().facts();
        json!({
            "spiffe_id": identity.spiffe_id().to_string(),
            "serial": facts.serial.to_string(),
            "version": identity.version().to_string(),
            "issuer": facts.issuer_text,
            "expires_at": facts.not_after.to_string(),
        })
    });
    let roots = secrets.trust.iter().flat_map(|trust| trust.bundle().roots()).map(|root| root.fingerprint());
    json!({
        "identity": identity,
        "roots": roots.collect::<Vec<_>>(),
        "bundle": secrets.trust.as_ref().map(|trust| trust.version().to_string()),
        "proxies": proxies.iter().map(proxy).collect::<Vec<_>>(),
        "policies": self::policies(policies),
        "upstream": {
            "connected": upward.is_connected,
            "trouble": upward.trouble,
            "bundle": upward.bundle,
            "authority": upward.authority,
            "policies": upward.policies,
            "policies_trouble": upward.policies_trouble,
            "waits_for": upward.waits_for,
        },
    })
}

fn policies(progress: &Progress) -> Value {
    let Progress { version, age, standing } = progress;
    let refusal = standing.refusal.as_ref().map(|(node, why)| json!({ "proxy": node, "refusal": why }));
    json!({
        "version": version.as_ref().map(|version| version.as_str()),
        "age_seconds": version.as_ref().map(|_| age.as_secs()),
        "accepted": version.is_some() && standing.waiting == 0 && standing.refusals == 0,
        "streams_waited_for": standing.waiting,
        "silent": standing.silent_nodes,
        "refused_by": standing.refusals,
        "refused": refusal,
    })
}

fn proxy(subscriber: &Subscriber) -> Value {
    let names = subscriber.names.iter().map(|(name, answer)| match answer {
        None => json!({ "name": name, "version": null, "accepted": null }),
        Some(Answer { version, refusal }) => json!({
            "name": name,
            "version": version.as_str(),
            "accepted": refusal.is_none(),
            "refusal": refusal,
        }),
    });
    json!({ "node": subscriber.node, "names": names.collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::test_support::Authority;
    use crate::sds::Standing;

    #[test]
    fn a_report_names_proxies_and_what_is_waited_for_and_holds_no_key() {
        let authority = Authority::new();
        let (identity, trust) = (authority.identity(), authority.trust());
        let answer = Answer { version: trust.version().clone(), refusal: Some("no".to_owned()) };
        let names = [("ROOTCA".to_owned(), Some(answer)), ("default".to_owned(), None)].into();
        let proxy = Subscriber { node: "web".to_owned(), names, ..Subscriber::default() };
        let key = identity.key().secret_pem().to_string();
        let secrets = Secrets { identity: Some(identity), trust: Some(trust), ..Secrets::default() };
        let upward = Upward { waits_for: vec!["x".to_owned()], ..Upward::default() };
        let standing = Standing {
            refusals: 1,
            refusal: Some(("db".to_owned(), "no".to_owned())),
            ..Standing::default()
        };
        let policies = Progress { version: Some("p".into()), standing, ..Progress::default() };
        let said = state(&secrets, &[proxy], &upward, &policies);
        assert_eq!(said.pointer("/policies/refused/proxy").unwrap(), "db");
        assert_eq!(said.pointer("/policies/accepted").unwrap(), false);
        assert_eq!(said.pointer("/proxies/0/names/0/refusal").unwrap(), "no");
        assert_eq!(said.pointer("/proxies/0/names/1/accepted").unwrap(), &Value::Null);
        assert_eq!(said.pointer("/upstream/waits_for/0").unwrap(), "x");
        assert_eq!(said.pointer("/upstream/connected").unwrap(), false);
        let text = said.to_string();
        assert!(key.lines().all(|line| !text.contains(line)) && !text.contains("PRIVATE"));
    }
}
