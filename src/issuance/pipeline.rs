//! A certificate's way from request to chain: attestation, then five steps that every entrance shares.

use std::sync::Arc;

use time::OffsetDateTime;
use tokio::sync::watch;

use crate::attest::Attested;
use crate::attest::Attestor;
use crate::attest::Credentials;
use crate::attest::NotAttested;
use crate::census::Caller;
use crate::census::Census;
use crate::census::Leaf;
use crate::clock::Clock;
use crate::clock::Stopwatch;
use crate::issuance::audit;
use crate::issuance::grant::GrantPolicy;
use crate::issuance::grant::NotGranted;
use crate::issuance::metrics::IssuanceMetrics;
use crate::issuance::prepare::NotPrepared;
use crate::issuance::prepare::Prepared;
use crate::issuance::prepare::prepare;
use crate::issuance::profile::Profile;
use crate::signer::Issuer;
use crate::signer::SignError;
use crate::x509::Csr;
use crate::x509::csr::InvalidCsr;
use crate::x509::serial;

/// One request for a certificate.
#[derive(Debug)]
pub struct Request {
    /// Names this request in logs, in the audit trail and to the caller.
    pub id: String,
    /// What the caller shows.
    pub credentials: Credentials,
    /// PEM of a PKCS#10 request.
    pub csr: String,
    /// Wanted lifetime in seconds; zero or less for the default.
    pub lifetime: i64,
    /// Whether an identity other than the caller's own is asked for, as ztunnel does for its node's pods.
    pub for_another: bool,
}

/// What a proven caller asks for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Names this request in logs and in the audit trail.
    pub id: &'a str,
    /// A PKCS#10 request.
    pub csr: Encoded<'a>,
    /// Wanted lifetime in seconds; zero or less for the default.
    pub lifetime: i64,
    /// Whether an identity other than the caller's own is asked for.
    pub for_another: bool,
    /// Whether certificate and roots reach the caller as files that a kubelet keeps.
    pub by_files: bool,
}

/// A PKCS#10 request as it came.
#[derive(Clone, Copy, Debug)]
pub enum Encoded<'a> {
    /// In PEM.
    Pem(&'a str),
    /// In DER.
    Der(&'a [u8]),
}

impl Encoded<'_> {
    fn read(self) -> Result<Csr, InvalidCsr> {
        match self {
            Self::Pem(text) => Csr::from_pem(text.as_bytes()),
            Self::Der(der) => Csr::from_der(der),
        }
    }
}

/// A signed chain: leaf, intermediates, then all roots as one text, each element PEM.
#[derive(Debug)]
pub struct Issued {
    /// The chain.
    pub chain: Vec<String>,
    /// The first second of the leaf's life.
    pub not_before: OffsetDateTime,
    /// The last second of the leaf's life.
    pub not_after: OffsetDateTime,
}

impl Issued {
    /// The leaf and the intermediates: what a TLS end shows. Roots are not sent; peers have them already.
    pub fn without_roots(&self) -> &[String] {
        self.chain.split_last().map_or(&[], |(_, shown)| shown)
    }
}

/// Why a request got no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The caller is not who they might be.
    #[error(transparent)]
    Attest(#[from] NotAttested),
    /// The request itself is bad.
    #[error(transparent)]
    Csr(#[from] InvalidCsr),
    /// The caller may not have that.
    #[error(transparent)]
    Grant(#[from] NotGranted),
    /// There is nothing that could be signed.
    #[error(transparent)]
    Prepare(#[from] NotPrepared),
    /// The key or the operating system failed.
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl Refused {
    /// A short name for logs and metrics, from a closed set.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Attest(why) => why.reason(),
            Self::Csr(why) => why.reason(),
            Self::Grant(why) => why.reason(),
            Self::Prepare(why) => why.reason(),
            Self::Sign(_) => "signer",
        }
    }
}

/// Everything that issuing needs.
#[derive(Debug)]
pub struct Pipeline {
    attestor: Arc<dyn Attestor>,
    policy: GrantPolicy,
    issuer: watch::Receiver<Arc<Issuer>>,
    census: Census,
    clock: Clock,
    metrics: IssuanceMetrics,
}

impl Pipeline {
    /// Joins the parts; `issuer` may change while it runs.
    pub fn new(
        attestor: Arc<dyn Attestor>,
        policy: GrantPolicy,
        issuer: watch::Receiver<Arc<Issuer>>,
        census: Census,
        clock: Clock,
        metrics: IssuanceMetrics,
    ) -> Self {
        Self { attestor, policy, issuer, census, clock, metrics }
    }

    /// Issues a certificate, or says why not; both are counted and written down.
    ///
    /// # Errors
    /// As the step that refused it.
    pub async fn issue(&self, request: Request) -> Result<Issued, Refused> {
        let took = Stopwatch::start();
        let result = self.steps(&request).await;
        if let Err(refused) = &result {
            audit::refused(&request.id, refused.reason(), refused);
        }
        let outcome = result.as_ref().map(|_| ()).map_err(Refused::reason);
        self.metrics.count(outcome, took.elapsed());
        result
    }

    async fn steps(&self, request: &Request) -> Result<Issued, Refused> {
        // 1. Who is asking? Strangers get no further, and cost no signature check.
        let caller = self.attestor.attest(&request.credentials).await?;
        let asked = Asked {
            id: &request.id,
            csr: Encoded::Pem(&request.csr),
            lifetime: request.lifetime,
            for_another: request.for_another,
            by_files: false,
        };
        let issuer = self.issuer.borrow().clone();
        issue_to(&caller, asked, &self.policy, issuer, &self.census, self.clock.now()).await
    }
}

/// From a proven caller to a chain: the steps that all entrances share. A refusal is for the entrance to write down.
///
/// # Errors
/// As the step that refused it.
pub async fn issue_to(
    caller: &Attested,
    asked: Asked<'_>,
    policy: &GrantPolicy,
    issuer: Arc<Issuer>,
    census: &Census,
    now: OffsetDateTime,
) -> Result<Issued, Refused> {
    // 2. Do they hold the key? Nothing but the public key survives this step.
    let csr = asked.csr.read()?.verify()?;
    // 3. What may they have? The identity comes from step 1.
    if asked.for_another {
        return Err(NotGranted::ForAnother.into());
    }
    let grant = policy.grant(caller, asked.lifetime)?;
    // Whoever cannot tell others of a leaf does not sign it: they would rotate without its holder.
    if let Some(why) = census.fenced() {
        return Err(SignError(why).into());
    }
    // 4. Exactly what will be signed?
    let spiffe_id = grant.spiffe_id().to_string();
    let serial = serial::draw().map_err(|none| SignError(none.to_string()))?;
    let prepared = prepare(csr, grant, policy.profile(), issuer, serial, now)?;
    // 5. Sign it, once the intent is on record: a record exists for every certificate that could exist.
    audit::intended(asked.id, caller, &spiffe_id, &prepared);
    census.will_sign(&holder(caller, spiffe_id, asked.by_files), &leaf(&prepared, policy.profile()));
    let serial = prepared.serial().clone();
    let (not_before, not_after) = (prepared.not_before(), prepared.not_after());
    let chain = sign(prepared).await?;
    // 6. The chain goes out.
    audit::issued(asked.id, &serial);
    Ok(Issued { chain, not_before, not_after })
}

/// The caller, as one who will hold a certificate.
fn holder(caller: &Attested, spiffe_id: String, by_files: bool) -> Caller {
    let pod = caller.pod().map(|pod| (format!("{}/{}", caller.namespace(), pod.name), pod.uid.clone()));
    Caller { spiffe_id, pod, node: caller.node().map(|node| node.name.clone()), by_files }
}

/// The leaf, as one that may be in use: peers whose clocks are late take it for as much longer as it is backdated for them.
fn leaf(prepared: &Prepared, profile: &Profile) -> Leaf {
    Leaf {
        authority: prepared.issuer().authority().to_owned(),
        until: prepared.not_after() + profile.backdate(),
        serial: prepared.serial().to_string(),
        bundle: prepared.issuer().bundle_digest().to_owned(),
    }
}

/// Signs on this task, or on a thread of its own if the key is of a slow kind.
async fn sign(prepared: Prepared) -> Result<Vec<String>, SignError> {
    if !prepared.issuer().signer().is_slow() {
        return prepared.sign();
    }
    tokio::task::spawn_blocking(|| prepared.sign())
        .await
        .unwrap_or_else(|gone| Err(SignError(gone.to_string())))
}

#[cfg(test)]
#[path = "pipeline_tests.rs"]
mod tests;
