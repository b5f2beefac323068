//! A request's way from the desk to its answer: the steps in one function.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::certificates::v1::PodCertificateRequest;
use k8s_openapi::api::certificates::v1::PodCertificateRequestStatus;
use kube::Api;
use kube::Client;
use kube::Resource;
use kube::api::PostParams;
use tokio::sync::watch;

use crate::attest::ApiPod;
use crate::attest::LivePod;
use crate::census::Census;
use crate::chance::draw;
use crate::clock::Clock;
use crate::issuance::Asked;
use crate::issuance::Encoded;
use crate::issuance::GrantPolicy;
use crate::issuance::Issued;
use crate::issuance::Refused;
use crate::issuance::audit;
use crate::issuance::issue_to;
use crate::k8s::Leadership;
use crate::k8s::Trouble;
use crate::pod_certificates::decide::Denial;
use crate::pod_certificates::decide::Look;
use crate::pod_certificates::decide::No;
use crate::pod_certificates::decide::Terms;
use crate::pod_certificates::decide::decide;
use crate::pod_certificates::decide::refusal;
use crate::pod_certificates::desk::Job;
use crate::pod_certificates::hindrance::Hindrance;
use crate::pod_certificates::request::PodRequest;
use crate::pod_certificates::status;
use crate::pod_certificates::times::PodProfile;
use crate::signer::Issuer;

/// How long the API server may take over one answer.
const LIMIT: Duration = Duration::from_secs(10);
/// What of a written object comes back: its metadata, which nobody reads, instead of the whole.
const METADATA_ALONE: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// What it takes to answer requests.
pub(super) struct Worker {
    pub(super) client: Client,
    pub(super) signer_name: String,
    pub(super) policy: GrantPolicy,
    pub(super) profile: PodProfile,
    pub(super) issuer: watch::Receiver<Arc<Issuer>>,
    pub(super) leadership: Leadership,
    pub(super) census: Census,
    pub(super) clock: Clock,
}

/// The answer that was written.
#[derive(Debug)]
pub(super) enum Answer {
    /// A certificate.
    Issued,
    /// A denial.
    Denied(Denial),
}

impl Worker {
    /// Answers the request, if there is an answer now.
    pub(super) async fn answer(&self, job: &Job) -> Result<Answer, Hindrance> {
        let request = &*job.request;
        if !self.leadership.holds() {
            return Err(Hindrance::NotLeading);
        }
        match self.settle(request, job.pod.as_ref()).await {
            Ok(issued) => {
                let status = status::issued(&issued, self.clock.now(), draw());
                self.write(request, &status).await.map(|()| Answer::Issued)
            }
            Err(No::Deny(denial)) => {
                self.write(request, &status::denied(&denial, self.clock.now())).await?;
                audit::refused(&request.audit_id(), denial.label, &denial);
                Ok(Answer::Denied(denial))
            }
            Err(No::Wait(hindrance)) => Err(hindrance),
            Err(No::LookAfresh) => Err(Hindrance::PodAbsent(request.full_name())),
        }
    }

    async fn settle(&self, request: &PodRequest, watched: Option<&LivePod>) -> Result<Issued, No> {
        let mut issuer = self.issuer.borrow().clone();
        let mut now = self.clock.now();
        // 1. Whose pod is it, and how long may its certificate live? The watch answers, unless it would speak against it.
        let terms = Terms::under(&issuer, &self.profile, now);
        let due = match decide(request, Look::Watched(watched), &terms) {
            Err(No::LookAfresh) => {
                let fresh = self.read_pod(request).await?;
                (issuer, now) = (self.issuer.borrow().clone(), self.clock.now());
                decide(request, Look::Fresh(fresh.as_ref()), &Terms::under(&issuer, &self.profile, now))?
            }
            decided => decided?,
        };
        // 2. The steps that all entrances share, from the proof of possession to the signature.
        let csr = Encoded::Der(&request.stub);
        let id = request.audit_id();
        let asked = Asked { id: &id, csr, lifetime: due.seconds, for_another: false, by_files: true };
        issue_to(&due.caller, asked, &self.policy, issuer, &self.census, now).await.map_err(|refused| {
            let no = refusal(&refused);
            // A denial is on record once it is written. What waits would be there again with each try, but a signature that
            // was intended has to have an end.
            if matches!(refused, Refused::Sign(_)) {
                audit::refused(&id, refused.reason(), &refused);
            }
            no
        })
    }

    /// The pod as it is now, and not as it was when the watch last showed it.
    async fn read_pod(&self, request: &PodRequest) -> Result<Option<LivePod>, Hindrance> {
        let pods: Api<ApiPod> = Api::namespaced(self.client.clone(), &request.pod.namespace);
        match Trouble::within(LIMIT, pods.get_opt(&request.pod.name)).await {
            Ok(pod) => Ok(pod.map(LivePod::from)),
            Err(trouble) => Err(trouble.into()),
        }
    }

    /// Writes the answer, if the object is still the one that was decided on.
    async fn write(
        &self,
        request: &PodRequest,
        status: &PodCertificateRequestStatus,
    ) -> Result<(), Hindrance> {
        let defect = |error: &dyn std::error::Error| Hindrance::Defect(error.to_string());
        let body = status::body(request, status).map_err(|error| defect(&error))?;
        let path = PodCertificateRequest::url_path(&(), Some(&request.pod.namespace));
        let mut update = kube::core::Request::new(path)
            .replace_subresource("status", &request.name, &PostParams::default(), body)
            .map_err(|error| defect(&error))?;
        update.headers_mut().insert(http::header::ACCEPT, http::HeaderValue::from_static(METADATA_ALONE));
        if !self.leadership.holds() {
            return Err(Hindrance::NotLeading);
        }
        Trouble::within(LIMIT, self.client.request_text(update))
            .await
            .map(drop)
            .map_err(|trouble| Hindrance::of_a_write(trouble, &self.signer_name))
    }
}
