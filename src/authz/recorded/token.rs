//! Pure: which claims does a token say, as the filter that verifies it would pass them on?

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Map;
use serde_json::Value;

/// Claims that hold several texts with spaces between; the filter makes lists of them.
const LISTS: [&str; 2] = ["scope", "permission"];

/// What is remarked where claims are taken from a token that nobody has verified.
pub const UNVERIFIED: &str = "the claims are what the token says; it was not verified here, and a proxy that cannot verify it answers 401";

/// The claims of a JWT, unverified; none if it is not one.
pub fn claims(token: &str) -> Option<Map<String, Value>> {
    let mut parts = token.split('.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    let bytes = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    let claims: Map<String, Value> = serde_json::from_slice(&bytes).ok()?;
    parts.next().is_none().then(|| as_passed_on(claims))
}

/// The claims as the filter passes them on.
pub fn as_passed_on(mut claims: Map<String, Value>) -> Map<String, Value> {
    for name in LISTS {
        if let Some(Value::String(text)) = claims.get(name) {
            let list: Vec<Value> = text.split(' ').filter(|one| !one.is_empty()).map(Value::from).collect();
            claims.insert(name.to_owned(), Value::Array(list));
        }
    }
    claims
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn claims_are_read_and_scopes_are_lists() {
        let payload = URL_SAFE_NO_PAD.encode(r#"{"iss":"a","scope":"read write"}"#);
        let read = claims(&format!("e30.{payload}.sig")).unwrap();
        assert_eq!(Value::Object(read), json!({ "iss": "a", "scope": ["read", "write"] }));
        for bad in ["", "a.b", "a.b.c", "a.!!.c", &format!("e30.{payload}.c.d")] {
            assert_eq!(claims(bad), None, "{bad}");
        }
    }
}
