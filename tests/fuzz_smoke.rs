//! The fuzz targets on stable: good inputs, mutated some thousand times each with a fixed seed. A find is kept as a case here.

#[path = "../fuzz/targets.rs"]
mod targets;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use burgrave::authority;
use burgrave::x509::PrivateKey;
use burgrave::x509::root;
use time::OffsetDateTime;

const ROUNDS: usize = 4000;

/// By the age crate, version 0.12.1, with a work factor of 2 and the passphrase of the fuzz target.
const SEALED: &str = "\
-----BEGIN AGE ENCRYPTED FILE-----
YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IHNjcnlwdCB4MmZHakNwYUFJQjVtV0Iv
TEh6K1l3IDIKcUhGM21nOEcrbzZVZnhTeStIOTRkR1JSUXJWb3V3NUNrRUJsTHI0
a090SQotLS0gcS8xeGhWczdrMXowelRVdURrWkVwSW1iK0dWL0pNZ1hDdERMUUw5
d3pjVQp5x8DD1ZW/SWrg+fPnEFaaWTNNaKQOIHXKx8/zssAG3Wo9/xQkqPOELyZK
75HnDNwWHsE7l5ChO2oqmFk7lwT+pkE+7qQ0YY41x1LRpMFu4tC4/4qWh/t5lcnO
QIvicl8OZs1E1KtjyrC2HY6NgYPTYCBy8XFE+3eRxPnIH6RwxzvhQ7j/4VPO/Hr1
Fb7wleTVwdVwfpejm2IcimE=
-----END AGE ENCRYPTED FILE-----
";

/// A small generator with a fixed seed, so that a failure comes again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides.max(1) as u64) as usize
    }

    /// The input with up to four things done to it.
    fn mutate(&mut self, good: &[u8]) -> Vec<u8> {
        let mut bytes = good.to_vec();
        for _ in 0..=self.roll(4) {
            let at = self.roll(bytes.len());
            match self.roll(5) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at.min(bytes.len()), self.roll(256) as u8),
                2 if at < bytes.len() => drop(bytes.remove(at)),
                3 => {
                    let piece: Vec<u8> = bytes.iter().skip(at).take(self.roll(32)).copied().collect();
                    bytes.splice(at..at, piece);
                }
                _ => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= 1 << self.roll(8);
                    }
                }
            }
        }
        bytes
    }
}

fn storm(target: fn(&[u8]), seeds: &[Vec<u8>]) {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for seed in seeds {
        target(seed);
        for _ in 0..ROUNDS {
            target(&dice.mutate(seed));
        }
    }
    for _ in 0..ROUNDS {
        let length = dice.roll(200);
        let noise: Vec<u8> = (0..length).map(|_| dice.roll(256) as u8).collect();
        target(&noise);
    }
}

#[test]
fn no_request_makes_the_csr_reader_panic() {
    let pem = PrivateKey::generate().unwrap().csr_pem().unwrap();
    let der = burgrave::x509::pem::csr(pem.as_bytes()).unwrap().to_vec();
    storm(targets::csr, &[der, pem.into_bytes()]);
}

#[test]
fn no_certificate_makes_its_reader_panic() {
    let key = PrivateKey::generate().unwrap();
    let domain = "td".parse().unwrap();
    let hour = std::time::Duration::from_secs(3600);
    let root = root::self_signed(&key, &domain, OffsetDateTime::UNIX_EPOCH, hour).unwrap();
    let pem = burgrave::x509::pem::certificate(root.der());
    storm(targets::certificate, &[root.der().to_vec(), pem.into_bytes()]);
}

#[test]
fn no_text_makes_the_readers_of_texts_panic() {
    storm(targets::spiffe_id, &[b"spiffe://cluster.local/ns/shop/sa/web".to_vec()]);
    storm(targets::message, &["Failed to load <inline> \u{e4} {inline_bytes: \"MIG\"}".as_bytes().to_vec()]);
}

#[test]
fn no_sequence_of_requests_makes_a_subscription_panic() {
    storm(targets::subscription, &[vec![0, 255, 1, 0, 1, 3, 0, 0, 1, 3, 1, 1, 0, 255, 2, 0, 2, 3, 1, 2]]);
}

#[test]
fn no_text_makes_the_reader_of_sealed_authorities_panic() {
    let opened = authority::open_within(SEALED, "correct horse battery", 2).unwrap();
    assert_eq!(opened.into_keys().collect::<Vec<_>>(), ["root-cert.pem", "seed"]);
    let body: String = SEALED.lines().filter(|line| !line.starts_with("-----")).collect();
    storm(targets::sealed, &[SEALED.as_bytes().to_vec(), STANDARD.decode(body).unwrap()]);
}

#[test]
fn no_path_is_decided_on_otherwise_than_by_walking_through_its_templates() {
    let seeds = [
        "/a/b?x=1\n/a/{*}\n/a/*\n*/b\n/{**}\n/a/{**}/b\n*\n/a/b",
        "/store//cart\n/store/{**}/cart\n/store/{*}/cart\n/store/",
        "/v/%2F/x\n/v/{*}/x\n/v/{*}/{**}",
    ];
    storm(targets::paths, &seeds.map(|seed| seed.as_bytes().to_vec()));
}
