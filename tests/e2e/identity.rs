//! What the log says of certificates.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use serde_json::Value;

use crate::harness::{Program, couplet};

/// A sidecar whose certificate is valid for these years.
fn sidecar(years: (i32, i32)) -> (Program, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "the authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let (mut params, key) = (CertificateParams::default(), KeyPair::generate().unwrap());
    (params.not_before, params.not_after) = (rcgen::date_time_ymd(years.0, 1, 1), rcgen::date_time_ymd(years.1, 1, 1));
    params.subject_alt_names = vec![SanType::URI("spiffe://shop.example/orders".try_into().unwrap())];
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let mut files = String::new();
    for (name, text) in [("certificate", certificate.pem()), ("key", key.serialize_pem()), ("roots", issuer.pem())] {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        files += &format!(" --set tls.identity.{name}={}", path.display());
    }
    let line = format!("proxy --service orders --admin 127.0.0.1:0 --set log.format=json{files}");
    (Program::start(&mut couplet(&line)), folder)
}

fn warning(program: &mut Program, text: &str) -> Value {
    program.says(|line| {
        let event: Value = serde_json::from_str(line).ok()?;
        event["message"].as_str()?.contains(text).then_some(event)
    })
}

#[test]
fn a_certificate_that_ends_soon_or_has_ended_is_in_the_log() {
    // Of 64 years less than a fifth are left.
    let (mut ending, _files) = sidecar((1971, 2035));
    let event = warning(&mut ending, "a TLS certificate ends soon and was not renewed");
    assert_eq!(
        (event["level"].as_str(), event["identity"].as_str()),
        (Some("WARN"), Some("spiffe://shop.example/orders"))
    );
    assert_eq!(event["valid_until"], "2035-01-01 00:00:00 UTC");
    assert!(
        event["hours"].as_u64().unwrap() > 0 && event["file"].as_str().unwrap().ends_with("certificate"),
        "{event}"
    );

    let (mut ended, _files) = sidecar((2020, 2021));
    let event = warning(&mut ended, "a TLS certificate has ended: peers refuse it");
    assert_eq!(
        (event["level"].as_str(), event["valid_until"].as_str()),
        (Some("ERROR"), Some("2021-01-01 00:00:00 UTC"))
    );
    ended.listener("admin");
}
