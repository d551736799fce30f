//! The life of a serving program: it runs until it is asked to end, ends in peace, and at once when asked again.

use std::process::ExitCode;

use anyhow::Context as _;

use crate::signals::{Signals, exit_code};

/// Starts something with `start`, tells of it with `announce`, and stops it with `stop` after SIGTERM or SIGINT, or when
/// `attend` returns: what it does for the running program in the meantime is dropped at any await.
///
/// The signals are heard before anything is started, so that none is lost in between.
pub(crate) fn until_asked_to_end<R: Send + 'static>(
    start: impl FnOnce() -> anyhow::Result<R>,
    announce: impl FnOnce(&R),
    attend: impl AsyncFnOnce(&mut R),
    stop: impl FnOnce(R) + Send + 'static,
) -> anyhow::Result<ExitCode> {
    let runtime = runtime()?;
    runtime.block_on(async {
        let mut signals = Signals::to_end().context("cannot listen to signals")?;
        let mut running = start()?;
        announce(&running);
        let signal = tokio::select! {
            signal = signals.next() => Some(signal),
            () = attend(&mut running) => None,
        };
        tracing::info!(signal, "stopping; a second signal ends at once");
        Ok(stopped_or_asked_again(signals, move || stop(running)).await.map_or(ExitCode::SUCCESS, ExitCode::from))
    })
}

/// Runs `stop`, which may block, on its own thread. A signal ends the waiting: then the exit code is that of the signal,
/// and the program is expected to exit.
pub(crate) async fn stopped_or_asked_again(mut signals: Signals, stop: impl FnOnce() + Send + 'static) -> Option<u8> {
    let (done, stopped) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new().name("stop".to_owned()).spawn(move || {
        stop();
        // Nobody listens any more when the program was asked again.
        let _ = done.send(());
    });
    if thread.is_err() {
        return None;
    }
    tokio::select! {
        _ = stopped => None,
        signal = signals.next() => {
            tracing::warn!(signal, "ended before everything was stopped");
            Some(exit_code(signal))
        }
    }
}

/// A runtime for waiting: everything that carries traffic has threads of its own.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")
}
