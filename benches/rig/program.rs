//! Programs that are measured: started on a core of their own, and ended when dropped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// How long a program may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(20);

/// A core of this machine; none where there are too few to tell proxies and load apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Core(Option<usize>);

impl Core {
    /// One core for the proxies, another one for everything else.
    pub(crate) fn pair() -> (Self, Self) {
        let allowed = sched_getaffinity(None).unwrap_or_default();
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        match (cores.next(), cores.next()) {
            (Some(first), Some(second)) => (Self(Some(first)), Self(Some(second))),
            _ => (Self(None), Self(None)),
        }
    }

    pub(crate) fn is_there(self) -> bool {
        self.0.is_some()
    }

    /// The calling thread, and what it starts, runs there from now on.
    pub(crate) fn take(self) {
        if let Some(core) = self.0 {
            let mut set = CpuSet::new();
            set.set(core);
            // A machine that does not let us choose still measures, less steadily.
            let _ = sched_setaffinity(None, &set);
        }
    }
}

/// A program that runs.
pub(crate) struct Program {
    child: Child,
    name: String,
    /// Where what it says is kept.
    log: PathBuf,
}

impl Program {
    /// Starts `command` on `core`; what it says goes to the file `log`.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub(crate) fn start(mut command: Command, core: Core, log: &Path) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let said = fs::File::create(log)?;
        command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
        // What is started runs where the thread runs that starts it.
        let started = std::thread::spawn(move || {
            core.take();
            command.spawn()
        });
        let child = started.join().map_err(|_| anyhow::anyhow!("starting {name} panicked"))?;
        let child = child.with_context(|| format!("cannot start {name}"))?;
        Ok(Self { child, name, log: log.to_owned() })
    }

    /// Nanoseconds that its threads have run, in user and system mode.
    ///
    /// # Errors
    /// Where it has ended.
    pub(crate) fn cpu(&self) -> Result<u64> {
        let mut sum = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            sum += text.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok()).unwrap_or(0);
        }
        if sum == 0 {
            bail!("{} has ended", self.name);
        }
        Ok(sum)
    }

    /// Bytes of memory that are resident.
    ///
    /// # Errors
    /// Where it has ended.
    pub(crate) fn resident(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib = line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).context("no number")?;
        Ok(kib * 1024)
    }

    /// What it said, once it has ended by itself.
    pub(crate) fn last_words(&mut self) -> Option<String> {
        self.child.try_wait().ok()??;
        fs::read_to_string(&self.log).ok()
    }

    /// Asks it to end. A tool that watches another program hears no signals: the watched one is asked.
    fn asked(&self) -> Option<()> {
        let own = self.child.id();
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        let pid = children.split_whitespace().next().map_or(Some(own), |child| child.parse().ok())?;
        kill_process(Pid::from_raw(i32::try_from(pid).ok()?)?, Signal::TERM).ok()
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn end(&mut self) {
        let Ok(None) = self.child.try_wait() else { return };
        let asked = self.asked().is_some();
        let deadline = Instant::now() + PATIENCE;
        while asked && Instant::now() < deadline {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.end();
    }
}
