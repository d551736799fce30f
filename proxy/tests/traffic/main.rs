//! Real requests through real proxies on loopback.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod admin;
mod breakers;
mod chain;
mod concurrency;
mod conformance;
mod ejection;
mod endpoints;
mod examples;
mod explicit;
mod exposition;
mod faults;
mod flood;
mod forwarding;
mod framed;
mod h2;
mod harness;
mod hostile;
mod injection;
mod origins;
mod outages;
mod interim;
mod life;
mod limits;
mod links;
mod grpc;
mod mesh;
mod protocols;
mod pki;
mod reload;
mod reports;
mod retries;
mod secured;
mod still;
mod timeouts;
mod timing;
mod tls;
mod transparent;
mod truth;
mod upstreams;
mod wire;
