//! Somebody between a client and a server who has a certificate that both would trust.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::database::spawn;

const SSL_REQUEST: &[u8; 8] = b"\x00\x00\x00\x08\x04\xd2\x16\x2f";

/// How it treats what passes.
#[derive(Clone, Copy)]
pub enum Relay {
    /// As it is.
    Faithful,
    /// The server's offer of SCRAM-SHA-256-PLUS is taken out.
    HidesPlus,
}

impl Relay {
    /// Starts it in front of `server`, whose certificate `roots` signed; its port.
    pub async fn start(self, server: u16, ca: PathBuf, own: (PathBuf, PathBuf)) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (ca, own) = (ca.clone(), own.clone());
                // Whoever gives up closes: that is what is tested.
                spawn(async move { drop(Box::pin(self.pass(client, server, ca, own)).await) });
            }
        });
        port
    }

    async fn pass(
        self,
        mut client: TcpStream,
        server: u16,
        ca: PathBuf,
        (cert, key): (PathBuf, PathBuf),
    ) -> std::io::Result<()> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut request = [0; 8];
        client.read_exact(&mut request).await?;
        assert_eq!(&request, SSL_REQUEST);
        client.write_all(b"S").await?;
        let mut acceptor = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_file(cert).unwrap()],
                PrivateKeyDer::from_pem_file(key).unwrap(),
            )
            .unwrap();
        acceptor.alpn_protocols = vec![b"postgresql".to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(acceptor));
        let mut client = acceptor.accept(client).await?;

        let mut upstream = TcpStream::connect(("127.0.0.1", server)).await?;
        upstream.write_all(SSL_REQUEST).await?;
        assert_eq!(upstream.read_u8().await?, b'S');
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
        let connector = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(connector));
        let name = ServerName::try_from("localhost").unwrap();
        let mut upstream = connector.connect(name, upstream).await?;

        if matches!(self, Self::HidesPlus) {
            // The start-up packet, and the server's offer.
            let len = client.read_u32().await?;
            let mut startup = vec![0; len as usize - 4];
            client.read_exact(&mut startup).await?;
            upstream.write_all(&[&len.to_be_bytes()[..], &startup].concat()).await?;
            assert_eq!(upstream.read_u8().await?, b'R');
            let mut offer = vec![0; upstream.read_u32().await? as usize - 4];
            upstream.read_exact(&mut offer).await?;
            assert_eq!(offer, b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0");
            client.write_all(b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0").await?;
        }
        copy_bidirectional(&mut client, &mut upstream).await.map(drop)
    }
}
