//! Requests and certificates made by other hands than Burgrave's: by `openssl` and by `rcgen`.

use crate::support::Scratch;
use crate::support::scratch;
use crate::support::tools;

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use burgrave::x509::PrivateKey;
use rcgen::CertificateParams;
use rcgen::KeyPair;
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;

/// A request as Burgrave's own agent makes it, with a new P-256 key.
pub(crate) fn csr() -> String {
    PrivateKey::generate().and_then(|key| key.csr_pem()).expect("the kernel gives random bytes")
}

/// A request that `openssl req -new` makes with those further arguments, the kind of key among them.
pub(crate) fn csr_by_openssl(arguments: &[&str]) -> String {
    let dir = scratch("csr");
    let config = dir.join("cnf");
    // A configuration of our own, so that the machine's has no say.
    std::fs::write(&config, "[req]\ndistinguished_name = none\nstring_mask = utf8only\n[none]\n")
        .expect("a scratch can be written to");
    let config = config.display().to_string();
    let mut all = vec!["req", "-new", "-nodes", "-keyout", "/dev/null", "-config", &config];
    all.extend(arguments);
    if !arguments.contains(&"-subj") {
        all.extend(["-subj", "/CN=nobody"]);
    }
    String::from_utf8(openssl(&all)).expect("PEM is ASCII")
}

/// What `openssl` prints on its standard output; fails with what it says if it refuses.
pub(crate) fn openssl(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(tools::openssl()).args(arguments).output().expect("openssl can be run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {}: {said}", arguments.join(" "));
    output.stdout
}

/// A request's DER.
pub(crate) fn csr_der(pem: &str) -> Vec<u8> {
    CertificateSigningRequestDer::from_pem_slice(pem.as_bytes())
        .expect("the story's own request is PEM")
        .to_vec()
}

/// DER as a PEM block.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64_STANDARD.encode(der))
}

/// A hierarchy made by `certs/make` with those options.
pub(crate) fn hierarchy(options: &[&str]) -> Hierarchy {
    let dir = scratch("hierarchy");
    let path = dir.join("ca");
    let made = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/certs/make"))
        .arg(&path)
        .args(options)
        .output()
        .expect("certs/make can be run");
    assert!(made.status.success(), "certs/make {options:?}: {}", String::from_utf8_lossy(&made.stderr));
    Hierarchy { path, _dir: dir }
}

/// A directory with the files that `burgrave ca --ca-dir` takes, to be changed as a story likes.
pub(crate) struct Hierarchy {
    path: PathBuf,
    _dir: Scratch,
}

impl Hierarchy {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The `--ca-dir` options for it.
    pub(crate) fn options(&self) -> [&str; 2] {
        ["--ca-dir", self.path.to_str().expect("a scratch's path is UTF-8")]
    }

    pub(crate) fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.path.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    pub(crate) fn write(&self, file: &str, content: &str) {
        std::fs::write(self.path.join(file), content).unwrap_or_else(|error| panic!("{file}: {error}"));
    }

    pub(crate) fn remove(&self, file: &str) {
        std::fs::remove_file(self.path.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    }

    /// Issues the signing certificate anew, for the same P-256 key and by the same issuer, after `change`.
    pub(crate) fn reissue(&self, change: impl FnOnce(&mut CertificateParams)) {
        let key = KeyPair::from_pem(&self.read("ca-key.pem")).expect("certs/make writes PKCS#8");
        let root_key =
            KeyPair::from_pem(&self.read("offline/root-key.pem")).expect("certs/make writes PKCS#8");
        let root =
            rcgen::Issuer::from_ca_cert_pem(&self.read("root-cert.pem"), root_key).expect("it is a root");
        let mut params = ca_params("Issuing CA again");
        change(&mut params);
        let certificate = params.signed_by(&key, &root).expect("the parameters make a certificate").pem();
        self.write("ca-cert.pem", &certificate);
        self.write("cert-chain.pem", &certificate);
    }
}

/// Parameters of a CA certificate named `name`.
pub(crate) fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params
}
