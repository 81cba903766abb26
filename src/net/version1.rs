//! Certificates of X.509 version 1, as PostgreSQL's manual makes them: rustls' parser takes none.
//!
//! Where nothing is checked of a certificate (libpq's `prefer` and `require`), or it is our own, its key is all that is
//! needed. What is to be verified has to be of version 3: version 1 says nothing of what a certificate is for.
//!
//! <https://www.postgresql.org/docs/current/ssl-tcp.html#SSL-CERTIFICATE-CREATION>

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, Error, InconsistentKeys};
use x509_parser::certificate::X509Certificate;
use x509_parser::parse_x509_certificate;
use x509_parser::x509::X509Version;

/// What to do about one that is to be verified.
const VERSION_3: &str = "it is of X.509 version 1, which cannot be verified; issue one of version 3, \
     for instance by openssl x509 -req -extfile with a subjectAltName";

fn version_1<'a>(certificate: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    let (_, parsed) = parse_x509_certificate(certificate).ok()?;
    (parsed.version() == X509Version::V1).then_some(parsed)
}

/// Refuses one by name.
pub(super) fn refuse(certificate: &CertificateDer<'_>) -> Result<(), Error> {
    match version_1(certificate) {
        Some(_) => Err(Error::General(format!("the peer's certificate: {VERSION_3}"))),
        None => Ok(()),
    }
}

/// A certificate of our own and its key, which must be that of the certificate.
pub(super) fn certified(
    provider: &CryptoProvider,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, Error> {
    let certified = CertifiedKey::new(chain, provider.key_provider.load_private_key(key)?);
    let matches = match certified.cert.first().and_then(version_1) {
        None => certified.keys_match(),
        Some(first) => match certified.key.public_key() {
            None => Ok(()),
            Some(own) if *own == *first.public_key().raw => Ok(()),
            Some(_) => Err(InconsistentKeys::KeyMismatch.into()),
        },
    };
    match matches {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(error) => Err(error),
    }
}

/// Whether the handshake was signed by the certificate's key; `None` if it is of a newer version.
pub(super) fn verify_signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    provider: &CryptoProvider,
) -> Option<Result<HandshakeSignatureValid, Error>> {
    let parsed = version_1(certificate)?;
    let key = SubjectPublicKeyInfoDer::from(parsed.public_key().raw);
    let algorithms = &provider.signature_verification_algorithms;
    Some(verify_tls13_signature_with_raw_key(message, &key, signed, algorithms))
}
