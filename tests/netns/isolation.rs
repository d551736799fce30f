//! Nobody reaches the admin endpoints through the ports that carry traffic, whatever is asked for there.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::peers::{ask, http};
use crate::world::{APP, Families, Pod, say, world};

/// What only the admin listener says.
const SECRETS: [&str; 4] = ["couplet_build_info", "\"telemetry\"", "going down", "report attempts failed"];

/// Requests that want the admin endpoints, as they stand on the wire.
fn attempts(pod: &Pod) -> Vec<String> {
    let address = pod.ipv4;
    let mut all = Vec::new();
    let hosts = [
        "localhost:15420".to_owned(),
        "127.0.0.1:15420".to_owned(),
        "[::1]:15420".to_owned(),
        format!("{address}:15420"),
    ];
    for host in &hosts {
        for path in ["/metrics", "/config", "/readyz?verbose"] {
            all.push(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"));
            all.push(format!("GET http://{host}{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"));
        }
        all.push(format!("POST /shutdown HTTP/1.1\r\nhost: {host}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"));
        all.push(format!("CONNECT {host} HTTP/1.1\r\nhost: {host}\r\n\r\nGET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"));
    }
    all.push("GET /metrics HTTP/1.0\r\n\r\n".to_owned());
    all.push("GET /metrics HTTP/1.1\r\nhost: localhost\r\nx-forwarded-for: 127.0.0.1\r\nforwarded: for=127.0.0.1;host=127.0.0.1:15420\r\nconnection: close\r\n\r\n".to_owned());
    all.push("OPTIONS * HTTP/1.1\r\nhost: 127.0.0.1:15420\r\nconnection: close\r\n\r\n".to_owned());
    all.push("GET /metrics HTTP/1.1\r\nhost: a\r\nupgrade: h2c\r\nconnection: upgrade, http2-settings\r\nhttp2-settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n".to_owned());
    all
}

#[test]
fn no_request_on_a_data_port_reaches_the_admin_endpoints() {
    let Some(world) = world("isolation", Families::Dual) else { return };
    let (shop, stock) = (world.pods[0].clone(), world.pods[1].clone());
    stock.init("");
    let _sidecar = stock.sidecar("stock", "--set admin=127.0.0.1:15420");
    http(&stock, APP, (stock.ipv4, 8080), |_| "the application".to_owned());
    http(&stock, APP, (stock.ipv6, 8080), |_| "the application".to_owned());
    let attempts = attempts(&stock);
    let mut made = 0;
    // The application's own port, captured; the inbound port itself; and the port for captured outbound connections.
    for port in [8080, 15406, 15401] {
        for ip in [stock.ipv4, stock.ipv6] {
            for attempt in &attempts {
                let (address, attempt) = (SocketAddr::new(ip, port), attempt.clone());
                let said = shop.inside(APP, move || said(address, &attempt));
                made += 1;
                let leaked = SECRETS.iter().find(|secret| said.contains(**secret));
                assert_eq!(leaked, None, "{port}: {said}");
            }
        }
    }
    say(&format!("{made} attempts on data ports, none reached the admin endpoints"));
    assert!(made >= 40);
    // It still runs, which a /shutdown that got through would have ended; and the admin port is nowhere else.
    let address = stock.ipv4;
    assert_eq!(shop.inside(APP, move || ask((address, 8080), "/", "stock", "")).body, "the application");
    assert!(shop.inside(APP, move || TcpStream::connect((address, 15420)).is_err()), "the admin port is on loopback");
    assert_eq!(stock.metric("couplet_build_info{version=\"0.1.0\",service=\"stock\"}"), Some(1.0));
}

fn said(address: SocketAddr, attempt: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(address) else { return String::new() };
    // What is not answered within this time is not answered with what was asked for.
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let _ = stream.write_all(attempt.as_bytes());
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}
