//! The files: what stands in them, and what is wrong with them.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use couplet_config::{Outbound, SpiffeId, Tls, TlsMode};
use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use webpki::{EndEntityCert, KeyUsage};
use xxhash_rust::xxh3::Xxh3;

use super::verify::explained;

/// Largest file that is read.
const LARGEST: u64 = 1024 * 1024;

/// The content of every file that the configuration names, as of one moment.
pub(super) struct Files(Vec<File>);

struct File {
    path: PathBuf,
    content: Result<Vec<u8>, String>,
    /// Whether it is a key that every user can read.
    open_key: bool,
}

/// A certificate chain with its key.
pub(super) struct Pair {
    pub(super) certified: Arc<CertifiedKey>,
    pub(super) not_before: u64,
    pub(super) not_after: u64,
}

impl Pair {
    /// Whether the chain leads to one of these roots. Asked as of its first second: that it has ended since is said
    /// elsewhere, and is no reason not to start.
    ///
    /// # Errors
    /// Why it does not.
    pub(super) fn issued_by(&self, roots: &RootCertStore, provider: &CryptoProvider) -> Result<(), String> {
        let algorithms = provider.signature_verification_algorithms.all;
        let Some((first, others)) = self.certified.cert.split_first() else { return Ok(()) };
        let then = UnixTime::since_unix_epoch(Duration::from_secs(self.not_before));
        let path = ParsedCertificate::try_from(first)
            .and_then(|parsed| verify_server_cert_signed_by_trust_anchor(&parsed, roots, others, then, algorithms));
        path.map_err(|error| explained(&error).1)
    }
}

impl Files {
    /// Reads all of them.
    pub(super) fn read(config: &Tls, outbound: &[Outbound]) -> Self {
        let identity = config
            .identity
            .iter()
            .flat_map(|files| [(&files.certificate, false), (&files.key, true), (&files.roots, false)]);
        let server = config.server.iter().flat_map(|files| [(&files.certificate, false), (&files.key, true)]);
        let roots = outbound.iter().filter_map(|to| to.tls.as_ref().filter(|tls| tls.mode == TlsMode::On));
        let roots = roots.filter_map(|tls| Some((tls.roots.as_ref()?, false)));
        Self(identity.chain(server).chain(roots).map(|(path, is_key)| File::read(path, is_key)).collect())
    }

    /// Reads this one, which is no key.
    pub(super) fn one(path: &Path) -> Self {
        Self(vec![File::read(path, false)])
    }

    /// Tells one content from another.
    pub(super) fn digest(&self) -> u128 {
        let mut hash = Xxh3::new();
        for file in &self.0 {
            let (mark, bytes): (u8, &[u8]) = match &file.content {
                Ok(bytes) => (1, bytes),
                Err(problem) => (0, problem.as_bytes()),
            };
            hash.update(&[mark]);
            hash.update(&(bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        }
        hash.digest128()
    }

    /// Private keys that every user of the machine can read.
    pub(super) fn open_keys(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().filter(|file| file.open_key).map(|file| file.path.as_path())
    }

    /// A chain and its key.
    ///
    /// # Errors
    /// Every problem of both files.
    pub(super) fn pair(&self, chain: &Path, key: &Path, provider: &CryptoProvider) -> Result<Pair, Vec<String>> {
        let (certificates, private) = match (self.certificates(chain), self.key(key)) {
            (Ok(certificates), Ok(private)) => (certificates, private),
            (one, other) => return Err(one.err().into_iter().chain(other.err()).collect()),
        };
        let mut validity = (0, u64::MAX);
        for certificate in &certificates {
            let (from, until) = valid(certificate).map_err(|why| vec![named(chain, &why)])?;
            validity = (validity.0.max(from), validity.1.min(until));
        }
        match CertifiedKey::from_der(certificates, private, provider) {
            Ok(certified) => Ok(Pair { certified: Arc::new(certified), not_before: validity.0, not_after: validity.1 }),
            Err(rustls::Error::InconsistentKeys(_)) => {
                Err(vec![named(key, &format!("is not the key of the certificate in {}", chain.display()))])
            }
            Err(error) => Err(vec![named(key, &format!("holds a key that cannot be used: {error}"))]),
        }
    }

    /// Certificates that others may be issued by.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub(super) fn roots(&self, path: &Path) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates(path)? {
            roots
                .add(certificate)
                .map_err(|error| named(path, &format!("holds what is no root certificate: {error}")))?;
        }
        Ok(roots)
    }

    fn certificates(&self, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
        let bytes = self.content(path)?;
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
        match certificates {
            Ok(certificates) if certificates.is_empty() => {
                Err(named(path, "holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)"))
            }
            Ok(certificates) => Ok(certificates),
            Err(error) => Err(named(path, &format!("is no PEM file: {error}"))),
        }
    }

    fn key(&self, path: &Path) -> Result<PrivateKeyDer<'static>, String> {
        let bytes = self.content(path)?;
        let encrypted = memchr::memmem::find(bytes, b"ENCRYPTED").is_some();
        // The error is not repeated: it may hold a part of the key.
        PrivateKeyDer::from_pem_slice(bytes).map_err(|_| match encrypted {
            true => named(path, "is encrypted; a key without a password is needed"),
            false => named(path, "holds no private key in PEM form (-----BEGIN PRIVATE KEY-----)"),
        })
    }

    fn content(&self, path: &Path) -> Result<&[u8], String> {
        let file = self.0.iter().find(|file| file.path == path);
        match file.map(|file| &file.content) {
            Some(Ok(bytes)) => Ok(bytes),
            Some(Err(problem)) => Err(problem.clone()),
            None => Err(named(path, "was not read")),
        }
    }
}

impl File {
    fn read(path: &Path, is_key: bool) -> Self {
        let read = || -> io::Result<(Vec<u8>, bool)> {
            let file = std::fs::File::open(path)?;
            let open_key = is_key && readable_by_all(&file.metadata()?);
            let mut bytes = Vec::new();
            file.take(LARGEST + 1).read_to_end(&mut bytes)?;
            Ok((bytes, open_key))
        };
        let (content, open_key) = match read() {
            Ok((bytes, _)) if bytes.len() as u64 > LARGEST => (Err(named(path, "is larger than 1 MiB")), false),
            Ok((bytes, open_key)) => (Ok(bytes), open_key),
            Err(error) => (Err(named(path, &unreadable(&error))), false),
        };
        Self { path: path.to_owned(), content, open_key }
    }
}

fn readable_by_all(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    metadata.permissions().mode() & 0o004 != 0
}

fn unreadable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "this user may not read the file".to_owned(),
        io::ErrorKind::IsADirectory => "is a directory, not a file".to_owned(),
        _ => format!("cannot be read: {error}"),
    }
}

fn named(path: &Path, problem: &str) -> String {
    format!("{}: {problem}", path.display())
}

/// From when until when a certificate is valid, in seconds since 1970. webpki gives these times only with a refusal:
/// asked about the first and the last of all seconds, it refuses every certificate.
fn valid(certificate: &CertificateDer<'_>) -> Result<(u64, u64), String> {
    let parsed =
        EndEntityCert::try_from(certificate).map_err(|error| format!("holds what is no certificate: {error}"))?;
    let refusal = |second| {
        let time = UnixTime::since_unix_epoch(Duration::from_secs(second));
        parsed.verify_for_usage(&[], &[], &[], time, KeyUsage::server_auth(), None, None).err()
    };
    match (refusal(0), refusal(u64::MAX)) {
        (
            Some(webpki::Error::CertNotValidYet { not_before, .. }),
            Some(webpki::Error::CertExpired { not_after, .. }),
        ) => Ok((not_before.as_secs(), not_after.as_secs())),
        _ => Err("holds a certificate that is valid at no time".to_owned()),
    }
}

/// The one SPIFFE ID of a certificate.
///
/// # Errors
/// Why there is none, or not one alone.
pub(super) fn spiffe_id(certificate: &CertificateDer<'_>) -> Result<SpiffeId, String> {
    let parsed = EndEntityCert::try_from(certificate).map_err(|error| error.to_string())?;
    let mut names = parsed.valid_uri_names();
    match (names.next(), names.next()) {
        (Some(name), None) => SpiffeId::parse(name),
        (None, _) => Err("the certificate has no SPIFFE ID (a URI among its alternative names)".to_owned()),
        // SPIFFE X.509-SVID, section 2: exactly one URI.
        (Some(_), Some(_)) => Err("the certificate has more than one URI among its alternative names".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn certificate(names: &[&str]) -> (CertificateDer<'static>, KeyPair) {
        let (mut params, key) = (CertificateParams::default(), KeyPair::generate().unwrap());
        params.subject_alt_names = names.iter().map(|name| SanType::URI((*name).try_into().unwrap())).collect();
        (params.self_signed(&key).unwrap().der().clone(), key)
    }

    #[test]
    fn an_identity_is_the_only_uri_of_a_certificate() {
        let id = |names: &[&str]| spiffe_id(&certificate(names).0);
        assert_eq!(id(&["spiffe://shop/orders"]).unwrap().as_str(), "spiffe://shop/orders");
        assert!(id(&[]).unwrap_err().contains("no SPIFFE ID"));
        assert!(id(&["https://shop/orders"]).unwrap_err().contains("begins with spiffe://"));
        assert!(id(&["spiffe://shop/orders", "spiffe://shop/payments"]).unwrap_err().contains("more than one"));
    }

    #[test]
    fn a_key_that_everybody_can_read_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.key");
        std::fs::write(&path, "key").unwrap();
        for (mode, open) in [(0o644, true), (0o640, false), (0o600, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(Files(vec![File::read(&path, true)]).open_keys().count(), usize::from(open), "{mode:o}");
            assert_eq!(Files(vec![File::read(&path, false)]).open_keys().count(), 0, "a certificate is no secret");
        }
    }

    #[test]
    fn a_key_that_cannot_be_used_is_told_why_and_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let (chain, key) = (folder.path().join("a.pem"), folder.path().join("a.key"));
        let (_, other) = certificate(&[]);
        std::fs::write(&chain, rcgen::generate_simple_self_signed(vec!["a".to_owned()]).unwrap().cert.pem()).unwrap();
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\naHVudGVyMg==\n-----END ENCRYPTED PRIVATE KEY-----\n";
        for (text, why) in [
            (other.serialize_pem().as_str(), "is not the key of the certificate in"),
            (encrypted, "is encrypted"),
            ("hunter2", "holds no private key"),
        ] {
            std::fs::write(&key, text).unwrap();
            let files = Files(vec![File::read(&chain, false), File::read(&key, true)]);
            let problems = files.pair(&chain, &key, &rustls::crypto::ring::default_provider()).err().unwrap();
            assert!(problems.len() == 1 && problems[0].contains(why), "{problems:?}");
            assert!(problems[0].contains("a.key") && !problems[0].contains("hunter2"));
        }
    }

    #[test]
    fn the_time_of_a_certificate_is_read() {
        let (mut params, key) = (CertificateParams::default(), KeyPair::generate().unwrap());
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2050, 1, 1);
        let certificate = params.self_signed(&key).unwrap();
        assert_eq!(valid(certificate.der()), Ok((1_577_836_800, 2_524_608_000)));
    }
}
