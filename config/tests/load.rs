//! What loading promises: the configuration somebody meant, or every problem at once.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use couplet_config::{
    AnalyzerConfig, ByteSize, ConfigError, ConfigFile, Flag, InboundTls, ProxyConfig, Sources, TlsMode,
};

/// Sources that consist of a file with this text, in an environment where `SET` is "orders" and nothing else is set.
fn file(text: &str) -> Sources<'static> {
    let mut sources = Sources::new(&|name| (name == "SET").then(|| "orders".to_owned()));
    sources.file = Some(ConfigFile::from_bytes("couplet.yaml", text).unwrap());
    sources
}

fn proxy(text: &str) -> Result<ProxyConfig, ConfigError> {
    ProxyConfig::load(&file(text))
}

/// The keys that are reported when `text` is loaded.
fn wrong(text: &str) -> Vec<String> {
    proxy(text).err().map(|error| error.keys().map(str::to_owned).collect()).unwrap_or_default()
}

fn with_flags(text: &str, flags: impl Into<Vec<Flag>>, sets: &[&str]) -> Result<ProxyConfig, ConfigError> {
    let mut sources = file(text);
    sources.flags = flags.into();
    sources.sets = sets.iter().map(|&set| set.to_owned()).collect();
    ProxyConfig::load(&sources)
}

#[test]
fn only_the_service_is_needed() {
    assert_eq!(proxy("service: orders").unwrap(), ProxyConfig::new("orders"));
    assert_eq!(wrong(""), ["service"]);
    assert_eq!(wrong("# nothing yet\n"), ["service"]);
    assert_eq!(AnalyzerConfig::load(&file("")).unwrap(), AnalyzerConfig::default());
}

#[test]
fn values_are_what_was_written() {
    let config = proxy(
        "service: ${SET}\nversion: 1.10\napp: 127.0.0.1:8080\nadmin: off\ntimeouts: {connect: 1m30s, request: 2s}\n\
         limits:\n  header_bytes: 32KiB\ntelemetry:\n  window:\nanalyzer: http://analyzer:15400/\n",
    )
    .unwrap();
    assert_eq!(config.service, "orders");
    assert_eq!(config.version.as_deref(), Some("1.10"));
    assert_eq!(config.admin, None);
    assert_eq!(config.timeouts.connect, Duration::from_secs(90));
    assert_eq!(config.timeouts.request, Some(Duration::from_secs(2)));
    assert_eq!(config.limits.header_bytes, ByteSize::kib(32));
    assert_eq!(config.telemetry.window, Duration::from_secs(5));
    assert_eq!(config.analyzer.unwrap().url.to_string(), "http://analyzer:15400");
}

#[test]
fn all_problems_are_reported_at_once_each_with_its_place() {
    let error = proxy(
        "servce: orders\nversion: ${RELEASE}\napp: localhost:8080\noutbound:\n  - name: inventory\n    \
         target: inventory\n  - payment@127.0.0.1:9002\ntelemetry:\n  window: 10\n  max_paths: 0\n\
         timeouts:\n  connect: 5 sec\n  drain: 25h\nlog: json\nworkers: [1]\n",
    )
    .unwrap_err();
    insta::assert_snapshot!(error, @r"
    couplet.yaml: 13 problems

    couplet.yaml: service: is required, but missing

    couplet.yaml:1:1: servce: unknown key; did you mean `service`?
      |
    1 | servce: orders
      | ^^^^^^

    couplet.yaml:2:10: version: the variable RELEASE is not set; set it, or write ${RELEASE:-default}
      |
    2 | version: ${RELEASE}
      |          ^^^^^^^^^^

    couplet.yaml:3:6: app: `localhost:8080` is not an address: write 127.0.0.1:8080
      |
    3 | app: localhost:8080
      |      ^^^^^^^^^^^^^^

    couplet.yaml:5:5: outbound[0].listen: is required, but missing
      |
    5 |   - name: inventory
      |     ^

    couplet.yaml:6:13: outbound[0].target: `inventory` is not host:port: a port is missing, as in inventory:8080
      |
    6 |     target: inventory
      |             ^^^^^^^^^

    couplet.yaml:7:5: outbound[1]: `payment@127.0.0.1:9002` has no `=` before the target; expected NAME@LISTEN=TARGET such as inventory@127.0.0.1:9001=127.0.0.1:16406
      |
    7 |   - payment@127.0.0.1:9002
      |     ^^^^^^^^^^^^^^^^^^^^^^

    couplet.yaml:9:11: telemetry.window: `10` is not a duration: a unit is missing, for example 10s
      |
    9 |   window: 10
      |           ^^

    couplet.yaml:10:14: telemetry.max_paths: must be at least 1
       |
    10 |   max_paths: 0
       |              ^

    couplet.yaml:12:12: timeouts.connect: `5 sec` is not a duration: write it like 250ms, 5s or 1m30s
       |
    12 |   connect: 5 sec
       |            ^^^^^

    couplet.yaml:13:10: timeouts.drain: 25h is not between 1ms and 24h
       |
    13 |   drain: 25h
       |          ^^^

    couplet.yaml:14:6: log: expected a mapping of keys to values, found `json`
       |
    14 | log: json
       |      ^^^^

    couplet.yaml:15:10: workers: expected a whole number, found a list
       |
    15 | workers: [1]
       |          ^
    ");
}

#[test]
fn a_mistake_of_syntax_is_shown_where_it_is() {
    let error = proxy("service: orders\nlimits: {connections: ${SET}}\n").unwrap_err();
    insta::assert_snapshot!(error, @r"
    couplet.yaml: 1 problem

    couplet.yaml:2:24: while parsing a flow mapping, did not find expected ',' or '}'; a ${VARIABLE} inside [ ] or { } needs quotes around it
      |
    2 | limits: {connections: ${SET}}
      |                        ^
    ");
}

#[test]
fn a_duplicate_key_does_not_hide_other_problems() {
    assert_eq!(wrong("service: a\nworkers: x\nservice: b\n"), ["workers", ""]);
}

#[test]
fn flags_win_over_the_file_and_sets_over_flags() {
    let text = "service: orders\nworkers: 2\ntimeouts: {connect: 1s, drain: 1s}\nanalyzer: {url: http://a, token: t1}\n\
                outbound: [a@127.0.0.1:9001=a:1]\n";
    let flags = [
        Flag::set("--service", "service", "billing"),
        Flag::set("--analyzer", "analyzer", "http://b:2"),
        Flag::set("--connect-timeout", "timeouts.connect", "2s"),
        Flag::add("--to", "outbound", "b@127.0.0.1:9002=b:1"),
    ];
    let sets = ["timeouts.connect=3s", "trust.networks=[10.0.0.0/8]", "log={level: debug}"];
    let config = with_flags(text, flags, &sets).unwrap();
    assert_eq!((config.service.as_str(), config.workers), ("billing", 2));
    assert_eq!(config.timeouts.connect, Duration::from_secs(3));
    assert_eq!(config.timeouts.drain, Duration::from_secs(1));
    assert_eq!(config.outbound.iter().map(|outbound| outbound.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(config.trust.networks.len(), 1);
    assert_eq!(config.log.level, "debug");
    let link = config.analyzer.unwrap();
    assert_eq!((link.url.to_string().as_str(), link.token.unwrap().expose()), ("http://b:2", "t1"));
}

#[test]
fn a_wrong_flag_is_named() {
    let flags = [Flag::set("--app", "app", "8080"), Flag::add("--to", "outbound", "inventory@127.0.0.1=x")];
    let sets = ["timeouts.conect=2s", "workers", "limits.connections=[", "a..b=1", "analyzer.token=two words"];
    insta::assert_snapshot!(with_flags("service: orders", flags, &sets).unwrap_err(), @r"
    couplet.yaml: 8 problems

    couplet.yaml: analyzer.url: is required, but missing

    --app: app: `8080` is not an address: write 127.0.0.1:8080, or 0.0.0.0:8080 for every network

    --set a..b: `a..b` is not a path of keys: write it like timeouts.connect

    --set analyzer.token: a token is 1 to 4096 visible ASCII characters without spaces

    --set limits.connections: the value is not valid YAML: unclosed bracket '['

    --set timeouts.conect: unknown key; did you mean `connect`?

    --set workers: expected a key and its value: --set timeouts.connect=2s

    --to: outbound[0]: where to listen: `127.0.0.1` is not an address: a port is missing, for example 127.0.0.1:8080; expected NAME@LISTEN=TARGET such as inventory@127.0.0.1:9001=127.0.0.1:16406
    ");
}

#[test]
fn addresses_that_cannot_be_used_together_are_found() {
    let text = "service: orders\napp: 127.0.0.1:8080\ninbound: 0.0.0.0:9001\noutbound:\n  \
                - {name: a, listen: '127.0.0.1:9001', target: 'a:1'}\n  \
                - {name: b, listen: '127.0.0.1:9002', target: '127.0.0.1:15420'}\n  \
                - {name: b, listen: '127.0.0.1:9003', target: 'b:1'}\nexplicit: 127.0.0.1:9002\n";
    insta::assert_snapshot!(proxy(text).unwrap_err(), @r"
    couplet.yaml: 3 problems

    couplet.yaml:5:23: outbound[0].listen: cannot listen on 127.0.0.1:9001: `inbound` already listens on 0.0.0.0:9001
      |
    5 |   - {name: a, listen: '127.0.0.1:9001', target: 'a:1'}
      |                       ^^^^^^^^^^^^^^^^

    couplet.yaml:6:49: outbound[1].target: 127.0.0.1:15420 is where this proxy itself listens (`admin`): requests would circle
      |
    6 |   - {name: b, listen: '127.0.0.1:9002', target: '127.0.0.1:15420'}
      |                                                 ^^^^^^^^^^^^^^^^^

    couplet.yaml:8:11: explicit: cannot listen on 127.0.0.1:9002: `outbound[1].listen` already listens on 127.0.0.1:9002
      |
    8 | explicit: 127.0.0.1:9002
      |           ^^^^^^^^^^^^^^
    ");
}

#[test]
fn any_free_port_conflicts_with_nothing_and_inbound_counts_only_with_an_app() {
    let text =
        "service: orders\napp: 127.0.0.1:8080\ninbound: 127.0.0.1:0\nexplicit: 127.0.0.1:0\nadmin: 127.0.0.1:0\n";
    proxy(text).unwrap();
    proxy("service: orders\ninbound: 127.0.0.1:9000\nexplicit: 127.0.0.1:9000\n").unwrap();
    assert_eq!(wrong("service: orders\napp: 127.0.0.1:15406\n"), ["app"]);
    assert_eq!(wrong("service: orders\nadmin: '[::]:9000'\nexplicit: '[::1]:9000'\n"), ["admin"]);
}

#[test]
fn names_need_an_analyzer_and_an_announcement_an_address() {
    assert_eq!(wrong("service: orders\nregister: true\nresolve: true\n"), ["register", "register", "resolve"]);
    assert!(wrong("service: orders\nregister: true\napp: 127.0.0.1:1\nanalyzer: http://a\n").is_empty());
}

#[test]
fn a_token_alone_needs_a_url_that_a_flag_can_give() {
    assert_eq!(wrong("service: orders\nanalyzer: {token: t}\n"), ["analyzer.url"]);
    let flag = Flag::set("--analyzer", "analyzer", "http://a");
    with_flags("service: orders\nanalyzer: {token: t}\n", [flag], &[]).unwrap();
}

#[test]
fn levels_out_of_order_are_refused() {
    let sources =
        file("findings: {chain: {depth: {warn: 9}}, fan_out: {calls: {critical: 1}}, repeat: {min_share: 2}}");
    let error = AnalyzerConfig::load(&sources).unwrap_err();
    assert!(error.to_string().contains("`warn` (9) must not be greater than `critical` (6)"), "{error}");
    let keys: Vec<_> = error.keys().collect();
    assert_eq!(keys, ["findings.chain.depth", "findings.fan_out.calls", "findings.repeat.min_share"]);
}

#[test]
fn every_bound_is_held() {
    for (text, key) in [
        ("service: a b", "service"),
        ("service: a\nversion: ''", "version"),
        ("service: a\nworkers: 257", "workers"),
        ("service: a\ntelemetry: {window: 99ms}", "telemetry.window"),
        ("service: a\ntelemetry: {window: 301s}", "telemetry.window"),
        ("service: a\ntelemetry: {max_report_bytes: 1GiB}", "telemetry.max_report_bytes"),
        ("service: a\nlimits: {header_bytes: 1KiB}", "limits.header_bytes"),
        ("service: a\nlimits: {connections: 0}", "limits.connections"),
        ("service: a\ntimeouts: {request: 0}", "timeouts.request"),
        ("service: a\ntimeouts: {connect: off}", "timeouts.connect"),
        ("service: a\nendpoints: {templates: [/a, b]}", "endpoints.templates[1]"),
        ("service: a\noutbound: [{name: '', listen: '127.0.0.1:1', target: 'a:1'}]", "outbound[0].name"),
        ("service: a\ntrust: {networks: [10.0.0.0/8, x]}", "trust.networks[1]"),
        ("service: a\nlog: {level: inof}", "log.level"),
        ("service: a\nlog: {format: xml}", "log.format"),
        ("service: a\nanalyzer: ftp://a", "analyzer"),
        ("service: a\nanalyzer: {url: 'http://a', roots: a.pem}", "analyzer.roots"),
    ] {
        assert_eq!(wrong(text), [key], "{text}");
    }
}

#[test]
fn a_secret_is_in_no_error_and_no_printed_configuration() {
    let config = proxy("service: orders\nanalyzer: {url: http://a, token: hunter2}\n").unwrap();
    let shown = format!("{config:?} {}", serde_json::to_string(&config).unwrap());
    assert!(shown.contains("[redacted]") && !shown.contains("hunter2"), "{shown}");
    assert_eq!(config.analyzer.unwrap().token.unwrap().expose(), "hunter2");
    for text in [
        "analyzer: {token: hunter2 x, url: http://a}",
        "analyzer: {token: hunter2, ulr: http://a}",
        "analyzer: {token: [hunter2], url: http://a}",
        "analyzer:\n  url: http://a\n  tokne: hunter2\n",
        "analyzer:\n  token: hunter2\n  token: hunter2\n",
        "analyzer: http://user:hunter2@a",
        "analyzer:\n  token: @hunter2\n",
        "analyzer:\n  token: >\n    hunter2 x\n",
        "analyzer:\n  token:\n    hunter2:\n      x: 1\n",
    ] {
        let error = proxy(&format!("service: orders\n{text}")).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{text}:\n{error}");
    }
}

#[test]
fn the_printed_configuration_can_be_loaded_again() {
    let config = proxy("service: orders\napp: 127.0.0.1:1\nadmin: off\ntimeouts: {connect: 1500ms}\n").unwrap();
    let printed = serde_json::to_string(&config).unwrap();
    assert_eq!(proxy(&printed).unwrap(), config, "{printed}");
    let printed = serde_json::to_string(&AnalyzerConfig::default()).unwrap();
    assert_eq!(AnalyzerConfig::load(&file(&printed)).unwrap(), AnalyzerConfig::default(), "{printed}");
}

#[test]
fn a_file_that_cannot_be_one_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.yaml");
    let huge = ConfigFile::from_bytes("huge.yaml", vec![b' '; (1 << 20) + 1]);
    let binary = ConfigFile::from_bytes("binary.yaml", [b'a', 0xff]);
    for (result, expected) in [
        (ConfigFile::read(&missing), "missing.yaml: there is no such file"),
        (ConfigFile::read(folder.path()), "is a directory, not a file"),
        (huge, "huge.yaml: is larger than 1 MiB"),
        (binary, "binary.yaml: is not a UTF-8 text (byte 1"),
    ] {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn very_many_problems_are_counted_and_not_all_shown() {
    let text: String = (0..500).map(|number| format!("key{number}: 1\n")).collect();
    let error = proxy(&text).unwrap_err();
    assert_eq!(error.keys().count(), 100);
    assert!(error.to_string().starts_with("couplet.yaml: 501 problems"), "{error}");
}

#[test]
fn tls_is_written_shortly_or_in_full() {
    let config = proxy(
        "service: orders\ntls:\n  identity: {certificate: a.pem, key: a.key, roots: r.pem}\n  inbound: strict\n\
         outbound:\n  - {name: a, listen: 127.0.0.1:1, target: a:1, tls: mesh}\n  \
         - {name: b, listen: 127.0.0.1:2, target: b.example.:443, tls: {mode: on}}\n  \
         - {name: c, listen: 127.0.0.1:3, target: c:1, tls: {identity: spiffe://td/c}}\n  \
         - {name: d, listen: 127.0.0.1:4, target: d:1, tls: off}\n",
    )
    .unwrap();
    assert_eq!(config.tls.inbound, InboundTls::Strict);
    let modes: Vec<_> = config.outbound.iter().map(|to| to.tls.as_ref().map(|tls| tls.mode)).collect();
    assert_eq!(modes, [Some(TlsMode::Mesh), Some(TlsMode::On), Some(TlsMode::Mesh), None]);
    assert_eq!(config.outbound[1].server_name(), Some("b.example"));
    assert_eq!(config.outbound[2].tls.as_ref().unwrap().identity.as_ref().unwrap().service(), Some("c"));
}

#[test]
fn tls_that_lacks_or_contradicts_something_is_refused_with_all_of_it() {
    let text = "service: orders\ntls:\n  identity: {certificate: a.pem}\n  trust_domains: [spiffe://td]\n\
                outbound:\n  - {name: a, listen: 127.0.0.1:1, target: 'a:1,b:1', tls: on}\n  \
                - {name: b, listen: 127.0.0.1:2, target: b:1, tls: {mode: mesh, server_name: b}}\n  \
                - {name: c, listen: 127.0.0.1:3, target: c:1, tls: maybe}\n";
    let mut keys = wrong(text);
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "outbound[0].tls",
            "outbound[1].tls.server_name",
            "outbound[2].tls",
            "tls.identity.key",
            "tls.identity.roots",
            "tls.trust_domains[0]"
        ]
    );
    let alone =
        "service: a\ntls: {inbound: strict}\noutbound: [{name: b, listen: 127.0.0.1:2, target: b:1, tls: mesh}]\n";
    let mut keys = wrong(alone);
    keys.sort_unstable();
    assert_eq!(keys, ["outbound[0].tls", "tls.inbound"]);
}
