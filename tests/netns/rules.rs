//! The rules: written as often as one likes, by whatever there is, and removed without a trace.

use crate::harness::Ended;
use crate::world::{APP, Families, Pod, World, say, world};

const BACKENDS: [&str; 4] = ["nft", "iptables-nft", "iptables", "iptables-legacy"];

/// Everything that any tool says of Couplet in this pod.
fn traces(pod: &Pod) -> String {
    let tools = [
        "nft list ruleset",
        "iptables-nft-save",
        "ip6tables-nft-save",
        "iptables-legacy-save",
        "ip6tables-legacy-save",
    ];
    let mut all = String::new();
    for tool in tools {
        let words: Vec<_> = tool.split(' ').collect();
        let output = pod.program(0, &words).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        all.extend(text.lines().filter(|line| line.to_lowercase().contains("couplet")).map(|line| format!("{line}\n")));
    }
    all
}

fn checked(pod: &Pod, code: i32, saying: &[&str]) -> Ended {
    let check = pod.couplet("intercept check").with(code);
    for part in saying {
        assert!(check.stdout().contains(part), "{part:?} is missing: {check}");
    }
    check
}

const BOTH: [&str; 3] = [
    "outbound, IPv4: captured, and the destination is known",
    "outbound, IPv6: captured, and the destination is known",
    "inbound: the rules bring connections to port 15406",
];

#[test]
fn every_backend_captures_again_and_again_and_leaves_nothing() {
    let Some(world) = world("every backend", Families::Dual) else { return };
    let pod = &world.pods[0];
    for backend in BACKENDS {
        if !pod.program(0, &[if backend == "nft" { "nft" } else { backend }, "-V"]).output().unwrap().status.success() {
            assert!(std::env::var_os("COUPLET_TEST_ALL").is_none(), "{backend} does not work here");
            say(&format!("SKIPPED {backend}: it does not work here"));
            continue;
        }
        pod.couplet(&format!("intercept apply --backend {backend} --skip-outbound-ports 25")).with(0);
        let once = pod.couplet("intercept show").with(0).stdout().lines().count();
        pod.couplet(&format!("intercept apply --backend {backend} --skip-outbound-ports 25")).with(0);
        assert_eq!(
            pod.couplet("intercept show").with(0).stdout().lines().count(),
            once,
            "{backend}: nothing is doubled"
        );
        checked(pod, 0, &BOTH);
        pod.couplet("intercept remove").with(0);
        assert_eq!(traces(pod), "", "{backend}");
        pod.couplet("intercept remove").with(0);
        checked(pod, 1, &["outbound, IPv4: not captured", "inbound: no rule"]);
    }
}

#[test]
fn another_backend_takes_the_place_of_the_one_before() {
    let Some(world) = world("another backend", Families::Dual) else { return };
    let pod = &world.pods[0];
    for backend in ["iptables-legacy", "iptables-nft", "nft"] {
        if pod.couplet(&format!("intercept apply --backend {backend}")).stdout().is_empty() {
            assert!(std::env::var_os("COUPLET_TEST_ALL").is_none(), "{backend} does not work here");
            return say(&format!("SKIPPED {backend}: it does not work here"));
        }
    }
    let left = traces(pod);
    assert_eq!(left.trim(), "table inet couplet {", "{left}");
    checked(pod, 0, &BOTH);
}

#[test]
fn what_was_asked_for_last_is_what_holds() {
    let Some(world) = world("asked for last", Families::Dual) else { return };
    let pod = &world.pods[0];
    pod.init("--skip-inbound-ports 22");
    pod.init("--only outbound --outbound-port 15000");
    let shown = pod.couplet("intercept show").with(0);
    assert!(shown.stdout().contains("redirect to :15000") && !shown.stdout().contains("prerouting"), "{shown}");
    assert!(!shown.stdout().contains("22"), "{shown}");
    let check = pod.couplet("intercept check --outbound-port 15000 --only outbound").with(0);
    assert!(check.stdout().contains(BOTH[0]), "{check}");
    checked(pod, 1, &["nothing listens at port 15401"]);
}

#[test]
fn a_namespace_without_ipv6_gets_rules_for_ipv4_alone() {
    let Some(world) = world("no IPv6", Families::Ipv4) else { return };
    let pod = &world.pods[0];
    pod.init("");
    checked(pod, 0, &[BOTH[0], BOTH[2], "IPv6: not tried"]);
    // As on a kernel that knows nothing of it: the file is not there.
    let apply = |backend: &str| {
        let binary = pod.command(0, "").get_args().map(|arg| arg.to_str().unwrap().to_owned()).collect::<Vec<_>>();
        let script = format!(
            "mount -t tmpfs none /proc/$$/net && exec {} intercept apply --backend {backend}",
            binary.last().unwrap()
        );
        pod.program(0, &["sh", "-c", &script]).output().unwrap()
    };
    for backend in ["nft", "iptables-nft"] {
        let output = apply(backend);
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && said.contains("this namespace has no IPv6"), "{backend}: {said}");
        let left = traces(pod);
        assert!(!left.contains("inet couplet") && !left.is_empty(), "{backend}: {left}");
        checked(pod, 0, &[BOTH[0]]);
    }
    pod.couplet("intercept remove").with(0);
    assert_eq!(traces(pod), "");
}

#[test]
fn half_of_the_rules_is_none() {
    let Some(world) = world("half of the rules", Families::Dual) else { return };
    let pod = &world.pods[0];
    // An iptables that knows IPv4 alone: its other half is missing.
    let tools = tempfile::tempdir().unwrap();
    for tool in ["iptables-nft", "iptables-nft-restore"] {
        let Ok(path) = which(tool) else {
            assert!(std::env::var_os("COUPLET_TEST_ALL").is_none(), "{tool} is missing");
            return say(&format!("SKIPPED half of the rules: {tool} is missing"));
        };
        std::os::unix::fs::symlink(path, tools.path().join(tool)).unwrap();
    }
    // `ip` itself must be found before.
    let ip = which("ip").unwrap();
    let args = pod.command(0, "intercept apply --backend iptables-nft");
    let mut command = std::process::Command::new(ip);
    command.args(args.get_args()).env("PATH", tools.path());
    Ended::of("intercept apply", &mut command).with(2).with_one_error().saying(&[
        "ip6tables-nft",
        "is not installed",
        "the rules for IPv4 were taken back",
    ]);
    assert_eq!(traces(pod), "");
}

fn which(tool: &str) -> Result<std::path::PathBuf, std::env::VarError> {
    let path = std::env::var("PATH")?;
    let all = std::env::split_paths(&path).map(|folder| folder.join(tool));
    all.into_iter().find(|file| file.exists()).ok_or(std::env::VarError::NotPresent)
}

#[test]
fn without_rights_or_tools_the_reason_is_said() {
    let Some(World { ref pods, .. }) = world("without rights", Families::Ipv4) else { return };
    for words in ["apply", "remove", "show"] {
        let line = format!("intercept {words}");
        Ended::of(&line, &mut pods[0].command(APP, &line))
            .with(2)
            .with_one_error()
            .saying(&["CAP_NET_ADMIN", "NET_RAW"]);
    }
    let ip = which("ip").unwrap();
    let args = pods[0].command(0, "intercept apply");
    let mut command = std::process::Command::new(ip);
    command.args(args.get_args()).env("PATH", "/nowhere");
    Ended::of("intercept apply", &mut command).with(2).with_one_error().saying(&[
        "no rules were written",
        "nft: nft is not installed",
        "iptables-legacy is not installed",
    ]);
}
