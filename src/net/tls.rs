//! rustls towards clients and servers, with libpq's modes.

use std::io;
use std::path::Path;
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig,
    SignatureScheme,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::end_point::end_point;
use super::stream::Stream;
use super::version1;
use crate::config::{ClientTls, ServerTls, TlsMode};
use crate::engine::Socket;

/// The protocol's name in ALPN; direct TLS demands it.
///
/// <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL>
const ALPN: &[u8] = b"postgresql";

/// Why TLS could not be set up or agreed on.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing or holds no PEM of the right kind.
    #[error("could not read {path}: {problem}")]
    File {
        /// Its path.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// rustls refused the material.
    #[error("{0}")]
    Rustls(#[from] rustls::Error),
    /// The handshake failed.
    #[error("{0}")]
    Handshake(#[from] io::Error),
    /// The host is neither a name nor an address.
    #[error("{0:?} is no host name a certificate can be checked against")]
    Host(String),
}

fn file_error(path: &Path, problem: impl ToString) -> TlsError {
    TlsError::File { path: path.display().to_string(), problem: problem.to_string() }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| file_error(path, error))?;
    if certificates.is_empty() {
        Err(file_error(path, "no certificate in it"))
    } else {
        Ok(certificates)
    }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| file_error(path, error))
}

fn roots(path: &Path) -> Result<Arc<RootCertStore>, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(path)? {
        store.add(certificate)?;
    }
    Ok(Arc::new(store))
}

/// TLS towards clients.
#[derive(Clone)]
pub struct Acceptor {
    mode: TlsMode,
    tls: Option<TlsAcceptor>,
    certificate: Option<CertificateDer<'static>>,
}

impl Acceptor {
    /// Reads the files that `[tls.client]` names.
    ///
    /// # Errors
    /// [`TlsError`] with the file's name.
    pub fn new(config: &ClientTls) -> Result<Self, TlsError> {
        let (Some(cert), Some(key_file)) = (&config.cert, &config.key) else {
            return Ok(Self { mode: config.mode, tls: None, certificate: None });
        };
        if config.mode == TlsMode::Disable {
            return Ok(Self { mode: config.mode, tls: None, certificate: None });
        }
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let builder = match &config.ca {
            Some(ca) if config.mode >= TlsMode::VerifyCa => {
                let verifier = WebPkiClientVerifier::builder_with_provider(roots(ca)?, provider)
                    .build()
                    .map_err(|error| file_error(ca, error))?;
                builder.with_client_cert_verifier(verifier)
            }
            _ => builder.with_no_client_auth(),
        };
        let chain = certificates(cert)?;
        let certificate = chain.first().cloned();
        let own = version1::certified(builder.crypto_provider(), chain, key(key_file)?)?;
        let mut server = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
        server.alpn_protocols = vec![ALPN.to_vec()];
        let tls = Some(TlsAcceptor::from(Arc::new(server)));
        Ok(Self { mode: config.mode, tls, certificate })
    }

    /// The certificate that clients see, in DER.
    #[must_use]
    pub fn certificate(&self) -> Option<&[u8]> {
        self.certificate.as_deref()
    }

    /// What is asked of clients.
    #[must_use]
    pub const fn mode(&self) -> TlsMode {
        self.mode
    }

    /// Whether TLS can be offered.
    #[must_use]
    pub const fn is_available(&self) -> bool {
        self.tls.is_some()
    }

    /// The handshake with a client.
    ///
    /// # Errors
    /// [`TlsError::Handshake`]; the connection is closed.
    pub async fn accept(&self, tcp: Socket<TcpStream>) -> Result<Stream, TlsError> {
        let Some(tls) = &self.tls else {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "TLS is not configured").into());
        };
        let stream = tls.accept(tcp).await?;
        Ok(Stream::Tls(Box::new(TlsStream::Server(stream))))
    }
}

impl Stream {
    /// The host name of a client's handshake.
    #[must_use]
    pub fn sni(&self) -> Option<&str> {
        match self {
            Self::Tls(tls) => match &**tls {
                TlsStream::Server(server) => server.get_ref().1.server_name(),
                TlsStream::Client(_) => None,
            },
            Self::Tcp(_) | Self::Unix(_) => None,
        }
    }

    /// Whether the client named our protocol in its handshake.
    #[must_use]
    pub fn agreed_on_alpn(&self) -> bool {
        match self {
            Self::Tls(tls) => tls.get_ref().1.alpn_protocol() == Some(ALPN),
            Self::Tcp(_) | Self::Unix(_) => false,
        }
    }

    /// `tls-server-end-point` of the server at the other end, for channel binding.
    #[must_use]
    pub fn server_end_point(&self) -> Option<Vec<u8>> {
        let Self::Tls(tls) = self else { return None };
        match &**tls {
            TlsStream::Client(client) => {
                end_point(client.get_ref().1.peer_certificates()?.first()?)
            }
            TlsStream::Server(_) => None,
        }
    }

    /// The common name in the client's certificate.
    #[must_use]
    pub fn client_common_name(&self) -> Option<String> {
        let Self::Tls(tls) = self else { return None };
        let leaf = tls.get_ref().1.peer_certificates()?.first()?;
        let (_, certificate) = x509_parser::parse_x509_certificate(leaf).ok()?;
        let name = certificate.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
        Some(name)
    }
}

/// TLS towards PostgreSQL.
#[derive(Clone)]
pub struct Connector {
    mode: TlsMode,
    tls: TlsConnector,
}

impl Connector {
    /// Reads the files that `[tls.server]` names.
    ///
    /// # Errors
    /// [`TlsError`] with the file's name.
    pub fn new(config: &ServerTls) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let roots = match &config.ca {
            Some(ca) if config.mode >= TlsMode::VerifyCa => Some(roots(ca)?),
            _ => None,
        };
        let check = match roots {
            None => Check::Nothing,
            Some(roots) if config.mode == TlsMode::VerifyCa => Check::Chain(roots),
            Some(roots) => {
                let verifier =
                    WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
                Check::Full(verifier.build().map_err(|e| rustls::Error::General(e.to_string()))?)
            }
        };
        let verifier = Verifier { check, provider: Arc::clone(&provider) };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut client = match (&config.cert, &config.key) {
            (Some(cert), Some(key_file)) => {
                let (chain, key) = (certificates(cert)?, key(key_file)?);
                let own = version1::certified(builder.crypto_provider(), chain, key)?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own)))
            }
            _ => builder.with_no_client_auth(),
        };
        client.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self { mode: config.mode, tls: TlsConnector::from(Arc::new(client)) })
    }

    /// What is asked of servers.
    #[must_use]
    pub const fn mode(&self) -> TlsMode {
        self.mode
    }

    pub(super) async fn connect(
        &self,
        host: &str,
        tcp: Socket<TcpStream>,
    ) -> Result<Stream, TlsError> {
        let name =
            ServerName::try_from(host.to_owned()).map_err(|_| TlsError::Host(host.to_owned()))?;
        let stream = self.tls.connect(name, tcp).await?;
        Ok(Stream::Tls(Box::new(TlsStream::Client(stream))))
    }
}

/// What is checked of a server's certificate: libpq's `require`, `verify-ca`, `verify-full`.
#[derive(Debug)]
enum Check {
    Nothing,
    Chain(Arc<RootCertStore>),
    Full(Arc<WebPkiServerVerifier>),
}

#[derive(Debug)]
struct Verifier {
    check: Check,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if !matches!(self.check, Check::Nothing) {
            version1::refuse(leaf)?;
        }
        match &self.check {
            Check::Nothing => Ok(ServerCertVerified::assertion()),
            Check::Chain(roots) => {
                let leaf = ParsedCertificate::try_from(leaf).map_err(|_| {
                    rustls::Error::InvalidCertificate(CertificateError::BadEncoding)
                })?;
                let algorithms = self.provider.signature_verification_algorithms.all;
                verify_server_cert_signed_by_trust_anchor(
                    &leaf,
                    roots,
                    intermediates,
                    now,
                    algorithms,
                )?;
                Ok(ServerCertVerified::assertion())
            }
            Check::Full(full) => full.verify_server_cert(leaf, intermediates, name, ocsp, now),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        let old = version1::verify_signature(message, cert, dss, &self.provider);
        old.unwrap_or_else(|| verify_tls13_signature(message, cert, dss, algorithms))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
