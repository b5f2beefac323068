//! Pure: which atoms hold for a request? Found by looking up each part of the request once, whatever the number of atoms.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::IpAddr;

use foldhash::fast::FixedState;
use serde_json::Value;

use crate::authz::matcher::blocks::Blocks;
use crate::authz::matcher::scratch::Scratch;
use crate::authz::matcher::templates::Templates;
use crate::authz::matcher::texts::Texts;
use crate::authz::matcher::texts::TextsBuilder;
use crate::authz::matcher::trie::Atom as Number;
use crate::authz::model::Atom;
use crate::authz::model::Cidr;
use crate::authz::model::Shape;
use crate::authz::model::Template;
use crate::authz::model::atom::is_workload;
use crate::authz::request::Http;
use crate::authz::request::Request;

/// Up to so many names of headers are each looked for among a request's headers; more are looked up by the request's.
const FEW_HEADERS: usize = 4;

/// All atoms of some policies, by what they ask.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    peer: Option<Number>,
    peer_uri: Option<Texts>,
    peer_is_workload: Option<Number>,
    source_ip: Option<Blocks>,
    remote_ip: Option<Blocks>,
    destination_ip: Option<Blocks>,
    ports: HashMap<u16, Number, FixedState>,
    sni: Option<Texts>,
    host: Option<Texts>,
    method: Option<Texts>,
    path: Option<Texts>,
    templates: Templates,
    /// Headers of the request itself, as `:authority`, and all of them if they are few.
    named_headers: Vec<(Box<str>, Texts)>,
    headers: HashMap<Box<str>, Texts, FixedState>,
    metadata: Vec<Metadata>,
}

/// What may be asked of one value that a filter found out.
#[derive(Clone, Debug)]
struct Metadata {
    filter: Box<str>,
    path: Box<[Box<str>]>,
    text: Texts,
    list: Texts,
}

impl Facts {
    /// Takes atoms; each is known by its place.
    pub(super) fn new<'a>(atoms: impl IntoIterator<Item = &'a Atom>) -> Self {
        let mut builder = Builder::default();
        for (atom, number) in atoms.into_iter().zip(0..) {
            builder.add(atom, number);
        }
        builder.build()
    }

    /// Leaves in `scratch.truths` the numbers of the atoms that hold for `request`, in ascending order.
    pub(super) fn find(&self, request: &Request<'_>, scratch: &mut Scratch) {
        let Scratch { truths, waiting, lower, .. } = scratch;
        truths.clear();
        if let Some(peer) = &request.peer {
            if let Some(atom) = self.peer {
                truths.push(atom);
            }
            if let Some(texts) = &self.peer_uri {
                for uri in peer.uris {
                    texts.matching(uri, |atom| truths.push(atom));
                }
            }
            if let Some(atom) = self.peer_is_workload
                && peer.uris.iter().any(|uri| is_workload(uri))
            {
                truths.push(atom);
            }
        }
        address(self.source_ip.as_ref(), request.source_ip, truths);
        address(self.remote_ip.as_ref(), request.remote_ip, truths);
        address(self.destination_ip.as_ref(), request.destination_ip, truths);
        if let Some(atom) = request.destination_port.and_then(|port| self.ports.get(&port)) {
            truths.push(*atom);
        }
        if let Some(texts) = &self.sni {
            texts.matching(request.sni, |atom| truths.push(atom));
        }
        if let Some(http) = &request.http {
            if let Some(texts) = &self.host {
                lower.clear();
                lower.push_str(http.host);
                lower.make_ascii_lowercase();
                texts.matching(lower, |atom| truths.push(atom));
            }
            if let Some(texts) = &self.method {
                texts.matching(http.method, |atom| truths.push(atom));
            }
            if self.path.is_some() || !self.templates.is_empty() {
                let path = http.bare_path();
                if let Some(texts) = &self.path {
                    texts.matching(path, |atom| truths.push(atom));
                }
                self.templates.matching(path, waiting, |atom| truths.push(atom));
            }
            self.headers(http, truths);
        }
        if request.metadata.is_some() {
            for metadata in &self.metadata {
                metadata.find(request, truths);
            }
        }
        if truths.len() > 1 {
            truths.sort_unstable();
            truths.dedup();
        }
    }

    fn headers(&self, http: &Http<'_>, truths: &mut Vec<Number>) {
        for (name, texts) in &self.named_headers {
            for value in http.values(name) {
                texts.matching(value, |atom| truths.push(atom));
            }
        }
        if self.headers.is_empty() {
            return;
        }
        for (name, value) in http.headers {
            if let Some(texts) = self.headers.get(*name) {
                texts.matching(value.trim_matches([' ', '\t']), |atom| truths.push(atom));
            }
        }
    }

    /// The memory it takes, in bytes, about.
    pub(super) fn size(&self) -> usize {
        let texts = [&self.peer_uri, &self.sni, &self.host, &self.method, &self.path];
        let blocks = [&self.source_ip, &self.remote_ip, &self.destination_ip];
        let headers = self.named_headers.iter().map(|(_, texts)| texts).chain(self.headers.values());
        let metadata = self.metadata.iter().flat_map(|one| [&one.text, &one.list]);
        texts.into_iter().flatten().chain(headers).chain(metadata).map(Texts::size).sum::<usize>()
            + blocks.into_iter().flatten().map(Blocks::size).sum::<usize>()
    }
}

fn address(blocks: Option<&Blocks>, address: Option<IpAddr>, truths: &mut Vec<Number>) {
    if let (Some(blocks), Some(address)) = (blocks, address) {
        blocks.containing(address, |atom| truths.push(atom));
    }
}

impl Metadata {
    fn find(&self, request: &Request<'_>, truths: &mut Vec<Number>) {
        match request.found(&self.filter, &self.path) {
            Some(Value::String(text)) => self.text.matching(text, |atom| truths.push(atom)),
            Some(Value::Array(list)) => {
                for text in list.iter().filter_map(Value::as_str) {
                    self.list.matching(text, |atom| truths.push(atom));
                }
            }
            _ => {}
        }
    }
}

/// A filter, and the way to what it found out.
type Found<'a> = (&'a str, &'a [Box<str>]);

/// Atoms on their way into [`Facts`].
#[derive(Debug, Default)]
struct Builder<'a> {
    facts: Facts,
    peer_uri: TextsBuilder,
    source_ip: Vec<(Cidr, Number)>,
    remote_ip: Vec<(Cidr, Number)>,
    destination_ip: Vec<(Cidr, Number)>,
    sni: TextsBuilder,
    host: TextsBuilder,
    method: TextsBuilder,
    path: TextsBuilder,
    templates: Vec<(&'a Template, Number)>,
    headers: BTreeMap<&'a str, TextsBuilder>,
    metadata: BTreeMap<Found<'a>, (TextsBuilder, TextsBuilder)>,
}

impl<'a> Builder<'a> {
    fn add(&mut self, atom: &'a Atom, number: Number) {
        match atom {
            Atom::Peer => self.facts.peer = Some(number),
            Atom::PeerUri(value) => self.peer_uri.add(value.clone(), number),
            Atom::PeerIsWorkload => self.facts.peer_is_workload = Some(number),
            Atom::SourceIp(block) => self.source_ip.push((*block, number)),
            Atom::RemoteIp(block) => self.remote_ip.push((*block, number)),
            Atom::DestinationIp(block) => self.destination_ip.push((*block, number)),
            Atom::DestinationPort(port) => {
                self.facts.ports.insert(*port, number);
            }
            Atom::Sni(value) => self.sni.add(value.clone(), number),
            Atom::Host(value) => self.host.add(value.clone(), number),
            Atom::Method(value) => self.method.add(value.clone(), number),
            Atom::Path(value) => self.path.add(value.clone(), number),
            Atom::PathTemplate(template) => self.templates.push((template, number)),
            Atom::Header { name, value } => self.headers.entry(name).or_default().add(value.clone(), number),
            Atom::Metadata { filter, path, shape, value } => {
                let (text, list) = self.metadata.entry((filter, path)).or_default();
                match shape {
                    Shape::Text => text.add(value.clone(), number),
                    Shape::List => list.add(value.clone(), number),
                }
            }
        }
    }

    fn build(self) -> Facts {
        let blocks = |list: Vec<_>| (!list.is_empty()).then(|| Blocks::new(list));
        let texts = |builder: TextsBuilder| (!builder.is_empty()).then(|| builder.build());
        let are_few = self.headers.len() <= FEW_HEADERS;
        let of_request = |name: &str| matches!(name, ":authority" | "host" | ":method" | ":path");
        let (named, others): (Vec<_>, Vec<_>) =
            self.headers.into_iter().partition(|(name, _)| are_few || of_request(name));
        let built = |(name, builder): (&str, TextsBuilder)| (Box::from(name), builder.build());
        let metadata = self.metadata.into_iter().map(|((filter, path), (text, list))| Metadata {
            filter: filter.into(),
            path: path.into(),
            text: text.build(),
            list: list.build(),
        });
        Facts {
            peer_uri: texts(self.peer_uri),
            source_ip: blocks(self.source_ip),
            remote_ip: blocks(self.remote_ip),
            destination_ip: blocks(self.destination_ip),
            sni: texts(self.sni),
            host: texts(self.host),
            method: texts(self.method),
            path: texts(self.path),
            templates: Templates::new(self.templates),
            named_headers: named.into_iter().map(built).collect(),
            headers: others.into_iter().map(built).collect(),
            metadata: metadata.collect(),
            ..self.facts
        }
    }
}
