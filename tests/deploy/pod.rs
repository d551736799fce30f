//! The pod of the manifest, run by podman instead of a kubelet: its init container, its sidecar with its configuration,
//! and an application that knows of neither.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::container::{Confined, Container, image, init, podman, told};
use crate::harness::{Ended, Program, eventually, get, has};
use crate::kubernetes;
use crate::place::say;

/// Requests from outside, each of which makes the application call somebody outside.
const REQUESTS: u64 = 100;
/// Python as the user of an application.
const AS_APPLICATION: [&str; 7] =
    ["setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups", "/usr/bin/python3"];

#[test]
fn the_pod_of_the_manifest_is_captured_in_both_directions_and_ends_in_peace() {
    let test = "pod";
    let Some(image) = image(test) else { return };
    // The one of Debian: another may lie where only root can read.
    if !has(test, &["nsenter", "--version"]) || !has(test, &[&AS_APPLICATION[..], &["--version"]].concat()) {
        return;
    }
    let network = Network::new();
    let network_of = |container: &Container| -> IpAddr {
        told(&["inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", &container.name])
            .parse()
            .unwrap()
    };
    let serving = |confined: Confined| {
        let mut container = confined.start(&image, "analyzer --listen 0.0.0.0:15400 --log-format json");
        container.program.listener("analyzer");
        container
    };
    let analyzer = serving(Confined::on(&network.0));
    let analyzer_ip = network_of(&analyzer);
    // Something has to hold the network of the pod, as the pause container of a kubelet does; what it is does not matter.
    let pause = serving(Confined::on(&network.0).with(&["--add-host", &format!("couplet-analyzer:{analyzer_ip}")]));
    let (pod, of_pod) = (network_of(&pause), format!("container:{}", pause.name));
    let inside = |container: &Value| Confined::on(&of_pod).with(&allowed(container));

    // The order of a kubelet: rules, sidecar until it is ready, application.
    let rules = kubernetes::init();
    let line = |container: &Value| {
        let words: Vec<_> = container["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
        words.join(" ")
    };
    inside(&rules).ended(&init(&image), &line(&rules)).with(0);
    let config = tempfile::tempdir().unwrap();
    std::fs::write(config.path().join("proxy.yaml"), kubernetes::configuration("orders-couplet", "proxy.yaml"))
        .unwrap();
    // Readable for the sidecar's user, as a ConfigMap is.
    Ended::of("chmod", Command::new("chmod").args(["-R", "a+rX"]).arg(config.path())).with(0);
    let sidecar = kubernetes::sidecar();
    let volume = format!("{}:/etc/couplet:ro", config.path().display());
    let mut proxy = inside(&sidecar).with(&["--volume", &volume]).start(&image, &line(&sidecar));
    let admin = SocketAddr::new(pod, proxy.program.listener("admin").port());
    assert_eq!(get(admin, "/readyz").0, 200, "a probe from outside the pod");

    let outside = outside();
    let pid = told(&["inspect", "--format", "{{.State.Pid}}", &pause.name]);
    let target = format!("{}:{}", network.gateway(), outside.port());
    let mut application =
        Program::start(Command::new("nsenter").args(["--target", pid.as_str(), "--net"]).args(AS_APPLICATION).args([
            "-u",
            "-c",
            include_str!("application.py"),
            "8080",
            target.as_str(),
        ]));
    application.says(|line| (line == "ready").then_some(()));
    let service = SocketAddr::new(pod, 8080);
    for _ in 0..REQUESTS {
        assert_eq!(get(service, "/orders/1"), (200, "orders with stock".to_owned()));
    }

    let document =
        || -> Value { serde_json::from_str(&get(SocketAddr::new(analyzer_ip, 15400), "/api/v1/document").1).unwrap() };
    let edge = eventually("both directions are known", || {
        let document = document();
        let orders = document["services"].as_array()?.iter().find(|service| service["name"] == "orders")?.clone();
        let edge = document["edges"].as_array()?.iter().find(|edge| edge["source"] == "orders")?.clone();
        (orders["requests"] == REQUESTS && edge["calls"] == REQUESTS).then_some(edge)
    });
    assert_eq!(edge["links"]["exact"], REQUESTS, "{edge}");
    say(&format!("pod of the manifest: {REQUESTS} requests in, {REQUESTS} calls out to {}", edge["destination"]));

    // The application first, then its sidecar; and nothing is left of the rules when they are removed.
    application.signal(Signal::TERM);
    application.exit_code();
    let mut stop = Program::start(&mut podman(["stop", "--time", "60", &proxy.name]));
    assert_eq!(proxy.program.exit_code(), Some(0), "{}", proxy.program.said());
    assert_eq!(stop.exit_code(), Some(0), "{}", stop.said());
    inside(&rules).ended(&init(&image), "intercept remove").with(0);
    let shown = inside(&rules).with(&["--entrypoint", "nft"]).ended(&init(&image), "list ruleset").with(0);
    assert_eq!(shown.stdout(), "", "{shown}");
}

/// What the manifest lets this container do, in podman's words.
fn allowed(container: &Value) -> Vec<&str> {
    let context = &container["securityContext"];
    let mut words = Vec::new();
    for capability in context["capabilities"]["add"].as_array().into_iter().flatten() {
        words.extend(["--cap-add", capability.as_str().unwrap()]);
    }
    if context["runAsUser"] == 0 {
        words.extend(["--user", "0:0"]);
    }
    for variable in container["env"].as_array().into_iter().flatten() {
        // The label and the name of the pod; a secret is not there.
        match variable["name"].as_str().unwrap() {
            "SERVICE" => words.extend(["--env", "SERVICE=orders"]),
            "POD_NAME" => words.extend(["--env", "POD_NAME=orders-0"]),
            _ => {}
        }
    }
    words
}

/// A service outside the pod.
fn outside() -> SocketAddr {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || answer(&mut stream));
        }
    });
    address
}

fn answer(stream: &mut TcpStream) {
    let mut head = Vec::new();
    let mut byte = [0];
    while matches!(stream.read(&mut byte), Ok(1)) {
        head.push(byte[0]);
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nstock").unwrap();
        }
    }
}

/// A network of this test alone; gone when dropped.
struct Network(String);

impl Network {
    fn new() -> Self {
        let name = format!("couplet-test-{}", std::process::id());
        told(&["network", "create", &name]);
        Self(name)
    }

    /// This machine, as the network sees it.
    fn gateway(&self) -> IpAddr {
        told(&["network", "inspect", "--format", "{{range .Subnets}}{{.Gateway}}{{end}}", &self.0]).parse().unwrap()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = podman(["network", "rm", "--force", &self.0]).output();
    }
}
