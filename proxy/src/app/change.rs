//! What a new configuration changes, decided before anything is done about it.

use couplet_config::ProxyConfig;
use serde_json::Value;

/// What is to be done about a new configuration of a proxy that runs.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing: it says the same.
    None,
    /// It can come into force while the proxy runs; these keys differ.
    Live(Vec<String>),
    /// These keys are read only when a proxy starts.
    Restart(Vec<String>),
}

impl Change {
    /// What `new` changes, where `old` is in force.
    #[must_use]
    pub fn between(old: &ProxyConfig, new: &ProxyConfig) -> Self {
        if old == new {
            return Change::None;
        }
        let kept = with_live_keys_of(old, new);
        if kept == *new { Change::Live(differing(old, new)) } else { Change::Restart(differing(&kept, new)) }
    }
}

/// The old configuration with everything from the new one that can change while a proxy runs. A key that is not named
/// here needs a restart.
fn with_live_keys_of(old: &ProxyConfig, new: &ProxyConfig) -> ProxyConfig {
    ProxyConfig {
        app: new.app,
        inbound: new.inbound,
        outbound: new.outbound.clone(),
        explicit: new.explicit,
        trust: new.trust.clone(),
        tls: new.tls.clone(),
        limits: new.limits.clone(),
        timeouts: new.timeouts.clone(),
        headers: new.headers.clone(),
        breakers: new.breakers.clone(),
        concurrency: new.concurrency.clone(),
        routes: new.routes.clone(),
        link: new.link.clone(),
        watch: new.watch,
        ..old.clone()
    }
}

/// The keys that differ, in the order of the alphabet. Secrets are not compared: they are no part of what is written.
fn differing(a: &ProxyConfig, b: &ProxyConfig) -> Vec<String> {
    let (a, b) = (serde_json::to_value(a).unwrap_or_default(), serde_json::to_value(b).unwrap_or_default());
    let Some((a, b)) = a.as_object().zip(b.as_object()) else { return Vec::new() };
    let mut keys: Vec<_> = a.iter().filter_map(|(key, value)| below(key, value, b.get(key)?)).collect();
    if keys.is_empty() {
        keys.push("analyzer.token".to_owned());
    }
    keys.sort_unstable();
    keys
}

/// A key that differs: the one below it where only one does, as `timeouts.connect`.
fn below(key: &str, a: &Value, b: &Value) -> Option<String> {
    if a == b {
        return None;
    }
    let differ = a.as_object().zip(b.as_object()).map(|(a, b)| {
        a.iter().filter(|(key, value)| b.get(*key) != Some(*value)).map(|(below, _)| below).collect::<Vec<_>>()
    });
    match differ.as_deref() {
        Some([only]) => Some(format!("{key}.{only}")),
        _ => Some(key.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use couplet_config::Outbound;
    use std::time::Duration;

    fn changed(change: impl FnOnce(&mut ProxyConfig)) -> Change {
        let old = ProxyConfig::new("shop");
        let mut new = old.clone();
        change(&mut new);
        Change::between(&old, &new)
    }

    #[test]
    fn what_says_the_same_changes_nothing() {
        assert_eq!(changed(|_| ()), Change::None);
    }

    #[test]
    fn addresses_destinations_and_limits_change_live() {
        let change = changed(|config| {
            config.outbound.push(Outbound::parse("stock@127.0.0.1:9001=10.0.0.1:80").unwrap());
            config.timeouts.connect = Duration::from_secs(1);
        });
        assert_eq!(change, Change::Live(vec!["outbound".to_owned(), "timeouts.connect".to_owned()]));
    }

    #[test]
    fn every_key_that_needs_a_restart_is_named_and_no_other() {
        let change = changed(|config| {
            config.service = "cart".to_owned();
            config.workers = 4;
            config.telemetry.window = Duration::from_secs(9);
            config.timeouts.connect = Duration::from_secs(1);
        });
        assert_eq!(change, Change::Restart(["service", "telemetry.window", "workers"].map(str::to_owned).to_vec()));
    }

    #[test]
    fn a_token_is_compared_but_not_shown() {
        let link = |token: &str| couplet_config::AnalyzerLink {
            token: Some(couplet_config::Secret::new(token)),
            ..couplet_config::AnalyzerLink::new("http://127.0.0.1:15400".parse().unwrap())
        };
        let mut old = ProxyConfig::new("shop");
        old.analyzer = Some(link("one"));
        let new = ProxyConfig { analyzer: Some(link("two")), ..old.clone() };
        assert_eq!(Change::between(&old, &new), Change::Restart(vec!["analyzer.token".to_owned()]));
    }
}
