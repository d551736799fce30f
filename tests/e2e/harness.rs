//! Words for the tests: programs that run until they are dropped, commands that run to their end, and questions to both.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Longest that anything here may take. Nothing comes near it unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// `couplet` with the words of `line` as arguments, free of the tester's own settings. `COUPLET_BINARY` names another one
/// than was built with the tests: that of a release, where figures are wanted.
pub(crate) fn couplet(line: &str) -> Command {
    let binary = std::env::var_os("COUPLET_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_couplet").into());
    let mut command = Command::new(binary);
    command.args(line.split_whitespace()).stdin(Stdio::null()).env("PYTHONDONTWRITEBYTECODE", "1");
    for name in ["COUPLET_LOG", "RUST_LOG", "COUPLET_ANALYZER", "PORT", "NODE_OPTIONS", "JAVA_TOOL_OPTIONS"] {
        command.env_remove(name);
    }
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    command
}

/// A command that has run to its end.
pub(crate) struct Ended {
    line: String,
    output: Output,
}

/// Runs `couplet` with the words of `line` to its end.
pub(crate) fn ended(line: &str) -> Ended {
    Ended::of(line, &mut couplet(line))
}

impl Ended {
    /// Runs `command` to its end; `line` is what failures call it.
    pub(crate) fn of(line: &str, command: &mut Command) -> Self {
        Self { line: line.to_owned(), output: command.output().unwrap() }
    }

    /// Claims the exit code.
    #[track_caller]
    pub(crate) fn with(self, code: i32) -> Self {
        assert_eq!(self.output.status.code(), Some(code), "{self}");
        self
    }

    /// Claims that standard error contains all of `parts`.
    #[track_caller]
    pub(crate) fn saying(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stderr().contains(part), "{part:?} is missing: {self}");
        }
        self
    }

    /// Claims that there is one message about one failure, and no result.
    #[track_caller]
    pub(crate) fn with_one_error(self) -> Self {
        assert!(self.stderr().starts_with("error: "), "{self}");
        assert_eq!(self.stderr().matches("error: ").count(), 1, "{self}");
        assert!(!self.stderr().contains("panicked") && !self.stderr().contains("listening"), "{self}");
        assert_eq!(self.stdout(), "", "{self}");
        self
    }

    /// What was written to standard output.
    pub(crate) fn stdout(&self) -> &str {
        std::str::from_utf8(&self.output.stdout).unwrap()
    }

    /// What was written to standard error.
    pub(crate) fn stderr(&self) -> &str {
        std::str::from_utf8(&self.output.stderr).unwrap()
    }

    /// Standard output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(self.stdout()).unwrap_or_else(|error| panic!("{error}: {self}"))
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (out, err) = (self.stdout(), self.stderr());
        write!(f, "couplet {}: {}\n--- stdout\n{out}\n--- stderr\n{err}", self.line, self.output.status)
    }
}

/// A program that runs. Asked to end when dropped, so that nothing it has started is left behind.
pub(crate) struct Program {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Program {
    /// Starts `command`; what it and its children say on either output can be waited for.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let errors = sender.clone();
        std::thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|l| sender.send(l))
        });
        std::thread::spawn(move || {
            BufReader::new(stderr).lines().map_while(Result::ok).try_for_each(|l| errors.send(l))
        });
        Self { child, lines, seen: Vec::new() }
    }

    /// Waits for a line of which `find` makes something.
    #[track_caller]
    pub(crate) fn says<T>(&mut self, find: impl Fn(&str) -> Option<T>) -> T {
        if let Some(found) = self.seen.iter().find_map(|line| find(line)) {
            return found;
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let found = find(&line);
                    self.seen.push(line);
                    if let Some(found) = found {
                        return found;
                    }
                }
                Err(why) => panic!("{why}; it said:\n{}", self.seen.join("\n")),
            }
        }
    }

    /// The address of the listener of this kind, as the log (in JSON) tells it.
    #[track_caller]
    pub(crate) fn listener(&mut self, kind: &str) -> SocketAddr {
        self.says(|line| {
            let event: Value = serde_json::from_str(line).ok()?;
            (event["listener"] == kind).then(|| event["address"].as_str()?.parse().ok()).flatten()
        })
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// A line of the kernel's account of it, KiB.
    pub(crate) fn memory(&self, line: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let value = status.lines().find_map(|text| text.strip_prefix(line)).unwrap();
        value.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Writes to the program's standard input, which must be a pipe, and closes it.
    pub(crate) fn writes(&mut self, text: &str) {
        self.child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Sends a signal to the program alone.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for the program to end, and gives its exit code. Nothing that it has started may be left behind.
    #[track_caller]
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        let closed = self.drain();
        let status = self.child.wait().unwrap();
        assert!(closed, "{status}, but its outputs were still open after {PATIENCE:?}; it said:\n{}", self.said());
        status.code()
    }

    /// Everything it has said up to its end.
    pub(crate) fn said(&self) -> String {
        self.seen.join("\n")
    }

    /// Reads on until all outputs are closed: the program and what it has started are gone then. Whether they are.
    fn drain(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => return true,
                Err(RecvTimeoutError::Timeout) => {
                    let _ = self.child.kill();
                    return false;
                }
            }
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.signal(Signal::TERM);
            self.drain();
            let _ = self.child.wait();
        }
    }
}

/// A live analyzer.
pub(crate) struct Analyzer {
    pub(crate) program: Program,
    address: SocketAddr,
}

impl Analyzer {
    /// Starts an analyzer that keeps everything in memory.
    pub(crate) fn start() -> Self {
        Self::of("analyzer --listen 127.0.0.1:0 --log-format json")
    }

    /// Starts the analyzer that `line` describes; it must log in JSON.
    pub(crate) fn of(line: &str) -> Self {
        Self::running(&mut couplet(line))
    }

    /// Starts the analyzer that `command` describes; it must log in JSON.
    pub(crate) fn running(command: &mut Command) -> Self {
        let mut program = Program::start(command);
        let address = program.listener("analyzer");
        Self { program, address }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL, for `--analyzer`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The canonical document.
    #[track_caller]
    pub(crate) fn document(&self) -> Value {
        self.api("/api/v1/document")
    }

    /// What the API answers at `path`.
    #[track_caller]
    pub(crate) fn api(&self, path: &str) -> Value {
        let (status, body) = get(self.address, path);
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Waits until exactly these services can be found by name.
    #[track_caller]
    pub(crate) fn knows_where_to_find(&self, services: &[&str]) {
        let expected: BTreeSet<String> = services.iter().map(|&name| name.to_owned()).collect();
        eventually("the registry knows all services", || {
            let registry = self.api("/api/v1/registry");
            let names = registry["services"].as_array()?.iter().filter_map(|service| service["service"].as_str());
            (names.map(str::to_owned).collect::<BTreeSet<_>>() == expected).then_some(())
        });
    }

    /// Waits for the document that `is_complete`.
    #[track_caller]
    pub(crate) fn document_when(&self, is_complete: impl Fn(&Value) -> bool) -> Value {
        eventually("the document is complete", || Some(self.document()).filter(&is_complete))
    }
}

/// What `look` finds, as soon as it finds something. Other programs tell nobody when they are ready, so this looks again
/// and again; a test never depends on how often.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(found) = look() {
            return found;
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    panic!("after {PATIENCE:?}, still not: {what}");
}

/// Asks `address` for `path` on a connection of its own: status and body of the answer.
#[track_caller]
pub(crate) fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    (status.unwrap_or_else(|| panic!("no HTTP: {answer:?}")), if chunked { unchunked(body) } else { body.to_owned() })
}

fn unchunked(mut body: &str) -> String {
    let mut text = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        text.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    text
}

/// A port that was free a moment ago, for services that cannot be told to choose one themselves.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Whether `command` runs and succeeds. If not, says loudly that `test` is left out; with `COUPLET_TEST_ALL` set, where
/// everything is expected to be there, the test fails instead.
pub(crate) fn has(test: &str, command: &[&str]) -> bool {
    let found = Command::new(command[0]).args(&command[1..]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let found = found.is_ok_and(|status| status.success());
    if !found {
        let remark = format!("SKIPPED {test}: `{}` does not work here", command.join(" "));
        assert!(std::env::var_os("COUPLET_TEST_ALL").is_none(), "{remark}");
        // Not by `eprintln`, which is silenced in a test that passes.
        let mut stderr = std::io::stderr();
        writeln!(stderr, "{remark}").unwrap();
    }
    found
}
