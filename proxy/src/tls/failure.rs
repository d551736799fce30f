//! Why a handshake failed: one word for the counters, a sentence for whoever reads the log.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

use super::verify::{Refused, explained};
use crate::error::Refusal;

/// A handshake that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) why: Refusal,
    pub(crate) text: String,
    /// Whether the peer has shown a SPIFFE ID, as sidecars do.
    pub(crate) identified: bool,
}

impl Failure {
    pub(super) fn new(why: Refusal, text: impl Into<String>) -> Self {
        Self { why, text: text.into(), identified: false }
    }

    /// Of what the library says.
    pub(super) fn of(error: &Error) -> Self {
        match error {
            Error::InvalidCertificate(CertificateError::Other(other)) => match other.0.downcast_ref::<Refused>() {
                Some(refused) => Self { identified: refused.identified, ..Self::new(refused.why, refused.to_string()) },
                None => Self::new(Refusal::Certificate, error.to_string()),
            },
            Error::InvalidCertificate(_) => {
                let (why, text) = explained(error);
                Self::new(why, text)
            }
            Error::NoCertificatesPresented => Self::new(Refusal::NoCertificate, "the peer has shown no certificate"),
            Error::NoApplicationProtocol => Self::new(Refusal::Alpn, "no application protocol in common"),
            Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
                Self::new(Refusal::Alpn, "the peer does not speak the protocol that was asked for")
            }
            Error::AlertReceived(alert) => Self::new(Refusal::Alert, format!("the peer refused it: {alert:?}")),
            Error::PeerIncompatible(what) => {
                Self::new(Refusal::Incompatible, format!("no version, cipher or key exchange in common: {what:?}"))
            }
            _ => Self::new(Refusal::Malformed, error.to_string()),
        }
    }

    /// Of an error of the connection while the handshake lasted.
    pub(super) fn of_io(error: &io::Error) -> Self {
        match inner(error) {
            Some(error) => Self::of(error),
            None => Self::new(Refusal::Closed, format!("the peer is gone: {error}")),
        }
    }
}

fn inner(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// Whether a connection ended since the other side refused what was shown to it: it may do so after the handshake.
pub(crate) fn is_refusal(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return matches!(inner(error), Some(Error::AlertReceived(_)));
        }
        if let Some(error) = error.downcast_ref::<h2::Error>().and_then(h2::Error::get_io) {
            // Of this library's errors the words alone are left.
            return error.to_string().starts_with("received fatal alert");
        }
        next = error.source();
    }
    false
}
