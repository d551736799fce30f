//! Reading commands ask a live analyzer, or say that there is none.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Stdio;

use crate::harness::{Analyzer, Ended, couplet, ended, free_port};

#[test]
fn without_an_analyzer_the_exit_code_is_4_and_the_way_out_is_said() {
    let port = free_port();
    for command in [
        "findings",
        "graph",
        "graph --format json",
        "explain SC-000000",
        "doctor",
        "blame",
        "cuts",
        "whatif --parallel web",
    ] {
        ended(&format!("{command} --analyzer http://127.0.0.1:{port}")).with(4).with_one_error().saying(&[
            &format!("http://127.0.0.1:{port}"),
            "couplet analyzer",
            "--analyzer",
            "COUPLET_ANALYZER",
        ]);
    }
}

#[test]
fn what_answers_like_no_analyzer_is_told_apart() {
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", stranger.local_addr().unwrap());
    let answers = [
        "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n<hi>",
        "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
        "220 mail\r\n",
    ];
    for answer in answers {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = stranger.accept().unwrap();
                let _ = stream.read(&mut [0; 4096]).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            });
            ended(&format!("graph --analyzer {url}"))
                .with(4)
                .with_one_error()
                .saying(&[&url, "like a Couplet analyzer"]);
        });
    }
}

#[test]
fn an_analyzer_that_has_seen_nothing_is_no_proof_of_health() {
    let analyzer = Analyzer::start();
    let findings = ended(&format!("findings --format json --analyzer {}", analyzer.url())).with(3);
    assert_eq!(findings.json()["findings"], serde_json::json!([]));
    findings.saying(&["not seen any request"]);
    ended(&format!("graph --analyzer {}", analyzer.url())).with(0).saying(&["empty"]);
    let doctor = ended(&format!("doctor --format json --analyzer {}", analyzer.url())).with(3);
    assert_eq!(doctor.json()["links"]["calls"], 0);
    doctor.saying(&["not seen any call"]);
}

#[test]
fn questions_to_an_analyzer_that_has_seen_nothing_are_not_answered_with_all_is_well() {
    let analyzer = Analyzer::start();
    let ask = |question: &str| ended(&format!("{question} --analyzer {}", analyzer.url()));
    ask("blame").with(3).with_one_error();
    ask("blame --format json").with(3);
    ask("cuts").with(3).with_one_error().saying(&["too few"]);
    ask("explain SC-000000").with(2).with_one_error().saying(&["no finding with this id"]);
    ask("blame --entry nobody").with(2).with_one_error().saying(&["no such entry"]);
    ask("whatif --async a->b").with(2).with_one_error().saying(&["no service `a`"]);
    ask("whatif").with(2).with_one_error().saying(&["--async"]);
}

#[test]
fn the_graph_is_printed_in_every_notation() {
    let analyzer = Analyzer::start();
    let graph = |format: &str| {
        let mut command = couplet(&format!("graph --format {format}"));
        Ended::of(format, command.env("COUPLET_ANALYZER", analyzer.url())).with(0)
    };
    assert_eq!(graph("json").json(), analyzer.document());
    assert!(graph("dot").stdout().starts_with("digraph"));
    assert!(graph("mermaid").stdout().contains("flowchart LR"));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let analyzer = Analyzer::start();
    let mut command = couplet(&format!("graph --format json --analyzer {}", analyzer.url()));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert!(child.wait().unwrap().success(), "{errors}");
    assert!(!errors.contains("panicked") && !errors.contains("error: "), "{errors}");
}
