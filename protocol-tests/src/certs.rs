//! Certificates made for one test.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// An authority, and certificates it signed, as PEM files in a directory.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub ca: PathBuf,
    directory: PathBuf,
}

impl Authority {
    #[must_use]
    pub fn new(directory: &Path, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&key).unwrap();
        let ca = directory.join(format!("{name}.crt"));
        std::fs::write(&ca, certificate.pem()).unwrap();
        Self { issuer: Issuer::new(params, key), ca, directory: directory.to_owned() }
    }

    /// A certificate for a common name that is also a host name: `(certificate, key)`.
    #[must_use]
    pub fn sign(&self, name: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let paths = (
            self.directory.join(format!("{name}.crt")),
            self.directory.join(format!("{name}.key")),
        );
        std::fs::write(&paths.0, certificate.pem()).unwrap();
        std::fs::write(&paths.1, key.serialize_pem()).unwrap();
        paths
    }
}

/// A certificate that signs itself, for `localhost`, made by openssl: `kind` are words of `openssl req`.
#[must_use]
pub fn self_signed(directory: &Path, kind: &str) -> (PathBuf, PathBuf) {
    let paths = (directory.join("self.crt"), directory.join("self.key"));
    let mut openssl = std::process::Command::new("openssl");
    openssl.args(["req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=localhost"]);
    openssl.args(kind.split(' ')).arg("-out").arg(&paths.0).arg("-keyout").arg(&paths.1);
    let output = openssl.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    paths
}

/// One of X.509 version 1, for `localhost`, as PostgreSQL's manual makes them: a request, signed without extensions.
#[must_use]
pub fn version_1(directory: &Path, algorithm: &str) -> (PathBuf, PathBuf) {
    let paths = (directory.join("v1.crt"), directory.join("v1.key"));
    let request = directory.join("v1.csr");
    let run = |command: &mut std::process::Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let openssl = || std::process::Command::new("openssl");
    let kind = ["req", "-new", "-nodes", "-subj", "/CN=localhost"];
    run(openssl()
        .args(kind)
        .args(algorithm.split(' '))
        .arg("-out")
        .arg(&request)
        .arg("-keyout")
        .arg(&paths.1));
    let signed = ["x509", "-req", "-days", "2"];
    run(openssl()
        .args(signed)
        .arg("-in")
        .arg(&request)
        .arg("-signkey")
        .arg(&paths.1)
        .arg("-out")
        .arg(&paths.0));
    let text = run(openssl().args(["x509", "-noout", "-text", "-in"]).arg(&paths.0));
    assert!(text.contains("Version: 1 "), "{text}");
    paths
}
