//! A certificate's way from request to chain: six steps in one function.

use std::sync::Arc;

use tokio::sync::watch;

use crate::attest::Attestor;
use crate::attest::Credentials;
use crate::attest::NotAttested;
use crate::clock::Clock;
use crate::clock::Stopwatch;
use crate::issuance::audit;
use crate::issuance::grant::GrantPolicy;
use crate::issuance::grant::NotGranted;
use crate::issuance::metrics::IssuanceMetrics;
use crate::issuance::prepare::NotPrepared;
use crate::issuance::prepare::Prepared;
use crate::issuance::prepare::prepare;
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

/// A signed chain: leaf, intermediates, then all roots as one text, each element PEM.
#[derive(Debug)]
pub struct Issued {
    /// The chain.
    pub chain: Vec<String>,
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
    clock: Clock,
    metrics: IssuanceMetrics,
}

impl Pipeline {
    /// Joins the parts; `issuer` may change while it runs.
    pub fn new(
        attestor: Arc<dyn Attestor>,
        policy: GrantPolicy,
        issuer: watch::Receiver<Arc<Issuer>>,
        clock: Clock,
        metrics: IssuanceMetrics,
    ) -> Self {
        Self { attestor, policy, issuer, clock, metrics }
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
        // 2. Do they hold the key? Nothing but the public key survives this step.
        let csr = Csr::from_pem(request.csr.as_bytes())?.verify()?;
        // 3. What may they have? The identity comes from step 1.
        if request.for_another {
            return Err(NotGranted::ForAnother.into());
        }
        let grant = self.policy.grant(&caller, request.lifetime)?;
        // 4. Exactly what will be signed?
        let spiffe_id = grant.spiffe_id().to_string();
        let issuer = self.issuer.borrow().clone();
        let serial = serial::draw().map_err(|none| SignError(none.to_string()))?;
        let prepared = prepare(csr, grant, self.policy.profile(), issuer, serial, self.clock.now())?;
        // 5. Sign it, once the intent is on record: a record exists for every certificate that could exist.
        audit::intended(&request.id, &caller, &spiffe_id, &prepared);
        let serial = prepared.serial().clone();
        let chain = sign(prepared).await?;
        // 6. The chain goes out.
        audit::issued(&request.id, &serial);
        Ok(Issued { chain })
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
