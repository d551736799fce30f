//! Connections to addresses that nobody has configured: mutual TLS where a sidecar answers. Nothing of a request is sent
//! before it is known who does; what is not known is found out with the connection that is needed anyway.

use std::net::SocketAddr;
use std::time::Duration;

use couplet_config::OutboundTls;
use tokio::time::{Instant, timeout_at};

use super::connect::{Connector, Opened};
use crate::error::Fault;
use crate::mesh::Known;
use crate::tls::Unjoined;

/// What is not known to be a sidecar may be silent for so long, before it is taken for none.
const PATIENCE: Duration = Duration::from_millis(500);

/// What is tried on a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    Clear,
    /// Mutual TLS, and clear text where no sidecar answers within this time; without one, where something else does.
    Either(Option<Duration>),
    /// Mutual TLS alone, waited for in the same way.
    Mutual(Option<Duration>),
}

fn plan(mode: OutboundTls, known: Known) -> Plan {
    match mode {
        OutboundTls::Off => Plan::Clear,
        OutboundTls::Strict => Plan::Mutual((known == Known::Other).then_some(PATIENCE)),
        OutboundTls::Permissive => match known {
            Known::Other => Plan::Clear,
            Known::Sidecar => Plan::Either(None),
            Known::Nothing => Plan::Either(Some(PATIENCE)),
        },
    }
}

impl Connector {
    /// Opens a connection to an address, in the clear or not, as it is spoken to there.
    ///
    /// # Errors
    /// Where there is none by `deadline`, or only one that may not be used.
    pub(crate) async fn learned(&self, address: SocketAddr, deadline: Instant) -> Result<Opened, Fault> {
        let now = Instant::now();
        let mode = self.tls.towards(address.ip());
        let known = if mode == OutboundTls::Off { Known::Nothing } else { self.mesh.known(address, now) };
        let plan = plan(mode, known);
        // A destination that is dead is dead whatever is spoken there.
        let stream = self.dial(address, deadline).await?;
        let patience = match plan {
            Plan::Clear => return Ok(stream.into()),
            Plan::Either(patience) | Plan::Mutual(patience) => patience,
        };
        let until = patience.map_or(deadline, |patience| deadline.min(Instant::now() + patience));
        let why = match timeout_at(until, self.tls.join(stream, address)).await {
            Ok(Ok((stream, identity))) => {
                self.mesh.found(address, true, now);
                self.metrics.mesh_secured.add(1);
                return Ok(Opened { stream, identity });
            }
            Ok(Err(Unjoined::Refused(fault))) => return Err(fault),
            Ok(Err(Unjoined::Stranger(failure))) => failure.text,
            Err(_) if until == deadline => {
                // The next one is not kept waiting for that long, unless a sidecar is only late.
                if known == Known::Nothing {
                    self.mesh.found(address, false, now);
                }
                return Err(Fault::ConnectTimeout);
            }
            Err(_) => "it does not answer".to_owned(),
        };
        if matches!(plan, Plan::Mutual(_)) {
            self.mesh.found(address, false, now);
            tracing::debug!(%address, why, "no sidecar answers");
            return Err(Fault::ClearText);
        }
        let stream = self.dial(address, deadline).await?;
        if self.mesh.found(address, false, now) {
            self.metrics.mesh_downgrades.add(1);
            if self.tls.warns_of(address.ip()) {
                tracing::warn!(%address, why, "no sidecar answers any more where one did: what is sent there goes in the clear (`tls.outbound: strict` forbids that)");
            }
        }
        self.metrics.mesh_clear.add(1);
        Ok(stream.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clear_text_is_an_answer_to_what_was_found_and_never_where_it_is_forbidden() {
        let known = [Known::Nothing, Known::Sidecar, Known::Other];
        assert!(known.into_iter().all(|known| matches!(plan(OutboundTls::Strict, known), Plan::Mutual(_))));
        assert!(known.into_iter().all(|known| plan(OutboundTls::Off, known) == Plan::Clear));
        let permissive = known.map(|known| plan(OutboundTls::Permissive, known));
        assert_eq!(permissive, [Plan::Either(Some(PATIENCE)), Plan::Either(None), Plan::Clear]);
    }
}
