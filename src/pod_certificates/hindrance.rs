//! Pure: why is a request still pending, who has to know, and when is it looked at again?
//!
//! A kubelet takes `Denied` and `Failed` as final for the pod, so no trouble of ours ever becomes either: the request waits.

use time::OffsetDateTime;

use crate::k8s::Trouble;

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub(super) enum Hindrance {
    /// The API server knows no such pod.
    #[error("the pod `{0}` is not there; its request waits for it, or for its own removal")]
    PodAbsent(String),
    /// The pod is being deleted.
    #[error("the pod `{0}` is being deleted; its request goes with it")]
    PodEnds(String),
    /// The request carries its key in a form that this API does not have.
    #[error(
        "the request `{0}` carries no PKCS#10 stub: its node's kubelet is older than 1.36 and sends the key in another form; it waits until that kubelet is upgraded"
    )]
    OldKubelet(String),
    /// The issuer has run out.
    #[error(
        "the issuer's certificates expired at {0}; pod certificates wait until the CA has a valid issuer"
    )]
    IssuerExpired(OffsetDateTime),
    /// The issuer's time has not come.
    #[error(
        "the issuer's certificates are not valid before {0}; pod certificates wait; check this machine's clock"
    )]
    IssuerNotYetValid(OffsetDateTime),
    /// The issuer is too near its end.
    #[error(
        "the issuer's certificates expire at {0}, and Kubernetes takes no pod certificate of less than an hour; renew the issuer, and what waits is issued"
    )]
    IssuerEnds(OffsetDateTime),
    /// The key could not be used, or there was no randomness.
    #[error("signing failed: {0}")]
    Signer(String),
    /// The clocks of the API server and of this machine are apart.
    #[error(
        "the API server's clock and this machine's are more than a minute apart: {0}; set the clocks right"
    )]
    Clock(String),
    /// We lack the right to sign.
    #[error(
        "the API server does not let us sign: {0}; grant `sign` on `signers.certificates.k8s.io`, resourceNames [`{1}`]"
    )]
    MayNotSign(String, String),
    /// The API server could not be asked, or said no.
    #[error(transparent)]
    Api(#[from] Trouble),
    /// Something that only a change of this program can help.
    #[error("this is a defect of Burgrave, please report it: {0}")]
    Defect(String),
    /// Somebody else has written the object, or removed it; the watch tells what there is now.
    #[error("the request changed while it was worked on")]
    Overtaken,
    /// This process no longer leads.
    #[error("this process no longer leads")]
    NotLeading,
}

/// When to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// After a pause that doubles with each try.
    Soon,
    /// After a long pause: trying sooner would be spinning.
    Slowly,
    /// Not before something has changed: the request, its pod or the issuer.
    WhenSomethingChanges,
    /// Not before the API server is back, or lets us; that holds for all requests, and one of them finds it out.
    WhenTheApiServerIsBack,
}

/// Who has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// Nobody: it is part of the day's work.
    Ordinary,
    /// It may pass by itself.
    Warning,
    /// Somebody must act.
    Error,
}

impl Hindrance {
    /// A short name for logs and metrics, from a closed set.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::PodAbsent(_) => "pod_absent",
            Self::PodEnds(_) => "pod_ends",
            Self::OldKubelet(_) => "old_kubelet",
            Self::IssuerExpired(_) => "issuer_expired",
            Self::IssuerNotYetValid(_) => "issuer_not_yet_valid",
            Self::IssuerEnds(_) => "issuer_ends",
            Self::Signer(_) => "signer",
            Self::Clock(_) => "clock",
            Self::MayNotSign(..) => "may_not_sign",
            Self::Api(trouble) if trouble.is_forbidden() => "forbidden",
            Self::Api(_) => "api_server",
            Self::Defect(_) => "defect",
            Self::Overtaken => "overtaken",
            Self::NotLeading => "not_leading",
        }
    }

    /// When to try again.
    pub(super) fn pace(&self) -> Pace {
        match self {
            // Its coming shows in the watch of pods, and its request is removed with it.
            Self::PodAbsent(_) | Self::PodEnds(_) | Self::OldKubelet(_) => Pace::WhenSomethingChanges,
            // What holds for one holds for all: they must not each sign in vain to find it out.
            Self::MayNotSign(..) | Self::Clock(_) => Pace::WhenTheApiServerIsBack,
            Self::Api(trouble) if trouble.is_forbidden() => Pace::WhenTheApiServerIsBack,
            Self::Api(Trouble::Answer(error)) if matches!(error.as_ref(), kube::Error::SerdeError(_)) => {
                Pace::Slowly
            }
            Self::Defect(_) => Pace::Slowly,
            Self::Api(Trouble::Silent(_)) => Pace::WhenTheApiServerIsBack,
            Self::Api(Trouble::Answer(error)) if !matches!(error.as_ref(), kube::Error::Api(_)) => {
                Pace::WhenTheApiServerIsBack
            }
            _ => Pace::Soon,
        }
    }

    /// Who has to know.
    pub(super) fn weight(&self) -> Weight {
        match self {
            Self::PodAbsent(_) | Self::PodEnds(_) | Self::Overtaken | Self::NotLeading => Weight::Ordinary,
            Self::IssuerExpired(_) | Self::IssuerEnds(_) | Self::Defect(_) | Self::MayNotSign(..) => {
                Weight::Error
            }
            _ => Weight::Warning,
        }
    }

    /// What came of writing the status of a request of `signer_name`.
    pub(super) fn of_a_write(trouble: Trouble, signer_name: &str) -> Self {
        if trouble.is_overtaken() {
            return Self::Overtaken;
        }
        let Trouble::Answer(error) = &trouble else { return trouble.into() };
        let kube::Error::Api(status) = error.as_ref() else { return trouble.into() };
        let causes = || status.details.iter().flat_map(|details| &details.causes);
        // The right to sign is looked at by the validation of the object, so its lack is not said by a 403.
        if causes().any(|cause| cause.field == "spec.signerName" && cause.reason == "FieldValueForbidden") {
            return Self::MayNotSign(status.message.clone(), signer_name.to_owned());
        }
        if causes().any(|cause| cause.field == "status.notBefore") {
            return Self::Clock(status.message.clone());
        }
        match trouble.is_final() {
            true => Self::Defect(status.message.clone()),
            false => trouble.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn answer(code: u16, cause: Option<(&str, &str)>) -> Trouble {
        let causes: Vec<_> = cause
            .map(|(field, reason)| serde_json::json!({"field": field, "reason": reason, "message": "m"}))
            .into_iter()
            .collect();
        let message = if code == 403 { "user `u` cannot update resource `r`" } else { "its words" };
        let status = serde_json::json!({"code": code, "message": message, "details": {"causes": causes}});
        let status: kube::core::Status = serde_json::from_value(status).unwrap();
        Trouble::Answer(Box::new(kube::Error::Api(Box::new(status))))
    }

    #[test]
    fn each_answer_to_a_write_has_its_reason_and_its_pace() {
        for (reason, pace, trouble) in [
            ("overtaken", Pace::Soon, answer(409, None)),
            ("overtaken", Pace::Soon, answer(404, None)),
            (
                "may_not_sign",
                Pace::WhenTheApiServerIsBack,
                answer(422, Some(("spec.signerName", "FieldValueForbidden"))),
            ),
            (
                "clock",
                Pace::WhenTheApiServerIsBack,
                answer(422, Some(("status.notBefore", "FieldValueInvalid"))),
            ),
            ("defect", Pace::Slowly, answer(422, Some(("status.certificateChain", "FieldValueInvalid")))),
            ("defect", Pace::Slowly, answer(400, None)),
            ("forbidden", Pace::WhenTheApiServerIsBack, answer(403, None)),
            ("api_server", Pace::Soon, answer(500, None)),
            ("api_server", Pace::Soon, answer(429, None)),
            ("api_server", Pace::WhenTheApiServerIsBack, Trouble::Silent(Duration::from_secs(1))),
        ] {
            let text = trouble.to_string();
            let hindrance = Hindrance::of_a_write(trouble, "example.org/workload");
            assert_eq!((hindrance.reason(), hindrance.pace()), (reason, pace), "{text}");
        }
    }

    #[test]
    fn the_lack_of_the_right_to_sign_is_told_with_the_rule_to_grant() {
        let lack = answer(422, Some(("spec.signerName", "FieldValueForbidden")));
        let said = Hindrance::of_a_write(lack, "example.org/workload").to_string();
        assert!(said.contains("grant `sign`") && said.contains("[`example.org/workload`]"), "{said}");
    }
}
