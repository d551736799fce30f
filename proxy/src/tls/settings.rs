//! What handshakes need, made of the files.

use std::path::PathBuf;
use std::sync::Arc;

use couplet_config::{Identity, Outbound, ServerCertificate, SpiffeId, Tls, TlsMode, UpstreamTls};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::credentials::{Files, Pair, spiffe_id};
use super::join::{END_OF_LINE, TUNNEL};
use super::verify::MeshVerifier;
use super::{HTTP1, HTTP2, MESH};

/// Everything that the files gave.
pub(crate) struct Settings {
    /// For other sidecars.
    pub(super) mesh: Option<Arc<ServerConfig>>,
    /// For everybody else.
    pub(super) server: Option<Arc<ServerConfig>>,
    /// One for each outbound listener that speaks TLS to its destination, in the order of the configuration.
    pub(super) clients: Vec<Option<Arc<ClientConfig>>>,
    /// For whoever answers at an address that nobody has configured.
    pub(super) tunnel: Option<Arc<ClientConfig>>,
    certificates: Vec<Certificate>,
}

/// A certificate of the own.
pub(super) struct Certificate {
    /// What it is for.
    pub(super) what: &'static str,
    pub(super) file: PathBuf,
    pub(super) id: Option<SpiffeId>,
    /// In seconds since 1970.
    pub(super) not_before: u64,
    pub(super) not_after: u64,
}

/// The own identity, ready for use.
struct Mesh {
    pair: Pair,
    roots: Arc<RootCertStore>,
    trust_domains: Vec<String>,
    id: SpiffeId,
}

impl Settings {
    /// # Errors
    /// Everything that is wrong with the files.
    pub(super) fn new(files: &Files, config: &Tls, outbound: &[Outbound]) -> Result<Self, Vec<String>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut problems = Vec::new();
        let mut kept = |problem: Vec<String>| problems.extend(problem);
        let identity = config.identity.as_ref();
        let mesh = identity.and_then(|files_of| Mesh::new(files, files_of, config, &provider).map_err(&mut kept).ok());
        let server = config.server.as_ref().and_then(|of| server(files, of, &provider).map_err(&mut kept).ok());
        let mut system = None;
        let clients = outbound.iter().map(|to| {
            let tls = to.tls.as_ref()?;
            let client = match tls.mode {
                TlsMode::Mesh => mesh.as_ref().map(|mesh| mesh.client(tls.identity.clone(), &provider))?,
                TlsMode::On => client(files, tls, &provider, &mut system),
            };
            client.map(Arc::new).map_err(&mut kept).ok()
        });
        let clients = clients.collect();
        let accepting = mesh.as_ref().and_then(|mesh| mesh.server(&provider).map_err(&mut kept).ok());
        let tunnel = mesh.as_ref().and_then(|mesh| mesh.client(None, &provider).map_err(&mut kept).ok());
        let tunnel = tunnel.map(|mut tunnel| {
            tunnel.alpn_protocols = [TUNNEL, MESH, END_OF_LINE].map(<[u8]>::to_vec).to_vec();
            Arc::new(tunnel)
        });
        let mut certificates = Vec::new();
        if let (Some(mesh), Some(of)) = (&mesh, identity) {
            certificates.push(Certificate::of("identity", &of.certificate, Some(mesh.id.clone()), &mesh.pair));
        }
        if let (Some((_, pair)), Some(of)) = (&server, &config.server) {
            certificates.push(Certificate::of("server", &of.certificate, None, pair));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let server = server.map(|(config, _)| Arc::new(config));
        Ok(Self { mesh: accepting.map(Arc::new), server, clients, tunnel, certificates })
    }

    pub(super) fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        self.certificates.iter()
    }

    /// Whether anything here came from a file.
    pub(super) fn has_files(&self) -> bool {
        self.clients.iter().any(Option::is_some)
    }
}

impl Certificate {
    fn of(what: &'static str, file: &std::path::Path, id: Option<SpiffeId>, pair: &Pair) -> Self {
        Self { what, file: file.to_owned(), id, not_before: pair.not_before, not_after: pair.not_after }
    }
}

impl Mesh {
    fn new(files: &Files, of: &Identity, config: &Tls, provider: &CryptoProvider) -> Result<Self, Vec<String>> {
        let roots = files.roots(&of.roots);
        let pair = match (files.pair(&of.certificate, &of.key, provider), roots) {
            (Ok(pair), Ok(roots)) => (pair, roots),
            (pair, roots) => return Err(pair.err().into_iter().flatten().chain(roots.err()).collect()),
        };
        let (pair, roots) = pair;
        let id = pair.certified.end_entity_cert().map_err(|error| error.to_string()).and_then(spiffe_id);
        let id = id.map_err(|why| vec![format!("{}: {why}", of.certificate.display())])?;
        let known = pair.issued_by(&roots, provider).map_err(|why| {
            let (certificate, roots) = (of.certificate.display(), of.roots.display());
            vec![format!("{certificate}: other sidecars with the roots of {roots} would refuse it: {why}")]
        });
        known?;
        let mut trust_domains = config.trust_domains.clone();
        if trust_domains.is_empty() {
            trust_domains.push(id.trust_domain().to_owned());
        }
        Ok(Self { pair, roots: Arc::new(roots), trust_domains, id })
    }

    fn verifier(
        &self,
        expected: Option<SpiffeId>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<MeshVerifier>, Vec<String>> {
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::clone(&self.roots), Arc::clone(provider));
        let clients = clients.build().map_err(|error| vec![error.to_string()])?;
        Ok(Arc::new(MeshVerifier {
            roots: Arc::clone(&self.roots),
            clients,
            provider: Arc::clone(provider),
            trust_domains: self.trust_domains.clone(),
            expected,
        }))
    }

    /// Both sides show their certificates anew on every connection: connections between sidecars are kept, and a
    /// session that is resumed would outlive the certificate that it was opened with.
    fn server(&self, provider: &Arc<CryptoProvider>) -> Result<ServerConfig, Vec<String>> {
        let builder = ServerConfig::builder_with_provider(Arc::clone(provider)).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| vec![error.to_string()])?;
        let mut config = builder
            .with_client_cert_verifier(self.verifier(None, provider)?)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&self.pair.certified))));
        config.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec(), TUNNEL.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    fn client(&self, expected: Option<SpiffeId>, provider: &Arc<CryptoProvider>) -> Result<ClientConfig, Vec<String>> {
        let builder = ClientConfig::builder_with_provider(Arc::clone(provider)).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| vec![error.to_string()])?;
        let mut config = builder
            .dangerous()
            .with_custom_certificate_verifier(self.verifier(expected, provider)?)
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&self.pair.certified))));
        config.enable_sni = false; // Nobody is addressed by a host name.
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

fn server(
    files: &Files,
    of: &ServerCertificate,
    provider: &Arc<CryptoProvider>,
) -> Result<(ServerConfig, Pair), Vec<String>> {
    let pair = files.pair(&of.certificate, &of.key, provider)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider)).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| vec![error.to_string()])?;
    let mut config =
        builder.with_no_client_auth().with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&pair.certified))));
    config.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
    Ok((config, pair))
}

/// Towards an ordinary server. `system` keeps the roots of the system, which are read at most once.
fn client(
    files: &Files,
    tls: &UpstreamTls,
    provider: &Arc<CryptoProvider>,
    system: &mut Option<Arc<RootCertStore>>,
) -> Result<ClientConfig, Vec<String>> {
    let roots = match &tls.roots {
        Some(path) => Arc::new(files.roots(path).map_err(|problem| vec![problem])?),
        None => Arc::clone(system.get_or_insert_with(|| Arc::new(system_roots()))),
    };
    ordinary(roots, provider)
}

/// Towards a server whose certificate one of these has issued.
pub(super) fn ordinary(roots: Arc<RootCertStore>, provider: &Arc<CryptoProvider>) -> Result<ClientConfig, Vec<String>> {
    if roots.is_empty() {
        return Err(vec!["this system has no root certificates; name a file with `roots`".to_owned()]);
    }
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider)).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| vec![error.to_string()])?;
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider)).build();
    let verifier = verifier.map_err(|error| vec![error.to_string()])?;
    Ok(builder.with_webpki_verifier(verifier).with_no_client_auth())
}

/// Those of the system, since who runs it decides whom it trusts, and keeps that list fresh. Single ones that cannot be
/// read are passed over.
pub(super) fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}
