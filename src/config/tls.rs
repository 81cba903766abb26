//! `[tls.client]` and `[tls.server]`.

use std::path::PathBuf;

use super::read::Section;

/// `mode`: libpq's `sslmode` words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsMode {
    /// Never.
    Disable,
    /// If the other side wants it.
    Prefer,
    /// Always; certificates are not checked.
    Require,
    /// Always; the certificate must come from `ca`.
    VerifyCa,
    /// Always; the certificate must also carry the right name: the server's host, the client's user.
    VerifyFull,
}

/// Towards clients.
#[derive(Debug, Clone)]
pub struct ClientTls {
    /// What is asked of clients.
    pub mode: TlsMode,
    /// Certificate chain (PEM).
    pub cert: Option<PathBuf>,
    /// Private key (PEM).
    pub key: Option<PathBuf>,
    /// Who signs client certificates (PEM).
    pub ca: Option<PathBuf>,
}

/// Towards PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTls {
    /// What is asked of servers.
    pub mode: TlsMode,
    /// Who signs server certificates (PEM).
    pub ca: Option<PathBuf>,
    /// The pooler's own certificate (PEM), if PostgreSQL asks for one.
    pub cert: Option<PathBuf>,
    /// Its private key (PEM).
    pub key: Option<PathBuf>,
}

fn mode(section: &Section<'_>) -> Option<TlsMode> {
    let expected = "disable, prefer, require, verify-ca or verify-full";
    section.get("mode", expected, |value| match value.as_str()? {
        "disable" => Some(TlsMode::Disable),
        "prefer" => Some(TlsMode::Prefer),
        "require" => Some(TlsMode::Require),
        "verify-ca" => Some(TlsMode::VerifyCa),
        "verify-full" => Some(TlsMode::VerifyFull),
        _ => None,
    })
}

fn both_or_none(section: &Section<'_>, cert: Option<&PathBuf>, key: Option<&PathBuf>) {
    match (cert, key) {
        (Some(_), None) => section.fault("key", "required when cert is given"),
        (None, Some(_)) => section.fault("cert", "required when key is given"),
        (Some(_), Some(_)) | (None, None) => {}
    }
}

pub(super) fn client(section: Section<'_>) -> ClientTls {
    let (cert, key, ca) = (section.path("cert"), section.path("key"), section.path("ca"));
    let mode = mode(&section).unwrap_or(match cert {
        Some(_) => TlsMode::Prefer,
        None => TlsMode::Disable,
    });
    both_or_none(&section, cert.as_ref(), key.as_ref());
    if mode > TlsMode::Disable && cert.is_none() && key.is_none() {
        section.fault("cert", "required unless mode is \"disable\"");
    }
    if mode >= TlsMode::VerifyCa && ca.is_none() {
        section.fault("ca", "required to check client certificates");
    }
    section.finish();
    ClientTls { mode, cert, key, ca }
}

pub(super) fn server(section: Section<'_>) -> ServerTls {
    let (ca, cert, key) = (section.path("ca"), section.path("cert"), section.path("key"));
    let mode = mode(&section).unwrap_or(TlsMode::Prefer);
    both_or_none(&section, cert.as_ref(), key.as_ref());
    if mode >= TlsMode::VerifyCa && ca.is_none() {
        section.fault("ca", "required to check the server's certificate");
    }
    section.finish();
    ServerTls { mode, ca, cert, key }
}
