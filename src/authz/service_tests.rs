use prometheus_client::registry::Registry;

use super::*;
use crate::attest::test_support::attestor_and_token;
use crate::authz::enforced::Enforced;
use crate::authz::policy_set::PolicySet;
use crate::authz::tally::Tally;
use crate::authz::test_support::connection;
use crate::clock::Clock;

fn service(about: About) -> AuthorizationService {
    let audit = DecisionAudit::new(0.0, &Tally::default(), &mut Registry::default(), Clock::system());
    AuthorizationService { about, audit, trusted: None, wording: Wording::default() }
}

fn open() -> Judge {
    Judge::of(Enforced::new(PolicySet::default(), Vec::new(), &Tally::default()), Clock::system())
}

async fn ask(service: &AuthorizationService, token: Option<&str>, question: CheckRequest) -> (i32, String) {
    let mut request = Request::new(question);
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    let answer = service.check(request).await.unwrap().into_inner();
    assert!(answer.http_response.is_some());
    let status = answer.status.unwrap();
    (status.code, status.message)
}

/// Knows one account's workload.
#[derive(Debug)]
struct Only(&'static str);

impl Judges for Only {
    fn of<'a>(&'a self, caller: &'a Attested) -> BoxFuture<'a, Option<Judge>> {
        Box::pin(async move { (caller.service_account() == self.0).then(open) })
    }
}

#[tokio::test]
async fn on_its_own_socket_a_proxy_need_not_say_who_it_is() {
    let service = service(About::Own(open()));
    assert_eq!(ask(&service, None, connection()).await, (0, "no_allowing_policy".to_owned()));
}

#[tokio::test]
async fn what_makes_no_sense_is_denied_where_everything_is_allowed() {
    let service = service(About::Own(open()));
    assert_eq!(ask(&service, None, CheckRequest::default()).await, (7, "malformed_check".to_owned()));
}

#[tokio::test]
async fn the_ca_answers_only_who_proves_to_be_of_a_workload_that_it_knows() {
    let (attestor, token) = attestor_and_token("shop", "web");
    let callers = Callers::new(Arc::new(attestor), Clock::system());
    let about = |account| About::Callers { callers: callers.clone(), judges: Arc::new(Only(account)) };
    let unknown = (7, "unknown_asker".to_owned());
    let web = service(about("web"));
    assert_eq!(ask(&web, Some(&token), connection()).await.0, 0);
    assert_eq!(ask(&web, None, connection()).await, unknown);
    assert_eq!(ask(&web, Some("forged"), connection()).await, unknown);
    assert_eq!(ask(&service(about("other")), Some(&token), connection()).await, unknown);
}
