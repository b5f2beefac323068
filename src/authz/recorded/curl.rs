//! Pure: which request does a curl command line send?
//!
//! Method, URL, headers and what data does to them count; files, proxies and TLS settings do not. An option that is not known here is
//! refused, for whether it takes a value is not known either.

use std::collections::BTreeSet;

use crate::authz::explain::facts::Fact;
use crate::authz::explain::facts::Facts;
use crate::authz::explain::facts::HttpFacts;
use crate::authz::path::Form;
use crate::authz::recorded::described::Line;
use crate::authz::recorded::shell;
use crate::authz::recorded::token;
use crate::authz::recorded::unread::MAX_LENGTH;
use crate::authz::recorded::unread::Unread;
use crate::authz::recorded::unread::shown;

/// Options with a value that changes nothing for a policy.
const PASSED_OVER: [&str; 33] = [
    "-o",
    "--output",
    "-m",
    "--max-time",
    "--connect-timeout",
    "-w",
    "--write-out",
    "-c",
    "--cookie-jar",
    "-D",
    "--dump-header",
    "--retry",
    "--retry-delay",
    "--retry-max-time",
    "--cacert",
    "--capath",
    "-E",
    "--cert",
    "--key",
    "--cert-type",
    "--key-type",
    "--pass",
    "-x",
    "--proxy",
    "--noproxy",
    "--resolve",
    "--connect-to",
    "--interface",
    "--limit-rate",
    "--max-redirs",
    "--ciphers",
    "--unix-socket",
    "--keepalive-time",
];

/// Options without a value that change nothing for a policy.
const FLAGS: [&str; 43] = [
    "-k",
    "--insecure",
    "-s",
    "--silent",
    "-S",
    "--show-error",
    "-v",
    "--verbose",
    "-i",
    "--include",
    "-L",
    "--location",
    "-f",
    "--fail",
    "--fail-with-body",
    "-N",
    "--no-buffer",
    "-g",
    "--globoff",
    "-4",
    "--ipv4",
    "-6",
    "--ipv6",
    "-0",
    "--http1.0",
    "--http1.1",
    "--http2",
    "--http2-prior-knowledge",
    "--http3",
    "-O",
    "--remote-name",
    "-J",
    "-#",
    "--progress-bar",
    "--no-progress-meter",
    "-1",
    "--tlsv1",
    "--tlsv1.2",
    "--tlsv1.3",
    "-q",
    "--no-keepalive",
    "--raw",
    "--tr-encoding",
];

/// What a command line has said so far.
#[derive(Default)]
struct Command {
    url: Option<String>,
    method: Option<String>,
    lines: Vec<Line>,
    removed: BTreeSet<String>,
    data: Vec<String>,
    is_json: bool,
    is_form: bool,
    is_get: bool,
    is_head: bool,
    is_upload: bool,
    as_is: bool,
    agent: Option<String>,
    has_login: bool,
    has_cookie_file: bool,
    is_compressed: bool,
}

/// What is known of the request that `line` sends, with its path normalised as `form`.
///
/// # Errors
/// If it is no curl command, or not to be understood without running it.
pub fn read(line: &str, form: Form) -> Result<Facts, Unread> {
    if line.len() > MAX_LENGTH {
        return Err(Unread::at("", format!("a command line has at most {MAX_LENGTH} bytes")));
    }
    let words = shell::words(line)?;
    let mut words = words.iter().map(String::as_str);
    match words.next() {
        Some(word) if word == "curl" || word.ends_with("/curl") => {}
        Some(other) => {
            return Err(Unread::at(
                "",
                format!("`{}` is not curl; give the whole command line", shown(other)),
            ));
        }
        None => return Err(Unread::at("", "there is no command in it")),
    }
    let mut command = Command::default();
    let mut only_urls = false;
    while let Some(word) = words.next() {
        if word == "--" && !only_urls {
            only_urls = true;
        } else if !word.starts_with('-') || word == "-" || only_urls {
            command.set_url(word)?;
        } else if word.starts_with("--") {
            command.long(word, &mut words)?;
        } else {
            command.short(word, &mut words)?;
        }
    }
    command.facts(form)
}

impl Command {
    fn set_url(&mut self, url: &str) -> Result<(), Unread> {
        match self.url.replace(url.to_owned()) {
            None => Ok(()),
            Some(first) => Err(Unread::at(
                "",
                format!(
                    "there are two URLs, `{}` and `{}`; one request at a time",
                    shown(&first),
                    shown(url)
                ),
            )),
        }
    }

    fn long<'a>(&mut self, word: &str, words: &mut impl Iterator<Item = &'a str>) -> Result<(), Unread> {
        let (name, attached) = match word.split_once('=') {
            // curl itself does not take it; people write it.
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        if self.flag(name) {
            return Ok(());
        }
        if !takes_value(name) {
            return Err(unknown(name));
        }
        let value = attached.or_else(|| words.next()).ok_or_else(|| no_value(name))?;
        self.option(name, value)
    }

    /// Several short options may stand together, the last with its value attached.
    fn short<'a>(&mut self, word: &str, words: &mut impl Iterator<Item = &'a str>) -> Result<(), Unread> {
        let mut rest = word.get(1..).unwrap_or_default();
        while let Some(letter) = rest.chars().next() {
            rest = rest.get(letter.len_utf8()..).unwrap_or_default();
            let name = format!("-{letter}");
            if self.flag(&name) {
                continue;
            }
            if !takes_value(&name) {
                return Err(unknown(&name));
            }
            let value = match rest {
                "" => words.next().ok_or_else(|| no_value(&name))?,
                attached => attached,
            };
            return self.option(&name, value);
        }
        Ok(())
    }

    /// Whether `name` is an option without a value; if so, it is taken.
    fn flag(&mut self, name: &str) -> bool {
        match name {
            "-G" | "--get" => self.is_get = true,
            "-I" | "--head" => self.is_head = true,
            "--path-as-is" => self.as_is = true,
            "--compressed" => self.is_compressed = true,
            // What is in a file is not known, nor whether it has anything for this host.
            "-n" | "--netrc" => self.has_login = true,
            _ => return FLAGS.contains(&name),
        }
        true
    }

    fn option(&mut self, name: &str, value: &str) -> Result<(), Unread> {
        match name {
            "-X" | "--request" => self.method = Some(value.to_owned()),
            "--url" => self.set_url(value)?,
            "-H" | "--header" => self.header(value)?,
            "-A" | "--user-agent" => self.agent = Some(value.to_owned()),
            "-e" | "--referer" => self.lines.push(Line::of("referer", value)?),
            "-b" | "--cookie" if value.contains('=') => self.lines.push(Line::of("cookie", value)?),
            "-b" | "--cookie" => self.has_cookie_file = true,
            "--oauth2-bearer" => self.lines.push(Line::of("authorization", &format!("Bearer {value}"))?),
            "-u" | "--user" => self.has_login = true,
            "-d" | "--data" | "--data-ascii" | "--data-binary" | "--data-raw" | "--data-urlencode" => {
                self.data.push(value.to_owned());
            }
            "--json" => {
                self.is_json = true;
                self.data.push(value.to_owned());
            }
            "-F" | "--form" | "--form-string" => self.is_form = true,
            "-T" | "--upload-file" => self.is_upload = true,
            _ => {}
        }
        Ok(())
    }

    fn header(&mut self, value: &str) -> Result<(), Unread> {
        if value.starts_with('@') {
            return Err(Unread::at("option -H", "headers in a file are not read; write them on the line"));
        }
        if let Some((name, "")) = value.split_once(':').map(|(name, rest)| (name, rest.trim())) {
            self.removed.insert(name.trim().to_ascii_lowercase());
            return Ok(());
        }
        let line = match value.strip_suffix(';').filter(|name| !name.contains(':')) {
            Some(name) => Line::of(name, ""),
            None => Line::parse(value),
        };
        self.lines.push(line.map_err(|error| error.within("option -H"))?);
        Ok(())
    }

    fn facts(self, form: Form) -> Result<Facts, Unread> {
        let url = self.url.as_deref().ok_or_else(|| Unread::at("", "there is no URL in it"))?;
        let url = Url::read(url, self.as_is)?;
        let mut path = url.path.clone();
        if self.is_get && !self.data.is_empty() {
            path.push(if path.contains('?') { '&' } else { '?' });
            path.push_str(&self.data.join("&"));
        }
        let mut http = HttpFacts {
            method: Fact::Known(self.method()),
            path: Fact::Known(form.of(&path)),
            sent: Some((path.clone(), form)),
            host: Fact::Known(url.authority.clone()),
            ..HttpFacts::default()
        };
        self.add_headers(&mut http)?;
        let mut facts = Facts { http: Some(http), ..Facts::default() };
        if let (true, Some(name)) = (url.is_tls, &url.name) {
            facts.sni = Fact::Known(name.clone());
        }
        facts.remarks.push(format!(
            "the port of the URL ({}) is the service's; policies ask for the workload's own, which is not known",
            url.port
        ));
        with_token(&mut facts, &path);
        Ok(facts)
    }

    fn method(&self) -> String {
        let implied = match () {
            () if self.is_head => "HEAD",
            () if self.is_upload => "PUT",
            () if (self.is_form || !self.data.is_empty()) && !self.is_get => "POST",
            () => "GET",
        };
        self.method.clone().unwrap_or_else(|| implied.to_owned())
    }

    /// The headers that are given, and those that curl adds.
    fn add_headers(&self, http: &mut HttpFacts) -> Result<(), Unread> {
        let given: BTreeSet<&str> = self.lines.iter().map(|line| line.name.as_str()).collect();
        let is_free = |name: &str| !given.contains(name) && !self.removed.contains(name);
        let mut add = |name: &str, value: &str| http.headers.push((name.to_owned(), value.to_owned()));
        let has_body = (self.is_form || !self.data.is_empty()) && !self.is_get;
        if is_free("accept") {
            add("accept", if self.is_json { "application/json" } else { "*/*" });
        }
        if has_body && !self.is_form && is_free("content-type") {
            let kind = if self.is_json { "application/json" } else { "application/x-www-form-urlencoded" };
            add("content-type", kind);
        }
        if let Some(agent) = self.agent.as_deref().filter(|_| is_free("user-agent")) {
            add("user-agent", Line::of("user-agent", agent)?.value.as_str());
        }
        let unknown = [
            ("user-agent", self.agent.is_none()),
            ("content-type", self.is_form),
            ("content-length", has_body || self.is_upload),
            ("authorization", self.has_login),
            ("accept-encoding", self.is_compressed),
        ];
        let unknown = unknown.iter().filter(|(name, is_sent)| *is_sent && is_free(name));
        http.unknown_headers.extend(unknown.map(|(name, _)| (*name).to_owned()));
        // Cookies of a file stand beside those of the line.
        if self.has_cookie_file && !self.removed.contains("cookie") {
            http.unknown_headers.insert("cookie".to_owned());
        }
        for line in &self.lines {
            match line.name.as_str() {
                "host" => http.host = Fact::Known(line.value.clone()),
                _ => http.headers.push((line.name.clone(), line.value.clone())),
            }
        }
        Ok(())
    }
}

/// A bearer token says claims, and where none is sent there are none.
fn with_token(facts: &mut Facts, path: &str) {
    let Some(http) = &facts.http else { return };
    let mut logins = http.headers.iter().filter(|(name, _)| name == "authorization");
    let (claims, remark) = match logins.next() {
        Some((_, value)) => match value.strip_prefix("Bearer ").and_then(|text| token::claims(text.trim())) {
            Some(claims) => (Fact::Known(Some(claims)), token::UNVERIFIED),
            None => (Fact::Unknown, "the Authorization header holds no token whose claims can be read"),
        },
        None if http.unknown_headers.contains("authorization") || path.contains("access_token=") => return,
        None => (
            Fact::Known(None),
            "no token is sent as a bearer; where a RequestAuthentication looks elsewhere for it, say its claims",
        ),
    };
    facts.claims = claims;
    facts.remarks.push(remark.to_owned());
}

fn takes_value(name: &str) -> bool {
    const MEANT: [&str; 25] = [
        "-X",
        "--request",
        "--url",
        "-H",
        "--header",
        "-A",
        "--user-agent",
        "-e",
        "--referer",
        "-b",
        "--cookie",
        "--oauth2-bearer",
        "-u",
        "--user",
        "-d",
        "--data",
        "--data-ascii",
        "--data-binary",
        "--data-raw",
        "--data-urlencode",
        "--json",
        "-F",
        "--form",
        "-T",
        "--upload-file",
    ];
    MEANT.contains(&name) || name == "--form-string" || PASSED_OVER.contains(&name)
}

fn unknown(name: &str) -> Unread {
    Unread::at(
        format!("option {}", shown(name)),
        "it is not known here; leave it out if it does not change the request",
    )
}

fn no_value(name: &str) -> Unread {
    Unread::at(format!("option {name}"), "its value is missing")
}

/// What counts of a URL.
struct Url {
    is_tls: bool,
    /// As curl sends it: without a port that is the scheme's own.
    authority: String,
    /// The host, if it is a name.
    name: Option<String>,
    port: u16,
    path: String,
}

impl Url {
    fn read(text: &str, as_is: bool) -> Result<Self, Unread> {
        let bad =
            |why: &str| Unread::at("", format!("`{}` is no URL that can be asked about: {why}", shown(text)));
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
            None => ("http".to_owned(), text),
        };
        let (is_tls, own_port) = match scheme.as_str() {
            "http" => (false, 80),
            "https" => (true, 443),
            _ => return Err(bad("its scheme is neither http nor https")),
        };
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(bad("it has a space in it"));
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at_checked(end).ok_or_else(|| bad("it has no host"))?;
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.contains(']') => {
                (name, port.parse().map_err(|_| bad("its port is none"))?)
            }
            _ => (host, own_port),
        };
        if name.is_empty() {
            return Err(bad("it has no host"));
        }
        let target = target.split('#').next().unwrap_or_default();
        let path = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        let is_address = name.starts_with('[') || name.parse::<std::net::IpAddr>().is_ok();
        Ok(Self {
            is_tls,
            authority: if port == own_port { name.to_owned() } else { format!("{name}:{port}") },
            name: (!is_address).then(|| name.to_ascii_lowercase()),
            port,
            path: if as_is { path } else { without_dots(&path) },
        })
    }
}

/// curl follows `.` and `..` before it sends a path.
fn without_dots(path: &str) -> String {
    let (bare, query) = path.split_once('?').map_or((path, None), |(bare, query)| (bare, Some(query)));
    let mut kept: Vec<&str> = Vec::new();
    let parts: Vec<&str> = bare.split('/').skip(1).collect();
    for (at, part) in parts.iter().enumerate() {
        match *part {
            "." => {}
            ".." => drop(kept.pop()),
            part => {
                kept.push(part);
                continue;
            }
        }
        if at + 1 == parts.len() {
            kept.push("");
        }
    }
    let bare = format!("/{}", kept.join("/"));
    query.map_or(bare.clone(), |query| format!("{bare}?{query}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(line: &str) -> HttpFacts {
        read(line, Form::Base).unwrap_or_else(|error| panic!("{line}: {error}")).http.unwrap()
    }

    fn value(http: &HttpFacts, name: &str) -> Option<String> {
        http.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }

    #[test]
    fn the_request_is_the_one_that_curl_sends() {
        for (line, method, path, host) in [
            ("curl http://api/v1", "GET", "/v1", "api"),
            ("curl api", "GET", "/", "api"),
            ("curl -sSkXPOST https://api:8443/a", "POST", "/a", "api:8443"),
            ("curl -X DELETE --url http://api:80/x", "DELETE", "/x", "api"),
            ("curl -d a=b http://api/x", "POST", "/x", "api"),
            ("curl -G -d a=b -d c=d http://api/x?y", "GET", "/x?y&a=b&c=d", "api"),
            ("curl -I http://api:8080", "HEAD", "/", "api:8080"),
            ("curl -T file https://api:443/up", "PUT", "/up", "api"),
            ("curl http://u:p@api/a/./../b#c", "GET", "/b", "api"),
            ("curl --path-as-is http://api/a/../b", "GET", "/b", "api"),
            ("curl -H 'Host: other' http://10.0.0.1/", "GET", "/", "other"),
            ("/usr/bin/curl -sSXPUT http://[::1]:81/x", "PUT", "/x", "[::1]:81"),
            ("curl 'http://api?x=1'", "GET", "/?x=1", "api"),
            ("curl --json '{}' http://api/", "POST", "/", "api"),
        ] {
            let http = http(line);
            let said = (&http.method, &http.path, &http.host);
            let known = |text: &str| Fact::Known(text.to_owned());
            assert_eq!(said, (&known(method), &known(path), &known(host)), "{line}");
        }
    }

    #[test]
    fn headers_are_those_that_are_given_and_those_that_curl_adds() {
        let sent = http("curl -H 'X-A: 1' -H 'x-b;' -H 'Accept:' -A me -b 'c=d' -d x http://api/");
        assert_eq!(value(&sent, "x-a").as_deref(), Some("1"));
        assert_eq!(value(&sent, "x-b").as_deref(), Some(""));
        assert_eq!(value(&sent, "accept"), None);
        assert_eq!(value(&sent, "user-agent").as_deref(), Some("me"));
        assert_eq!(value(&sent, "cookie").as_deref(), Some("c=d"));
        assert_eq!(value(&sent, "content-type").as_deref(), Some("application/x-www-form-urlencoded"));
        assert!(sent.unknown_headers.contains("content-length") && !sent.may_have_more_headers);
        let plain = http("curl http://api/");
        assert_eq!(value(&plain, "accept").as_deref(), Some("*/*"));
        assert!(plain.unknown_headers.contains("user-agent"));
        for (option, name) in [
            ("-n", "authorization"),
            ("--netrc", "authorization"),
            ("-b jar", "cookie"),
            ("-b jar -b a=b", "cookie"),
            ("--compressed", "accept-encoding"),
        ] {
            let sent = http(&format!("curl {option} http://api/"));
            assert!(sent.unknown_headers.contains(name), "{option}");
            assert!(!plain.unknown_headers.contains(name), "{option}");
        }
    }

    #[test]
    fn a_bearer_token_says_its_claims_and_nobody_has_verified_them() {
        let told = |line: &str| read(line, Form::Base).unwrap();
        let with = told("curl -H 'Authorization: Bearer e30.eyJpc3MiOiJhIn0.c2ln' http://api/");
        assert_eq!(with.claims.known().unwrap().as_ref().unwrap()["iss"], "a");
        assert!(with.remarks.iter().any(|remark| remark == token::UNVERIFIED));
        assert_eq!(told("curl http://api/").claims, Fact::Known(None));
        assert_eq!(told("curl -u a:b http://api/").claims, Fact::Unknown);
        assert_eq!(told("curl -sn http://api/").claims, Fact::Unknown);
        assert_eq!(told("curl http://api/?access_token=x").claims, Fact::Unknown);
        assert!(!format!("{with:?}").contains("c2ln"));
    }

    #[test]
    fn what_cannot_be_understood_without_running_it_is_refused() {
        for (line, said) in [
            ("wget http://a", "`wget` is not curl"),
            ("", "there is no command"),
            ("curl -s", "there is no URL"),
            ("curl a b", "there are two URLs"),
            ("curl --frobnicate a", "option --frobnicate: it is not known here"),
            ("curl -Q a", "option -Q: it is not known here"),
            ("curl -H", "option -H: its value is missing"),
            ("curl -H @file a", "option -H: headers in a file are not read"),
            ("curl -H 'a b: c' a", "`a b` is no name of a header"),
            ("curl ftp://a", "neither http nor https"),
            ("curl 'http://a/b c'", "it has a space in it"),
            ("curl http://:80", "it has no host"),
            ("curl http://a:b", "its port is none"),
            ("curl -H \"Authorization: Bearer $T\" a", "would put something else"),
        ] {
            let error = read(line, Form::Base).unwrap_err().to_string();
            assert!(error.contains(said), "{line}: {error}");
        }
    }
}
