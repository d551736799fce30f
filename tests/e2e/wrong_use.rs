//! What is wrong is said clearly, at its place, and nothing is half-started.

use std::net::TcpListener;

use crate::harness::{Ended, couplet, ended};

#[test]
fn a_wrong_flag_names_itself_and_the_way_out() {
    for (line, parts) in [
        ("proxy --sevrice orders", &["--sevrice", "--service"][..]),
        ("porxy", &["porxy", "proxy"]),
        ("proxy", &["service", "--service"]),
        ("proxy --service or/ders", &["--service", "'/'"]),
        ("proxy --service orders --app 8080", &["--app", "`8080`", "127.0.0.1:8080"]),
        ("proxy --service orders --to inventory", &["--to", "`inventory`", "NAME@LISTEN=TARGET"]),
        ("proxy --service orders --admin of", &["--admin", "`of`"]),
        ("proxy --service orders --analyzer ftp://a:1", &["--analyzer", "not a supported scheme"]),
        ("proxy --service orders --analyzer localhost:15400", &["--analyzer", "http://"]),
        (
            "proxy --service orders --set limits.conections=1",
            &["--set limits.conections", "did you mean", "connections"],
        ),
        ("proxy --service orders --set workers", &["--set workers", "value"]),
        ("proxy --service orders --log-level loud", &["--log-level", "`loud`"]),
        ("proxy --service orders --log-format xml", &["--log-format", "`xml`"]),
        ("proxy -c no-such-file.yaml", &["no-such-file.yaml", "no such file"]),
        ("analyzer --listen localhost", &["--listen", "`localhost`"]),
        ("analyzer --set snapshot_every=1h", &["snapshot_every"]),
        ("run --service orders --port 0 -- true", &["--port", "1..=65535"]),
        ("run --port 8080 -- true", &["--service"]),
        ("run --service orders --port 8080", &["COMMAND"]),
        ("findings --severity bad", &["bad", "critical"]),
        ("findings --analyzer ftp://a", &["--analyzer", "`ftp`"]),
        ("graph --format svgg", &["svgg", "text"]),
        ("check", &["FILE"]),
        ("analyze", &["FILE"]),
        ("analyze no-such-file.json", &["no-such-file.json"]),
    ] {
        ended(line).with(2).with_one_error().saying(parts);
    }
}

#[test]
fn all_problems_of_a_file_are_said_at_once_each_with_its_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("proxy.yaml");
    std::fs::write(&path, "service: orders\nappp: 127.0.0.1:1\ntimeouts:\n  connect: 5 sec\nworkers: 0\n").unwrap();
    let path = path.display();
    for line in [format!("proxy -c {path}"), format!("check {path}"), format!("check --kind proxy -c {path}")] {
        ended(&line).with(2).with_one_error().saying(&[
            "3 problems",
            &format!("{path}:2:1: appp: "),
            "did you mean",
            &format!("{path}:4:12: timeouts.connect: "),
            &format!("{path}:5:10: workers: "),
        ]);
    }
}

#[test]
fn check_speaks_of_every_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (proxy, analyzer) = (file("a.yaml", "service: orders\n"), file("b.yaml", "listen: 127.0.0.1:1\n"));
    let wrong = file("c.yaml", "service: [\n");
    let right = ended(&format!("check {proxy} {analyzer}")).with(0);
    assert_eq!(right.stdout(), format!("{proxy}: ok, the file of a proxy\n{analyzer}: ok, the file of an analyzer\n"));
    let mixed = ended(&format!("check {proxy} {wrong} no-such-file")).with(2).saying(&[&wrong, "no-such-file"]);
    assert_eq!(mixed.stdout(), format!("{proxy}: ok, the file of a proxy\n"));
    ended(&format!("check --kind analyzer {proxy}")).with(2).with_one_error().saying(&["service"]);
}

#[test]
fn the_examples_of_the_configuration_are_right() {
    let examples = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/config/examples")).unwrap();
    let mut checked = 0;
    for path in examples.map(|entry| entry.unwrap().path()) {
        if path.extension().is_some_and(|extension| extension == "yaml") {
            Ended::of("check", couplet("check").arg(&path)).with(0);
            checked += 1;
        }
    }
    assert!(checked >= 2, "only {checked} examples");
}

#[test]
fn a_port_in_use_is_named_with_the_flag_that_changes_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let port = address.port().to_string();
    for (line, flag) in [
        (format!("proxy --service a --app 127.0.0.1:1 --admin off --inbound {address}"), "inbound"),
        (format!("proxy --service a --admin off --explicit {address}"), "explicit"),
        (format!("proxy --service a --admin off --explicit 127.0.0.1:0 --to b@{address}=127.0.0.1:1"), "to"),
        (format!("proxy --service a --admin {address}"), "admin"),
        (format!("analyzer --listen {address}"), "listen"),
        (format!("run --service a --port 1 --inbound {address} -- echo started"), "inbound"),
    ] {
        ended(&line).with(2).with_one_error().saying(&[&port, flag]);
    }
}

#[test]
fn a_schema_is_one_json_document() {
    for kind in ["proxy", "analyzer"] {
        let schema = ended(&format!("schema {kind}")).with(0).json();
        assert!(schema["properties"]["log"].is_object());
    }
}
