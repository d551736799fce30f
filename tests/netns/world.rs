//! The node, its pods, and what runs in them.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Gid, Uid};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space, set_thread_res_gid, set_thread_res_uid};
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};

use crate::harness::{Ended, Program, eventually, get};

/// The user of the sidecars, and that of the applications.
pub(crate) const PROXY: u32 = 2102;
pub(crate) const APP: u32 = 1000;

/// Where the analyzer listens, on the node.
const ANALYZER: &str = "10.77.0.254:15400";

/// Which protocols the pods have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Families {
    Ipv4,
    Dual,
}

/// A node with a bridge, and pods on it.
pub(crate) struct World {
    name: String,
    pub(crate) pods: Vec<Pod>,
    families: Families,
    /// A copy of the binary that every user can run.
    folder: tempfile::TempDir,
}

/// A network namespace as a pod has it.
#[derive(Clone)]
pub(crate) struct Pod {
    namespace: String,
    pub(crate) ipv4: IpAddr,
    pub(crate) ipv6: IpAddr,
    binary: PathBuf,
}

/// A world of two pods, unless this machine cannot make one.
pub(crate) fn world(test: &str, families: Families) -> Option<World> {
    if let Some(why) = missing() {
        let remark = format!("SKIPPED {test}: {why}");
        assert!(std::env::var_os("COUPLET_TEST_ALL").is_none(), "{remark}");
        say(&remark);
        return None;
    }
    static WORLDS: AtomicU32 = AtomicU32::new(0);
    let name = format!("cpl{}x{}", std::process::id(), WORLDS.fetch_add(1, Ordering::Relaxed));
    let folder = tempfile::Builder::new().prefix("couplet-netns").tempdir().unwrap();
    let binary = folder.path().join("couplet");
    std::fs::copy(env!("CARGO_BIN_EXE_couplet"), &binary).unwrap();
    run(&["chmod", "755", folder.path().to_str().unwrap(), binary.to_str().unwrap()]);
    let mut world = World { name, pods: Vec::new(), families, folder };
    world.node();
    (1..=2).for_each(|n| world.pod(n));
    Some(world)
}

/// Why there can be no world here.
fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("network namespaces need root".to_owned());
    }
    let works = |words: &[&str]| {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let tools: [&[&str]; 4] =
        [&["ip", "-V"], &["nft", "--version"], &["setpriv", "--version"], &["unshare", "-n", "true"]];
    let broken = tools.into_iter().find(|words| !works(words));
    broken.map(|words| format!("`{}` does not work here", words.join(" ")))
}

impl World {
    fn node(&self) {
        let node = format!("{}n", self.name);
        run(&["ip", "netns", "add", &node]);
        for line in [
            "ip link set lo up",
            "ip link add br0 type bridge",
            "ip addr add 10.77.0.254/24 dev br0",
            "ip -6 addr add fd77::fe/64 dev br0 nodad",
            "ip link set br0 up",
        ] {
            within(&node, line);
        }
    }

    fn pod(&mut self, n: u8) {
        let (node, namespace) = (format!("{}n", self.name), format!("{}p{n}", self.name));
        run(&["ip", "netns", "add", &namespace]);
        within(&node, &format!("ip link add v{n} type veth peer name eth0 netns {namespace}"));
        within(&node, &format!("ip link set v{n} master br0 up"));
        if self.families == Families::Ipv4 {
            within(&namespace, "sysctl -q -w net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1");
        }
        // As container runtimes do: applications need no rights to serve port 443.
        within(&namespace, "sysctl -q -w net.ipv4.ip_unprivileged_port_start=0");
        for line in ["ip link set lo up", &format!("ip addr add 10.77.0.{n}/24 dev eth0"), "ip link set eth0 up"] {
            within(&namespace, line);
        }
        within(&namespace, "ip route add default via 10.77.0.254");
        if self.families == Families::Dual {
            within(&namespace, &format!("ip -6 addr add fd77::{n}/64 dev eth0 nodad"));
            within(&namespace, "ip -6 route add default via fd77::fe");
        }
        let (ipv4, ipv6) = (Ipv4Addr::new(10, 77, 0, n), Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, n.into()));
        let binary = self.folder.path().join("couplet");
        self.pods.push(Pod { namespace, ipv4: ipv4.into(), ipv6: ipv6.into(), binary });
    }

    /// The node itself, as a place to run something.
    pub(crate) fn outside(&self) -> Pod {
        let binary = self.folder.path().join("couplet");
        let namespace = format!("{}n", self.name);
        let (ipv4, ipv6) = (Ipv4Addr::new(10, 77, 0, 254), Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0xfe));
        Pod { namespace, ipv4: ipv4.into(), ipv6: ipv6.into(), binary }
    }

    /// An analyzer on the node.
    pub(crate) fn analyzer(&self) -> Analyzer {
        let node = self.outside();
        let mut program =
            Program::start(&mut node.command(0, &format!("analyzer --listen {ANALYZER} --log-format json")));
        program.listener("analyzer");
        Analyzer { node, _program: program }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let namespaces = self.pods.iter().map(|pod| pod.namespace.clone()).chain([format!("{}n", self.name)]);
        for namespace in namespaces {
            let _ = Command::new("ip").args(["netns", "del", &namespace]).status();
        }
    }
}

/// The analyzer on the node.
pub(crate) struct Analyzer {
    node: Pod,
    _program: Program,
}

impl Analyzer {
    /// Waits until `look` finds in the canonical document what it looks for.
    #[track_caller]
    pub(crate) fn shows<T: Send + 'static>(
        &self,
        what: &str,
        look: impl Fn(&Value) -> Option<T> + Send + 'static,
    ) -> T {
        let what = what.to_owned();
        self.node.inside(0, move || {
            let mut last = Value::Null;
            let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                eventually(&what, || {
                    let (_, body) = get(ANALYZER.parse().unwrap(), "/api/v1/document");
                    last = serde_json::from_str(&body).unwrap();
                    look(&last)
                })
            }));
            found.unwrap_or_else(|_| panic!("{what} is not in {last:#}"))
        })
    }
}

impl Pod {
    /// `couplet` with the words of `line`, as this user.
    pub(crate) fn command(&self, uid: u32, line: &str) -> Command {
        let mut command = self.program(uid, &[self.binary.to_str().unwrap()]);
        command.args(line.split_whitespace()).stdin(Stdio::null());
        for name in ["COUPLET_LOG", "RUST_LOG", "COUPLET_ANALYZER"] {
            command.env_remove(name);
        }
        command
    }

    /// Any program, as this user.
    pub(crate) fn program(&self, uid: u32, words: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]);
        if uid != 0 {
            let uid = uid.to_string();
            command.args(["setpriv", "--reuid", &uid, "--regid", &uid, "--clear-groups"]);
        }
        command.args(words);
        command
    }

    /// Runs `couplet` with the words of `line` to its end, as root.
    pub(crate) fn couplet(&self, line: &str) -> Ended {
        Ended::of(line, &mut self.command(0, line))
    }

    /// The init step of a pod: the rules.
    pub(crate) fn init(&self, flags: &str) {
        self.couplet(&format!("intercept apply {flags}")).with(0);
    }

    /// The sidecar, as its own user, with both directions captured and the analyzer known. It serves when this returns.
    pub(crate) fn sidecar(&self, service: &str, flags: &str) -> Program {
        self.sidecar_as(PROXY, service, &format!("--analyzer http://{ANALYZER} {flags}"))
    }

    /// The same as another user, and with no analyzer.
    pub(crate) fn sidecar_as(&self, uid: u32, service: &str, flags: &str) -> Program {
        let line =
            format!("proxy --service {service} --capture --set telemetry.window=200ms --log-format json {flags}");
        let mut program = Program::start(&mut self.command(uid, &line));
        program.listener("admin");
        program
    }

    /// Runs `what` on a thread of its own inside this pod, as this user. Threads that it starts are there as well.
    #[track_caller]
    pub(crate) fn inside<T: Send + 'static>(&self, uid: u32, what: impl FnOnce() -> T + Send + 'static) -> T {
        let namespace = format!("/run/netns/{}", self.namespace);
        let thread = std::thread::spawn(move || {
            let file = std::fs::File::open(namespace).unwrap();
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            if uid != 0 {
                let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
                set_thread_res_gid(group, group, group).unwrap();
                set_thread_res_uid(user, user, user).unwrap();
            }
            what()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// One number of the sidecar's metrics page.
    pub(crate) fn metric(&self, series: &str) -> Option<f64> {
        let series = format!("{series} ");
        let page = self.inside(0, || get("127.0.0.1:15420".parse().unwrap(), "/metrics").1);
        page.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok())
    }
}

fn within(namespace: &str, line: &str) {
    let words: Vec<_> = ["ip", "netns", "exec", namespace].into_iter().chain(line.split_whitespace()).collect();
    run(&words);
}

fn run(words: &[&str]) {
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    assert!(output.status.success(), "{}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr));
}

/// Says a line that is heard even where the test passes: not by `eprintln`, which is silenced then.
pub(crate) fn say(line: &str) {
    let mut stderr = std::io::stderr();
    writeln!(stderr, "{line}").unwrap();
}

/// Everything that passes the node on its way from one pod to another.
pub(crate) struct Wire {
    node: Pod,
    seen: Arc<Mutex<Seen>>,
    over: Arc<AtomicBool>,
}

/// Frames, one after another.
#[derive(Clone, Default)]
pub(crate) struct Seen(Vec<Vec<u8>>);

impl Wire {
    /// Listens from now on.
    pub(crate) fn tap(world: &World) -> Self {
        let (seen, over) = (Arc::<Mutex<Seen>>::default(), Arc::<AtomicBool>::default());
        let (kept, stop) = (Arc::clone(&seen), Arc::clone(&over));
        world.outside().inside(0, move || {
            // ETH_P_ALL, in the order of bytes of the network.
            let all = Protocol::from(i32::from(3_u16.to_be()));
            let socket = Socket::new(Domain::PACKET, Type::RAW, Some(all)).unwrap();
            socket.set_recv_buffer_size(16 << 20).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            std::thread::spawn(move || {
                let mut frame = vec![0; 1 << 17];
                while !stop.load(Ordering::SeqCst) {
                    if let Ok(count) = (&socket).read(&mut frame) {
                        kept.lock().unwrap().0.push(frame[..count].to_vec());
                    }
                }
            });
        });
        Self { node: world.outside(), seen, over }
    }

    /// What passed so far. A frame of its own follows it, and is waited for.
    pub(crate) fn seen(&self) -> Seen {
        static MARKS: AtomicU32 = AtomicU32::new(0);
        let mark = format!("mark {} of a wire", MARKS.fetch_add(1, Ordering::Relaxed));
        let sent = mark.clone();
        self.node.inside(0, move || {
            let socket = UdpSocket::bind("10.77.0.254:0").unwrap();
            socket.send_to(sent.as_bytes(), "10.77.0.1:9").unwrap();
        });
        eventually("what was sent last is seen", || {
            let seen = self.seen.lock().unwrap();
            seen.says(mark.as_bytes()).then(|| seen.clone())
        })
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
    }
}

impl Seen {
    pub(crate) fn says(&self, word: &[u8]) -> bool {
        self.0.iter().any(|frame| frame.windows(word.len()).any(|bytes| bytes == word))
    }

    pub(crate) fn bytes(&self) -> usize {
        self.0.iter().map(Vec::len).sum()
    }
}
