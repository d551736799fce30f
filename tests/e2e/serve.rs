//! Serving programs: they say where they listen, and end in peace.

use rustix::process::Signal;

use crate::harness::{Program, couplet, get};

#[test]
fn a_proxy_says_where_it_listens_and_ends_in_peace_when_asked() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut proxy = Program::start(&mut couplet(
            "proxy --service orders --app 127.0.0.1:1 --inbound 127.0.0.1:0 --to stock@127.0.0.1:0=127.0.0.1:1 \
             --explicit 127.0.0.1:0 --admin 127.0.0.1:0 --log-format json",
        ));
        for listener in ["inbound", "outbound", "explicit", "admin"] {
            assert_ne!(proxy.listener(listener).port(), 0);
        }
        let admin = proxy.listener("admin");
        assert_eq!(get(admin, "/livez").0, 200);
        proxy.signal(signal);
        assert_eq!(proxy.exit_code(), Some(0), "{}", proxy.said());
    }
}

#[test]
fn an_analyzer_says_where_it_listens_and_ends_in_peace_when_asked() {
    let mut analyzer = Program::start(&mut couplet("analyzer --listen 127.0.0.1:0 --log-format json"));
    let address = analyzer.listener("analyzer");
    assert_eq!(get(address, "/livez").0, 200);
    analyzer.signal(Signal::TERM);
    assert_eq!(analyzer.exit_code(), Some(0), "{}", analyzer.said());
}
