//! Pods get certificates without any agent: a kubelet asks by a PodCertificateRequest, and the signer answers it. Every
//! object here is checked by the real API server's validation and, where a kubelet makes it, by its NodeRestriction.

use crate::crafted::csr_by_openssl;
use crate::crafted::csr_der;
use crate::pod_signer::Signer;
use crate::pod_signer::answered;
use crate::pod_signer::ask_as_kubelet;
use crate::pod_signer::condition;
use crate::pod_signer::pod;
use crate::pod_signer::request;
use crate::support::apiserver::ApiServer;

const P256: [&str; 4] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];

fn stub(arguments: &[&str]) -> Vec<u8> {
    csr_der(&csr_by_openssl(arguments))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kubelet_s_request_is_answered_with_a_certificate_that_the_api_server_takes() {
    let api = ApiServer::shared().await;
    let namespace = api.namespace("pods").await;
    let signer = Signer::start(api, &namespace).await;
    let web = pod(api, &namespace, &signer.name, "web-0").await;
    let name = ask_as_kubelet(api, &namespace, &request(&signer.name, &web, &stub(&P256))).await;
    let found = answered(api, &namespace, &signer, &name).await;
    assert_eq!(condition(&found)[0], "Issued", "{found}");
}
