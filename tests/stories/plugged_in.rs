//! A CA directory whose parts do not belong together is refused at start, with a sentence that names the file or the
//! certificate and what to do about it.

use crate::ca::NO_KEYS;
use crate::ca::Plan;
use crate::crafted::Hierarchy;
use crate::crafted::ca_params;
use crate::crafted::hierarchy;
use crate::crafted::openssl;

use std::os::unix::fs::PermissionsExt;

use rcgen::CertificateParams;
use rcgen::Issuer;
use rcgen::KeyPair;
use time::Duration;
use time::OffsetDateTime;

/// What `burgrave ca --ca-dir` says of that hierarchy when it refuses it: one line, which quotes no key.
fn refusal(what: &str, files: &Hierarchy) -> String {
    let (code, said) = Plan::without_callers(&files.options()).run_to_its_end();
    assert_eq!(code, 1, "{what}: {said}");
    // Whatever looks like a line of a key.
    let kept = ["ca-key.pem", "offline/root-key.pem"].map(|file| files.path().join(file));
    let keys = kept.iter().filter_map(|path| std::fs::read_to_string(path).ok()).collect::<String>();
    for line in keys.lines().filter(|line| line.len() >= 16 && !line.starts_with("-----")) {
        assert!(!said.contains(line), "{what}: a key is quoted: {said}");
    }
    let mut sentences = said.lines().filter(|line| !line.starts_with('{'));
    let sentence = sentences.next().unwrap_or_else(|| panic!("{what}: nothing is said: {said}"));
    assert_eq!(sentences.next(), None, "{what}: {said}");
    sentence.strip_prefix("burgrave: ").unwrap_or_else(|| panic!("{what}: {said}")).to_owned()
}

/// Changes a fresh hierarchy and looks for each of `words` in what is said of it. `{}` stands for its directory.
fn refused(what: &str, options: &[&str], change: impl FnOnce(&Hierarchy), words: &[&str]) {
    let files = hierarchy(options);
    change(&files);
    let said = refusal(what, &files);
    for word in words {
        let word = word.replace("{}", &files.path().display().to_string());
        assert!(said.contains(&word), "{what}: `{word}` is not in: {said}");
    }
}

#[test]
fn a_key_of_another_certificate_is_refused_by_name() {
    let other = hierarchy(&[]);
    refused(
        "another key of the same kind",
        &[],
        |files| files.write("ca-key.pem", &other.read("ca-key.pem")),
        &["`{}`", "the private key does not belong to", "CN=Issuing CA`", "use the key that"],
    );
    let rsa = hierarchy(&["--key", "rsa2048"]);
    refused(
        "a key of another kind",
        &[],
        |files| files.write("ca-key.pem", &rsa.read("ca-key.pem")),
        &["`{}`", "the private key does not belong to", "CN=Issuing CA`", "use the key that"],
    );
    refused(
        "the root's key",
        &[],
        |files| files.write("ca-key.pem", &files.read("offline/root-key.pem")),
        &["`{}`", "the private key does not belong to", "CN=Issuing CA`"],
    );
}

#[test]
fn a_certificate_that_limits_the_purposes_of_leaves_is_refused() {
    let only_servers = |files: &Hierarchy| {
        files.reissue(|params| params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth]);
    };
    let words =
        ["`{}`", "limits what certificates below it may be used for", "have it issued without, or with both"];
    refused("an issuer for TLS servers alone", &[], only_servers, &words);
}

#[test]
fn a_key_that_cannot_be_read_is_refused_with_its_file() {
    let unreadable = ["`{}/ca-key.pem`", "no readable PEM private key", "not encrypted"];
    let encrypt = |files: &Hierarchy| {
        let path = files.path().join("ca-key.pem").display().to_string();
        let encrypted =
            openssl(&["pkcs8", "-topk8", "-v2", "aes-256-cbc", "-passout", "pass:secret", "-in", &path]);
        files.write("ca-key.pem", &String::from_utf8_lossy(&encrypted));
    };
    refused("an encrypted key", &[], encrypt, &unreadable);
    let encrypt_as_before = |files: &Hierarchy| {
        let path = files.path().join("ca-key.pem").display().to_string();
        let encrypted = openssl(&["ec", "-aes256", "-passout", "pass:secret", "-in", &path]);
        files.write("ca-key.pem", &String::from_utf8_lossy(&encrypted));
    };
    refused("a key encrypted the old way", &[], encrypt_as_before, &["`{}/ca-key.pem`"]);
    refused(
        "a certificate for a key",
        &[],
        |files| files.write("ca-key.pem", &files.read("ca-cert.pem")),
        &unreadable,
    );
    let cut = |files: &Hierarchy| files.write("ca-key.pem", &files.read("ca-key.pem")[..120]);
    refused("half a key", &[], cut, &unreadable);
    let curve = |files: &Hierarchy| {
        let key = openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"]);
        files.write("ca-key.pem", &String::from_utf8_lossy(&key));
    };
    refused(
        "a key of a curve that nobody takes",
        &[],
        curve,
        &["`{}/ca-key.pem`", "not supported", "use P-256"],
    );
    let short = |files: &Hierarchy| {
        let key = openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"]);
        files.write("ca-key.pem", &String::from_utf8_lossy(&key));
    };
    refused("a short RSA key", &[], short, &["`{}/ca-key.pem`", "not supported", "2048"]);
}

#[test]
fn a_missing_file_is_named_with_all_that_are_needed() {
    for file in ["ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem"] {
        let name = format!("`{{}}/{file}`");
        let needed = "a plugged-in CA needs ca-cert.pem, ca-key.pem, root-cert.pem and cert-chain.pem";
        refused(file, &[], |files| files.remove(file), &[&name, "No such file", needed]);
        refused(file, &[], |files| files.write(file, ""), &[&name, "no "]);
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        refused(file, &[], |files| files.write(file, broken), &[&name]);
    }
}

#[test]
fn a_chain_with_a_gap_or_without_its_root_is_refused_with_the_certificate_before_the_gap() {
    refused(
        "the upper intermediate is left out",
        &["--depth", "2"],
        |files| files.write("cert-chain.pem", &files.read("ca-cert.pem")),
        &[
            "`{}/cert-chain.pem`",
            "CN=Issuing CA`",
            "whose issuer is `",
            "CN=Upper CA`",
            "missing intermediate",
        ],
    );
    let other = hierarchy(&[]);
    refused(
        "the root is another one",
        &[],
        |files| files.write("root-cert.pem", &other.read("root-cert.pem")),
        &["`{}/cert-chain.pem`", "none of the root certificates signed", "CN=Issuing CA`", "add that root"],
    );
    refused(
        "the chain of another CA",
        &["--depth", "2"],
        |files| files.write("cert-chain.pem", &other.read("cert-chain.pem")),
        &["`{}/cert-chain.pem`", "CN=Issuing CA`"],
    );
}

/// `certs/make` knows only one place for a second intermediate, so this one is made here: root, upper, middle, issuing.
#[test]
fn a_chain_in_the_wrong_order_is_refused_with_the_link_that_does_not_hold() {
    let key = || KeyPair::generate().expect("ring makes keys");
    let (root_key, upper_key, middle_key, issuing_key) = (key(), key(), key(), key());
    let (root, upper, middle) = (ca_params("the root"), ca_params("the upper"), ca_params("the middle"));
    let sign = |params: &CertificateParams, key: &KeyPair, above: CertificateParams, above_key: &KeyPair| {
        params
            .signed_by(key, &Issuer::new(above, above_key))
            .expect("the parameters make a certificate")
            .pem()
    };
    let root_pem = root.self_signed(&root_key).expect("the parameters make a certificate").pem();
    let upper_pem = sign(&upper, &upper_key, root, &root_key);
    let middle_pem = sign(&middle, &middle_key, upper, &upper_key);
    let issuing_pem = sign(&ca_params("the issuing"), &issuing_key, middle, &middle_key);

    let with_chain = |chain: [&str; 3]| {
        let files = hierarchy(&[]);
        files.write("root-cert.pem", &root_pem);
        files.write("ca-cert.pem", &issuing_pem);
        files.write("ca-key.pem", &issuing_key.serialize_pem());
        files.write("cert-chain.pem", &chain.concat());
        refusal("the order of a chain", &files)
    };
    let said = with_chain([&issuing_pem, &upper_pem, &middle_pem]);
    assert!(said.contains("cert-chain.pem` does not lead from"), "{said}");
    assert!(said.contains("`CN=the issuing` is not signed by `CN=the upper`"), "{said}");
    assert!(said.contains("put the chain in order, signing certificate first"), "{said}");
    // In the right order the files are taken, and the start goes on to where it must end.
    let said = with_chain([&issuing_pem, &middle_pem, &upper_pem]);
    assert!(format!("burgrave: {said}").starts_with(NO_KEYS), "{said}");

    // The signing certificate is the first of its own file.
    let upper_first = |files: &Hierarchy| {
        let both = files.read("offline/upper-cert.pem") + &files.read("ca-cert.pem");
        files.write("ca-cert.pem", &both);
    };
    let words = ["the private key does not belong to", "CN=Upper CA`", "use the key that"];
    refused("ca-cert.pem upside down", &["--depth", "2"], upper_first, &words);
}

#[test]
fn a_leaf_in_the_place_of_a_ca_is_refused() {
    let may_not = ["`{}`", "CN=Issuing CA again`", "may not sign certificates", "use a CA certificate"];
    let leaf = |files: &Hierarchy| files.reissue(|params| params.is_ca = rcgen::IsCa::ExplicitNoCa);
    refused("CA:FALSE", &[], leaf, &may_not);
    let silent = |files: &Hierarchy| files.reissue(|params| params.is_ca = rcgen::IsCa::NoCa);
    refused("no basic constraints", &[], silent, &may_not);
    let usage = |files: &Hierarchy| {
        files.reissue(|params| params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature]);
    };
    refused("a key usage that does not sign certificates", &[], usage, &may_not);
    let in_roots = |files: &Hierarchy| {
        files.reissue(|params| params.is_ca = rcgen::IsCa::ExplicitNoCa);
        files.write("root-cert.pem", &(files.read("root-cert.pem") + &files.read("ca-cert.pem")));
    };
    let words =
        ["`{}/root-cert.pem`", "certificate 2", "CN=Issuing CA again", "only roots belong in a bundle"];
    refused("a leaf among the roots", &[], in_roots, &words);
}

#[test]
fn a_ca_that_has_expired_or_is_not_valid_yet_is_refused_with_its_dates() {
    let now = OffsetDateTime::now_utc();
    let words = ["CN=Issuing CA again`", "which is not now", "renew it, or check this machine's clock"];
    let expired = |files: &Hierarchy| {
        files.reissue(|params| {
            params.not_before = now - Duration::DAY;
            params.not_after = now - Duration::MINUTE;
        });
    };
    let today = (now - Duration::MINUTE).date().to_string();
    refused("expired", &[], expired, &[&words[..], &[&today]].concat());
    let early = |files: &Hierarchy| {
        files.reissue(|params| {
            params.not_before = now + Duration::DAY;
            params.not_after = now + 2 * Duration::DAY;
        });
    };
    refused("not valid yet", &[], early, &words);
}

#[test]
fn a_path_length_that_forbids_the_chain_is_refused() {
    let short = |files: &Hierarchy| {
        let key = KeyPair::from_pem(&files.read("offline/root-key.pem")).expect("certs/make writes PKCS#8");
        let mut root = ca_params("Root CA");
        root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
        files.write(
            "root-cert.pem",
            &root.self_signed(&key).expect("the parameters make a certificate").pem(),
        );
        files.reissue(|_| ());
    };
    let words = ["CN=Root CA`", "allows 0 CA certificates below it", "the chain has 1"];
    refused("a root that allows none below it", &[], short, &words);
}

#[test]
fn a_state_directory_that_others_can_look_into_is_refused_with_the_command_that_mends_it() {
    let plan = Plan::without_callers(&[]);
    std::fs::create_dir(plan.state_dir()).expect("a scratch can be written to");
    for mode in [0o750, 0o705, 0o770, 0o777] {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(plan.state_dir(), permissions).expect("it is our own");
        let (code, said) = plan.run_to_its_end();
        assert_eq!(code, 1, "{said}");
        let path = plan.state_dir().display().to_string();
        assert!(said.contains(&format!("state directory `{path}` has mode {mode:o}")), "{said}");
        assert!(said.contains(&format!("run `chmod 700 {path}`")), "{said}");
    }
    assert_eq!(
        std::fs::read_dir(plan.state_dir()).expect("it is our own").count(),
        0,
        "nothing is written to it"
    );
}

#[test]
fn a_state_directory_that_is_none_or_holds_a_damaged_store_is_refused_and_left_alone() {
    let plan = Plan::without_callers(&[]);
    std::fs::write(plan.state_dir(), "a file").expect("a scratch can be written to");
    let (code, said) = plan.run_to_its_end();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("is not a directory"), "{said}");

    let plan = Plan::without_callers(&[]);
    std::fs::create_dir(plan.state_dir()).expect("a scratch can be written to");
    std::fs::set_permissions(plan.state_dir(), std::fs::Permissions::from_mode(0o700))
        .expect("it is our own");
    let store = plan.state_dir().join("authority.redb");
    std::fs::write(&store, [0x5a; 9000]).expect("a scratch can be written to");
    let (code, said) = plan.run_to_its_end();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(&store.display().to_string()) && said.contains("restore it from a copy"), "{said}");
    assert_eq!(std::fs::read(&store).expect("it is still there"), [0x5a; 9000]);
}
