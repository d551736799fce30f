//! A client of HTTP/2 without TLS: some connections, some streams at once on each.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures_util::future::try_join_all;
use h2::client::SendRequest;
use http::Request;
use tokio::net::TcpStream;

use super::{Control, Load, Times};

/// Asks `address` until it is told to stop, so many `streams` at once on each connection; how long answers took since it
/// was told to measure.
///
/// # Errors
/// Where an answer is missing or not what was asked for.
pub(crate) fn ask(address: SocketAddr, load: &Load, streams: usize, control: &Control) -> Result<Times> {
    let request = load.requests.first().context("nothing to ask")?;
    let mut head = Request::builder().method(request.method).uri(format!("http://shop.example{}", request.path));
    for (name, value) in request.fields.iter().filter(|(name, _)| *name != "host") {
        head = head.header(*name, value);
    }
    let head = head.body(())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut asking = Vec::new();
        for _ in 0..load.connections {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let (sender, connection) = h2::client::handshake(stream).await?;
            tokio::spawn(connection);
            asking.extend((0..streams).map(|_| one_by_one(sender.clone(), &head, control)));
        }
        Ok(try_join_all(asking).await?.concat())
    })
}

async fn one_by_one(sender: SendRequest<Bytes>, head: &Request<()>, control: &Control) -> Result<Times> {
    let mut times = Times::new();
    while !control.is_stopped() {
        let mut sender = sender.clone().ready().await?;
        let asked = Instant::now();
        let (answer, _) = sender.send_request(head.clone(), true)?;
        let (head, mut body) = answer.await.context("no answer")?.into_parts();
        ensure!(head.status == http::StatusCode::OK, "the answer was {}", head.status);
        while let Some(data) = body.data().await {
            let data = data.context("the answer broke off")?;
            body.flow_control().release_capacity(data.len())?;
        }
        if control.answered() {
            times.push(u32::try_from(asked.elapsed().as_nanos()).unwrap_or(u32::MAX));
        }
    }
    Ok(times)
}
