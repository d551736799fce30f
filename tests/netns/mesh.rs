//! Captured pods in the mesh: applications speak in the clear, and what passes between two sidecars is mutual TLS.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::path::Path;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use serde_json::Value;

use crate::harness::{Program, eventually};
use crate::peers::{ask, connect, greeted, greeter, hello, http, serve, settings_awaited, settings_first};
use crate::world::{APP, Families, PROXY, Pod, Wire, World, say, world};

/// Who issues the identities of both services.
struct Authority(tempfile::TempDir);

impl Authority {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("couplet-authority").tempdir().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "the authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(folder.path().join("roots.pem"), issuer.pem()).unwrap();
        for service in ["shop", "stock"] {
            let (mut params, key) = (CertificateParams::default(), KeyPair::generate().unwrap());
            let id = format!("spiffe://shop.example/ns/prod/sa/{service}");
            params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
            let certificate = params.signed_by(&key, &issuer).unwrap();
            std::fs::write(folder.path().join(format!("{service}.pem")), certificate.pem()).unwrap();
            std::fs::write(folder.path().join(format!("{service}.key")), key.serialize_pem()).unwrap();
        }
        owned_by_the_sidecars(folder.path());
        Self(folder)
    }

    /// What a sidecar is told of its identity, and of how it speaks to others.
    fn flags(&self, service: &str, inbound: &str, outbound: &str) -> String {
        let at = self.0.path().display();
        let files = [("certificate", format!("{service}.pem")), ("key", format!("{service}.key"))];
        let files = files.into_iter().chain([("roots", "roots.pem".to_owned())]);
        let files: String = files.map(|(key, file)| format!(" --set tls.identity.{key}={at}/{file}")).collect();
        format!("{files} --set tls.inbound={inbound} --set tls.outbound={outbound}")
    }
}

fn owned_by_the_sidecars(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        std::os::unix::fs::chown(entry.unwrap().path(), Some(PROXY), Some(PROXY)).unwrap();
    }
    std::os::unix::fs::chown(folder, Some(PROXY), Some(PROXY)).unwrap();
}

/// Both pods with rules and a sidecar that has an identity.
fn meshed(test: &str, families: Families, inbound: &str, outbound: &str) -> Option<(World, Authority, Vec<Program>)> {
    let (world, authority) = (world(test, families)?, Authority::new());
    let sidecars = world.pods.iter().zip(["shop", "stock"]).map(|(pod, service)| {
        pod.init("");
        pod.sidecar_as(PROXY, service, &authority.flags(service, inbound, outbound))
    });
    let sidecars = sidecars.collect();
    Some((world, authority, sidecars))
}

fn pods(world: &World) -> (Pod, Pod) {
    (world.pods[0].clone(), world.pods[1].clone())
}

/// Sends what is to be echoed, through what may be TLS of the application's own.
fn echoed(address: (IpAddr, u16), sent: &[u8]) {
    let mut stream = connect(address);
    stream.write_all(sent).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    assert!(back == sent, "{} bytes came back of {}", back.len(), sent.len());
}

/// Answers with exactly what it gets, as soon as it gets it.
fn echo(pod: &Pod, address: (IpAddr, u16)) {
    serve(pod, APP, address, |mut stream| {
        let mut back = stream.try_clone().unwrap();
        let _ = std::io::copy(&mut stream, &mut back);
        let _ = back.shutdown(Shutdown::Write);
    });
}

#[test]
fn between_strict_pods_everything_is_mutual_tls_and_applications_notice_nothing() {
    let test = "strict pods";
    let Some((world, _authority, _sidecars)) = meshed(test, Families::Dual, "strict", "strict") else { return };
    let (shop, stock) = pods(&world);
    let wire = Wire::tap(&world);
    for address in [stock.ipv4, stock.ipv6] {
        http(&stock, APP, (address, 8080), |head| {
            assert!(head.contains("the-question"), "{head}");
            "the-answer".to_owned()
        });
        let question = "x-word: the-question\r\n";
        for _ in 0..3 {
            let answer = shop.inside(APP, move || ask((address, 8080), "/a", "stock.shop.svc:8080", question));
            assert_eq!((answer.status, answer.body.as_str()), (200, "the-answer"), "{}", answer.head);
        }
        greeter(&stock, APP, (address, 3306));
        let greeting = shop.inside(APP, move || greeted((address, 3306)));
        settings_first(&stock, APP, (address, 50051));
        let settings = shop.inside(APP, move || settings_awaited((address, 50051)));
        say(&format!("first word through mutual TLS over {address}: greeting {greeting:?}, settings {settings:?}"));
        echo(&stock, (address, 443));
        let sent = [hello("pay.example.org"), b"the-secret".repeat(10_000)].concat();
        shop.inside(APP, move || echoed((address, 443), &sent));
        let dead = shop.inside(APP, move || ask((address, 81), "/", "stock", ""));
        assert!(dead.status == 502 && dead.head.contains("couplet-error: connect"), "{}", dead.head);
    }
    let seen = wire.seen();
    for word in ["the-question", "the-answer", "the-secret", "220 ready", "HELO", "traceparent", "couplet-context"] {
        assert!(!seen.says(word.as_bytes()), "{word} can be read on the wire");
    }
    assert!(seen.says(&[0x16, 3, 1]) && seen.says(&[0x17, 3, 3]), "handshakes and records of TLS");
    say(&format!("{} bytes between the pods, none of the words among them", seen.bytes()));
    assert_eq!(shop.metric("couplet_mesh_clear_total"), Some(0.0));
    assert_eq!(shop.metric("couplet_mesh_addresses{found=\"other\"}"), Some(0.0));
    for (protocol, count) in [("http1", 7.0), ("http2", 2.0), ("opaque", 2.0), ("tls", 2.0)] {
        let series = format!("couplet_protocol_verdicts_total{{protocol=\"{protocol}\"}}");
        let there = shop.metric(&series);
        assert!(there >= Some(count), "{protocol}: {there:?}");
    }
    assert_eq!(stock.metric("couplet_protocol_verdicts_total{protocol=\"tls\"}"), Some(2.0), "that of the application");
}

#[test]
fn a_caller_is_called_what_its_certificate_says_in_the_graph() {
    let Some(world) = world("names of callers", Families::Ipv4) else { return };
    let (authority, analyzer) = (Authority::new(), world.analyzer());
    let (shop, stock) = pods(&world);
    for pod in [&shop, &stock] {
        pod.init("");
    }
    let believed = "--set trust.networks=[]";
    // It says of itself what its certificate does not, and nobody hears what it reports.
    let liar = format!("{} {believed}", authority.flags("shop", "strict", "strict"));
    let _liar = shop.sidecar_as(PROXY, "somebody", &liar);
    let _sidecar = stock.sidecar("stock", &format!("{} {believed}", authority.flags("stock", "strict", "strict")));
    http(&stock, APP, (stock.ipv4, 8080), |_| "here".to_owned());
    let address = stock.ipv4;
    for _ in 0..5 {
        assert_eq!(shop.inside(APP, move || ask((address, 8080), "/a", "stock", "")).status, 200);
    }
    let document = analyzer.shows("a call of shop", |document| {
        let edges = document["edges"].as_array()?;
        edges.iter().any(|edge| edge["source"] == "shop" && edge["destination"] == "stock").then(|| document.clone())
    });
    let names: Vec<_> = document["services"].as_array().unwrap().iter().map(|service| &service["name"]).collect();
    assert!(!names.contains(&&Value::from("somebody")), "{names:?}");
}

#[test]
fn permissive_pods_speak_mutual_tls_with_each_other_and_clear_text_with_everybody_else() {
    let test = "permissive pods";
    let Some((world, _authority, _sidecars)) = meshed(test, Families::Dual, "permissive", "permissive") else { return };
    let (shop, stock) = pods(&world);
    let node = world.outside();
    let wire = Wire::tap(&world);
    for address in [stock.ipv4, stock.ipv6] {
        http(&stock, APP, (address, 8080), |_| "the-answer".to_owned());
        greeter(&stock, APP, (address, 3306));
        for _ in 0..3 {
            assert_eq!(shop.inside(APP, move || ask((address, 8080), "/", "stock", "")).body, "the-answer");
            shop.inside(APP, move || greeted((address, 3306)));
        }
    }
    let seen = wire.seen();
    assert!(!seen.says(b"the-answer") && !seen.says(b"220 ready"), "both have sidecars");
    assert_eq!(shop.metric("couplet_mesh_clear_total"), Some(0.0));

    // Nobody on the node has one: neither who is called there nor who calls from there.
    for address in [node.ipv4, node.ipv6] {
        http(&node, APP, (address, 8090), |_| "no-sidecar".to_owned());
        greeter(&node, APP, (address, 3307));
        let times = (0..3).map(|_| {
            assert_eq!(shop.inside(APP, move || ask((address, 8090), "/", "node", "")).body, "no-sidecar");
            shop.inside(APP, move || greeted((address, 3307)))
        });
        let times: Vec<_> = times.collect();
        say(&format!("first word of who speaks first and has no sidecar, over {address}: {times:?}"));
        assert!(times.iter().min().unwrap() < &Duration::from_millis(300), "nothing is waited for");
        let dead = shop.inside(APP, move || ask((address, 81), "/", "gone", ""));
        assert!(dead.status == 502 && dead.head.contains("couplet-error: connect"), "{}", dead.head);
    }
    for address in [stock.ipv4, stock.ipv6] {
        assert_eq!(node.inside(APP, move || ask((address, 8080), "/", "stock", "")).body, "the-answer");
        let took = node.inside(APP, move || greeted((address, 3306)));
        say(&format!("first word to who has no sidecar, over {address}: {took:?}"));
    }
    assert!(wire.seen().says(b"no-sidecar"), "the wire is the right one");
    assert_eq!(shop.metric("couplet_mesh_clear_total"), Some(4.0), "each address was asked once");
    assert_eq!(shop.metric("couplet_mesh_downgrades_total"), Some(0.0));
}

#[test]
fn a_strict_pod_says_nothing_in_the_clear_and_hears_nothing_either() {
    let test = "a strict pod alone";
    let (Some(world), authority) = (world(test, Families::Dual), Authority::new()) else { return };
    let (shop, stock) = pods(&world);
    shop.init("");
    let _sidecar = shop.sidecar_as(PROXY, "shop", &authority.flags("shop", "strict", "strict"));
    let wire = Wire::tap(&world);
    for address in [stock.ipv4, stock.ipv6] {
        let heads = http(&stock, APP, (address, 8080), |_| "here".to_owned());
        let answer = shop.inside(APP, move || ask((address, 8080), "/", "stock", "x-word: the-question\r\n"));
        assert_eq!(answer.status, 502);
        assert!(answer.head.to_lowercase().contains("couplet-error: tls_required"), "{}", answer.head);
        assert!(heads.lock().unwrap().is_empty(), "nothing was sent");
        greeter(&stock, APP, (address, 3306));
        let error = shop.inside(APP, move || {
            let mut stream = TcpStream::connect((address, 3306)).unwrap();
            stream.read(&mut [0]).unwrap_err().kind()
        });
        assert_eq!(error, ErrorKind::ConnectionReset);
        // What the application encrypts itself is its own affair.
        echo(&stock, (address, 443));
        let sent = [hello("pay.example.org"), vec![7; 100_000]].concat();
        shop.inside(APP, move || echoed((address, 443), &sent));
    }
    assert!(!wire.seen().says(b"the-question"));

    // And the other way round: an application of the pod, called by who has no sidecar.
    for address in [shop.ipv4, shop.ipv6] {
        let heads = http(&shop, APP, (address, 8080), |_| "secret".to_owned());
        greeter(&shop, APP, (address, 3306));
        let said = stock.inside(APP, move || {
            let mut said = Vec::new();
            for (port, word) in [(8080, "GET / HTTP/1.1\r\nhost: shop\r\n\r\n"), (3306, "")] {
                let mut stream = connect((address, port));
                stream.write_all(word.as_bytes()).unwrap();
                let _ = stream.read_to_end(&mut said);
            }
            said
        });
        assert_eq!(String::from_utf8(said).unwrap(), "");
        assert!(heads.lock().unwrap().is_empty());
        // On the own host nothing passes a wire.
        assert_eq!(shop.inside(APP, move || ask((address, 8080), "/", "shop", "")).body, "secret");
    }
    let refused = shop.metric("couplet_tls_refused_total{side=\"inbound\",reason=\"clear_text\"}");
    assert_eq!(refused, Some(4.0));
}

#[test]
fn a_configured_destination_may_be_the_captured_port_of_a_strict_pod() {
    let Some(world) = world("a configured destination", Families::Ipv4) else { return };
    let authority = Authority::new();
    let (shop, stock) = pods(&world);
    stock.init("");
    let _sidecar = stock.sidecar_as(PROXY, "stock", &authority.flags("stock", "strict", "strict"));
    let flags = authority.flags("shop", "strict", "strict");
    let to = r#"--set outbound=[{"name":"stock","listen":"127.0.0.1:9001","target":"10.77.0.2:8080","tls":"mesh"}]"#;
    let line = format!("proxy --service shop --admin 127.0.0.1:15420 --log-format json {flags} {to}");
    let mut caller = Program::start(&mut shop.command(PROXY, &line));
    caller.listener("outbound");
    http(&stock, APP, (stock.ipv4, 8080), |_| "here".to_owned());
    let here = IpAddr::from([127, 0, 0, 1]);
    for _ in 0..3 {
        let answer = shop.inside(APP, move || ask((here, 9001), "/", "stock", ""));
        assert_eq!((answer.status, answer.body.as_str()), (200, "here"), "{}", answer.head);
    }
    assert_eq!(stock.metric("couplet_tls_handshakes_total{side=\"inbound\"}"), Some(1.0), "the connection was kept");
}

/// The sidecar of a pod comes after its application was called, and goes before it.
#[test]
fn a_sidecar_is_found_when_it_comes_and_missed_when_it_goes() {
    let Some(world) = world("a sidecar that goes", Families::Ipv4) else { return };
    let authority = Authority::new();
    let (shop, stock) = pods(&world);
    shop.init("");
    let _caller = shop.sidecar_as(PROXY, "shop", &authority.flags("shop", "permissive", "permissive"));
    stock.init("");
    let address = stock.ipv4;
    let mut sidecar = stock.sidecar_as(PROXY, "stock", &authority.flags("stock", "strict", "strict"));
    http(&stock, APP, (address, 8080), |_| "here".to_owned());
    let status = move || ask((address, 8080), "/", "stock", "").status;
    assert_eq!(shop.inside(APP, status), 200);
    assert_eq!(shop.metric("couplet_mesh_addresses{found=\"sidecar\"}"), Some(1.0));
    sidecar.signal(rustix::process::Signal::TERM);
    assert_eq!(sidecar.exit_code(), Some(0));
    // With its rules still there nobody answers; that is no reason to send anything in the clear.
    assert_eq!(shop.inside(APP, status), 502);
    assert_eq!(shop.metric("couplet_mesh_downgrades_total"), Some(0.0));
    stock.couplet("intercept remove").with(0);
    let answered = || (shop.inside(APP, status) == 200).then_some(());
    eventually("the application is reached", answered);
    assert_eq!(shop.metric("couplet_mesh_downgrades_total"), Some(1.0));
    assert_eq!(shop.metric("couplet_mesh_addresses{found=\"sidecar\"}"), Some(0.0));
}
