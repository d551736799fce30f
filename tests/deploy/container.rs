//! Containers, as confined as the manifest makes them. podman runs them; no registry is asked for anything.

use std::ffi::OsStr;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::{Ended, Program, has};
use crate::place::say;

/// What a container of this test may use at most.
pub(crate) const MEMORY_BYTES: u64 = 64 << 20;

/// The image that is tested. If there is none, or nothing to run it with, says loudly that `test` is left out.
pub(crate) fn image(test: &str) -> Option<String> {
    let image = std::env::var("COUPLET_IMAGE").unwrap_or_default();
    if image.is_empty() {
        // Also where everything else is expected to be there: only some machines can run containers.
        say(&format!("SKIPPED {test}: COUPLET_IMAGE names no image; see tests/deploy/run"));
        return None;
    }
    has(test, &["podman", "--version"]).then_some(image)
}

/// The image of the init step that was built together with `image`.
pub(crate) fn init(image: &str) -> String {
    let (name, tag) = image.rsplit_once(':').unwrap();
    format!("{name}-init:{tag}")
}

/// podman with `words`.
pub(crate) fn podman<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new("podman");
    // The one that every version of podman and every kernel agrees with, where it is installed.
    if Command::new("runc").arg("--version").output().is_ok_and(|output| output.status.success()) {
        command.args(["--runtime", "runc"]);
    }
    command.args(words);
    command
}

/// podman with `words`, to its end: what it says.
#[track_caller]
pub(crate) fn told(words: &[&str]) -> String {
    Ended::of(&words.join(" "), &mut podman(words)).with(0).stdout().trim().to_owned()
}

/// How to run an image so that it may do nothing but serve.
pub(crate) struct Confined {
    name: String,
    words: Vec<String>,
}

impl Confined {
    /// On the network of this machine.
    pub(crate) fn new() -> Self {
        Self::on("host")
    }

    /// On a network of podman's.
    pub(crate) fn on(network: &str) -> Self {
        static CONTAINERS: AtomicUsize = AtomicUsize::new(0);
        let number = CONTAINERS.fetch_add(1, Ordering::SeqCst);
        let name = format!("couplet-test-{}-{number}", std::process::id());
        let memory = MEMORY_BYTES.to_string();
        let confined = Self { name: name.clone(), words: Vec::new() };
        confined
            .with(&["run", "--rm", "--pull", "never", "--name", &name, "--network", network, "--log-driver", "none"])
            .with(&["--read-only", "--read-only-tmpfs=false", "--cap-drop", "ALL"])
            .with(&["--security-opt", "no-new-privileges", "--pids-limit", "64"])
            .with(&["--memory", &memory, "--memory-swap", &memory])
            // Less than podman asks for by itself, which a machine may not allow.
            .with(&["--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096"])
    }

    /// With more options of `podman run`.
    pub(crate) fn with(mut self, words: &[&str]) -> Self {
        self.words.extend(words.iter().map(|&word| word.to_owned()));
        self
    }

    /// Starts `image` with the words of `line`.
    pub(crate) fn start(self, image: &str, line: &str) -> Container {
        let program = Program::start(podman(&self.words).arg(image).args(line.split_whitespace()));
        Container { program, name: self.name }
    }

    /// Runs `image` with the words of `line` to its end.
    pub(crate) fn ended(self, image: &str, line: &str) -> Ended {
        Ended::of(line, podman(&self.words).arg(image).args(line.split_whitespace()))
    }
}

/// A container that runs; asked to end when dropped.
pub(crate) struct Container {
    pub(crate) program: Program,
    pub(crate) name: String,
}

impl Container {
    /// What the kernel says of its process in `/proc/PID/FILE`.
    #[track_caller]
    pub(crate) fn proc(&self, file: &str) -> String {
        let pid = told(&["inspect", "--format", "{{.State.Pid}}", &self.name]);
        std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap()
    }

    /// The bytes of memory that its control group allows, and the most that it has used, where the kernel says that.
    #[track_caller]
    pub(crate) fn memory(&self) -> (u64, Option<u64>) {
        let groups = self.proc("cgroup");
        let group = |prefix: &str| groups.lines().find_map(|line| line.split_once(prefix)?.1.strip_prefix('/'));
        let (folder, limit, peak) = match (group(":memory:"), group("0::")) {
            (Some(group), _) => {
                (format!("/sys/fs/cgroup/memory/{group}"), "memory.limit_in_bytes", "memory.max_usage_in_bytes")
            }
            (None, Some(group)) => (format!("/sys/fs/cgroup/{group}"), "memory.max", "memory.peak"),
            (None, None) => panic!("no control group of memory: {groups}"),
        };
        let read = |file: &str| std::fs::read_to_string(format!("{folder}/{file}")).ok()?.trim().parse().ok();
        (read(limit).unwrap(), read(peak))
    }
}
