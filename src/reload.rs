//! Putting a changed configuration file into force: after SIGHUP, when somebody asks for it, and by itself.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;
use std::time::Duration;

use couplet_config::ProxyConfig;
use couplet_proxy::{Ask, Reloaded, Running};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::exit::Failure;
use crate::signals::Signals;

/// Where the configuration comes from.
pub(crate) struct Source<'a> {
    file: &'a Path,
    /// Reads the whole configuration anew: the file, and the flags over it.
    load: &'a dyn Fn() -> Result<ProxyConfig, Failure>,
    watch: Option<Duration>,
    looks: Looks,
}

impl<'a> Source<'a> {
    /// The file, whose content is in force already.
    pub(crate) fn new(
        file: &'a Path,
        load: &'a dyn Fn() -> Result<ProxyConfig, Failure>,
        watch: Option<Duration>,
    ) -> Self {
        Self { file, load, watch, looks: Looks::at(content(file)) }
    }
}

/// Serves what concerns the configuration, until somebody asks over the admin listener that the program ends.
pub(crate) async fn attend(running: &mut Running, mut source: Option<&mut Source<'_>>, announce: impl Fn(&Running)) {
    // Without a file there is nothing to read, and SIGHUP ends the program as it ends others.
    let mut hangups = source.as_ref().and_then(|_| Signals::to_reload().ok());
    let mut ticks = source.as_ref().and_then(|source| source.watch).map(every);
    loop {
        let occasion = match &mut source {
            Some(_) => tokio::select! {
                ask = running.asked() => Occasion::Asked(ask),
                () = hangup(&mut hangups) => Occasion::Hangup,
                () = tick(&mut ticks) => Occasion::Look,
            },
            None => Occasion::Asked(running.asked().await),
        };
        let answer = match occasion {
            Occasion::Asked(Ask::ShutDown) => return,
            Occasion::Asked(Ask::Reload(answer)) => Some(answer),
            Occasion::Hangup => None,
            Occasion::Look => {
                let changed = source.as_mut().is_some_and(|source| source.looks.settled(content(source.file)));
                if !changed {
                    continue;
                }
                None
            }
        };
        let said = match &mut source {
            Some(source) => {
                let said = reload(running, source, &announce);
                ticks = source.watch.map(every);
                said
            }
            None => Err("there is no configuration file: this proxy was started with flags alone".to_owned()),
        };
        if let Some(answer) = answer {
            answer.say(said);
        }
    }
}

/// Why the configuration may have to be read.
enum Occasion {
    Asked(Ask),
    Hangup,
    Look,
}

fn every(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.reset();
    ticks
}

async fn hangup(signals: &mut Option<Signals>) {
    match signals {
        Some(signals) => drop(signals.next().await),
        None => std::future::pending().await,
    }
}

async fn tick(ticks: &mut Option<Interval>) {
    match ticks {
        Some(ticks) => drop(ticks.tick().await),
        None => std::future::pending().await,
    }
}

/// Reads the configuration and puts it into force; a sentence about what came of it.
fn reload(running: &mut Running, source: &mut Source<'_>, announce: &impl Fn(&Running)) -> Result<String, String> {
    source.looks = Looks::at(content(source.file));
    let wanted = (source.load)().map_err(|failure| failure.to_string());
    let watch = wanted.as_ref().ok().map(|config| config.watch);
    match running.reload(wanted) {
        Ok(Reloaded::Unchanged) => {
            tracing::info!("the configuration says the same as before");
            Ok("unchanged".to_owned())
        }
        Ok(Reloaded::Applied { generation, keys }) => {
            source.watch = watch.unwrap_or(source.watch);
            let keys = keys.join(", ");
            tracing::info!(generation, keys, "a new configuration is in force");
            announce(running);
            Ok(format!("generation {generation} is in force; new: {keys}"))
        }
        Err(error) => {
            tracing::error!("the configuration stays as it was: {error}");
            Err(error.to_string())
        }
    }
}

/// Recognises that a file has changed and that whoever wrote it is done: it says the same at two looks.
#[derive(Debug)]
struct Looks {
    dealt_with: Option<u64>,
    last: Option<u64>,
}

impl Looks {
    fn at(content: Option<u64>) -> Self {
        Self { dealt_with: content, last: content }
    }

    fn settled(&mut self, content: Option<u64>) -> bool {
        let again = self.last == content;
        self.last = content;
        // A file that is not there says nothing: it is being replaced, or nobody wants to change anything.
        again && content.is_some() && content != self.dealt_with
    }
}

/// What the file says, in short. The path is followed anew each time, whatever links it consists of.
fn content(file: &Path) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    std::fs::read(file).ok()?.hash(&mut hasher);
    Some(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_once_when_it_has_changed_and_is_whole() {
        let mut looks = Looks::at(Some(1));
        assert!(!looks.settled(Some(1)));
        assert!(!looks.settled(Some(2)), "it may be half written");
        assert!(!looks.settled(Some(3)));
        assert!(looks.settled(Some(3)));
        looks = Looks::at(Some(3));
        assert!(!looks.settled(Some(3)), "a broken file is not complained of again and again");
        assert!(!looks.settled(None));
        assert!(!looks.settled(None), "a file that is gone changes nothing");
        assert!(!looks.settled(Some(3)));
    }
}
