//! TLS configuration and trusted certificates.
//!
//! The system's certificates are loaded once per process, by the first TLS connection.
//! Plain HTTP, Unix sockets and the `local` network work on a machine without
//! certificates.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use reqwest::{ClientBuilder, Url};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use walgit_durable::read_regular;

/// Largest file of certificates, in bytes.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// The file of `[net] ca` cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
#[error("certificates in {}: {why}; see [net] ca in the config file", path.display())]
pub struct BadCertificates {
    path: PathBuf,
    why: String,
}

/// No certificate authority is known, so no server can be verified.
#[derive(Debug, Clone, thiserror::Error)]
#[error("no CA certificates: install ca-certificates or set SSL_CERT_FILE{0}")]
pub struct NoCertificates(String);

/// TLS configuration of clients: the system's certificates, and those of one file. Cheap
/// to clone; clones share the loaded certificates.
#[derive(Clone, Debug)]
pub struct Tls {
    config: ClientConfig,
    verifier: Arc<LazyVerifier>,
}

impl Tls {
    /// Trusts the system's certificates, which `SSL_CERT_FILE` and `SSL_CERT_DIR` can
    /// override.
    pub fn system() -> Self {
        static SYSTEM_TLS: OnceLock<Tls> = OnceLock::new();
        SYSTEM_TLS.get_or_init(|| Tls::with(Vec::new())).clone()
    }

    /// Trusts the certificates of a PEM file as well. The file is read once, here.
    pub fn trusting(ca: Option<&Path>) -> Result<Self, BadCertificates> {
        let Some(path) = ca else {
            return Ok(Tls::system());
        };
        let bad = |why: String| BadCertificates {
            path: path.into(),
            why,
        };
        let text = read_regular(path, MAX_FILE_BYTES).map_err(|error| bad(error.to_string()))?;
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        let found = found.map_err(|error| bad(error.to_string()))?;
        if found.is_empty() {
            return Err(bad("there are none in it".into()));
        }
        let mut roots = RootCertStore::empty();
        for certificate in &found {
            roots
                .add(certificate.clone())
                .map_err(|error| bad(error.to_string()))?;
        }
        Ok(Tls::with(found))
    }

    fn with(extra: Vec<CertificateDer<'static>>) -> Self {
        let provider = rustls::crypto::ring::default_provider();
        // The whole process uses one implementation; only the first call has an effect.
        let _ = provider.clone().install_default();
        let verifier = Arc::new(LazyVerifier {
            extra,
            algorithms: provider.signature_verification_algorithms,
            provider: Arc::new(provider),
            loaded: OnceLock::new(),
        });
        let mut config = ClientConfig::builder()
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Tls { config, verifier }
    }

    /// Configures a client with it.
    pub fn apply(&self, builder: ClientBuilder) -> ClientBuilder {
        builder.tls_backend_preconfigured(self.config.clone())
    }

    /// Checks whether a server at `url` could be verified. Called before a request, so
    /// that a machine without certificates fails at once with this error.
    ///
    /// # Errors
    /// [`NoCertificates`] for an `https` URL if there are none.
    pub fn check(&self, url: &Url) -> Result<(), NoCertificates> {
        match url.scheme() {
            "https" => self.verifier.get().map(|_| ()),
            _ => Ok(()),
        }
    }
}

/// Verifies servers as `rustls` does, with certificates loaded at the first
/// verification.
#[derive(Debug)]
struct LazyVerifier {
    extra: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
    algorithms: WebPkiSupportedAlgorithms,
    /// A failure is not cached: certificates may be installed later.
    loaded: OnceLock<Arc<WebPkiServerVerifier>>,
}

impl LazyVerifier {
    fn get(&self) -> Result<&WebPkiServerVerifier, NoCertificates> {
        if let Some(loaded) = self.loaded.get() {
            return Ok(loaded);
        }
        let system = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(self.extra.iter().cloned());
        roots.add_parsable_certificates(system.certs);
        let provider = self.provider.clone();
        let built = WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build();
        match built {
            Ok(verifier) => Ok(self.loaded.get_or_init(|| verifier)),
            Err(_) => {
                let why = system.errors.first();
                let why = why.map(|error| format!(" ({error})"));
                Err(NoCertificates(why.unwrap_or_default()))
            }
        }
    }
}

impl ServerCertVerifier for LazyVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verifier = self.get();
        let verifier = verifier.map_err(|error| rustls::Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
