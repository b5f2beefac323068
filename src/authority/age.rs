//! Pure: files of [age](https://age-encryption.org/v1), as far as one passphrase and ASCII armour go.
//!
//! ```text
//! passphrase ── scrypt(salt, 2^work) ── opens ── file key ──┬─ HKDF "header"  ── HMAC over the header's lines
//!                                                           └─ HKDF "payload" ── ChaCha20-Poly1305, 64 KiB a chunk
//! ```
//!
//! Nothing in such a file can be changed, cut off or added without its being seen. It is read strictly, so that there is one
//! way to write each file, but for the ends of its lines and blanks around it.
//!
//! The plain text, the file key and the key that the passphrase gives are wiped; the copies inside ring's keys, and what scrypt
//! works in, are not, as neither offers it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::aead;
use ring::hkdf;
use ring::hmac;
use zeroize::Zeroize;
use zeroize::Zeroizing;

use crate::x509::pem;

const LABEL: &str = "AGE ENCRYPTED FILE";
const BEGIN: &str = "-----BEGIN AGE ENCRYPTED FILE-----";
const END: &str = "-----END AGE ENCRYPTED FILE-----";
const COLUMNS: usize = 64;

const VERSION: &str = "age-encryption.org/v1";
const STANZA: &str = "-> scrypt ";
const MAC: &str = "---";
const SALT_LABEL: &[u8] = b"age-encryption.org/v1/scrypt";

/// The block size of scrypt, which age fixes: with it, a work factor of `n` takes 2^(n + 10) octets of memory.
const SCRYPT_R: u32 = 8;
const CHUNK: usize = 64 * 1024;

/// What chance gives to a file. Each serves for one file only.
pub(super) struct Drawn {
    /// The key of the file, which the passphrase then opens.
    pub(super) file_key: Zeroizing<[u8; 16]>,
    /// The salt of the passphrase.
    pub(super) salt: [u8; 16],
    /// The nonce of the payload.
    pub(super) nonce: [u8; 16],
}

/// Why an age file cannot be read. Never quotes any of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnreadableAge {
    /// It is something else.
    #[error(
        "it is not an encrypted export: it does not begin with `-----BEGIN AGE ENCRYPTED FILE-----`; name a file that `burgrave root export` has written"
    )]
    NotArmoured,
    /// It is for the holder of a key.
    #[error(
        "it is encrypted to a recipient's key and not with a passphrase; decrypt it with `age` and that key, and encrypt it again with `age --passphrase --armor`"
    )]
    NotByPassphrase,
    /// Trying the passphrase would take too much memory and time.
    #[error(
        "its work factor is above 2^{0}, so that trying the passphrase could take all memory; if you know where it comes from, decrypt it with `age` and encrypt it again with `age --passphrase --armor`"
    )]
    TooMuchWork(u8),
    /// The passphrase does not open it. Damage to the few octets that it opens looks the same.
    #[error(
        "the passphrase does not open it; check the passphrase, or take another copy if its first lines may be damaged"
    )]
    WrongPassphrase,
    /// It is not as it was written.
    #[error("it is damaged, cut off, or was changed after it was encrypted; take another copy")]
    Damaged,
}

/// Encrypts `plain` with a passphrase, as armoured text.
pub(super) fn encrypt(plain: &[u8], passphrase: &str, work: u8, drawn: &Drawn) -> String {
    let wrapping = wrapping_key(passphrase, &drawn.salt, work).expect("the work factor is one of ours");
    let mut wrapped = drawn.file_key.to_vec();
    let tag = seal_chunk(&wrapping, [0; 12], &mut wrapped);
    wrapped.extend(tag);

    let salt = STANDARD_NO_PAD.encode(drawn.salt);
    let header = format!("{VERSION}\n{STANZA}{salt} {work}\n{}\n{MAC}", STANDARD_NO_PAD.encode(wrapped));
    let mac = hmac::sign(&header_key(&drawn.file_key), header.as_bytes());
    let mut file = format!("{header} {}\n", STANDARD_NO_PAD.encode(mac)).into_bytes();

    file.extend(drawn.nonce);
    let key = payload_key(&drawn.file_key, &drawn.nonce);
    let mut rest = plain;
    for counter in 0.. {
        let (chunk, after) = rest.split_at(rest.len().min(CHUNK));
        let mut chunk = Zeroizing::new(chunk.to_vec());
        let tag = seal_chunk(&key, chunk_nonce(counter, after.is_empty()), &mut chunk);
        file.extend_from_slice(&chunk);
        file.extend(tag);
        if after.is_empty() {
            break;
        }
        rest = after;
    }
    std::mem::take(&mut *pem::block(LABEL, &file))
}

/// Decrypts an armoured text, with a work factor of `most_work` at most.
///
/// # Errors
/// As the variants say.
pub(super) fn decrypt(
    text: &str,
    passphrase: &str,
    most_work: u8,
) -> Result<Zeroizing<Vec<u8>>, UnreadableAge> {
    let file = unarmour(text)?;
    let header = Header::read(&file)?;
    let (salt, work) = header.stanza.split_once(' ').ok_or(UnreadableAge::Damaged)?;
    let salt = exactly::<16>(salt).ok_or(UnreadableAge::Damaged)?;
    let work = work_factor(work, most_work)?;
    let mut wrapped = exactly::<32>(header.wrapped).ok_or(UnreadableAge::Damaged)?;

    let wrapping = wrapping_key(passphrase, &salt, work).ok_or(UnreadableAge::Damaged)?;
    let opened = open_chunk(&wrapping, [0; 12], &mut wrapped).ok_or(UnreadableAge::WrongPassphrase)?;
    let file_key = <[u8; 16]>::try_from(opened).map(Zeroizing::new);
    wrapped.zeroize();
    let file_key = file_key.map_err(|_| UnreadableAge::Damaged)?;
    hmac::verify(&header_key(&file_key), header.signed, &header.mac).map_err(|_| UnreadableAge::Damaged)?;
    payload(header.payload, &file_key).ok_or(UnreadableAge::Damaged)
}

/// The parts of a file for one passphrase: four lines, and what comes after them.
struct Header<'a> {
    /// The salt and the work factor, from the second line.
    stanza: &'a str,
    /// The third line: the file key, as the passphrase opens it.
    wrapped: &'a str,
    /// What the last line signs: all up to its mark.
    signed: &'a [u8],
    mac: [u8; 32],
    payload: &'a [u8],
}

impl<'a> Header<'a> {
    fn read(file: &'a [u8]) -> Result<Self, UnreadableAge> {
        let (version, rest) = line(file).ok_or(UnreadableAge::Damaged)?;
        let (second, rest) = line(rest).ok_or(UnreadableAge::Damaged)?;
        match second.strip_prefix(STANZA) {
            _ if version != VERSION => Err(UnreadableAge::Damaged),
            Some(stanza) => Self::after(file, stanza, rest).ok_or(UnreadableAge::Damaged),
            None if second.starts_with("-> ") => Err(UnreadableAge::NotByPassphrase),
            None => Err(UnreadableAge::Damaged),
        }
    }

    /// The lines after the stanza. There can be no second one: the format lets a passphrase stand alone only, as whoever
    /// has the other key could have written the file.
    fn after(file: &'a [u8], stanza: &'a str, rest: &'a [u8]) -> Option<Self> {
        let (wrapped, rest) = line(rest)?;
        let (last, payload) = line(rest)?;
        let mac = exactly(last.strip_prefix(MAC)?.strip_prefix(' ')?)?;
        let signed = file.get(..file.len() - rest.len() + MAC.len())?;
        Some(Self { stanza, wrapped, signed, mac, payload })
    }
}

/// The first line, without its end, and the rest.
fn line(octets: &[u8]) -> Option<(&str, &[u8])> {
    let end = octets.iter().position(|octet| *octet == b'\n')?;
    let (line, rest) = octets.split_at_checked(end)?;
    Some((std::str::from_utf8(line).ok()?, rest.get(1..)?))
}

/// So many octets in base64 without padding, written in the one canonical way.
fn exactly<const N: usize>(base64: &str) -> Option<[u8; N]> {
    STANDARD_NO_PAD.decode(base64).ok()?.try_into().ok()
}

fn work_factor(digits: &str, most: u8) -> Result<u8, UnreadableAge> {
    if digits.is_empty() || digits.starts_with('0') || !digits.bytes().all(|octet| octet.is_ascii_digit()) {
        return Err(UnreadableAge::Damaged);
    }
    // More digits than fit are more work than any.
    digits.parse().ok().filter(|work| *work <= most).ok_or(UnreadableAge::TooMuchWork(most))
}

/// The octets of an armoured text.
fn unarmour(text: &str) -> Result<Vec<u8>, UnreadableAge> {
    let body = text.trim_ascii().strip_prefix(BEGIN).ok_or(UnreadableAge::NotArmoured)?;
    let body = body.strip_suffix(END).ok_or(UnreadableAge::Damaged)?;
    let mut base64 = String::with_capacity(body.len());
    let mut lines = body.lines();
    if lines.next() != Some("") || !body.ends_with('\n') {
        return Err(UnreadableAge::Damaged);
    }
    let mut full = true;
    for line in lines {
        if !full || line.is_empty() || line.len() > COLUMNS {
            return Err(UnreadableAge::Damaged);
        }
        full = line.len() == COLUMNS;
        base64.push_str(line);
    }
    STANDARD.decode(base64).map_err(|_| UnreadableAge::Damaged)
}

/// The payload's plain text: every chunk in its place, and the last one the last.
fn payload(octets: &[u8], file_key: &[u8; 16]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, mut rest) = octets.split_at_checked(16)?;
    let key = payload_key(file_key, nonce);
    // Sized beforehand: growing would leave copies behind.
    let mut plain = Zeroizing::new(Vec::with_capacity(rest.len()));
    for counter in 0.. {
        let (chunk, after) = rest.split_at(rest.len().min(CHUNK + aead::CHACHA20_POLY1305.tag_len()));
        let mut chunk = Zeroizing::new(chunk.to_vec());
        let opened = open_chunk(&key, chunk_nonce(counter, after.is_empty()), &mut chunk)?;
        if opened.is_empty() && counter > 0 {
            return None;
        }
        plain.extend_from_slice(opened);
        if after.is_empty() {
            break;
        }
        rest = after;
    }
    Some(plain)
}

// === the keys ===

/// The key that a passphrase gives, which opens the file key; `None` if scrypt cannot do so much work.
fn wrapping_key(passphrase: &str, salt: &[u8; 16], work: u8) -> Option<aead::LessSafeKey> {
    let parameters = scrypt::Params::new(work, SCRYPT_R, 1).ok()?;
    let salt = [SALT_LABEL, salt].concat();
    let mut key = Zeroizing::new([0; 32]);
    scrypt::scrypt(passphrase.as_bytes(), &salt, &parameters, &mut *key).ok()?;
    Some(aead::LessSafeKey::new(aead::UnboundKey::new(&aead::CHACHA20_POLY1305, &*key).ok()?))
}

fn header_key(file_key: &[u8; 16]) -> hmac::Key {
    let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(file_key);
    secret.expand(&[b"header"], hmac::HMAC_SHA256).expect("HKDF gives a key of its own length").into()
}

fn payload_key(file_key: &[u8; 16], nonce: &[u8]) -> aead::LessSafeKey {
    let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, nonce).extract(file_key);
    let key = secret.expand(&[b"payload"], &aead::CHACHA20_POLY1305);
    aead::LessSafeKey::new(key.expect("HKDF gives a key of 32 octets").into())
}

/// The place of a chunk, and whether it is the last: so chunks cannot be moved, nor the last ones be left out.
fn chunk_nonce(counter: u64, last: bool) -> [u8; 12] {
    let mut nonce = [0; 12];
    if let Some((flag, place)) = nonce.split_last_mut() {
        place.iter_mut().rev().zip(counter.to_le_bytes()).for_each(|(octet, digit)| *octet = digit);
        *flag = u8::from(last);
    }
    nonce
}

/// Encrypts a chunk where it lies, and gives its tag.
fn seal_chunk(key: &aead::LessSafeKey, nonce: [u8; 12], chunk: &mut [u8]) -> Vec<u8> {
    let nonce = aead::Nonce::assume_unique_for_key(nonce);
    let tag = key.seal_in_place_separate_tag(nonce, aead::Aad::empty(), chunk);
    tag.expect("a chunk is far below what the cipher takes").as_ref().to_vec()
}

/// Decrypts a chunk with its tag where it lies.
fn open_chunk<'a>(key: &aead::LessSafeKey, nonce: [u8; 12], chunk: &'a mut [u8]) -> Option<&'a [u8]> {
    let nonce = aead::Nonce::assume_unique_for_key(nonce);
    key.open_in_place(nonce, aead::Aad::empty(), chunk).ok().map(|plain| &*plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSPHRASE: &str = "correct horse battery";

    /// By age 1.1.1, `age --passphrase --armor`, with its own work factor of 18.
    const BY_AGE: &str = "-----BEGIN AGE ENCRYPTED FILE-----
YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IHNjcnlwdCByTE4rUmw1QjZ0VHFtWkVW
NWo3SHVnIDE4CjlUZ2t4eU5tOGQyS3FCNFJ0Q1ZWbUJMaG5zK0tMNGVsa09ZZHdB
MlA3T1EKLS0tIFZVdzBPc1R4NDBPVGZSSTN6T2ZpcTJyazdHeDZDRDIwenlnZnMr
UlJhMFEKBRIOsatD+OYTfsGFcSfcU1xgYcf0t+lXaQdQ3Tjk5/SC/sXwv0s0NBid
NP7XeMLIus1yQkYGjR1F2prl1veLCU6sS2TUztEQdoapsBDwEZnAtK0+XkBsfMNh
B30vHOjo/N2r5ztzvirz3csTS+mU3BR2rI5qPwUnMOh6euEMVv+TYr6vELIhKd/v
NExjLBGj1U8MCZnqGSQ0IfrC
-----END AGE ENCRYPTED FILE-----
";

    fn drawn() -> Drawn {
        Drawn { file_key: Zeroizing::new([1; 16]), salt: [2; 16], nonce: [3; 16] }
    }

    fn text_of(file: &[u8]) -> String {
        pem::block(LABEL, file).to_string()
    }

    #[test]
    fn a_file_of_the_age_tool_is_read() {
        let plain = decrypt(BY_AGE, PASSPHRASE, 18).unwrap();
        assert!(plain.starts_with(br#"{"format":"burgrave.dev/authority","version":1,"#));
        let carried = BY_AGE.replace('\n', "\r\n");
        assert_eq!(decrypt(&format!("\r\n{carried}\r\n"), PASSPHRASE, 18), Ok(plain));
    }

    #[test]
    fn files_of_all_lengths_come_back() {
        for length in [0, 1, 47, 48, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
            let plain: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let text = encrypt(&plain, PASSPHRASE, 1, &drawn());
            assert_eq!(*decrypt(&text, PASSPHRASE, 1).unwrap(), plain, "{length} octets");
        }
    }

    #[test]
    fn no_octet_of_the_file_can_be_changed_and_none_left_out() {
        let file = unarmour(&encrypt(b"what is kept", PASSPHRASE, 1, &drawn())).unwrap();
        for at in 0..file.len() {
            for change in [1, 0x20, 0x80] {
                let mut changed = file.clone();
                changed[at] ^= change;
                assert!(decrypt(&text_of(&changed), PASSPHRASE, 4).is_err(), "octet {at} ^ {change:#x}");
            }
            assert!(decrypt(&text_of(&file[..at]), PASSPHRASE, 4).is_err(), "cut off at {at}");
        }
    }

    #[test]
    fn no_character_of_the_armour_can_be_changed_and_none_left_out() {
        let text = encrypt(b"what is kept", PASSPHRASE, 1, &drawn());
        for at in 0..text.len() {
            for change in [1, 2, 4, 0x20] {
                let mut changed = text.clone().into_bytes();
                changed[at] ^= change;
                let changed = String::from_utf8(changed).unwrap();
                assert!(decrypt(&changed, PASSPHRASE, 4).is_err(), "character {at} ^ {change:#x}");
            }
        }
        for at in 0..text.trim_end().len() {
            assert!(decrypt(&text[..at], PASSPHRASE, 4).is_err(), "cut off at {at}");
        }
        assert!(decrypt(&format!("{text}x"), PASSPHRASE, 4).is_err());
        assert!(decrypt(&text.replace("-----\nY", "-----\n\nY"), PASSPHRASE, 4).is_err());
    }

    #[test]
    fn chunks_cannot_be_left_out_at_the_end_or_change_places() {
        let plain = [[b'a'; CHUNK], [b'b'; CHUNK]].concat();
        let file = unarmour(&encrypt(&plain, PASSPHRASE, 1, &drawn())).unwrap();
        let (head, chunks) = file.split_at(file.len() - 2 * (CHUNK + 16));
        let (first, second) = chunks.split_at(CHUNK + 16);
        assert!(decrypt(&text_of(&[head, first, second].concat()), PASSPHRASE, 1).is_ok());
        for wrong in [[head, first, &[]], [head, second, first], [head, second, &[]], [head, first, first]] {
            assert_eq!(decrypt(&text_of(&wrong.concat()), PASSPHRASE, 1), Err(UnreadableAge::Damaged));
        }
    }

    #[test]
    fn a_file_that_asks_for_absurd_work_is_refused_before_the_work_is_done() {
        let file = unarmour(&encrypt(b"what is kept", PASSPHRASE, 1, &drawn())).unwrap();
        let with = |work: &str| {
            let text = String::from_utf8_lossy(&file[..100]).replacen("Ag 1\n", &format!("Ag {work}\n"), 1);
            [text.as_bytes(), &file[100..]].concat()
        };
        for work in ["19", "30", "63", "64", "255", "256", "99999999999999999999999999"] {
            let refused = decrypt(&text_of(&with(work)), PASSPHRASE, 18);
            assert_eq!(refused, Err(UnreadableAge::TooMuchWork(18)), "{work}");
        }
        for work in ["0", "", "01", "+1", "-1", "1 ", "1 1", "x"] {
            let refused = decrypt(&text_of(&with(work)), PASSPHRASE, 18);
            assert_eq!(refused, Err(UnreadableAge::Damaged), "{work}");
        }
        assert!(decrypt(&text_of(&with("1")), PASSPHRASE, 1).is_ok());
    }

    #[test]
    fn what_is_no_file_of_ours_is_told_apart() {
        let file = unarmour(&encrypt(b"what is kept", PASSPHRASE, 1, &drawn())).unwrap();
        assert_eq!(decrypt(&text_of(&file), "correct horse batterx", 1), Err(UnreadableAge::WrongPassphrase));
        for other in ["", "{}", "-----BEGIN CERTIFICATE-----\n", "age-encryption.org/v1\n"] {
            assert_eq!(decrypt(other, PASSPHRASE, 1), Err(UnreadableAge::NotArmoured));
        }
        let to_a_key = b"age-encryption.org/v1\n-> X25519 abc\ndef\n--- ghi\n";
        assert_eq!(decrypt(&text_of(to_a_key), PASSPHRASE, 1), Err(UnreadableAge::NotByPassphrase));
        let text = String::from_utf8_lossy(&file).replacen("\n--- ", "\n-> X25519 abc\ndef\n--- ", 1);
        assert_eq!(decrypt(&text_of(text.as_bytes()), PASSPHRASE, 1), Err(UnreadableAge::Damaged));
    }
}
