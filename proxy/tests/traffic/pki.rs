//! An authority that issues certificates into files, and ends of TLS connections that are no proxies.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use couplet_config::{Identity, ServerCertificate, TlsMode, UpstreamTls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType, date_time_ymd};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The trust domain of most tests.
pub(crate) const SHOP: &str = "spiffe://shop.example";

pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

/// What a certificate says beside its issuer.
pub(crate) struct Says<'a> {
    /// URIs and host names.
    pub(crate) names: &'a [&'a str],
    /// The first and the last year.
    pub(crate) years: (i32, i32),
}

impl<'a> Says<'a> {
    /// Valid for as long as anybody runs these tests.
    pub(crate) fn names(names: &'a [&'a str]) -> Self {
        Self { names, years: (2020, 2096) }
    }
}

/// A certificate and its key, as files.
pub(crate) struct Issued {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    pub(crate) fn new() -> Self {
        Self::named("the authority")
    }

    pub(crate) fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2096, 1, 1));
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("roots.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    pub(crate) fn roots(&self) -> PathBuf {
        self.folder.path().join("roots.pem")
    }

    /// Issues a certificate into files with this name, in place of those that are there.
    pub(crate) fn issue(&self, file: &str, says: &Says<'_>) -> Issued {
        let mut params = CertificateParams::default();
        (params.not_before, params.not_after) = (date_time_ymd(says.years.0, 1, 1), date_time_ymd(says.years.1, 1, 1));
        let name = |name: &&str| match name.parse() {
            Ok(ip) => SanType::IpAddress(ip),
            Err(_) if name.contains("://") => SanType::URI((*name).try_into().unwrap()),
            Err(_) => SanType::DnsName((*name).try_into().unwrap()),
        };
        params.subject_alt_names = says.names.iter().map(name).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let path = |end: &str| self.folder.path().join(format!("{file}.{end}"));
        let issued = Issued { certificate: path("pem"), key: path("key") };
        std::fs::write(&issued.certificate, certificate.pem()).unwrap();
        std::fs::write(&issued.key, key.serialize_pem()).unwrap();
        issued
    }

    /// The identity of a service, from an authority that others know.
    pub(crate) fn identity(&self, service: &str) -> Option<Identity> {
        self.identity_that_says(service, &Says::names(&[&format!("{SHOP}/{service}")]))
    }

    pub(crate) fn identity_that_says(&self, file: &str, says: &Says<'_>) -> Option<Identity> {
        let Issued { certificate, key } = self.issue(file, says);
        Some(Identity { certificate, key, roots: self.roots() })
    }

    /// The certificate of an ordinary server on this machine.
    pub(crate) fn server(&self) -> ServerCertificate {
        let Issued { certificate, key } = self.issue("server", &Says::names(&["localhost", "127.0.0.1"]));
        ServerCertificate { certificate, key }
    }

    /// TLS with an ordinary server that has a certificate of this authority.
    pub(crate) fn on(&self) -> Option<UpstreamTls> {
        Some(UpstreamTls { mode: TlsMode::On, roots: Some(self.roots()), ..UpstreamTls::default() })
    }
}

pub(crate) fn mesh() -> Option<UpstreamTls> {
    Some(UpstreamTls::default())
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// A TLS client that believes every server, and shows a certificate where it has one.
pub(crate) async fn tls(
    address: SocketAddr,
    shows: Option<&Issued>,
    offers: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(Credulous));
    let mut config = match shows {
        None => builder.with_no_client_auth(),
        Some(Issued { certificate, key }) => {
            let chain = CertificateDer::pem_file_iter(certificate).unwrap().map(Result::unwrap).collect();
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap()).unwrap()
        }
    };
    config.alpn_protocols = offers.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(address).await.unwrap();
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await
}

#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// The server's side of a test's own TLS.
pub(crate) fn acceptor(issued: &Issued, speaks: &[&str]) -> tokio_rustls::TlsAcceptor {
    let chain = CertificateDer::pem_file_iter(&issued.certificate).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(&issued.key).unwrap();
    let builder = rustls::ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let mut config = builder.unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = speaks.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    tokio_rustls::TlsAcceptor::from(Arc::new(config))
}

/// What a client begins with that offers these protocols.
pub(crate) fn client_hello(offers: Vec<Vec<u8>>) -> Vec<u8> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(Credulous));
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = offers;
    let name = ServerName::try_from("localhost").unwrap();
    let mut connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut bytes).unwrap();
    }
    bytes
}
