//! The manifest: it is valid, what it configures is understood, and its parts fit one another.

use std::collections::BTreeSet;
use std::path::Path;

use couplet_config::{AnalyzerConfig, ConfigFile, ProxyConfig, Sources};
use serde_json::{Value, json};

use crate::harness::{Ended, couplet, has};
use crate::place::{AFTER_DRAIN_SECONDS, UID, file, text};

const MANIFEST: &str = "deploy/kubernetes/shop.yaml";
/// Seconds that an application may take for its own end, at least.
const FOR_THE_APPLICATION: u64 = 20;

#[test]
fn every_object_is_valid_in_the_oldest_and_the_newest_kubernetes_that_the_validator_knows() {
    let installed = file("target/deploy/venv/bin/kubernetes-validate");
    let validator = if installed.exists() { installed.to_str().unwrap() } else { "kubernetes-validate" };
    if !has("manifest", &[validator, "--version"]) {
        return;
    }
    let manifest = file(MANIFEST);
    for version in [&[][..], &["-k", "1.33"]] {
        let mut command = std::process::Command::new(validator);
        let said = Ended::of("validator", command.arg("--strict").args(version).arg(&manifest)).with(0);
        let said = format!("{}{}", said.stdout(), said.stderr());
        assert_eq!(said.matches(" passed for resource ").count(), objects().len(), "{said}");
    }
}

#[test]
fn couplet_understands_the_configuration_in_the_manifest() {
    for (config, key, kind) in
        [("orders-couplet", "proxy.yaml", "proxy"), ("couplet-analyzer", "analyzer.yaml", "analyzer")]
    {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(key);
        std::fs::write(&path, configuration(config, key)).unwrap();
        let mut check = couplet("check --kind");
        Ended::of(key, check.arg(kind).arg(&path).envs(environment(&sidecar()))).with(0);
    }
}

#[test]
fn the_init_container_comes_first_and_the_sidecar_is_a_sidecar() {
    let names: Vec<_> = containers("initContainers").iter().map(|container| container["name"].clone()).collect();
    assert_eq!(names, ["couplet-init", "couplet-proxy"]);
    let (init, sidecar) = (init(), sidecar());
    assert_eq!(init["restartPolicy"], Value::Null);
    assert_eq!(sidecar["restartPolicy"], "Always");
    assert_eq!(sidecar["startupProbe"]["httpGet"]["path"], "/readyz");
    let port = &sidecar["ports"][0];
    for probe in ["startupProbe", "livenessProbe"] {
        assert_eq!(sidecar[probe]["httpGet"]["port"], port["name"]);
    }
    assert_eq!(port["containerPort"], proxy().admin.unwrap().port());
    assert!(!proxy().admin.unwrap().ip().is_loopback(), "probes come from the node");
}

#[test]
fn nobody_may_more_than_needed() {
    let orders = containers("containers").remove(0);
    for (container, user, added) in [
        (init(), 0, json!(["NET_ADMIN", "NET_RAW"])),
        (sidecar(), UID, Value::Null),
        (analyzer_container(), UID, Value::Null),
    ] {
        let name = &container["name"];
        let mut context = pod_of(name.as_str().unwrap())["securityContext"].clone();
        merge(&mut context, &container["securityContext"]);
        assert_eq!(context["runAsUser"], user, "{name}");
        assert_eq!(context["runAsNonRoot"], user != 0, "{name}");
        assert_eq!(context["allowPrivilegeEscalation"], false, "{name}");
        assert_eq!(context["readOnlyRootFilesystem"], true, "{name}");
        assert_eq!(context["capabilities"]["drop"], json!(["ALL"]), "{name}");
        assert_eq!(context["capabilities"]["add"], added, "{name}");
        assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault", "{name}");
        assert!(container["resources"]["limits"]["memory"].is_string(), "{name}");
    }
    assert_ne!(orders["securityContext"]["runAsUser"], UID, "it would pass its own sidecar by");
    for kind in ["Deployment", "StatefulSet"] {
        assert_eq!(pod(kind)["automountServiceAccountToken"], false);
    }
    for object in objects().iter().filter(|object| object["kind"] == "ServiceAccount") {
        assert_eq!(object["automountServiceAccountToken"], false);
    }
}

#[test]
fn the_rules_lead_to_the_ports_that_the_sidecar_listens_on() {
    let proxy = proxy();
    let flag = |name: &str| {
        let arguments = init()["args"].clone();
        let value =
            arguments.as_array().unwrap().iter().find_map(|word| Some(word.as_str()?.strip_prefix(name)?.to_owned()));
        value.unwrap_or_else(|| panic!("{name} is missing in {arguments}"))
    };
    assert_eq!(flag("--proxy-uid="), UID.to_string());
    assert!(proxy.capture.inbound, "who is led to a port that nobody listens on is cut off");
    assert_eq!(flag("--inbound-port="), proxy.inbound.port().to_string());
    assert_eq!(flag("--outbound-port="), proxy.capture.outbound.unwrap().port().to_string());
    assert_eq!(flag("--admin-port="), proxy.admin.unwrap().port().to_string());
}

#[test]
fn a_pod_is_given_the_time_that_its_application_and_then_its_sidecar_need() {
    let grace = pod("Deployment")["terminationGracePeriodSeconds"].as_u64().unwrap();
    let hold = containers("containers")[0]["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().unwrap();
    let own = proxy().timeouts.drain.as_secs() + AFTER_DRAIN_SECONDS;
    assert!(grace >= hold + FOR_THE_APPLICATION + own, "{grace} s for {hold} s, {FOR_THE_APPLICATION} s and {own} s");
}

#[test]
fn reports_go_to_the_analyzer_of_the_manifest() {
    let url = proxy().analyzer.unwrap().url;
    let service = object("Service", "couplet-analyzer");
    assert_eq!(url.authority.host, "couplet-analyzer");
    assert_eq!(service["spec"]["ports"][0]["port"], url.authority.port);
    let container = analyzer_container();
    let analyzer = AnalyzerConfig::load(&sources("couplet-analyzer", "analyzer.yaml", &|_| None)).unwrap();
    assert_eq!(container["ports"][0]["containerPort"], analyzer.listen.port());
    assert_eq!(container["ports"][0]["name"], service["spec"]["ports"][0]["targetPort"]);
    let data = analyzer.data.unwrap();
    let mounts = container["volumeMounts"].as_array().unwrap();
    assert!(
        mounts.iter().any(|mount| Path::new(mount["mountPath"].as_str().unwrap()) == data),
        "{data:?} is no volume"
    );
}

#[test]
fn the_images_are_those_that_are_built() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(init()["image"], format!("localhost/couplet-init:{version}"));
    for container in [sidecar(), analyzer_container()] {
        assert_eq!(container["image"], format!("localhost/couplet:{version}"));
    }
}

#[test]
fn couplet_understands_what_the_init_container_tells_it() {
    let arguments = init()["args"].clone();
    let arguments = arguments.as_array().unwrap().iter().map(|word| word.as_str().unwrap());
    let mut command = couplet("");
    let said = Ended::of("init", command.args(arguments).args(["--backend=nft", "--dry-run"])).with(0);
    for part in ["redirect to :15401", "redirect to :15406", "skuid 2102", "169.254.169.254"] {
        assert!(said.stdout().contains(part), "{part}: {said}");
    }
}

/// The configuration of the sidecar, as the pod's environment completes it.
fn proxy() -> ProxyConfig {
    let environment = environment(&sidecar());
    let variable = |name: &str| environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    ProxyConfig::load(&sources("orders-couplet", "proxy.yaml", &variable)).unwrap()
}

fn sources<'a>(config: &str, key: &str, env: &'a dyn Fn(&str) -> Option<String>) -> Sources<'a> {
    let file = ConfigFile::from_bytes(key, configuration(config, key)).unwrap();
    Sources { file: Some(file), env, flags: Vec::new(), sets: Vec::new() }
}

/// What a container finds in its environment; a secret that is optional may not be there.
fn environment(container: &Value) -> Vec<(String, String)> {
    let given = container["env"].as_array().unwrap().iter();
    let given = given.filter(|variable| variable["valueFrom"]["secretKeyRef"]["optional"] != true);
    given.map(|variable| (variable["name"].as_str().unwrap().to_owned(), "orders".to_owned())).collect()
}

/// What a ConfigMap says under this key.
pub(crate) fn configuration(config: &str, key: &str) -> String {
    object("ConfigMap", config)["data"][key].as_str().unwrap().to_owned()
}

/// The init container.
pub(crate) fn init() -> Value {
    containers("initContainers").remove(0)
}

/// The sidecar.
pub(crate) fn sidecar() -> Value {
    containers("initContainers").remove(1)
}

fn analyzer_container() -> Value {
    pod("StatefulSet")["containers"][0].clone()
}

/// Containers of the pod of `orders`.
fn containers(key: &str) -> Vec<Value> {
    pod("Deployment")[key].as_array().unwrap().clone()
}

/// The pod of the only object of this kind.
fn pod(kind: &str) -> Value {
    let object = objects().into_iter().find(|object| object["kind"] == kind).unwrap();
    object["spec"]["template"]["spec"].clone()
}

fn pod_of(container: &str) -> Value {
    pod(if container == "analyzer" { "StatefulSet" } else { "Deployment" })
}

fn object(kind: &str, name: &str) -> Value {
    let found = objects().into_iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
}

fn objects() -> Vec<Value> {
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text(MANIFEST)).unwrap();
    let names: BTreeSet<_> = objects.iter().map(|o| format!("{}/{}", o["kind"], o["metadata"]["name"])).collect();
    assert_eq!(names.len(), objects.len(), "two objects have one name");
    objects
}

/// What a container says is stronger than what its pod says.
fn merge(pod: &mut Value, container: &Value) {
    if pod.is_null() {
        *pod = json!({});
    }
    for (key, value) in container.as_object().unwrap() {
        pod[key] = value.clone();
    }
}
