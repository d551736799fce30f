//! `couplet await`: waits until a sidecar is ready, for whatever must not start before it.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use couplet_config::{Target, parse_duration};
use couplet_telemetry::names::ports;
use hyper::StatusCode;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout_at};

use crate::client;
use crate::exit::{Failure, Fault};

/// What `couplet await` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The admin address of the sidecar
    #[arg(long, value_name = "ADDRESS", default_value_t = default_admin())]
    admin: SocketAddr,

    /// How long to wait
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_duration)]
    timeout: Duration,
}

const EXAMPLES: &str = "\
Examples:
  couplet await && exec my-service
  couplet await --admin 127.0.0.1:15420 --timeout 30s

In Kubernetes before 1.29 the application's container runs it as a postStart hook of the
sidecar, which holds up the application until the sidecar serves. Exit codes: 0 it is
ready, 5 it was not within the timeout.";

fn default_admin() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], ports::ADMIN))
}

/// Asks again and again until the sidecar is ready.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    crate::serve::runtime()?.block_on(ready(args.admin, args.timeout))?;
    Ok(ExitCode::SUCCESS)
}

async fn ready(admin: SocketAddr, patience: Duration) -> Result<(), Failure> {
    let deadline = Instant::now() + patience;
    let mut why = "no answer".to_owned();
    loop {
        match timeout_at(deadline, look(admin)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(because)) => why = because,
            // What was wrong before says more than that the time is over.
            Err(_) => {}
        }
        if Instant::now() + AGAIN >= deadline {
            return Err(Fault::Sidecar.because(format_args!(
                "the sidecar at {admin} is not ready after {patience:?}: {why}\n  \
                 does it run (`couplet proxy`), with this admin address (--admin)?"
            )));
        }
        sleep(AGAIN).await;
    }
}

/// Whether it is ready; if not, why.
async fn look(admin: SocketAddr) -> Result<(), String> {
    let stream = TcpStream::connect(admin).await.map_err(|error| client::cause(&error))?;
    let host = Target { host: admin.ip().to_string(), port: admin.port() };
    match client::exchange(stream, &host, "/readyz").await {
        Ok((StatusCode::OK, _)) => Ok(()),
        Ok((status, body)) => Err(format!("{status} {}", client::first_line(&body))),
        Err(error) => Err(format!("what answers there is no sidecar ({error})")),
    }
}

/// How long after one question the next one is asked.
const AGAIN: Duration = Duration::from_millis(100);
