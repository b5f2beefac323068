//! Pure: what does the API server ask, and how is it answered? (`AdmissionReview`, `admission.k8s.io/v1`)
//!
//! A question is read twice: first without the objects in it, for which no depth is too deep, so that even one whose object cannot be
//! read has an answer.

use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;

use crate::authz::webhook::admission::Admission;
use crate::authz::webhook::admission::admit;

/// The only version that is spoken.
const VERSION: &str = "admission.k8s.io/v1";

/// What a question is about.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Question {
    /// Its name, which the answer repeats.
    pub uid: String,
    /// `CREATE`, `UPDATE` and others.
    pub operation: String,
    /// The object's kind.
    #[serde(default)]
    pub kind: Kind,
    /// Its namespace; empty for objects of the cluster.
    #[serde(default)]
    pub namespace: String,
    /// Its name; empty if the API server is to make one up.
    #[serde(default)]
    pub name: String,
}

/// A kind, as the API server knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Kind {
    /// Its name.
    pub kind: String,
}

/// Why a text is no question.
#[derive(Debug, thiserror::Error)]
pub enum NoQuestion {
    /// It is no review.
    #[error("the body is no AdmissionReview of {VERSION}: {0}")]
    Malformed(#[from] serde_json::Error),
    /// It is of another version.
    #[error(
        "the body is of `{0}`, and only {VERSION} is spoken; set admissionReviewVersions: [v1] in the webhook configuration"
    )]
    Version(String),
    /// It is an answer.
    #[error("the AdmissionReview has no request")]
    Empty,
}

/// A question that was read as far as it can be, and its answer.
#[derive(Debug)]
pub struct Answered {
    /// What it was about.
    pub question: Question,
    /// The answer.
    pub admission: Admission,
    /// Whether the objects in it could not be read at all.
    pub is_unreadable: bool,
}

#[derive(Serialize)]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Value>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
}

#[derive(Deserialize)]
struct Shallow {
    #[serde(default, rename = "apiVersion")]
    api_version: String,
    request: Option<Question>,
}

#[derive(Deserialize)]
struct Deep {
    request: Objects,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Objects {
    object: Option<Value>,
    old_object: Option<Value>,
}

/// Reads a question and answers it.
///
/// # Errors
/// If it is no question: nobody can be told then.
pub fn answer(body: &[u8]) -> Result<Answered, NoQuestion> {
    let shallow: Shallow = serde_json::from_slice(body)?;
    if shallow.api_version != VERSION {
        return Err(NoQuestion::Version(shallow.api_version.chars().take(64).collect()));
    }
    let question = shallow.request.ok_or(NoQuestion::Empty)?;
    // Nothing else is asked of us; what is deleted says nothing any more.
    if !matches!(question.operation.as_str(), "CREATE" | "UPDATE") {
        return Ok(Answered { question, admission: Admission::granted(), is_unreadable: false });
    }
    let objects = serde_json::from_slice(body).map(|deep: Deep| deep.request);
    let (admission, is_unreadable) = match objects {
        Ok(Objects { object: Some(object), old_object }) => {
            (admit(&object, old_object.as_ref().filter(|old| !old.is_null())), false)
        }
        Ok(Objects { object: None, .. }) => (Admission::refused("there is no object to look at"), true),
        Err(error) => (Admission::refused(format!("the object cannot be read: {error}")), true),
    };
    Ok(Answered { question, admission, is_unreadable })
}

impl Answered {
    /// The answer as the API server reads it.
    pub fn to_json(&self) -> Value {
        let status = self
            .admission
            .refused
            .as_ref()
            .map(|why| json!({ "code": 422, "reason": "Invalid", "message": why }));
        let response = Response {
            uid: &self.question.uid,
            allowed: status.is_none(),
            status,
            warnings: &self.admission.warnings,
        };
        json!({ "apiVersion": VERSION, "kind": "AdmissionReview", "response": response })
    }

    /// How it ended, in a word from a closed set.
    pub fn outcome(&self) -> &'static str {
        match (&self.admission.refused, self.admission.warnings.is_empty()) {
            (Some(_), _) if self.is_unreadable => "unreadable",
            (Some(_), _) => "refused",
            (None, false) => "warned",
            (None, true) => "granted",
        }
    }
}

#[cfg(test)]
#[path = "review_tests.rs"]
mod tests;
