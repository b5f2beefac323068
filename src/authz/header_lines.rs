//! Pure: which header lines does a policy see, of those that were sent?
//!
//! Envoy looks at each line of a header by itself, but for some headers it makes one line of several before any filter sees them. A
//! policy that asks for `authorization: a` is then not met by a request with the lines `a` and `b`, for what it is shown is `a,b`. Whoever
//! makes a [`crate::authz::Request`] of lines has to do the same; what Envoy itself tells to an authorizer has all lines joined.

/// The headers of which Envoy 1.40 makes one line, sorted. It was asked about each; a story compares some of them again.
const JOINED: [&str; 51] = [
    "accept",
    "accept-encoding",
    "access-control-request-headers",
    "access-control-request-method",
    "access-control-request-private-network",
    "authorization",
    "cache-control",
    "content-encoding",
    "content-type",
    "expect",
    "grpc-accept-encoding",
    "grpc-timeout",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "origin",
    "pragma",
    "referer",
    "user-agent",
    "via",
    "x-client-trace-id",
    "x-envoy-attempt-count",
    "x-envoy-decorator-operation",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-external-address",
    "x-envoy-force-trace",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-ip-tags",
    "x-envoy-is-timeout-retry",
    "x-envoy-max-retries",
    "x-envoy-original-host",
    "x-envoy-original-path",
    "x-envoy-retriable-header-names",
    "x-envoy-retriable-status-codes",
    "x-envoy-retry-grpc-on",
    "x-envoy-retry-on",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-stream-duration-ms",
    "x-forwarded-client-cert",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-request-id",
];

/// Whether a policy sees all lines of this header as one. The name is in lower case.
pub fn is_joined(name: &str) -> bool {
    JOINED.binary_search(&name).is_ok()
}

/// The lines as a policy sees them. Names are in lower case; spaces around values are taken off, and empty lines of a header that is
/// joined leave no comma.
pub fn as_seen<'a>(lines: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<(&'a str, String)> {
    let mut seen: Vec<(&str, String)> = Vec::new();
    for (name, value) in lines {
        let value = value.trim_matches([' ', '\t']);
        let first = seen.iter_mut().find(|(known, _)| *known == name).filter(|_| is_joined(name));
        match first {
            None => seen.push((name, value.to_owned())),
            Some(_) if value.is_empty() => {}
            Some((_, joined)) => {
                if !joined.is_empty() {
                    joined.push(',');
                }
                joined.push_str(value);
            }
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_because_they_are_sorted() {
        assert!(JOINED.is_sorted());
        assert!(is_joined("authorization") && is_joined("x-request-id") && !is_joined("cookie"));
    }

    #[test]
    fn lines_are_seen_as_envoy_shows_them() {
        for (lines, expected) in [
            (vec![("x-h", "a"), ("x-h", "b")], vec![("x-h", "a"), ("x-h", "b")]),
            (vec![("cookie", "a"), ("cookie", "b")], vec![("cookie", "a"), ("cookie", "b")]),
            (vec![("authorization", "a"), ("authorization", "b")], vec![("authorization", "a,b")]),
            (vec![("accept", " a "), ("x-h", "c"), ("accept", "\tb")], vec![("accept", "a,b"), ("x-h", "c")]),
            (vec![("accept", ""), ("accept", "a"), ("accept", "")], vec![("accept", "a")]),
        ] {
            let seen = as_seen(lines.clone());
            let seen: Vec<(&str, &str)> = seen.iter().map(|(name, value)| (*name, value.as_str())).collect();
            assert_eq!(seen, expected, "{lines:?}");
        }
    }
}
