//! The name that a ClientHello asks for: the same however much follows it, and the one that a TLS library reads.

#![no_main]

use couplet_proxy::fuzzing::{HELLO_BYTES, hello};
use libfuzzer_sys::fuzz_target;
use rustls::server::Acceptor;

fuzz_target!(|bytes: &[u8]| {
    let whole = hello(bytes);
    assert!(whole.is_some() || bytes.len() < HELLO_BYTES, "never left open with {HELLO_BYTES} bytes");
    // Halves rather than every length: the time would grow with the square of the input.
    for shorter in std::iter::successors(Some(bytes.len()), |length| (*length > 0).then_some(length / 2)) {
        if let Some(said) = hello(&bytes[..shorter]) {
            assert_eq!(whole, Some(said), "more bytes change nothing");
        }
    }
    if let Some(Some(name)) = &whole {
        assert!((1..=253).contains(&name.len()) && name.is_ascii(), "{name:?}");
    }
    if bytes.len() <= HELLO_BYTES
        && let Some(name) = read_by_library(bytes)
    {
        assert_eq!(whole, Some(Some(name)));
    }
});

/// The name that rustls finds, where it takes the bytes for a ClientHello.
fn read_by_library(mut bytes: &[u8]) -> Option<String> {
    let mut acceptor = Acceptor::default();
    while !bytes.is_empty() {
        acceptor.read_tls(&mut bytes).ok()?;
        match acceptor.accept() {
            Ok(Some(accepted)) => return accepted.client_hello().server_name().map(str::to_ascii_lowercase),
            Ok(None) => {}
            Err(_) => return None,
        }
    }
    None
}
