//! Who is at the other end of a QUIC connection: each side has a raw public key (RFC 7250) that follows
//! from the run's secret, and takes no other. There is no authority, no name and no date to trust.

use std::sync::Arc;

use rustls::client::AlwaysResolvesClientRawPublicKeys;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme,
};
use sha2::{Digest as _, Sha256};

use crate::serve::secret::Secret;

/// What both sides speak above QUIC.
const PROTOCOL: &[u8] = b"hexloop";

/// A private Ed25519 key in PKCS #8 (RFC 8410, 7) up to its 32 bytes.
const PRIVATE_KEY_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// The key of one side in a run: `SHA-256(label || secret)` is the seed of an Ed25519 key. The secret is
/// 32 random bytes, so that nothing more is needed to derive keys from it.
fn key_of(secret: &Secret, label: &[u8]) -> Result<Arc<CertifiedKey>, Error> {
    let mut hasher = Sha256::new();
    hasher.update(label);
    hasher.update(secret.bytes());
    let mut document = PRIVATE_KEY_PREFIX.to_vec();
    document.extend_from_slice(&hasher.finalize());
    let key = ring::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(document))?;
    let public = key.public_key();
    let public = public.ok_or_else(|| Error::General("the key has no public half".to_owned()))?;
    let shown = CertificateDer::from(public.to_vec());
    Ok(Arc::new(CertifiedKey::new(vec![shown], key)))
}

fn key_of_listener(secret: &Secret) -> Result<Arc<CertifiedKey>, Error> {
    key_of(secret, b"hexloop quic listener")
}

fn key_of_connector(secret: &Secret) -> Result<Arc<CertifiedKey>, Error> {
    key_of(secret, b"hexloop quic connector")
}

/// What the connecting side offers and expects.
pub(super) fn connecting(secret: &Secret) -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let pin = Arc::new(Pin::new(&key_of_listener(secret)?, &provider)?);
    let own = Arc::new(AlwaysResolvesClientRawPublicKeys::new(key_of_connector(
        secret,
    )?));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(pin)
        .with_client_cert_resolver(own);
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// What the listening side offers and expects.
pub(super) fn listening(secret: &Secret) -> Result<ServerConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let pin = Arc::new(Pin::new(&key_of_connector(secret)?, &provider)?);
    let own = Arc::new(AlwaysResolvesServerRawPublicKeys::new(key_of_listener(
        secret,
    )?));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(pin)
        .with_cert_resolver(own);
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    // Nobody comes twice: what would spare a second handshake only costs bytes.
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Takes one public key.
#[derive(Debug)]
struct Pin {
    key: SubjectPublicKeyInfoDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl Pin {
    fn new(expected: &Arc<CertifiedKey>, provider: &Arc<CryptoProvider>) -> Result<Pin, Error> {
        let key = expected.end_entity_cert()?.as_ref().to_vec();
        Ok(Pin {
            key: SubjectPublicKeyInfoDer::from(key),
            provider: Arc::clone(provider),
        })
    }

    fn check(&self, shown: &CertificateDer<'_>) -> Result<(), Error> {
        if shown.as_ref() == self.key.as_ref() {
            return Ok(());
        }
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn check_signature(
        &self,
        message: &[u8],
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &self.key, signed, algorithms)
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

/// TLS 1.2 is never offered.
fn too_old() -> Error {
    Error::General("only TLS 1.3 is spoken".to_owned())
}

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(shown).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _shown: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(too_old())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        _shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Pin {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(shown).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _shown: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(too_old())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        _shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_follow_from_the_secret_and_differ_between_runs_and_sides() {
        let one = Secret::parse(&"01".repeat(32)).unwrap();
        let other = Secret::parse(&"02".repeat(32)).unwrap();
        let shown = |key: Arc<CertifiedKey>| key.end_entity_cert().unwrap().as_ref().to_vec();
        let listener = shown(key_of_listener(&one).unwrap());
        assert_eq!(listener, shown(key_of_listener(&one).unwrap()));
        assert_ne!(listener, shown(key_of_listener(&other).unwrap()));
        assert_ne!(listener, shown(key_of_connector(&one).unwrap()));
        let pin = Pin::new(
            &key_of_listener(&one).unwrap(),
            &Arc::new(ring::default_provider()),
        )
        .unwrap();
        assert!(pin.check(&CertificateDer::from(listener)).is_ok());
        let foreign = CertificateDer::from(shown(key_of_listener(&other).unwrap()));
        assert!(pin.check(&foreign).is_err());
    }
}
