//! `burgrave policy`: who may call what, why, and what would change?

mod answer;
mod can;
mod cases;
mod cluster;
mod compile;
mod diff;
mod explain;
mod mesh;
mod migrate;
mod request;
mod sources;
mod terms;
mod validate;

use std::process::ExitCode;

use clap::Args;
use clap::Subcommand;

use crate::cli::console::Console;
use crate::cli::policy::answer::Answer;
use crate::config::Output;
use crate::config::Surroundings;

/// A question about policies, and how it is answered.
#[derive(Debug, Args)]
pub(super) struct PolicyArguments {
    /// `text` for people, `json` for machines
    #[arg(long, value_enum, default_value_t, global = true)]
    output: Output,
    #[command(subcommand)]
    command: PolicyCommand,
}

/// What can be asked about policies.
#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Say whether a request is allowed, and why: the policy, rule and field that decide; for a denial the nearest rule
    ///
    /// Examples:
    ///
    ///   burgrave policy explain --policies k8s/ --workload shop/api --from shop/web --method GET --path /v1/items
    ///   burgrave policy explain --cluster --workload shop/api-6d4f --curl "curl -X POST http://api.shop/v1/items"
    ///   kubectl -n shop logs deploy/api -c istio-proxy | tail -1 |
    ///     xargs -0 burgrave policy explain --cluster --workload shop/api --from shop/web --log-line
    ///
    /// Policies are those of --policies and of --cluster that apply to the workload. What is not said of the request is not
    /// known: where it decides, the answer is `cannot tell`, with the rules that hang on it. Headers are the exception: those
    /// that are not given are not sent. What a curl line does not say: who calls, from which address, the workload's own port.
    /// What a line of an access log does not say: who calls (unless it has downstream_peer_uri_san), most headers, claims,
    /// properties. Flags add to both, or take the place of what they say.
    ///
    /// A description (--request) has any of: protocol (http, tcp), method, path, normalize, host, headers, from, source_ip,
    /// remote_ip, destination_ip, port, sni, claims, properties, filters. `from: null` is plain text, `claims: null` no token.
    ///
    /// JSON: one object.
    ///
    ///   decision    allow, deny, depends
    ///   why         rule; no-allowing-rule; no-allowing-policy; unknown
    ///   by          the rule that decides, or null: kind, namespace, name, action, rule, fields
    ///   nearest     for a denial without a rule, the rule that allows and misses by the least
    ///   depends_on  the rules that hang on what is not known
    ///   besides     CUSTOM, AUDIT and dry run: what (custom, audit, dry-run-deny, dry-run-allow), rule, depends, says
    ///   policies    how many apply: allow, deny, custom, audit, dry_run
    ///   request     a list: part, is, remark
    ///   unknown     what is asked for and not known
    ///   remarks, workload, applies
    ///
    /// A field has: path, outcome (met, missed, unknown), negated, values, matched, part, was, remark.
    ///
    /// Exit codes: 0 allowed; 1 denied; 2 it depends on what is not known, or an error.
    #[command(verbatim_doc_comment)]
    Explain(Box<explain::Explain>),
    /// Say whether somebody can call a workload; or who can; or what somebody can call
    ///
    /// Examples:
    ///
    ///   burgrave policy can shop/web call shop/api --policies k8s/ --method GET --path /v1/items
    ///   burgrave policy can plaintext call shop/api --policies k8s/
    ///   burgrave policy can --who call shop/api --policies k8s/ --method GET --path /v1/items
    ///   burgrave policy can --what shop/web call --policies k8s/
    ///
    /// `shop/web` as caller is the service account web of namespace shop; as workload, what --workload says.
    ///
    /// --who asks about everybody whom policies name, one who stands for those whom a pattern describes, the service accounts of
    /// --account or of the cluster, anybody else of the mesh, and plain text. --what lists the rules that let the caller do
    /// something, of each workload that policies select or of the one that is given, with what they still ask of the request.
    ///
    /// JSON: as explain, with answer; with --who: workload and callers (who, peer, decision, why); with --what: workloads, each
    /// with workload, allowed_unless_denied, remarks, rules.
    ///
    /// Exit codes: 0 yes, or listed; 1 no; 2 it depends on what is not known, or an error.
    #[command(verbatim_doc_comment)]
    Can(Box<can::Can>),
    /// Test policies: requests with the decisions that are expected of them
    ///
    /// Example:
    ///
    ///   burgrave policy test tests/policies.yaml --policies k8s/
    ///
    /// where tests/policies.yaml is
    ///
    ///   workload: shop/api
    ///   cases:
    ///   - name: the web reads items
    ///     request: { from: shop/web, method: GET, path: /v1/items }
    ///     expect: allow
    ///     policy: shop/api-read      # optional: the policy that must decide
    ///   - name: nobody comes in plain text
    ///     request: { from: null, method: GET, path: /v1/items }
    ///     expect: deny
    ///
    /// A request is described as for `burgrave policy explain --request`. One that does not say enough to be decided fails.
    ///
    /// JSON: one object: failed, and cases, a list: file, name, ok, expected, failure, explanation.
    ///
    /// Exit codes: 0 all as expected; 1 some are not; 2 an error.
    #[command(verbatim_doc_comment)]
    Test(Box<cases::Test>),
    /// Say which decisions change between two sets of policies
    ///
    /// Examples:
    ///
    ///   burgrave policy diff k8s/ proposed/
    ///   burgrave policy diff k8s/ proposed/ --workload shop/api --access-log access.log
    ///
    /// Requests are made up from what both sets ask for: the values at the edges of each, and those beside them; for each workload
    /// that either set selects in another way. The same seed makes up the same. It is said how many were tried: that none of
    /// them changes is no proof.
    ///
    /// A request of an access log that neither set decides, for too little is known of it, is counted as undecided. That other
    /// tokens are believed (RequestAuthentication) or mutual TLS is asked for otherwise (PeerAuthentication) is a change too.
    ///
    /// JSON: one object: same, tried, changed, undecided, left_out, seed, and workloads, a list: workload, tried, changed, undecided, changes
    /// (old, new: decision, asks, asks_depends, rule; requests; example), tokens and mtls (null, or old and new).
    ///
    /// Exit codes: 0 nothing was seen to change; 1 something does; 2 nothing was, and some requests are undecided or workloads
    /// left out; or an error.
    #[command(verbatim_doc_comment)]
    Diff(Box<diff::Diff>),
    /// Say what of policies cannot be read, or may not mean what it seems to
    ///
    /// Examples:
    ///
    ///   burgrave policy validate k8s/
    ///   burgrave policy validate --cluster --strict
    ///
    /// It is what the admission webhook asks: what is an error here is refused there.
    ///
    /// JSON: one object: ok, objects, passed_over, and findings, a list: file, object, path, severity (error, warning), says.
    ///
    /// Exit codes: 0 no errors (with --strict, no warnings either); 1 some; 2 a file or the cluster cannot be read.
    #[command(verbatim_doc_comment)]
    Validate(Box<validate::Validate>),
    /// Print the policies of a workload as filters of Envoy
    ///
    /// Example:
    ///
    ///   burgrave policy compile --to envoy --policies k8s/ --workload shop/api >filters.yaml
    ///
    /// The filters stand in the order in which Envoy must run them: those that ask others, then, behind the filter that verifies
    /// tokens, those that write down, deny and allow. Where nothing applies the list is empty. The text is YAML for the list
    /// `http_filters` of Envoy's configuration (with --tcp, `filters` of a filter chain).
    ///
    /// JSON: one object: filters, a list.
    ///
    /// Exit codes: 0 done; 2 an error, also if Envoy could not be told some policy.
    #[command(verbatim_doc_comment)]
    Compile(Box<compile::Compile>),
    /// Print roles and bindings as authorization policies, and show that these decide alike
    ///
    /// Examples:
    ///
    ///   burgrave policy migrate --policies k8s/ >migrated.yaml
    ///   burgrave policy migrate --cluster
    ///
    /// Roles name services where policies select labels, so the services have to be among the files, or in the cluster. The policies
    /// go to standard output. What they cannot say goes to standard error: leaving it out only ever denies more. So does what came
    /// of trying requests on both, as by `burgrave policy diff`.
    ///
    /// JSON: one object: policies; unsaid, a list: by, path, why; comparison, as of `burgrave policy diff`.
    ///
    /// Exit codes: 0 no decision was seen to change; 1 some do; 2 none was, and workloads are left out; or an error.
    #[command(verbatim_doc_comment)]
    Migrate(Box<migrate::Migrate>),
}

impl PolicyArguments {
    pub(super) async fn run(self, around: Surroundings) -> ExitCode {
        let mut console = Console::of_process(self.output, around);
        let answer = match self.command {
            PolicyCommand::Explain(command) => command.run(&mut console).await,
            PolicyCommand::Can(command) => command.run(&mut console).await,
            PolicyCommand::Test(command) => command.run(&mut console).await,
            PolicyCommand::Diff(command) => command.run(&mut console).await,
            PolicyCommand::Validate(command) => command.run(&mut console).await,
            PolicyCommand::Compile(command) => command.run(&mut console).await,
            PolicyCommand::Migrate(command) => command.run(&mut console).await,
        };
        // An error ends as what cannot be told: 1 is an answer here.
        let answer = answer.unwrap_or_else(|error| {
            console.refuse(&error.to_string());
            Answer::Unknown
        });
        answer.into()
    }
}
