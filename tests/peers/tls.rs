//! The same clients with TLS: between the two sidecars, before them, and behind them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use tempfile::TempDir;

use crate::compare::{Way, same};
use crate::harness::{Program, couplet};
use crate::place::{has, program, python};
use crate::topology::Origin;

/// Certificates for two services, and for this machine.
struct Authority(TempDir);

impl Authority {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "the authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(folder.path().join("roots.pem"), issuer.pem()).unwrap();
        let id = |service: &str| SanType::URI(format!("spiffe://shop.example/{service}").try_into().unwrap());
        let machine = [SanType::IpAddress([127, 0, 0, 1].into()), SanType::DnsName("localhost".try_into().unwrap())];
        for (name, says) in [("shop", vec![id("shop")]), ("stock", vec![id("stock")]), ("server", machine.to_vec())] {
            let (mut params, key) = (CertificateParams::default(), KeyPair::generate().unwrap());
            params.subject_alt_names = says;
            let certificate = params.signed_by(&key, &issuer).unwrap();
            std::fs::write(folder.path().join(format!("{name}.pem")), certificate.pem()).unwrap();
            std::fs::write(folder.path().join(format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        Self(folder)
    }

    fn file(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// What a sidecar's file says of its identity.
    fn identity(&self, service: &str) -> String {
        let (certificate, key) = (self.file(&format!("{service}.pem")), self.file(&format!("{service}.key")));
        format!("{{certificate: {certificate}, key: {key}, roots: {}}}", self.file("roots.pem"))
    }

    /// A sidecar whose file says this.
    fn sidecar(&self, service: &str, says: &str) -> Program {
        let file = self.file(&format!("{service}.yaml"));
        std::fs::write(&file, format!("service: {service}\nadmin: off\nlog: {{format: json}}\n{says}")).unwrap();
        Program::start(&mut couplet(&format!("proxy -c {file}")))
    }

    /// For Java, which reads roots from a store of its own.
    fn store(&self) -> bool {
        let (roots, store) = (self.file("roots.pem"), self.file("roots.p12"));
        let words = ["keytool", "-importcert", "-noprompt", "-alias", "roots", "-storetype", "PKCS12"];
        let words = [&words[..], &["-storepass", "changeit", "-file", &roots, "-keystore", &store]].concat();
        has("Java over TLS", &words)
    }

    /// The sidecar of `stock`, which takes TLS of clients that are none, before the application at `app`.
    fn before(&self, app: SocketAddr) -> (Program, SocketAddr) {
        let (certificate, key) = (self.file("server.pem"), self.file("server.key"));
        let says = format!(
            "app: {app}\ninbound: 127.0.0.1:0\ntls:\n  identity: {}\n  \
             server: {{certificate: {certificate}, key: {key}}}\n",
            self.identity("stock")
        );
        let mut stock = self.sidecar("stock", &says);
        let inbound = stock.listener("inbound");
        (stock, inbound)
    }

    /// The sidecar of `shop`, which speaks TLS like this to `target`.
    fn towards(&self, target: SocketAddr, tls: &str) -> (Program, SocketAddr) {
        let to = format!("{{name: stock, listen: 127.0.0.1:0, target: '{target}', tls: {tls}}}");
        let says = format!("tls:\n  identity: {}\noutbound:\n  - {to}\n", self.identity("shop"));
        let mut shop = self.sidecar("shop", &says);
        let outbound = shop.listener("outbound");
        (shop, outbound)
    }

    fn over_tls(&self, address: SocketAddr) -> Way {
        Way::over_tls(address, self.0.path())
    }
}

/// The client in the clear; its sidecar and that of the origin speak mutual TLS.
#[track_caller]
fn same_through_the_mesh(client: &str, words: &[&str], origin: &Origin) {
    let authority = Authority::new();
    let (_stock, inbound) = authority.before(origin.address);
    let (_shop, outbound) = authority.towards(inbound, "mesh");
    let title = format!("{client}, mesh → {}", origin.name);
    same(&title, words, &origin.name, &Way::clear(origin.address), &Way::clear(outbound));
}

fn node(test: &str, speaks: &str) -> Option<Origin> {
    let name = if speaks == "http2" { "Node http2" } else { "Node http" };
    has(test, &["node", "--version"]).then(|| Origin::node(name, "origin.mjs", &[speaks]))
}

#[test]
fn curl_through_the_mesh() {
    for (client, protocol, speaks) in [("curl HTTP/1.1", "http1.1", "http1"), ("curl HTTP/2", "http2", "http2")] {
        if let Some(origin) = node(client, speaks).filter(|_| has(client, &[&python(), "--version"])) {
            let words = [&python(), &program("curl.py"), "URL", protocol, "ORIGIN"];
            same_through_the_mesh(client, &words, &origin);
        }
    }
}

#[test]
fn httpx_through_the_mesh() {
    if let Some(origin) = node("httpx HTTP/2", "http2").filter(|_| has("httpx", &[&python(), "-c", "import httpx, h2"]))
    {
        same_through_the_mesh("httpx HTTP/2", &[&python(), &program("with_httpx.py"), "URL", "http2"], &origin);
    }
}

#[test]
fn node_http2_through_the_mesh() {
    if let Some(origin) = node("Node http2", "http2") {
        same_through_the_mesh("Node http2", &["node", &program("with-http2.mjs"), "URL", "ORIGIN"], &origin);
    }
}

#[test]
fn java_through_the_mesh() {
    if let Some(origin) = node("Java HttpClient", "http1").filter(|_| has("Java HttpClient", &["java", "--version"])) {
        same_through_the_mesh("Java HttpClient", &["java", &program("Client.java"), "URL", "http1.1"], &origin);
    }
}

fn grpc_origin() -> Option<Origin> {
    let there = has("grpcio", &[&python(), "-c", "import grpc, grpc_status, grpc_health"]);
    there.then(|| Origin::python("grpcio server", "grpc-server.py", &[]))
}

#[test]
fn grpcio_through_the_mesh() {
    if let Some(origin) = grpc_origin() {
        same_through_the_mesh("grpcio", &[&python(), &program("grpc-client.py"), "URL"], &origin);
    }
}

/// The client speaks TLS itself: with Node, or with the sidecar before Node.
#[track_caller]
fn same_over_tls(client: &str, is_there: &[&str], words: &[&str]) {
    let authority = Authority::new();
    if !has(client, is_there) || words[0] == "java" && !authority.store() {
        return;
    }
    let Some(clear) = node(client, "http2") else { return };
    let arguments = ["http2", &authority.file("server.pem"), &authority.file("server.key")];
    let direct = Origin::node("Node http2", "origin.mjs", &arguments);
    let (_stock, inbound) = authority.before(clear.address);
    let (direct_way, through) = (authority.over_tls(direct.address), authority.over_tls(inbound));
    same(&format!("{client} over TLS → {}", direct.name), words, &direct.name, &direct_way, &through);
}

/// What nginx is told of a port that takes TLS, with HTTP/2 for those who ask for it.
fn listen_tls(authority: &Authority) -> String {
    let (certificate, key) = (authority.file("server.pem"), authority.file("server.key"));
    format!("ssl http2; ssl_certificate {certificate}; ssl_certificate_key {key}")
}

#[test]
fn curl_over_tls() {
    let words = [&python(), &program("curl.py"), "URL", "http2", "ORIGIN"];
    same_over_tls("curl HTTP/2", &[&python(), "--version"], &words);
}

#[test]
fn httpx_over_tls() {
    let words = [&python(), &program("with_httpx.py"), "URL", "http2"];
    same_over_tls("httpx HTTP/2", &[&python(), "-c", "import httpx, h2"], &words);
}

#[test]
fn node_http2_over_tls() {
    same_over_tls("Node http2", &["node", "--version"], &["node", &program("with-http2.mjs"), "URL", "ORIGIN"]);
}

#[test]
fn java_over_tls() {
    same_over_tls("Java HttpClient", &["java", "--version"], &["java", &program("Client.java"), "URL", "http2"]);
}

#[test]
fn grpcio_over_tls() {
    if let Some(origin) = grpc_origin() {
        let authority = Authority::new();
        let (_stock, inbound) = authority.before(origin.address);
        let words = [&python(), &program("grpc-client.py"), "URL"];
        let through = authority.over_tls(inbound);
        same("grpcio over TLS → grpcio server", &words, &origin.name, &Way::clear(origin.address), &through);
    }
}

/// The client in the clear, and its sidecar asks nginx over TLS; directly, the client asks another one in the clear.
#[test]
fn curl_to_a_server_with_tls() {
    for (client, protocol, listen) in [("curl HTTP/1.1", "http1.1", ""), ("curl HTTP/2", "http2", "http2")] {
        if !has(client, &[&python(), "--version"]) || !has(client, &["/usr/sbin/nginx", "-v"]) {
            continue;
        }
        let (Some(behind), Some(other)) = (node(client, "http1"), node(client, "http1")) else { continue };
        let authority = Authority::new();
        let (clear, nginx) = (Origin::nginx(listen, behind), Origin::nginx(&listen_tls(&authority), other));
        let (_shop, outbound) =
            authority.towards(nginx.address, &format!("{{mode: on, roots: {}}}", authority.file("roots.pem")));
        let words = [&python(), &program("curl.py"), "URL", protocol, "ORIGIN"];
        let title = format!("{client}, sidecar over TLS → {}", nginx.name);
        same(&title, &words, &nginx.name, &Way::clear(clear.address), &Way::clear(outbound));
    }
}

/// The variables by which clients learn of the roots in `folder`.
pub(crate) fn roots(folder: &Path) -> [(&'static str, String); 5] {
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let store = format!("-Djavax.net.ssl.trustStore={} -Djavax.net.ssl.trustStorePassword=changeit", path("roots.p12"));
    [
        ("CURL_CA_BUNDLE", path("roots.pem")),
        ("SSL_CERT_FILE", path("roots.pem")),
        ("NODE_EXTRA_CA_CERTS", path("roots.pem")),
        ("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", path("roots.pem")),
        ("JAVA_TOOL_OPTIONS", store),
    ]
}
