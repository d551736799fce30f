//! Outages from beginning to end, one for each way to fail: a breaker that enforces opens by its rule, lets nobody through
//! but its probes, and closes with the first round of them after the destination works again.

#![expect(clippy::indexing_slicing, reason = "what a test has set up is there")]

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use couplet_config::{BreakerMode, BreakerSettings, OpenTime};
use couplet_proxy::Running;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;

use crate::breakers::{breaker, client_page, field, grpc_call, quick, with};
use crate::framed;
use crate::harness::*;
use crate::wire::Wire;

/// How a neighbour does at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Works,
    /// Three of five requests.
    MostlyFails,
    /// One of ten requests, by chance: sometimes several in a row.
    SeldomFails,
    Hangs,
    /// In the middle of the body.
    BreaksOff,
    /// The same, where the head does not say how long the body is.
    BreaksOffChunked,
    /// Begins to answer, and says nothing more for as long as somebody listens.
    Streams,
    Throttles,
}

/// A neighbour that counts everybody who comes.
struct Neighbour {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    mood: Mutex<Option<Mood>>,
    /// Connections.
    met: AtomicU64,
    /// Requests.
    asked: AtomicU64,
}

impl Neighbour {
    fn new(listener: TcpListener, mood: Mood) -> Self {
        let (address, state) = (listener.local_addr().unwrap(), Arc::<State>::default());
        *state.mood.lock() = Some(mood);
        tokio::spawn(serve(listener, Arc::clone(&state)));
        Self { address, state }
    }

    async fn that(mood: Mood) -> Self {
        Self::new(TcpListener::bind("127.0.0.1:0").await.unwrap(), mood)
    }

    fn recovers(&self) {
        *self.state.mood.lock() = Some(Mood::Works);
    }

    fn asked(&self) -> u64 {
        self.state.asked.load(Ordering::SeqCst)
    }

    fn met(&self) -> u64 {
        self.state.met.load(Ordering::SeqCst)
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        state.met.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(converse(stream, Arc::clone(&state)));
    }
}

async fn converse(mut stream: TcpStream, state: Arc<State>) {
    while whole_head(&mut stream).await {
        let number = state.asked.fetch_add(1, Ordering::SeqCst);
        let mood = state.mood.lock().unwrap();
        let says = match mood {
            Mood::MostlyFails if number * 3 % 5 < 3 => FAILS,
            // The same ones each time the test runs.
            Mood::SeldomFails if fastrand::Rng::with_seed(number).u32(..10) == 0 => FAILS,
            Mood::Works | Mood::MostlyFails | Mood::SeldomFails => WORKS,
            Mood::BreaksOffChunked => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            Mood::Streams => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nword\r\n").await;
                while stream.read_u8().await.is_ok() {}
                return;
            }
            Mood::BreaksOff => "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
            Mood::Throttles => "HTTP/1.1 429 Too Many Requests\r\nretry-after: 30\r\ncontent-length: 0\r\n\r\n",
            Mood::Hangs => {
                // Until whoever asked has had enough.
                while stream.read_u8().await.is_ok() {}
                return;
            }
        };
        let breaks_off = matches!(mood, Mood::BreaksOff | Mood::BreaksOffChunked);
        if stream.write_all(says.as_bytes()).await.is_err() || breaks_off {
            return;
        }
    }
}

const WORKS: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const FAILS: &str = "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n";

async fn whole_head(stream: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return false,
        }
    }
    true
}

/// What a caller got.
struct Got {
    status: u16,
    /// By the breaker.
    rejected: bool,
    /// The answer that is given where all is well, and all of it.
    well: bool,
}

/// One call on a connection of its own: whatever becomes of it breaks no other one.
async fn call(proxy: &Running) -> Got {
    call_at(proxy.outbound()[0].1).await
}

async fn call_at(address: SocketAddr) -> Got {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: stock\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // An answer that breaks off may end in a reset.
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let status = answer.get(9..12).unwrap_or_else(|| panic!("no answer: {answer:?}")).parse().unwrap();
    let well = status == 200 && answer.ends_with("\r\n\r\nok");
    Got { status, rejected: answer.contains("couplet-error: breaker_open"), well }
}

/// Calls until so many have passed; how many were rejected meanwhile.
async fn until_passed(proxy: &Running, passes: u64, mut each: impl FnMut(&Got)) -> u64 {
    let (mut passed, mut rejected) = (0, 0);
    while passed < passes {
        let got = call(proxy).await;
        match got.rejected {
            true => rejected += 1,
            false => passed += 1,
        }
        if !got.rejected {
            each(&got);
        }
    }
    rejected
}

/// Waits until the breaker says that it is closed.
async fn until_closed(proxy: &Running) {
    while breaker(proxy, "stock").await["state"] != "closed" {
        tokio::task::yield_now().await;
    }
}

/// The reasons of all changes, the oldest first.
async fn reasons(proxy: &Running) -> Vec<String> {
    let page = client_page(proxy).await;
    let changes = page["transitions"].as_array().unwrap().iter().rev();
    changes.map(|change| change["reason"].as_str().unwrap().to_owned()).collect()
}

/// The whole outage of `stock`: `opens_after` calls, then three probes in vain, then `recover`, then one round.
async fn outage(proxy: &Running, opens_after: u64, reason: &str, asked: impl Fn() -> u64, recover: impl FnOnce()) {
    let mut passed = 0;
    while !call(proxy).await.rejected {
        passed += 1;
        assert!(passed <= opens_after, "not stopped after {passed} calls");
    }
    assert_eq!(passed, opens_after, "{reason}");
    assert_eq!(asked(), opens_after, "the one that was stopped did not get there");
    let (mut failed, mut rejected) = (0, 0);
    while failed < 3 {
        let got = call(proxy).await;
        passed += u64::from(!got.rejected);
        failed += u64::from(!got.rejected && !got.well);
        rejected += u64::from(got.rejected);
    }
    assert!(rejected >= 3, "each time it waits before it tries again");
    assert_eq!(asked(), passed, "nobody gets there but probes");
    recover();
    until_passed(proxy, 3, |got| assert!(got.well, "it works again")).await;
    until_closed(proxy).await;
    assert_eq!(asked(), passed + 3);
    let expected = [&[reason][..], &["waited", "probe_failed"].repeat(3), &["waited", "probes_succeeded"]].concat();
    assert_eq!(reasons(proxy).await, expected, "the first round after it recovered was enough");
    assert_eq!(call(proxy).await.status, 200);
}

async fn outage_of(mood: Mood, opens_after: u64, reason: &str) {
    let stock = Neighbour::that(mood).await;
    let mut settings = quick(BreakerMode::Enforce);
    settings.open.honor_retry_after_max = Duration::from_millis(100);
    let mut config = with("shop", settings).to("stock", stock.address);
    // Long beside what a call takes that does not hang.
    config.timeouts.request = (mood == Mood::Hangs).then_some(Duration::from_millis(400));
    let proxy = config.start();
    outage(&proxy, opens_after, reason, || stock.asked(), || stock.recovers()).await;
    assert!(stock.met() <= stock.asked(), "no connection was made for nothing");
}

#[tokio::test]
async fn one_that_fails_six_tenths_of_its_calls() {
    outage_of(Mood::MostlyFails, 20, "failure_rate").await;
}

#[tokio::test]
async fn one_that_hangs() {
    outage_of(Mood::Hangs, 7, "consecutive_failures").await;
}

#[tokio::test]
async fn one_that_breaks_off_within_the_body() {
    outage_of(Mood::BreaksOff, 7, "consecutive_failures").await;
}

#[tokio::test]
async fn one_that_breaks_off_within_a_body_of_unknown_length() {
    outage_of(Mood::BreaksOffChunked, 7, "consecutive_failures").await;
}

#[tokio::test]
async fn one_that_resets_its_answers_over_http2() {
    let (works, asked) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (well, count) = (Arc::clone(&works), Arc::clone(&asked));
    let mut origin = framed::origin().await;
    let address = origin.address;
    let (heard, mut hears) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let mut asked = origin.next().await;
            count.fetch_add(1, Ordering::SeqCst);
            let well = well.load(Ordering::SeqCst) == 1;
            let mut body = asked.begin(200, &[]);
            body.send_data(Bytes::from("half"), well).unwrap();
            if !well {
                hears.recv().await;
                body.send_reset(h2::Reason::INTERNAL_ERROR);
            }
        }
    });
    let proxy = with("shop", quick(BreakerMode::Enforce)).to("stock", address).start();
    let mut client = framed::connect(proxy.outbound()[0].1).await;
    // Whether it passed, and came to its end.
    let mut call = async || {
        let (answer, _) = client.send_request(framed::request("GET", "/", &[]), true).unwrap();
        let mut answer = answer.await.unwrap();
        if answer.status() == 503 {
            return (false, true);
        }
        assert_eq!(answer.body_mut().data().await.unwrap().unwrap(), "half");
        heard.send(()).unwrap();
        (true, framed::read(answer.into_body()).await.is_ok())
    };
    let mut passed = 0;
    while passed < 7 + 3 {
        let (passes, whole) = call().await;
        passed += u64::from(passes);
        assert!(!passes || !whole);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 10);
    works.store(1, Ordering::SeqCst);
    while passed < 10 + 3 {
        let (passes, whole) = call().await;
        passed += u64::from(passes);
        assert!(whole);
    }
    until_closed(&proxy).await;
    assert_eq!(asked.load(Ordering::SeqCst), 13);
    let expected =
        [&["consecutive_failures"][..], &["waited", "probe_failed"].repeat(3), &["waited", "probes_succeeded"]];
    assert_eq!(reasons(&proxy).await, expected.concat());
}

#[tokio::test]
async fn one_that_streams_again_is_well_although_no_answer_ever_ends() {
    let stock = Neighbour::that(Mood::BreaksOffChunked).await;
    let mut settings = quick(BreakerMode::Enforce);
    (settings.half_open.probes, settings.half_open.successes_needed) = (1, 1);
    let proxy = with("shop", settings).to("stock", stock.address).start();
    while !call(&proxy).await.rejected {}
    *stock.state.mood.lock() = Some(Mood::Streams);
    let asked = stock.asked();
    let mut streams = Vec::new();
    while stock.asked() == asked {
        let mut wire = Wire::to(proxy.outbound()[0].1).await;
        wire.say("GET / HTTP/1.1\r\nhost: stock\r\n\r\n").await;
        wire.head().await;
        streams.push(wire);
    }
    until_closed(&proxy).await;
    assert_eq!(stock.asked(), asked + 1);
    assert_eq!(reasons(&proxy).await.last().unwrap(), "probes_succeeded");
}

#[tokio::test]
async fn one_that_is_asked_too_much() {
    outage_of(Mood::Throttles, 20, "failure_rate").await;
}

#[tokio::test]
async fn one_that_refuses_connections() {
    // Bound and not listening: the port is nobody else's, and connections to it are refused.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(free()).unwrap();
    let address = socket.local_addr().unwrap();
    let proxy = with("shop", quick(BreakerMode::Enforce)).to("stock", address).start();
    // A connection that is refused asks nobody: what counts as asked are the attempts that the breaker saw.
    let mut passed = 0;
    while !call(&proxy).await.rejected {
        passed += 1;
    }
    assert_eq!(passed, 3);
    assert!(until_passed(&proxy, 3, |got| assert_eq!(got.status, 502)).await >= 3);
    let stock = Neighbour::new(socket.listen(64).unwrap(), Mood::Works);
    until_passed(&proxy, 3, |got| assert_eq!(got.status, 200)).await;
    until_closed(&proxy).await;
    assert_eq!(stock.asked(), 3, "one round");
    assert_eq!(reasons(&proxy).await.last().unwrap(), "probes_succeeded");
}

#[tokio::test]
async fn one_that_is_unavailable_as_grpc_says_it() {
    let (code, asked) = (Arc::new(AtomicU64::new(14)), Arc::new(AtomicU64::new(0)));
    let (says, count) = (Arc::clone(&code), Arc::clone(&asked));
    let address = framed::answering(move |_, mut asking| {
        count.fetch_add(1, Ordering::SeqCst);
        let head = framed::head(200, &[("content-type", "application/grpc")]);
        let mut body = asking.answer.send_response(head, false).unwrap();
        body.send_data(Bytes::from("message"), false).unwrap();
        let code = says.load(Ordering::SeqCst).to_string();
        body.send_trailers(framed::headers(&[("grpc-status", &code)])).unwrap();
    })
    .await;
    let proxy = with("shop", quick(BreakerMode::Enforce)).to("stock", address).start();
    let mut client = framed::connect(proxy.outbound()[0].1).await;
    // The code that the caller got, and whether it came from the breaker.
    let mut call = async || {
        let (answer, _) = client.send_request(grpc_call(), true).unwrap();
        let answer = answer.await.unwrap();
        if answer.headers().contains_key("couplet-reject") {
            return (field(answer.headers(), "grpc-status").to_owned(), true);
        }
        let (_, trailers) = framed::read(answer.into_body()).await.unwrap();
        (field(&trailers.unwrap(), "grpc-status").to_owned(), false)
    };
    let mut passed = 0;
    while passed < 7 + 3 {
        let (code, rejected) = call().await;
        assert_eq!(code, "14", "whoever says it");
        passed += u64::from(!rejected);
        assert!(passed < 7 || asked.load(Ordering::SeqCst) == passed, "nobody gets there but probes");
    }
    code.store(0, Ordering::SeqCst);
    while passed < 10 + 3 {
        let (code, rejected) = call().await;
        assert_eq!(code, if rejected { "14" } else { "0" });
        passed += u64::from(!rejected);
    }
    until_closed(&proxy).await;
    assert_eq!(asked.load(Ordering::SeqCst), 13);
    let reasons = reasons(&proxy).await;
    assert_eq!((reasons[0].as_str(), reasons.last().unwrap().as_str()), ("consecutive_failures", "probes_succeeded"));
}

/// The rules as they are delivered and ten real seconds, with `COUPLET_HEAVY=1`; else shorter times and 300 calls.
#[tokio::test]
async fn one_that_fails_six_tenths_for_a_window_is_called_seldom_and_found_well_again() {
    let heavy = std::env::var_os("COUPLET_HEAVY").is_some();
    let settings = match heavy {
        true => BreakerSettings { mode: BreakerMode::Enforce, ..BreakerSettings::default() },
        false => quick(BreakerMode::Enforce),
    };
    let (window, least) = if heavy { (settings.window, 0) } else { (Duration::ZERO, 300) };
    let stock = Neighbour::that(Mood::MostlyFails).await;
    let proxy = with("shop", settings).to("stock", stock.address).start();
    let (begin, mut calls) = (Instant::now(), 0);
    while begin.elapsed() < window || calls < least {
        call(&proxy).await;
        calls += 1;
    }
    let by_then = reasons(&proxy).await;
    assert_eq!(by_then[0], "failure_rate", "{by_then:?}");
    let probes = by_then.iter().filter(|reason| *reason == "probe_failed").count() as u64;
    assert!(stock.asked() <= 20 + 2 * (probes + 1), "{} of {calls} calls got there, {by_then:?}", stock.asked());
    stock.recovers();
    until_passed(&proxy, 3, |got| assert_eq!(got.status, 200)).await;
    until_closed(&proxy).await;
    let reasons = reasons(&proxy).await;
    let since = &reasons[by_then.len()..];
    assert!(since.iter().all(|reason| reason == "waited" || reason == "probes_succeeded"), "{since:?}");
}

/// A hundred thousand requests with `COUPLET_HEAVY=1`.
#[tokio::test]
async fn one_that_fails_a_tenth_of_the_time_is_never_stopped() {
    let calls: u64 = if std::env::var_os("COUPLET_HEAVY").is_some() { 100_000 } else { 4_000 };
    let stock = Neighbour::that(Mood::SeldomFails).await;
    let proxy = with("shop", quick(BreakerMode::Enforce)).to("stock", stock.address).start();
    let address = proxy.outbound()[0].1;
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        callers.spawn(async move {
            let mut client = client(address).await;
            let mut failed = 0;
            for _ in 0..calls / 4 {
                failed += u64::from(client.get("/").await.status == 500);
            }
            failed
        });
    }
    let failed: u64 = callers.join_all().await.into_iter().sum();
    let _ = writeln!(std::io::stderr(), "{failed} of {calls} requests failed");
    assert_eq!(stock.asked(), calls, "all of them got there");
    assert!(failed.abs_diff(calls / 10) < calls / 100, "{failed}");
    let page: Value = breaker(&proxy, "stock").await;
    assert_eq!((&page["calls"]["opened"], &page["calls"]["rejected"]), (&0.into(), &0.into()), "{page}");
}

#[tokio::test]
async fn of_a_hundred_callers_at_once_only_those_that_were_under_way_get_there() {
    let stock = Neighbour::that(Mood::BreaksOff).await;
    let open = OpenTime { base: Duration::from_secs(600), max: Duration::from_secs(600), ..OpenTime::default() };
    let settings = BreakerSettings { open, ..quick(BreakerMode::Enforce) };
    let proxy = with("shop", settings).to("stock", stock.address).start();
    let address = proxy.outbound()[0].1;
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..100 {
        callers.spawn(async move { while !call_at(address).await.rejected {} });
    }
    callers.join_all().await;
    let page = breaker(&proxy, "stock").await;
    let peak = page["in_flight_peak"].as_u64().unwrap();
    let _ = writeln!(std::io::stderr(), "{} got there, at most {peak} at the same time", stock.asked());
    assert!((7..7 + peak).contains(&stock.asked()), "{} got there, {page}", stock.asked());
    assert_eq!((&page["calls"]["opened"], &page["calls"]["rejected"]), (&1.into(), &100.into()), "{page}");
}

/// As ratios of one run: how long it takes in itself depends on the machine (`cargo bench --bench breaker`).
#[tokio::test]
async fn a_rejection_takes_less_time_than_a_call_that_passes() {
    let (broken, works) = (Neighbour::that(Mood::BreaksOff).await, Neighbour::that(Mood::Works).await);
    let open = OpenTime { base: Duration::from_secs(600), max: Duration::from_secs(600), ..OpenTime::default() };
    let settings = BreakerSettings { open, ..quick(BreakerMode::Enforce) };
    let proxy = with("shop", settings).to("stock", broken.address).to("prices", works.address).start();
    while !call(&proxy).await.rejected {}
    let asked = broken.asked();
    let (mut to_broken, mut to_working) = (client(proxy.outbound()[0].1).await, client(proxy.outbound()[1].1).await);
    let (mut rejected, mut passed) = (Vec::new(), Vec::new());
    // By turns: whatever else the machine does concerns both.
    for _ in 0..301 {
        for (client, status, times) in [(&mut to_broken, 503, &mut rejected), (&mut to_working, 200, &mut passed)] {
            let begin = Instant::now();
            assert_eq!(client.get("/").await.status, status);
            times.push(begin.elapsed());
        }
    }
    let [rejected, passed] = [rejected, passed].map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2]
    });
    assert_eq!(broken.asked(), asked);
    assert!(rejected < passed, "rejected in {rejected:?}, passed in {passed:?}");
}
