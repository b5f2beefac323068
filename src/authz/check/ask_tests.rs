use serde_json::json;

use super::*;
use crate::proto::envoy::Address;
use crate::proto::envoy::AttributeContext;
use crate::proto::envoy::CheckedRequest;
use crate::proto::envoy::HeaderMap;
use crate::proto::envoy::HeaderValue;
use crate::proto::envoy::SocketAddress;
use crate::proto::envoy::TlsSession;

fn peer(ip: &str, port: u32) -> CheckedPeer {
    let socket = SocketAddress {
        address: ip.to_owned(),
        port_specifier: Some(PortSpecifier::PortValue(port)),
        ..SocketAddress::default()
    };
    let address = Address { address: Some(AddressKind::SocketAddress(socket)) };
    CheckedPeer { address: Some(address), ..CheckedPeer::default() }
}

fn attributes(http: CheckedHttp) -> AttributeContext {
    AttributeContext {
        source: Some(peer("192.0.2.1", 40000)),
        destination: Some(peer("192.0.2.2", 8080)),
        request: Some(CheckedRequest { http: Some(http), time: None }),
        ..AttributeContext::default()
    }
}

fn get(headers: &[(&str, &str)]) -> CheckedHttp {
    CheckedHttp {
        method: "GET".to_owned(),
        path: "/a?b".to_owned(),
        host: "Shop:80".to_owned(),
        headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        ..CheckedHttp::default()
    }
}

fn read(asked: AttributeContext, trusted: Trusted) -> Result<Asked, MalformedCheck> {
    Asked::read(CheckRequest { attributes: Some(asked) }, trusted)
}

#[test]
fn a_question_of_envoy_is_what_it_says() {
    let mut asked = attributes(get(&[(":path", "/other"), ("x-a", "1,2")]));
    asked.source.as_mut().unwrap().principal = "spiffe://td/ns/a/sa/b".to_owned();
    asked.tls_session = Some(TlsSession { sni: "Srv.Test".to_owned() });
    asked.context_extensions.insert("tier".to_owned(), "gold".to_owned());
    let asked = read(asked, None).unwrap();
    assert!(asked.doubts().joined_headers);
    asked.with(|request| {
        assert_eq!(request.peer.unwrap().uris, ["spiffe://td/ns/a/sa/b"]);
        assert_eq!(request.source_ip, Some("192.0.2.1".parse().unwrap()));
        assert_eq!(request.remote_ip, request.source_ip);
        assert_eq!(request.destination_ip, Some("192.0.2.2".parse().unwrap()));
        assert_eq!((request.destination_port, request.sni), (Some(8080), "srv.test"));
        let http = request.http.unwrap();
        assert_eq!((http.method, http.path, http.host, http.bare_path()), ("GET", "/a?b", "Shop:80", "/a"));
        assert_eq!(http.headers, [("x-a", "1,2")]);
        assert_eq!(
            Value::Object(request.metadata.unwrap().clone()),
            json!({"envoy.filters.http.rbac": {"tier": "gold"}})
        );
    });
}

#[test]
fn raw_header_lines_stay_as_they_were_sent() {
    let line = |key: &str, raw: &[u8]| HeaderValue {
        key: key.to_owned(),
        raw_value: raw.to_vec(),
        value: String::new(),
    };
    let headers = vec![line("X-A", b"1"), line("x-a", b"2,3"), line(":method", b"PUT"), line("x-b", b"\xff")];
    let http = CheckedHttp { header_map: Some(HeaderMap { headers }), ..get(&[("x-a", "no")]) };
    let asked = read(attributes(http), None).unwrap();
    assert!(!asked.doubts().joined_headers);
    asked.with(|request| {
        let lines = request.http.unwrap().headers;
        assert_eq!(lines, [("x-a", "1"), ("x-a", "2,3"), ("x-b", "\u{fffd}")]);
    });
}

#[test]
fn what_lacks_what_every_question_has_is_malformed() {
    let with = |change: fn(&mut AttributeContext)| {
        let mut asked = attributes(get(&[]));
        change(&mut asked);
        read(asked, None).unwrap_err()
    };
    fn http(asked: &mut AttributeContext) -> &mut CheckedHttp {
        asked.request.as_mut().unwrap().http.as_mut().unwrap()
    }
    assert_eq!(Asked::read(CheckRequest::default(), None), Err(MalformedCheck::Missing("attributes")));
    assert_eq!(with(|asked| asked.source = None), MalformedCheck::Missing("source"));
    assert_eq!(with(|asked| asked.destination = None), MalformedCheck::Missing("destination"));
    assert_eq!(
        with(|asked| asked.source = Some(CheckedPeer::default())),
        MalformedCheck::Missing("source.address")
    );
    for bad in ["", "localhost", "192.0.2.1:80", "192.0.2.256", "10.0.0.0/8"] {
        let mut asked = attributes(get(&[]));
        asked.source = Some(peer(bad, 1));
        assert_eq!(read(asked, None), Err(MalformedCheck::Address("source.address")), "{bad}");
    }
    assert_eq!(
        with(|asked| asked.destination = Some(peer("192.0.2.2", 65536))),
        MalformedCheck::Address("destination.address")
    );
    assert_eq!(with(|asked| http(asked).method.clear()), MalformedCheck::Missing("request.http.method"));
    assert_eq!(
        with(|asked| asked.source.as_mut().unwrap().certificate = "x".to_owned()),
        MalformedCheck::Certificate
    );
    for bad in ["", "a", "*", "http://h/a", "/a#b", "/a\0b", "/a\r\nb"] {
        let asked = attributes(CheckedHttp { path: bad.to_owned(), ..get(&[]) });
        assert_eq!(read(asked, None), Err(MalformedCheck::Path), "{bad}");
    }
}

#[test]
fn addresses_are_compared_in_one_form() {
    let mut asked = attributes(get(&[]));
    asked.source = Some(peer("::ffff:192.0.2.9", 1));
    read(asked, None).unwrap().with(|request| {
        assert_eq!(request.source_ip, Some("192.0.2.9".parse().unwrap()));
    });
}

#[test]
fn the_client_is_whom_a_believed_proxy_names() {
    let unknown: Option<&str> = None;
    for (told, trusted, expected) in [
        (None, None, Some("192.0.2.1")),
        (Some("203.0.113.9"), None, unknown),
        (Some("203.0.113.9"), Some(0), Some("192.0.2.1")),
        (Some("203.0.113.9,192.0.2.1"), Some(1), Some("203.0.113.9")),
        (Some("203.0.113.8, 203.0.113.9,192.0.2.1"), Some(1), Some("203.0.113.9")),
        (Some("203.0.113.8,203.0.113.9,192.0.2.1"), Some(2), Some("203.0.113.8")),
        // Fewer than are believed: nobody in front of ours told anything.
        (Some("192.0.2.1"), Some(1), Some("192.0.2.1")),
        // Our own listener did not write its peer: it is not of the kind that was said.
        (Some("203.0.113.9"), Some(1), unknown),
        (Some("nobody,192.0.2.1"), Some(1), unknown),
    ] {
        let headers: Vec<_> = told.into_iter().map(|told| ("x-forwarded-for", told)).collect();
        let asked = read(attributes(get(&headers)), trusted).unwrap();
        assert_eq!(asked.doubts().client_unknown, expected.is_none(), "{told:?} {trusted:?}");
        let expected = expected.map(|ip| ip.parse::<IpAddr>().unwrap());
        asked.with(|request| assert_eq!(request.remote_ip, expected, "{told:?} {trusted:?}"));
    }
}

#[test]
fn a_question_about_a_connection_has_no_http() {
    let asked = AttributeContext { request: None, ..attributes(get(&[])) };
    let asked = read(asked, None).unwrap();
    assert_eq!(asked.doubts(), Doubts::default());
    asked.with(|request| assert!(request.http.is_none()));
}
