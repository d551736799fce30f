//! The life of a proxy as its operator sees it: real processes, configuration files, signals, and clients that count
//! what fails.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Program, couplet, ended, eventually, free_port, get};

/// Whether tests run in their full length.
fn heavy() -> bool {
    std::env::var_os("COUPLET_HEAVY").is_some()
}

/// A service that answers every request with its name, after `delay`.
struct Origin {
    address: SocketAddr,
    served: Arc<AtomicU64>,
}

impl Origin {
    fn start(name: &'static str, delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, served) = (listener.local_addr().unwrap(), Arc::new(AtomicU64::new(0)));
        let count = Arc::clone(&served);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let count = Arc::clone(&count);
                let serve = move || serve(&stream, name, delay, &count);
                std::thread::Builder::new().stack_size(128 << 10).spawn(serve).unwrap();
            }
        });
        Self { address, served }
    }

    fn served(&self) -> u64 {
        self.served.load(Ordering::SeqCst)
    }
}

fn serve(stream: &TcpStream, name: &str, delay: Duration, count: &AtomicU64) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
        }
        count.fetch_add(1, Ordering::SeqCst);
        std::thread::park_timeout(delay);
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len());
        if { stream }.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// One client on one connection at a time.
struct Client {
    address: SocketAddr,
    /// Whether it keeps a connection for as long as the other side allows.
    keeps: bool,
    kept: Option<BufReader<TcpStream>>,
}

struct Answer {
    status: u16,
    closes: bool,
    body: String,
}

impl Client {
    fn new(address: SocketAddr, keeps: bool) -> Self {
        Self { address, keeps, kept: None }
    }

    /// One request, without a second try whatever happens.
    fn ask(&mut self) -> std::io::Result<Answer> {
        let mut stream = match self.kept.take() {
            Some(kept) => kept,
            None => BufReader::new(TcpStream::connect(self.address)?),
        };
        stream.get_ref().set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.get_mut().write_all(b"GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n")?;
        let (mut head, mut line) = (String::new(), String::new());
        while line != "\r\n" {
            line.clear();
            if stream.read_line(&mut line)? == 0 {
                return Err(std::io::Error::other(format!("the answer broke off: {head:?}")));
            }
            head.push_str(&line.to_ascii_lowercase());
        }
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let length = field("content-length:").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let closes = field("connection:") == Some("close");
        if self.keeps && !closes {
            self.kept = Some(stream);
        }
        Ok(Answer { status, closes, body: String::from_utf8(body).unwrap() })
    }
}

/// Clients that ask without a pause, until they are told to stop; half of them keep their connections.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    slowest: Arc<AtomicU64>,
    failures: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(address: SocketAddr, clients: usize) -> Self {
        let (stop, done, slowest): (Arc<AtomicBool>, Arc<AtomicU64>, Arc<AtomicU64>) = Default::default();
        let client = |number: usize| {
            let (stop, done, slowest) = (Arc::clone(&stop), Arc::clone(&done), Arc::clone(&slowest));
            std::thread::spawn(move || {
                let mut client = Client::new(address, number.is_multiple_of(2));
                let mut failures = Vec::new();
                while !stop.load(Ordering::SeqCst) && failures.len() < 10 {
                    let began = Instant::now();
                    match client.ask() {
                        Ok(Answer { status: 200, .. }) => {}
                        Ok(answer) => failures.push(format!("{} {}", answer.status, answer.body)),
                        Err(error) => failures.push(error.to_string()),
                    }
                    slowest.fetch_max(u64::try_from(began.elapsed().as_millis()).unwrap(), Ordering::SeqCst);
                    done.fetch_add(1, Ordering::SeqCst);
                }
                failures
            })
        };
        Self { failures: (0..clients).map(client).collect(), stop, done, slowest }
    }

    fn done(&self) -> u64 {
        self.done.load(Ordering::SeqCst)
    }

    /// Waits until so many requests more have ended.
    fn goes_on(&self, requests: u64) {
        let wanted = self.done() + requests;
        eventually("the clients go on", || (self.done() >= wanted).then_some(()));
    }

    /// How many requests there were, how long the slowest took in milliseconds, and why any of them failed.
    fn end(self) -> (u64, u64, Vec<String>) {
        self.stop.store(true, Ordering::SeqCst);
        let failures = self.failures.into_iter().flat_map(|client| client.join().unwrap()).collect();
        (self.done.load(Ordering::SeqCst), self.slowest.load(Ordering::SeqCst), failures)
    }
}

/// A configuration file of a proxy.
struct File {
    directory: tempfile::TempDir,
    inbound: SocketAddr,
    admin: SocketAddr,
    /// Without `app`.
    rest: String,
}

impl File {
    /// A proxy at ports of its own, with these further keys.
    fn new(keys: &str) -> Self {
        let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let (inbound, admin) = (address(free_port()), address(free_port()));
        let rest = format!("service: shop\ninbound: {inbound}\nadmin: {admin}\nlog: {{format: json}}\n{keys}\n");
        Self { directory: tempfile::tempdir().unwrap(), inbound, admin, rest }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("proxy.yaml")
    }

    fn write(&self, app: SocketAddr) {
        self.write_text(&format!("{}app: {app}\n", self.rest));
    }

    /// At once, as a ConfigMap changes.
    fn write_text(&self, text: &str) {
        let new = self.directory.path().join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.path()).unwrap();
    }

    fn start(&self) -> Program {
        let mut proxy = Program::start(&mut couplet(&format!("proxy -c {}", self.path().display())));
        proxy.listener("admin");
        proxy
    }

    fn metric(&self, name: &str) -> u64 {
        let page = get(self.admin, "/metrics").1;
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
        value.unwrap_or_else(|| panic!("no {name} in\n{page}")) as u64
    }

    fn generation(&self) -> u64 {
        self.metric("couplet_config_generation ")
    }

    fn post(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        write!(stream, "POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }
}

#[test]
fn a_changed_file_comes_into_force_by_itself_by_a_signal_and_when_asked() {
    let (one, two) = (Origin::start("one", Duration::ZERO), Origin::start("two", Duration::ZERO));
    let file = File::new("watch: 100ms");
    file.write(one.address);
    let mut proxy = file.start();
    let body = || Client::new(file.inbound, false).ask().unwrap().body;
    assert_eq!(body(), "one");
    file.write(two.address);
    eventually("the file is noticed", || (body() == "two").then_some(()));

    // From here on it is not looked at.
    file.write_text(&format!("{}app: {}\n", file.rest.replace("watch: 100ms", "watch: off"), one.address));
    eventually("the file is noticed", || (body() == "one").then_some(()));
    file.write_text(&format!("{}app: {}\n", file.rest.replace("watch: 100ms", "watch: off"), two.address));
    proxy.signal(Signal::HUP);
    eventually("the signal is heard", || (body() == "two").then_some(()));
    file.write_text(&format!("{}app: {}\n", file.rest.replace("watch: 100ms", "watch: off"), one.address));
    let (status, said) = file.post("/reload");
    assert_eq!((status, body().as_str()), (200, "one"));
    assert!(said.contains("generation 5") && said.contains("app"), "{said}");
    assert_eq!(file.post("/reload"), (200, "unchanged\n".to_owned()));

    assert_eq!(file.post("/shutdown").0, 202);
    assert_eq!(proxy.exit_code(), Some(0), "{}", proxy.said());
}

#[test]
fn a_hundred_broken_files_change_nothing_and_each_is_shown_with_its_place() {
    let origin = Origin::start("shop", Duration::ZERO);
    let file = File::new("watch: off");
    file.write(origin.address);
    let mut proxy = file.start();
    for n in 0..100_u64 {
        let app = origin.address;
        let broken = match n % 5 {
            0 => format!("{}app: {app}\ntimeouts: {{connect: {n}}}\n", file.rest),
            1 => format!("{}app: {app}\nunknown_{n}: 1\n", file.rest),
            2 => format!("{}app: [{app}\n", file.rest),
            3 => format!("{}app: {app}\noutbound: [stock@127.0.0.1:{}=a]\n", file.rest, 1_000 + n),
            _ => format!("{}app: {app}\nlimits: {{connections: {}}}\n", file.rest, 2_000_000 + n),
        };
        file.write_text(&broken);
        let (status, said) = file.post("/reload");
        assert_eq!(status, 409, "{said}");
        let place = format!("{}:{}:", file.path().display(), broken.lines().count());
        assert!(said.contains(&place) && said.contains('^'), "no {place} in {said}");
        assert_eq!(file.metric("couplet_config_reloads_total{result=\"refused\"} "), n + 1);
        assert_eq!(file.metric("couplet_config_last_reload_success "), 0);
        assert_eq!(Client::new(file.inbound, false).ask().unwrap().body, "shop");
    }
    assert_eq!(file.generation(), 1);
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.exit_code(), Some(0));
    assert!(proxy.said().contains("proxy.yaml:"), "{}", proxy.said());
}

/// Takes a running proxy's place as an operator does: a new process is started, and the old one told to end when it is
/// ready.
fn replace(file: &File, old: &mut Program) {
    let new = file.start();
    let mut old = std::mem::replace(old, new);
    old.signal(Signal::TERM);
    assert_eq!(old.exit_code(), Some(0), "{}", old.said());
}

#[test]
fn reloads_and_restarts_under_load_lose_no_request() {
    let (reloads, restarts, each) = if heavy() { (50, 10, 180) } else { (10, 3, 40) };
    for workers in [1, 2] {
        let (one, two) = (Origin::start("one", Duration::ZERO), Origin::start("two", Duration::ZERO));
        let file = File::new(&format!("watch: off\ntakeover: true\nworkers: {workers}"));
        file.write(one.address);
        let mut proxy = file.start();
        let load = Load::start(file.inbound, 8);
        for n in 0..reloads {
            file.write(if n % 2 == 0 { two.address } else { one.address });
            let (status, said) = file.post("/reload");
            assert_eq!(status, 200, "{said}");
            load.goes_on(each);
            if (n + 1) * restarts / reloads > n * restarts / reloads {
                replace(&file, &mut proxy);
                load.goes_on(each);
            }
        }
        let (requests, slowest, failures) = load.end();
        let mut stderr = std::io::stderr();
        writeln!(
            stderr,
            "{workers} workers: {requests} requests over {reloads} reloads and {restarts} restarts, {} failed, the \
             slowest took {slowest} ms",
            failures.len()
        )
        .unwrap();
        assert!(failures.is_empty(), "{failures:?}");
        assert!(requests >= if heavy() { 10_000 } else { 400 });
        assert!(one.served() > 0 && two.served() > 0);
    }
}

#[test]
fn a_port_is_shared_only_by_those_who_both_ask_for_it() {
    let origin = Origin::start("shop", Duration::ZERO);
    for first in ["", "takeover: true"] {
        let file = File::new(first);
        file.write(origin.address);
        let _proxy = file.start();
        let second = format!("proxy -c {} --set takeover={}", file.path().display(), first.is_empty());
        ended(&second).with(2).with_one_error().saying(&["in use", "--inbound"]);
    }
}

#[test]
fn asked_to_end_with_requests_in_flight_it_loses_none_and_says_that_connections_end() {
    let clients = if heavy() { 1_000 } else { 200 };
    let origin = Origin::start("late", Duration::from_secs(2));
    let file = File::new("");
    file.write(origin.address);
    let mut proxy = file.start();
    let waiting: Vec<_> = (0..clients)
        .map(|_| {
            let address = file.inbound;
            let ask = move || Client::new(address, true).ask();
            std::thread::Builder::new().stack_size(128 << 10).spawn(ask).unwrap()
        })
        .collect();
    eventually("all requests are in flight", || (origin.served() == clients).then_some(()));
    proxy.signal(Signal::TERM);
    let began = Instant::now();
    assert_eq!(proxy.exit_code(), Some(0), "{}", proxy.said());
    let lasted = began.elapsed();
    for client in waiting {
        let answer = client.join().unwrap().unwrap();
        assert_eq!((answer.status, answer.body.as_str(), answer.closes), (200, "late", true));
    }
    writeln!(std::io::stderr(), "{clients} requests in flight, none failed; gone {lasted:?} after SIGTERM").unwrap();
    assert!(!proxy.said().contains("they are cut"), "{}", proxy.said());
}

#[test]
fn killed_and_started_again_it_serves_at_once() {
    let origin = Origin::start("shop", Duration::ZERO);
    let file = File::new("");
    file.write(origin.address);
    let mut proxy = file.start();
    let mut open = Client::new(file.inbound, true);
    open.ask().unwrap();
    for _ in 0..3 {
        proxy.signal(Signal::KILL);
        proxy.exit_code();
        let began = Instant::now();
        proxy = Program::start(&mut couplet(&format!("proxy -c {}", file.path().display())));
        let answer = eventually("it serves again", || Client::new(file.inbound, false).ask().ok());
        writeln!(std::io::stderr(), "first answer {:?} after the start", began.elapsed()).unwrap();
        assert_eq!(answer.body, "shop");
        proxy.listener("admin");
    }
}

#[test]
fn whoever_waits_for_a_sidecar_hears_when_it_is_ready_and_why_it_is_not() {
    let origin = Origin::start("shop", Duration::ZERO);
    let file = File::new("");
    file.write(origin.address);
    let line = format!("await --admin {} --timeout", file.admin);
    ended(&format!("{line} 300ms")).with(5).with_one_error().saying(&["not ready after 300ms", "refused"]);
    let waiting = std::thread::spawn({
        let line = format!("{line} 60s");
        move || ended(&line)
    });
    let mut proxy = file.start();
    waiting.join().unwrap().with(0);
    let (slow, mut client) = (Origin::start("slow", Duration::from_secs(2)), Client::new(file.inbound, false));
    file.write(slow.address);
    assert_eq!(file.post("/reload").0, 200);
    let held = std::thread::spawn(move || client.ask());
    eventually("it is in flight", || (slow.served() == 1).then_some(()));
    proxy.signal(Signal::TERM);
    eventually("it drains", || (get(file.admin, "/readyz").0 == 503).then_some(()));
    ended(&format!("{line} 200ms")).with(5).saying(&["503", "draining"]);
    assert_eq!(held.join().unwrap().unwrap().body, "slow");
    assert_eq!(proxy.exit_code(), Some(0));
}

#[test]
fn a_second_signal_ends_at_once() {
    let origin = Origin::start("never", Duration::from_secs(3_600));
    let file = File::new("");
    file.write(origin.address);
    let mut proxy = file.start();
    let address = file.inbound;
    let held = std::thread::spawn(move || Client::new(address, false).ask());
    eventually("it is in flight", || (origin.served() == 1).then_some(()));
    proxy.signal(Signal::TERM);
    proxy.says(|line| line.contains("a second signal ends at once").then_some(()));
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.exit_code(), Some(128 + 15), "{}", proxy.said());
    assert!(held.join().unwrap().is_err());
}

/// Clients that all want a connection and keep it, of a program with few descriptors; how often they were refused.
fn crowd(address: SocketAddr, clients: usize, lasts: Duration) -> u64 {
    let (stop, refused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let client = |_| {
        let (stop, refused) = (Arc::clone(&stop), Arc::clone(&refused));
        let wants = move || {
            let mut client = Client::new(address, true);
            while !stop.load(Ordering::SeqCst) {
                if client.ask().is_err() {
                    refused.fetch_add(1, Ordering::SeqCst);
                }
                std::thread::park_timeout(Duration::from_millis(50));
            }
        };
        std::thread::Builder::new().stack_size(128 << 10).spawn(wants).unwrap()
    };
    let clients: Vec<_> = (0..clients).map(client).collect();
    std::thread::park_timeout(lasts);
    stop.store(true, Ordering::SeqCst);
    clients.into_iter().for_each(|client| client.join().unwrap());
    refused.load(Ordering::SeqCst)
}

/// The program of `line` with 256 descriptors.
fn with_few_descriptors(line: &str) -> Command {
    let program = couplet(line);
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -n 256; exec \"$0\" \"$@\""]).arg(program.get_program()).args(program.get_args());
    shell.stdin(std::process::Stdio::null());
    shell
}

#[test]
fn without_descriptors_it_lives_refuses_what_is_too_much_and_counts_it_exactly() {
    let lasts = Duration::from_secs(if heavy() { 30 } else { 2 });
    let origin = Origin::start("shop", Duration::ZERO);
    let file = File::new("");
    file.write(origin.address);
    let mut proxy = Program::start(&mut with_few_descriptors(&format!("proxy -c {}", file.path().display())));
    proxy.listener("admin");
    let mut analyzer = Program::start(&mut with_few_descriptors("analyzer --listen 127.0.0.1:0 --log-format json"));
    let listens = analyzer.listener("analyzer");

    for (name, address, metrics, line) in [
        ("proxy", file.inbound, file.admin, "couplet_connections_refused_total "),
        ("analyzer", listens, listens, "couplet_analyzer_connections_refused_total "),
    ] {
        let refused = crowd(address, 400, lasts);
        let began = Instant::now();
        eventually("it accepts again", || Client::new(address, false).ask().ok());
        let after = began.elapsed();
        let page = get(metrics, "/metrics").1;
        let counted = page.lines().find_map(|found| found.strip_prefix(line)).unwrap();
        writeln!(std::io::stderr(), "{name}: {refused} refused in {lasts:?}, accepts again after {after:?}").unwrap();
        assert!(refused > 0);
        assert_eq!(counted, refused.to_string(), "{name}");
    }
    for mut program in [proxy, analyzer] {
        program.signal(Signal::TERM);
        assert_eq!(program.exit_code(), Some(0), "{}", program.said());
    }
}

/// A file that is replaced as Kubernetes replaces a ConfigMap: by a link to a folder that points elsewhere.
#[test]
fn a_config_map_that_is_swapped_is_noticed() {
    let (one, two) = (Origin::start("one", Duration::ZERO), Origin::start("two", Duration::ZERO));
    let file = File::new("watch: 100ms");
    let root = file.directory.path();
    let place = |name: &str, app: SocketAddr| {
        std::fs::create_dir(root.join(name)).unwrap();
        std::fs::write(root.join(name).join("proxy.yaml"), format!("{}app: {app}\n", file.rest)).unwrap();
    };
    let link = |to: &str, from: &Path| std::os::unix::fs::symlink(to, from).unwrap();
    place("v1", one.address);
    link("v1", &root.join("data"));
    link("data/proxy.yaml", &file.path());
    let _proxy = file.start();
    place("v2", two.address);
    link("v2", &root.join("next"));
    std::fs::rename(root.join("next"), root.join("data")).unwrap();
    let body = || Client::new(file.inbound, false).ask().unwrap().body;
    eventually("the swap is noticed", || (body() == "two").then_some(()));
    assert_eq!(file.generation(), 2);
}

#[test]
fn secrets_of_requests_are_in_nothing_that_a_run_writes_or_shows() {
    let origin = Origin::start("shop", Duration::ZERO);
    let data = tempfile::tempdir().unwrap();
    let line =
        format!("analyzer --listen 127.0.0.1:0 --log-format json --log-level trace --data {}", data.path().display());
    let mut analyzer = Program::start(&mut couplet(&line));
    let listens = analyzer.listener("analyzer");
    let file =
        File::new(&format!("telemetry: {{window: 100ms}}\nanalyzer: {{url: \"http://{listens}\", token: canary-t}}"));
    file.write(origin.address);
    let mut proxy = Program::start(&mut couplet(&format!("proxy -c {} --log-level trace", file.path().display())));
    proxy.listener("admin");
    let mut stream = TcpStream::connect(file.inbound).unwrap();
    let request = "GET /orders/17?key=canary-q HTTP/1.1\r\nhost: shop.test\r\nauthorization: Bearer canary-a\r\n\
                   cookie: session=canary-c\r\nproxy-authorization: Basic canary-p\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let shown = |address, paths: &[&str]| paths.iter().map(|path| get(address, path).1).collect::<String>();
    eventually("the request is reported", || get(listens, "/api/v1/document").1.contains("/orders/{id}").then_some(()));
    let mut all = shown(file.admin, &["/metrics", "/config", "/endpoints", "/readyz?verbose"]);
    all.push_str(&shown(listens, &["/metrics", "/api/v1/document"]));
    for program in [&mut proxy, &mut analyzer] {
        program.signal(Signal::TERM);
        assert_eq!(program.exit_code(), Some(0));
        all.push_str(&program.said());
    }
    let stored = std::fs::read_dir(data.path()).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
    let mut stored: Vec<u8> = stored.flatten().collect();
    assert!(all.contains("/orders/{id}") && stored.len() > 1_000, "the search looks at something");
    stored.extend_from_slice(all.as_bytes());
    for canary in ["canary-q", "canary-a", "canary-c", "canary-p", "canary-t"] {
        let found = stored.windows(canary.len()).position(|window| window == canary.as_bytes());
        let around = found.map(|at| String::from_utf8_lossy(&stored[at.saturating_sub(200)..at + 20]).into_owned());
        assert_eq!(around, None, "{canary}");
    }
}

#[test]
fn no_request_to_a_data_port_reaches_the_admin_listener() {
    let origin = Origin::start("shop", Duration::ZERO);
    let (explicit, outbound) = (free_port(), free_port());
    let file = File::new(&format!(
        "explicit: 127.0.0.1:{explicit}\noutbound: [stock@127.0.0.1:{outbound}={}]",
        origin.address
    ));
    file.write(origin.address);
    let _proxy = file.start();
    let admin = file.admin.port();
    let mut probes = 0;
    for port in [file.inbound.port(), explicit, outbound] {
        for host in ["127.0.0.1", "localhost", "127.1", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "127.0.0.2"] {
            for request in [
                format!("GET /config HTTP/1.1\r\nhost: {host}:{admin}\r\nconnection: close\r\n\r\n"),
                format!(
                    "GET http://{host}:{admin}/config HTTP/1.1\r\nhost: {host}:{admin}\r\nconnection: close\r\n\r\n"
                ),
                format!(
                    "CONNECT {host}:{admin} HTTP/1.1\r\nhost: {host}:{admin}\r\n\r\n\
                     GET /config HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
                ),
            ] {
                let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                stream.write_all(request.as_bytes()).unwrap();
                stream.shutdown(std::net::Shutdown::Write).unwrap();
                let mut answer = Vec::new();
                let _ = stream.read_to_end(&mut answer);
                let answer = String::from_utf8_lossy(&answer);
                assert!(!answer.contains("\"generation\""), "port {port}: {request}\n{answer}");
                probes += 1;
            }
        }
    }
    assert!(probes >= 40);
    assert!(get(file.admin, "/config").1.contains("\"generation\""), "the probes look for something that is there");
}
