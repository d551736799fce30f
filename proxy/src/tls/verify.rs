//! Who is on the other side of mutual TLS: a valid chain, and a SPIFFE ID in place of a host name.

use std::fmt;
use std::sync::Arc;

use couplet_config::SpiffeId;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore, SignatureScheme,
};

use super::credentials::spiffe_id;
use super::utc;
use crate::error::Refusal;

/// Accepts who has a certificate of one of the roots and a SPIFFE ID of one of the trust domains.
#[derive(Debug)]
pub(super) struct MeshVerifier {
    pub(super) roots: Arc<RootCertStore>,
    /// Builds the paths of clients' certificates.
    pub(super) clients: Arc<dyn ClientCertVerifier>,
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) trust_domains: Vec<String>,
    /// The one ID that is accepted, where one is configured.
    pub(super) expected: Option<SpiffeId>,
}

/// Why a certificate was refused.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) why: Refusal,
    /// Whose it is, as far as that can be read.
    pub(super) who: String,
    /// Whether it has a SPIFFE ID.
    pub(super) identified: bool,
    pub(super) text: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the certificate of {}: {}", self.who, self.text)
    }
}

impl std::error::Error for Refused {}

impl MeshVerifier {
    fn check(&self, certificate: &CertificateDer<'_>, path: Result<(), Error>) -> Result<(), Error> {
        let id = spiffe_id(certificate);
        let who = id.as_ref().map_or_else(|_| "somebody without a SPIFFE ID".to_owned(), ToString::to_string);
        let identified = id.is_ok();
        let refuse = |why, text| Err(refused(Refused { why, who: who.clone(), identified, text }));
        if let Err(error) = path {
            let (why, text) = explained(&error);
            return refuse(why, text);
        }
        let id = match id {
            Ok(id) => id,
            Err(text) => return refuse(Refusal::NoIdentity, text),
        };
        if !self.trust_domains.iter().any(|domain| domain == id.trust_domain()) {
            let text = format!("its trust domain is none of {}", self.trust_domains.join(", "));
            return refuse(Refusal::TrustDomain, text);
        }
        match &self.expected {
            Some(expected) if *expected != id => refuse(Refusal::Identity, format!("{expected} is expected")),
            _ => Ok(()),
        }
    }
}

fn refused(refused: Refused) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refused))))
}

/// What was wrong with a path, for the counters and for people.
pub(super) fn explained(error: &Error) -> (Refusal, String) {
    let Error::InvalidCertificate(error) = error else { return (Refusal::Certificate, error.to_string()) };
    match error {
        CertificateError::ExpiredContext { not_after, .. } => {
            (Refusal::Expired, format!("it was valid until {}", utc(not_after.as_secs())))
        }
        CertificateError::Expired => (Refusal::Expired, "it is not valid any more".to_owned()),
        CertificateError::NotValidYetContext { not_before, .. } => {
            let from = utc(not_before.as_secs());
            (Refusal::NotYetValid, format!("it will be valid from {from}; is a clock wrong?"))
        }
        CertificateError::NotValidYet => (Refusal::NotYetValid, "it is not valid yet; is a clock wrong?".to_owned()),
        CertificateError::UnknownIssuer => (Refusal::Issuer, "none of the roots has issued it".to_owned()),
        CertificateError::BadSignature => (
            Refusal::Issuer,
            "it names a root as its issuer, but that has not signed it; was the root replaced?".to_owned(),
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            (Refusal::Name, error.to_string())
        }
        other => (Refusal::Certificate, other.to_string()),
    }
}

impl ServerCertVerifier for MeshVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let algorithms = self.provider.signature_verification_algorithms.all;
        let path = ParsedCertificate::try_from(end_entity).and_then(|parsed| {
            verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)
        });
        self.check(end_entity, path)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for MeshVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.clients.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let path = self.clients.verify_client_cert(end_entity, intermediates, now);
        self.check(end_entity, path.map(drop))?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
