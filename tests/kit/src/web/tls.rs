//! Certificates of a test's own authority, good ones and bad ones.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

/// When a certificate holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    Now,
    /// Until some years ago.
    Past,
}

/// An authority that signs certificates of test servers.
pub struct Certificates {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// The certificate and key of one server.
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Certificates {
    /// Makes an authority.
    ///
    /// # Panics
    /// Where the machine has no randomness.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key is made");
        let pem = params.self_signed(&key).expect("the authority signs itself").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Returns the authority's own certificate, for whoever is to trust it.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Signs a certificate for `name`.
    ///
    /// # Panics
    /// Where `name` is no host.
    pub fn sign(&self, name: &str, validity: Validity) -> Identity {
        let (params, key) = parts(name, validity);
        let certificate = params.signed_by(&key, &self.issuer).expect("the authority signs");
        Identity { certificate: certificate.der().clone(), key: key.serialize_der() }
    }
}

impl Default for Certificates {
    fn default() -> Self {
        Self::new()
    }
}

impl Identity {
    /// Makes a certificate that nobody but its own key signed.
    ///
    /// # Panics
    /// Where `name` is no host.
    pub fn self_signed(name: &str) -> Self {
        let (params, key) = parts(name, Validity::Now);
        let certificate = params.self_signed(&key).expect("it signs itself");
        Self { certificate: certificate.der().clone(), key: key.serialize_der() }
    }

    pub(super) fn acceptor(&self, protocol: &str) -> TlsAcceptor {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has the versions")
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], key)
            .expect("the certificate fits its key");
        config.alpn_protocols = vec![protocol.into()];
        TlsAcceptor::from(Arc::new(config))
    }
}

fn parts(name: &str, validity: Validity) -> (CertificateParams, KeyPair) {
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("it is a host");
    if validity == Validity::Past {
        (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
    }
    (params, KeyPair::generate().expect("a key is made"))
}
