//! The images: what is in them, and that they run with next to nothing allowed.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};

use serde_json::Value;

use crate::container::{Confined, MEMORY_BYTES, image, init, podman, told};
use crate::harness::{Ended, Program, eventually, get};
use crate::place::{UID, say};

#[test]
fn the_image_is_the_program_and_nothing_that_could_be_run_beside_it() {
    let Some(image) = image("image") else { return };
    let expected = [
        "etc/group",
        "etc/passwd",
        "etc/ssl/certs/ca-certificates.crt",
        "usr/bin/couplet",
        "usr/share/doc/ca-certificates/copyright",
        "usr/share/doc/couplet/LICENSE",
        "var/lib/dpkg/status.d/ca-certificates",
    ];
    assert_eq!(files(&image), expected);
    let config: Value =
        serde_json::from_str(&told(&["image", "inspect", "--format", "{{json .Config}}", &image])).unwrap();
    assert_eq!(config["User"], format!("{UID}:{UID}"));
    assert_eq!(config["Entrypoint"], serde_json::json!(["/usr/bin/couplet"]));
    for label in ["title", "description", "licenses", "source", "version", "revision"] {
        let value = config["Labels"][format!("org.opencontainers.image.{label}")].as_str();
        assert!(value.is_some_and(|value| !value.is_empty()), "{label}: {config}");
    }
    let version = Confined::new().ended(&image, "--version").with(0);
    assert_eq!(version.stdout().trim(), format!("couplet {}", env!("CARGO_PKG_VERSION")));
    say(&format!("{image}: {} bytes", told(&["image", "inspect", "--format", "{{.Size}}", &image])));
}

#[test]
fn the_init_image_adds_nft_and_says_of_which_packages_it_is_made() {
    let Some(image) = image("init image") else { return };
    let (image, init) = (files(&image), init(&image));
    let added: Vec<_> = files(&init).into_iter().filter(|file| !image.contains(file)).collect();
    let below = |folder: &str| added.iter().filter(|file| file.starts_with(folder)).count();
    let packages = below("var/lib/dpkg/status.d/");
    assert!(packages > 2 && below("usr/share/doc/") == packages, "each package has its licence: {added:?}");
    let programs: Vec<_> =
        added.iter().filter(|file| file.contains("/sbin/") || file.contains("/bin/")).map(String::as_str).collect();
    assert_eq!(programs, ["usr/sbin/nft"]);
    say(&format!("{init}: {} bytes", told(&["image", "inspect", "--format", "{{.Size}}", &init])));
}

#[test]
fn a_confined_container_proxies_reports_to_a_name_and_drains_when_it_is_stopped() {
    let Some(image) = image("container") else { return };
    let origin = Origin::start();
    // Owned by nobody yet: `U` gives it to the user of the container, as a volume of its own would be.
    let history = tempfile::tempdir().unwrap();
    let volume = format!("{}:/var/lib/couplet:U", history.path().display());
    let analyzer = || {
        // One that listens on loopback alone answers to no other name than localhost.
        let line = "analyzer --listen 0.0.0.0:0 --data /var/lib/couplet --log-format json";
        let mut analyzer = Confined::new().with(&["--volume", &volume]).start(&image, line);
        let port = analyzer.program.listener("analyzer").port();
        (analyzer, SocketAddr::from(([127, 0, 0, 1], port)))
    };
    let (mut first, analyzer_address) = analyzer();
    let mut proxy = Confined::new().with(&["--add-host", "analyzer.test:127.0.0.1"]).start(
        &image,
        &format!(
            "proxy --service orders --app {} --inbound 127.0.0.1:0 --admin 127.0.0.1:0 --log-format json \
             --analyzer http://analyzer.test:{} --set telemetry.window=200ms",
            origin.address,
            analyzer_address.port()
        ),
    );
    let (inbound, admin) = (proxy.program.listener("inbound"), proxy.program.listener("admin"));
    assert_eq!(get(admin, "/readyz").0, 200);
    // What asks from inside, where there is no other program to ask with.
    told(&["exec", &proxy.name, "/usr/bin/couplet", "await", "--admin", &admin.to_string(), "--timeout", "30s"]);

    // As confined as was asked for.
    let status = proxy.proc("status");
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!(field("Uid:").split_whitespace().collect::<Vec<_>>(), [UID.to_string().as_str(); 4]);
    for set in ["CapEff:", "CapPrm:", "CapInh:", "CapBnd:", "CapAmb:"] {
        assert_eq!(u64::from_str_radix(&field(set), 16), Ok(0), "{set} {status}");
    }
    assert_eq!(field("NoNewPrivs:"), "1");
    let mounts = proxy.proc("mountinfo");
    let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
    assert!(root.split(' ').nth(5).unwrap().split(',').any(|option| option == "ro"), "{root}");
    assert_eq!(proxy.memory().0, MEMORY_BYTES);

    let mut client = Client::new(inbound);
    for _ in 0..REQUESTS {
        assert_eq!(client.get("/item"), "200 ok");
    }
    // One request is in the application while the container is stopped.
    let mut waiting = Client::new(inbound);
    waiting.ask("/held");
    origin.holds.recv().unwrap();
    let peak = proxy.memory().1.map_or("unknown".to_owned(), |bytes| format!("{} KiB", bytes / 1024));
    let mut stop = Program::start(&mut podman(["stop", "--time", "60", &proxy.name]));
    eventually("the sidecar is not ready any more", || (get(admin, "/readyz").0 == 503).then_some(()));
    origin.go.send(()).unwrap();
    assert_eq!(waiting.answer(), "200 held");
    assert_eq!(proxy.program.exit_code(), Some(0), "{}", proxy.program.said());
    assert_eq!(stop.exit_code(), Some(0), "{}", stop.said());
    say(&format!("sidecar in a container of 64 MiB: {} requests, at most {peak} of memory", REQUESTS + 1));

    // The last report is delivered before it ends, and a new container finds what an old one has acknowledged.
    eventually("all requests are counted", || (handled(analyzer_address) == Some(REQUESTS + 1)).then_some(()));
    first.program.signal(rustix::process::Signal::TERM);
    assert_eq!(first.program.exit_code(), Some(0), "{}", first.program.said());
    let (_second, analyzer_address) = analyzer();
    eventually("they still are", || (handled(analyzer_address) == Some(REQUESTS + 1)).then_some(()));
}

/// Requests before the one that is held.
const REQUESTS: u64 = 2_000;

/// What `orders` has handled, as an analyzer knows it.
fn handled(analyzer: SocketAddr) -> Option<u64> {
    let document: Value = serde_json::from_str(&get(analyzer, "/api/v1/document").1).unwrap();
    let services = document["services"].as_array().unwrap();
    services.iter().find(|service| service["name"] == "orders")?["requests"].as_u64()
}

/// The files of an image, in order.
fn files(image: &str) -> Vec<String> {
    let container = told(&["create", "--pull", "never", image]);
    let script = "podman export \"$0\" | tar --list";
    let listed = Ended::of(script, std::process::Command::new("sh").args(["-c", script, &container])).with(0);
    told(&["rm", &container]);
    let mut files: Vec<_> = listed.stdout().lines().filter(|name| !name.ends_with('/')).map(str::to_owned).collect();
    // What podman itself puts over every image.
    files.retain(|name| !name.starts_with("dev/") && !name.starts_with("run/") && !name.starts_with("proc/"));
    files.retain(|name| !["etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab"].contains(&name.as_str()));
    files.sort();
    files
}

/// An application: answers at once, but `/held` when it is told to.
struct Origin {
    address: SocketAddr,
    /// Hears of every request that is held.
    holds: Receiver<()>,
    /// Lets one of them go.
    go: Sender<()>,
}

impl Origin {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (held, holds) = channel();
        let (go, gone) = channel::<()>();
        let gone = std::sync::Arc::new(std::sync::Mutex::new(gone));
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let (held, gone) = (held.clone(), std::sync::Arc::clone(&gone));
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(stream.try_clone().unwrap());
                    while let Some(head) = head(&mut reader) {
                        let word = if head.starts_with("GET /held ") { "held" } else { "ok" };
                        if word == "held" {
                            held.send(()).unwrap();
                            gone.lock().unwrap().recv().unwrap();
                        }
                        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{word}", word.len());
                        stream.write_all(answer.as_bytes()).unwrap();
                    }
                });
            }
        });
        Self { address, holds, go }
    }
}

/// One connection to the sidecar.
struct Client(BufReader<TcpStream>);

impl Client {
    fn new(address: SocketAddr) -> Self {
        Self(BufReader::new(TcpStream::connect(address).unwrap()))
    }

    fn get(&mut self, path: &str) -> String {
        self.ask(path);
        self.answer()
    }

    fn ask(&mut self, path: &str) {
        self.0.get_mut().write_all(format!("GET {path} HTTP/1.1\r\nhost: orders\r\n\r\n").as_bytes()).unwrap();
    }

    /// Status and body.
    #[track_caller]
    fn answer(&mut self) -> String {
        let head = head(&mut self.0).unwrap();
        let status = head.split(' ').nth(1).unwrap();
        let length = head.to_ascii_lowercase().split_once("content-length: ").unwrap().1.to_owned();
        let mut body = vec![0; length.lines().next().unwrap().parse().unwrap()];
        self.0.read_exact(&mut body).unwrap();
        format!("{status} {}", String::from_utf8(body).unwrap())
    }
}

/// The lines up to an empty one; none where the connection has ended.
fn head(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    Some(head)
}
