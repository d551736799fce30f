//! TLS: what the files say is turned into settings, once now and again whenever the files change; handshakes take the
//! settings that are in force when they begin. Connections that stand are left alone.

mod accept;
mod connect;
mod credentials;
mod failure;
mod https;
mod join;
mod settings;
mod verify;

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use couplet_config::{InboundTls, Outbound, ProxyConfig};
use parking_lot::{Mutex, RwLock};

pub(crate) use accept::{Accepted, accept};
pub(crate) use connect::Secure;
pub(crate) use failure::{Failure, is_refusal};
pub(crate) use https::https;
pub(crate) use join::Unjoined;

use crate::metrics::Metrics;
use crate::warnings::Warnings;
use credentials::Files;
use settings::{Certificate, Settings};

/// How often the same warning is given about a certificate that ends soon.
const REMIND_EVERY: Duration = Duration::from_secs(3600);

/// What a mesh client offers beside its protocol, so that a server with two certificates knows which one is wanted.
pub(crate) const MESH: &[u8] = b"couplet";
const HTTP1: &[u8] = b"http/1.1";
const HTTP2: &[u8] = b"h2";

/// The TLS of one proxy.
pub(crate) struct Tls {
    config: couplet_config::Tls,
    outbound: Vec<Outbound>,
    metrics: Arc<Metrics>,
    warnings: Warnings,
    settings: RwLock<Arc<Settings>>,
    seen: Mutex<Seen>,
}

/// What the last look at the files saw.
struct Seen {
    digest: u128,
    state: State,
    reminded: Option<SystemTime>,
}

/// What became of the files that were seen last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    InForce,
    /// They could not be used, and are looked at once more before anybody is warned.
    Suspect,
    /// They cannot be used.
    Broken,
}

impl Tls {
    /// Reads all files.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub(crate) fn load(config: &ProxyConfig, metrics: &Arc<Metrics>, now: SystemTime) -> Result<Self, String> {
        let files = Files::read(&config.tls, &config.outbound);
        let mut problems = Vec::new();
        let settings = Settings::new(&files, &config.tls, &config.outbound).map_err(|found| problems.extend(found));
        if let Some(link) = config.analyzer.as_ref().filter(|link| link.url.https) {
            problems.extend(https::check(link).err());
        }
        let Some(settings) = settings.ok().filter(|_| problems.is_empty()) else { return Err(listed(&problems)) };
        let tls = Self {
            config: config.tls.clone(),
            outbound: config.outbound.clone(),
            metrics: Arc::clone(metrics),
            warnings: Warnings::new(),
            settings: RwLock::new(Arc::new(settings)),
            seen: Mutex::new(Seen { digest: files.digest(), state: State::InForce, reminded: None }),
        };
        files.open_keys().for_each(warn_of_open_key);
        tls.remind(now);
        Ok(tls)
    }

    /// What handshakes that begin now take.
    pub(crate) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read())
    }

    /// Whether the inbound listener takes TLS.
    pub(crate) fn accepts(&self) -> bool {
        self.config.inbound != InboundTls::Off && (self.config.identity.is_some() || self.config.server.is_some())
    }

    /// Whether the inbound listener takes clear text that came from `peer` to the own address `own`. What is said on
    /// this host passes no wire.
    pub(crate) fn takes_clear_text(&self, peer: IpAddr, own: Option<IpAddr>) -> bool {
        takes_clear_text(self.config.inbound, peer, own)
    }

    /// Whether sidecars are recognised among clients.
    pub(crate) fn meets_sidecars(&self) -> bool {
        self.config.inbound != InboundTls::Off && self.config.identity.is_some()
    }

    /// Whether another sidecar may be at this address.
    pub(crate) fn covers(&self, peer: IpAddr) -> bool {
        self.config.covers(peer)
    }

    /// Whether a warning about a peer may be logged now.
    pub(crate) fn warns_of(&self, peer: IpAddr) -> bool {
        self.warnings.allow(peer)
    }

    /// Whether clients without an identity are served as well.
    pub(crate) fn serves(&self) -> bool {
        self.config.server.is_some()
    }

    /// How often the files are looked at.
    pub(crate) fn look_every(&self) -> Duration {
        self.config.reload
    }

    /// Looks whether the files have changed, and takes over what they say now. Where that cannot be used, what was in
    /// force stays in force. Reads files; called by the control side.
    pub(crate) fn look(&self, now: SystemTime) {
        if self.settings().certificates().next().is_none() && !self.settings().has_files() {
            return;
        }
        let files = Files::read(&self.config, &self.outbound);
        let digest = files.digest();
        let mut seen = self.seen.lock();
        if seen.digest == digest && seen.state != State::Suspect {
            drop(seen);
            return self.remind(now);
        }
        seen.digest = digest;
        match Settings::new(&files, &self.config, &self.outbound) {
            Ok(settings) => {
                *self.settings.write() = Arc::new(settings);
                seen.state = State::InForce;
                seen.reminded = None;
                self.metrics.tls_reloads.add(1);
                files.open_keys().for_each(warn_of_open_key);
                tracing::info!("new TLS files are in force; connections that are open keep the old ones");
            }
            // Of several files that change one after another, the first ones do not fit the rest.
            Err(_) if seen.state == State::InForce => seen.state = State::Suspect,
            Err(problems) => {
                seen.state = State::Broken;
                self.metrics.tls_reloads_failed.add(1);
                let problems = listed(&problems);
                tracing::warn!(%problems, "TLS files have changed and cannot be used; those from before stay in force");
            }
        }
        drop(seen);
        self.remind(now);
    }

    /// Warns of certificates that end soon, or have ended.
    fn remind(&self, now: SystemTime) {
        let settings = self.settings();
        let mut seen = self.seen.lock();
        if seen.reminded.is_some_and(|last| now.duration_since(last).is_ok_and(|since| since < REMIND_EVERY)) {
            return;
        }
        for certificate in settings.certificates().filter(|certificate| certificate.ends_soon(now)) {
            seen.reminded = Some(now);
            let (file, valid_until) = (certificate.file.display(), utc(certificate.not_after));
            let identity = certificate.identity();
            match certificate.left(now) {
                None => tracing::error!(%file, identity, valid_until, "a TLS certificate has ended: peers refuse it"),
                Some(left) => {
                    let hours = left.as_secs() / 3600;
                    tracing::warn!(%file, identity, valid_until, hours, "a TLS certificate ends soon and was not renewed");
                }
            }
        }
    }

    /// Every certificate of the own, for `/metrics`: what it is for, and the second since 1970 at which it ends.
    pub(crate) fn expiries(&self) -> Vec<(&'static str, u64)> {
        self.settings().certificates().map(|certificate| (certificate.what, certificate.not_after)).collect()
    }
}

fn takes_clear_text(mode: InboundTls, peer: IpAddr, own: Option<IpAddr>) -> bool {
    mode != InboundTls::Strict || peer.is_loopback() || Some(peer) == own
}

impl Certificate {
    fn left(&self, now: SystemTime) -> Option<Duration> {
        (UNIX_EPOCH + Duration::from_secs(self.not_after)).duration_since(now).ok()
    }

    /// Whether less than a fifth of its time is left: renewal is usually due after a half or two thirds.
    fn ends_soon(&self, now: SystemTime) -> bool {
        let whole = self.not_after.saturating_sub(self.not_before);
        self.left(now).is_none_or(|left| left.as_secs() < whole / 5)
    }

    fn identity(&self) -> &str {
        self.id.as_ref().map_or("", |id| id.as_str())
    }
}

fn warn_of_open_key(file: &Path) {
    let file = file.display();
    tracing::warn!(%file, "every user of this machine can read this private key: take that right away (chmod o-rwx)");
}

fn listed(problems: &[String]) -> String {
    problems.join("; ")
}

/// A second since 1970 as people read it.
fn utc(second: u64) -> String {
    let (days, second) = (second / 86_400, second % 86_400);
    // Civil from days, with years that begin in March (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = year + era * 400 + u64::from(month <= 2);
    let mut text = String::new();
    let _ = write!(
        text,
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC",
        second / 3600,
        second / 60 % 60,
        second % 60
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_written_as_people_read_it() {
        for (second, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_735_689_599, "2024-12-31 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(utc(second), text);
        }
    }

    #[test]
    fn strict_takes_clear_text_from_the_own_host_alone() {
        let takes = |mode, peer: &str, own: &str| takes_clear_text(mode, peer.parse().unwrap(), own.parse().ok());
        assert!(takes(InboundTls::Strict, "127.0.0.1", "127.0.0.1") && takes(InboundTls::Strict, "::1", "::1"));
        assert!(takes(InboundTls::Strict, "10.0.0.7", "10.0.0.7"));
        assert!(!takes(InboundTls::Strict, "10.0.0.8", "10.0.0.7") && !takes(InboundTls::Strict, "10.0.0.8", ""));
        assert!(takes(InboundTls::Permissive, "10.0.0.8", "10.0.0.7"));
    }

    #[test]
    fn a_certificate_ends_soon_when_a_fifth_of_its_time_is_left() {
        let certificate =
            Certificate { what: "identity", file: "a.pem".into(), id: None, not_before: 1_000, not_after: 2_000 };
        let at = |second| UNIX_EPOCH + Duration::from_secs(second);
        assert!(!certificate.ends_soon(at(1_700)));
        assert!(certificate.ends_soon(at(1_801)));
        assert!(certificate.ends_soon(at(2_001)) && certificate.left(at(2_001)).is_none());
    }
}
