//! What the analyzer receives can be recorded, and a recording says the same to every command.

use std::net::SocketAddr;

use crate::harness::{Analyzer, couplet, ended};
use crate::sender::{post, single};

#[test]
fn a_recording_says_what_the_analyzer_saw_meanwhile_to_every_command() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("now.couplet");
    let file = file.display();
    let analyzer = Analyzer::start();
    let address: SocketAddr = analyzer.url().trim_start_matches("http://").parse().unwrap();
    let mut recorder = couplet(&format!("record -o {file} --for 1s --analyzer {}", analyzer.url()))
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // The recorder has begun when it says so.
    let mut said = std::io::BufReader::new(recorder.stderr.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut said, &mut line).unwrap();
    assert!(line.contains("recording into"), "{line}");
    for sequence in 1..=60 {
        assert_eq!(post(address, &single("s1", sequence)), Some(200));
    }
    assert!(recorder.wait().unwrap().success());

    let findings = ended(&format!("findings --format json --recording {file}")).with(0);
    assert_eq!(findings.json()["findings"], serde_json::json!([]));
    let graph = ended(&format!("graph --format json --recording {file} --window 1m")).with(0);
    assert_eq!(graph.json()["requests"], 60);
    let blamed = ended(&format!("blame --format json --recording {file} --window 1m")).with(0);
    assert_eq!(blamed.json()["entries"][0]["requests"], 60);
    let analyzed = ended(&format!("analyze {file} --format json")).with(0);
    assert_eq!(analyzed.json()["requests"], 60);
    ended(&format!("record -o {file} --for 1s --analyzer {}", analyzer.url())).with(2).saying(&["exists"]);
    ended(&format!("graph --recording {file}x")).with(2).with_one_error().saying(&["recording"]);
}
