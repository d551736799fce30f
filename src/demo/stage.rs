//! The run of a demo: the system starts, the load flows, events happen, findings come in, and all of it ends in order.

use std::{net::SocketAddr, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::{
    narrator::Narrator,
    scenario::Scenario,
    system::{SNAPSHOT_EVERY, System},
    verdict::{Verdict, judge},
    watch::Watch,
};
use crate::signals::Signals;

/// How a demo is to run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// How long the load lasts; without it until a signal.
    pub(crate) length: Option<Duration>,
    /// How many times the scenario's load.
    pub(crate) multiplier: f64,
    /// Where chance begins.
    pub(crate) seed: u64,
    /// Services whose callers' breakers stop calls. All others observe.
    pub(crate) enforce: Vec<String>,
}

/// Runs a scenario in front of the analyzer at `analyzer`, and judges it.
///
/// The order of the end matters for the counts: first nobody asks any more and every answer has come, then the sidecars
/// ship their last reports, then the analyzer is asked.
///
/// # Errors
/// The system cannot be started, or the analyzer does not answer in the end.
pub(crate) async fn play(
    scenario: &Scenario,
    plan: &Plan,
    analyzer: SocketAddr,
    signals: &mut Signals,
    narrator: &mut Narrator,
) -> anyhow::Result<Verdict> {
    let system = System::start(scenario, analyzer, plan.seed, &plan.enforce).await?;
    let load = system.load(scenario, plan.multiplier, plan.seed);
    let start = Instant::now();
    let mut watch = Watch::new(analyzer);
    perform(scenario, plan, &system, &mut watch, start, signals, narrator).await;
    let seconds = start.elapsed().as_secs_f64();
    let tally = load.stop().await;
    system.stop().await;
    let document = watch.settled_document(SNAPSHOT_EVERY).await?;
    let late = document.findings.iter().filter(|finding| watch.is_news(finding)).collect::<Vec<_>>();
    for finding in late {
        narrator.found(start.elapsed(), finding);
    }
    let breakers = watch.breakers().await?;
    Ok(Verdict { breakers, ..judge(scenario, &document, tally, seconds) })
}

/// Everything that happens while the load flows.
async fn perform(
    scenario: &Scenario,
    plan: &Plan,
    system: &System,
    watch: &mut Watch,
    start: Instant,
    signals: &mut Signals,
    narrator: &mut Narrator,
) {
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let end = start + plan.length.unwrap_or(FOR_EVER);
    let mut events = scenario.timeline.iter().peekable();
    loop {
        let next = events.peek().map_or(end, |event| start + event.at);
        tokio::select! {
            biased;
            _ = signals.next() => {
                narrator.tell(start.elapsed(), "stopping; a second signal ends at once");
                return;
            }
            () = sleep_until(end) => return,
            () = sleep_until(next) => {
                if let Some(event) = events.next() {
                    system.happen(event);
                    narrator.tell(start.elapsed(), &event.say);
                }
            }
            _ = looks.tick() => {
                // A look that fails is made up for by the next one; the verdict does not depend on it.
                for finding in watch.news().await.unwrap_or_default() {
                    narrator.found(start.elapsed(), &finding);
                }
            }
        }
    }
}

/// How often the analyzer is asked for new findings.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Longer than anybody watches a demo, and short enough to be added to an instant.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
