//! Pure: can this cluster carry the authority, and what will not work in it?

use crate::install::expected::Subject;
use crate::install::facts;
use crate::install::facts::Look;
use crate::install::facts::Node;
use crate::install::facts::reading;
use crate::install::findings::Finding;
use crate::install::findings::State;

/// The oldest version with sidecars that start first and a pause before the end of a container.
const LEAST: (u32, u32) = (1, 30);
/// The version that has pod certificates and trust bundles for everybody.
const CERTIFICATES: (u32, u32) = (1, 37);
/// How many old nodes are named.
const NAMED: usize = 10;

/// Whether the API server answers, and is new enough.
pub(super) fn api_server(version: &Look<String>) -> Finding {
    let subject = Subject::cluster("APIServer", "kubernetes");
    match version {
        Look::There(version) if numbers(version).is_some_and(|version| version < LEAST) => Finding::wrong(
            State::Differs,
            subject,
            format!("it is {version}, and 1.30 is the oldest that knows all of deploy/"),
            "upgrade the cluster",
        ),
        Look::There(version) => Finding::ok(subject, format!("it is {version}")),
        Look::Failed(why) => Finding::wrong(
            State::CannotLook,
            subject,
            why,
            "check the kubeconfig (--kubeconfig, KUBECONFIG) and the way to the API server",
        ),
        Look::Absent | Look::Forbidden => {
            Finding::ok(subject, "it answers, and does not say which version it is")
        }
    }
}

/// Whether the cluster serves what pod certificates need. Without it workloads are served by agents all the same.
pub(super) fn certificates(resources: &Look<Vec<String>>) -> Vec<Finding> {
    let one = |resource: &str, without: &str| {
        let subject = Subject::cluster("APIResource", &format!("{resource}.certificates.k8s.io/v1"));
        match resources {
            Look::There(served) if served.iter().any(|one| one == resource) => Finding::ok(subject, "served"),
            Look::There(_) | Look::Absent => Finding::wrong(
                State::Warning,
                subject,
                format!("this API server does not serve it: {without}"),
                "Kubernetes 1.37, or none if you do without",
            ),
            Look::Forbidden => facts::failed(subject, "you may not ask what the API server serves"),
            Look::Failed(why) => facts::failed(subject, why),
        }
    };
    vec![
        one(
            "podcertificaterequests",
            "projected pod certificates do not work here; agents, sidecars and SDS do",
        ),
        one(
            "clustertrustbundles",
            "pods cannot project the roots from a ClusterTrustBundle; the ConfigMaps in every namespace have them",
        ),
    ]
}

/// Names the kubelets on which pod certificates do not work.
pub(super) fn kubelets(nodes: &Look<Vec<Node>>) -> Finding {
    let subject = Subject::cluster("Node", "all");
    let nodes = match nodes {
        Look::There(nodes) => nodes,
        Look::Forbidden => return facts::forbidden(subject, reading::nodes()),
        Look::Failed(why) => return facts::failed(subject, why),
        Look::Absent => &Vec::new(),
    };
    let is_old = |node: &&Node| numbers(&node.kubelet).is_some_and(|version| version < CERTIFICATES);
    let old: Vec<_> =
        nodes.iter().filter(is_old).map(|node| format!("{} ({})", node.name, node.kubelet)).collect();
    match old.len() {
        0 => Finding::ok(subject, format!("the kubelets of {} node(s) can do pod certificates", nodes.len())),
        count => Finding::wrong(
            State::Warning,
            subject,
            format!(
                "{count} of {} kubelets are older than 1.37 and ask for no pod certificates by themselves; agents work there: {}",
                nodes.len(),
                named(&old, NAMED)
            ),
            "upgrade those nodes, or keep pods with projected pod certificates off them",
        ),
    }
}

/// The first `most` of `names`, and how many more there are.
pub(super) fn named(names: &[String], most: usize) -> String {
    let shown = names.iter().take(most).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(most) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Major and minor of `v1.37.2`, `v1.36.1-gke.100` and their like.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.trim_start_matches('v').split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_server_is_new_enough_or_it_is_said() {
        for (version, state) in [
            ("v1.37.2", State::Ok),
            ("v1.30.0-gke.7", State::Ok),
            ("v1.29.9", State::Differs),
            ("v2.0.0", State::Ok),
            ("unheard of", State::Ok),
        ] {
            assert_eq!(api_server(&Look::There(version.to_owned())).state, state, "{version}");
        }
        assert_eq!(api_server(&Look::Failed("refused".to_owned())).state, State::CannotLook);
    }

    #[test]
    fn what_is_not_served_is_a_warning_that_says_what_works_without() {
        let served = |names: &[&str]| Look::There(names.iter().map(|name| (*name).to_owned()).collect());
        let states = |look| certificates(&look).iter().map(|finding| finding.state).collect::<Vec<_>>();
        assert_eq!(
            states(served(&["podcertificaterequests", "clustertrustbundles"])),
            [State::Ok, State::Ok]
        );
        assert_eq!(states(served(&["clustertrustbundles"])), [State::Warning, State::Ok]);
        assert_eq!(states(Look::Absent), [State::Warning, State::Warning]);
        assert_eq!(states(Look::Forbidden), [State::CannotLook, State::CannotLook]);
        let says = &certificates(&Look::Absent)[0].says;
        assert!(says.contains("agents, sidecars and SDS do"), "{says}");
    }

    #[test]
    fn old_kubelets_are_named() {
        let node = |name: &str, kubelet: &str| Node { name: name.to_owned(), kubelet: kubelet.to_owned() };
        let nodes = vec![node("new", "v1.37.0"), node("old", "v1.36.4"), node("ancient", "v1.9.0")];
        let finding = kubelets(&Look::There(nodes));
        assert_eq!(finding.state, State::Warning);
        assert!(finding.says.starts_with("2 of 3 kubelets"), "{}", finding.says);
        assert!(finding.says.ends_with("old (v1.36.4), ancient (v1.9.0)"), "{}", finding.says);
        assert_eq!(kubelets(&Look::There(vec![node("new", "v1.37.0")])).state, State::Ok);
        assert!(kubelets(&Look::Forbidden).says.contains("`list` `nodes`"));
    }

    #[test]
    fn only_so_many_names_are_told() {
        let names: Vec<_> = (0..12).map(|number| number.to_string()).collect();
        assert_eq!(named(&names, 10), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more");
        assert_eq!(named(&names, 12), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11");
    }
}
