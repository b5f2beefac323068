//! What is asked for: policies, out of the same words as the requests.

use std::sync::Arc;

use burgrave::authz::JWT_FILTER;
use burgrave::authz::JWT_PAYLOAD;
use burgrave::authz::PROPERTIES;
use burgrave::authz::model::Action;
use burgrave::authz::model::Atom;
use burgrave::authz::model::Conjunction;
use burgrave::authz::model::Field;
use burgrave::authz::model::Kind;
use burgrave::authz::model::Pattern;
use burgrave::authz::model::Policy;
use burgrave::authz::model::PolicyName;
use burgrave::authz::model::Rule;
use burgrave::authz::model::Shape;
use burgrave::authz::model::Template;
use burgrave::authz::model::Term;
use burgrave::authz::model::Value;

use super::dice::Dice;
use super::identities::URIS;
use super::requests::CLAIM_NAMES;
use super::requests::CLAIM_VALUES;
use super::requests::HEADERS;
use super::requests::HOSTS;
use super::requests::METHODS;
use super::requests::PATHS;
use super::requests::SNIS;
use super::requests::VALUES;

/// Who is asked by `CUSTOM` policies; the second's name begins as the first's.
pub(crate) const PROVIDERS: [&str; 2] = ["opa", "opa-two"];

const BLOCKS: [&str; 20] = [
    "127.0.0.0/8",
    "127.0.0.1",
    "127.0.0.2/31",
    "127.9.9.9",
    "127.9.0.0/16",
    "0.0.0.0/0",
    "::/0",
    "::1",
    "::/127",
    "::ffff:0:0/96",
    "::ffff:127.0.0.1",
    "9.9.9.9",
    "9.0.0.0/8",
    "2001:db8::/32",
    "2001:db8::2/127",
    "10.0.0.0/8",
    "0.0.0.0/1",
    "128.0.0.0/1",
    "255.255.255.255",
    "10.1.2.3/31",
];

/// Makes policies for callers of these ports.
pub(crate) struct Author<'a> {
    pub(crate) dice: &'a mut Dice,
    pub(crate) ports: &'a [u16],
}

impl Author<'_> {
    /// The policies of one workload.
    pub(crate) fn set(&mut self) -> Vec<Arc<Policy>> {
        let count = *self.dice.pick(&[0, 1, 1, 1, 2, 2, 3, 4, 6]);
        (0..count).map(|number| Arc::new(self.policy(number))).collect()
    }

    fn policy(&mut self, number: usize) -> Policy {
        let (action, dry_run) = match self.dice.below(20) {
            0..=8 => (Action::Allow, false),
            9..=13 => (Action::Deny, false),
            14 => (Action::Audit, false),
            15 | 16 => (Action::Allow, true),
            17 => (Action::Deny, true),
            _ => (Action::Custom { provider: (*self.dice.pick(&PROVIDERS)).into() }, false),
        };
        let is_custom = matches!(action, Action::Custom { .. });
        let count = *self.dice.pick(&[0, 1, 1, 1, 1, 2, 2, 3]);
        let rules = (0..count).map(|index| self.rule(index, is_custom)).collect();
        let name = PolicyName {
            kind: *self.dice.pick(&[Kind::AuthorizationPolicy, Kind::ServiceRoleBinding]),
            namespace: "shop".into(),
            name: format!("p{number}").into(),
        };
        Policy { name, action, dry_run, rules }
    }

    fn rule(&mut self, index: usize, is_custom: bool) -> Rule {
        let from = self.conjunctions(is_custom, Self::of_sender);
        let to = self.conjunctions(is_custom, Self::of_request);
        let count = *self.dice.pick(&[0, 0, 0, 1, 1, 2]);
        let terms = (0..count).map(|_| self.term(is_custom, Self::of_either)).collect();
        Rule { index, from, to, when: Conjunction { index: 0, terms } }
    }

    fn conjunctions(&mut self, is_custom: bool, atom: fn(&mut Self, bool) -> Atom) -> Vec<Conjunction> {
        let count = *self.dice.pick(&[0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 3]);
        let one = |index| {
            let count = *self.dice.pick(&[0, 0, 1, 1, 1, 1, 2, 2, 3]);
            // Sometimes on the side where Envoy cannot ask it.
            let mut terms = Vec::new();
            for _ in 0..count {
                let atom = if self.dice.percent(4) { Self::of_either } else { atom };
                terms.push(self.term(is_custom, atom));
            }
            Conjunction { index, terms }
        };
        (0..count).map(one).collect()
    }

    fn term(&mut self, is_custom: bool, atom: fn(&mut Self, bool) -> Atom) -> Term {
        let first = atom(self, is_custom);
        let count = *self.dice.pick(&[0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 3, 3, 4, 8]);
        let mut values = Vec::new();
        for at in 0..count {
            let is_compound = self.dice.percent(8);
            values.push(match is_compound {
                true => Value::All((0..self.dice.below(4)).map(|_| self.signed(&first)).collect()),
                false if at == 0 => Value::Is(first.clone()),
                false => Value::Is(self.alike(&first)),
            });
        }
        Term { field: Field::List("values"), negated: self.dice.percent(25), values }
    }

    fn signed(&mut self, first: &Atom) -> (Atom, bool) {
        (self.alike(first), self.dice.percent(70))
    }

    /// Another value of the same field.
    fn alike(&mut self, first: &Atom) -> Atom {
        match first {
            Atom::Peer | Atom::PeerUri(_) | Atom::PeerIsWorkload => self.peer(),
            Atom::SourceIp(_) => self.source_ip(),
            Atom::RemoteIp(_) => self.remote_ip(),
            Atom::DestinationIp(_) => self.destination_ip(),
            Atom::DestinationPort(_) => self.port(),
            Atom::Sni(_) => self.sni(),
            Atom::Host(_) => self.host(),
            Atom::Method(_) => self.method(),
            Atom::Path(_) | Atom::PathTemplate(_) => self.path(),
            Atom::Header { name, .. } => Atom::Header { name: name.clone(), value: self.pattern(&VALUES) },
            Atom::Metadata { filter, path, .. } => self.metadata(filter.clone(), path.clone()),
        }
    }

    fn of_sender(&mut self, is_custom: bool) -> Atom {
        match self.dice.below(10) {
            0..=3 => self.peer(),
            4 | 5 => self.source_ip(),
            6 => self.remote_ip(),
            7 => self.header(),
            _ if is_custom => self.property(),
            8 => self.claim(),
            _ => self.property(),
        }
    }

    fn of_request(&mut self, _: bool) -> Atom {
        match self.dice.below(10) {
            0 | 1 => self.host(),
            2 | 3 => self.method(),
            4..=6 => self.path(),
            7 => self.port(),
            8 => self.sni(),
            _ => self.destination_ip(),
        }
    }

    fn of_either(&mut self, is_custom: bool) -> Atom {
        if self.dice.percent(50) { self.of_sender(is_custom) } else { self.of_request(is_custom) }
    }

    // === atoms ===

    fn peer(&mut self) -> Atom {
        match self.dice.below(12) {
            0 => Atom::Peer,
            1 => Atom::PeerIsWorkload,
            _ => Atom::PeerUri(self.pattern(&URIS)),
        }
    }

    fn source_ip(&mut self) -> Atom {
        Atom::SourceIp(self.dice.pick(&BLOCKS).parse().expect("it is a block"))
    }

    fn remote_ip(&mut self) -> Atom {
        Atom::RemoteIp(self.dice.pick(&BLOCKS).parse().expect("it is a block"))
    }

    fn destination_ip(&mut self) -> Atom {
        Atom::DestinationIp(self.dice.pick(&BLOCKS).parse().expect("it is a block"))
    }

    fn port(&mut self) -> Atom {
        let is_ours = self.dice.percent(60);
        Atom::DestinationPort(*if is_ours {
            self.dice.pick(self.ports)
        } else {
            self.dice.pick(&[0, 80, 65535])
        })
    }

    fn sni(&mut self) -> Atom {
        Atom::Sni(self.pattern(&SNIS))
    }

    fn host(&mut self) -> Atom {
        Atom::Host(self.pattern(&HOSTS).in_lower_case())
    }

    fn method(&mut self) -> Atom {
        Atom::Method(self.pattern(&METHODS))
    }

    fn path(&mut self) -> Atom {
        if self.dice.percent(70) { Atom::Path(self.pattern(&PATHS)) } else { self.template() }
    }

    fn template(&mut self) -> Atom {
        const PARTS: [&str; 10] = ["{*}", "{*}", "{*}", "{**}", "{**}", "a", "v", "x", "%2F", "b.html"];
        loop {
            let mut text = String::new();
            for _ in 0..self.dice.from(1, 5) {
                text = text + "/" + *self.dice.pick(&PARTS);
            }
            if self.dice.percent(10) {
                text += "/";
            }
            if let Ok(template) = Template::parse(&text) {
                return Atom::PathTemplate(template);
            }
        }
    }

    fn header(&mut self) -> Atom {
        let name = match self.dice.below(12) {
            0 => ":authority",
            1 => "host",
            2 => ":method",
            3 => ":path",
            _ => *self.dice.pick(&HEADERS),
        };
        let value = match name {
            ":authority" | "host" => self.pattern(&HOSTS),
            ":method" => self.pattern(&METHODS),
            ":path" => self.pattern(&PATHS),
            _ => self.pattern(&VALUES),
        };
        Atom::Header { name: name.into(), value }
    }

    fn claim(&mut self) -> Atom {
        let mut path = vec![JWT_PAYLOAD.into()];
        match self.dice.below(10) {
            0 => path.extend(["nested".into(), "sub".into()]),
            1 => path.extend(["nested".into(), "deep".into(), "aud".into()]),
            2 => path.extend(["iss".into(), "sub".into()]),
            _ => path.push((*self.dice.pick(&CLAIM_NAMES)).into()),
        }
        self.metadata(JWT_FILTER.into(), path.into())
    }

    fn property(&mut self) -> Atom {
        let key = *self.dice.pick(&["tier", "team", "absent"]);
        self.metadata(PROPERTIES.into(), [key.into()].into())
    }

    fn metadata(&mut self, filter: Box<str>, path: Box<[Box<str>]>) -> Atom {
        let shape = *self.dice.pick(&[Shape::Text, Shape::List]);
        Atom::Metadata { filter, path, shape, value: self.pattern(&CLAIM_VALUES) }
    }

    /// A pattern that is, or is near to, one of these texts.
    fn pattern(&mut self, texts: &[&str]) -> Pattern {
        let mut text = (*self.dice.pick(texts)).to_owned();
        match self.dice.below(20) {
            0 => text = text.to_ascii_uppercase(),
            1 => text = text.to_ascii_lowercase(),
            2 => text.push('a'),
            3 => text.clear(),
            _ => {}
        }
        let at = |dice: &mut Dice, text: &str| {
            let mut at = dice.below(text.len() + 1);
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        match self.dice.below(20) {
            0..=9 => Pattern::Exact(text.into()),
            10..=12 => Pattern::Prefix(text[..at(self.dice, &text)].into()),
            13..=15 => Pattern::Suffix(text[at(self.dice, &text)..].into()),
            16 => {
                let start = at(self.dice, &text);
                let end = start + at(self.dice, &text[start..]);
                Pattern::Contains(text[start..end].into())
            }
            17 | 18 => Pattern::NotEmpty,
            _ => Pattern::Any,
        }
    }
}
