//! TLS to the server through rustls: certificates are always checked, against the system's authorities or a file of one's own.

use std::{path::Path, sync::Arc};

use metamcp_core::error::{StoreError, StoreErrorKind, StoreResult};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{STORE, address::Server};

/// What connects to `server` by TLS. Where TLS is off it is there for its type only and trusts nobody.
pub(super) fn connector(server: &Server) -> StoreResult<MakeRustlsConnect> {
    let refused = |e: rustls::Error| {
        let message = "TLS cannot be set up with the system's authorities; name a PEM file of your own by sslrootcert";
        StoreError::new(StoreErrorKind::Invalid, STORE, message).with_source(e)
    };
    // The provider is named, so that it does not depend on what the process has installed.
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(refused)?;
    let builder = match &server.ca_file {
        Some(path) => builder.with_root_certificates(authorities(path)?),
        None if server.config.get_ssl_mode() == SslMode::Disable => {
            builder.with_root_certificates(RootCertStore::empty())
        }
        None => builder.with_platform_verifier().map_err(refused)?,
    };
    Ok(MakeRustlsConnect::new(builder.with_no_client_auth()))
}

fn authorities(path: &Path) -> StoreResult<RootCertStore> {
    let refused = |why: String| {
        let message =
            format!("sslrootcert {} cannot be used: {why}; name a PEM file with CERTIFICATE blocks", path.display());
        StoreError::new(StoreErrorKind::Invalid, STORE, message)
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|e| refused(e.to_string()))? {
        let certificate = certificate.map_err(|e| refused(e.to_string()))?;
        roots.add(certificate).map_err(|e| refused(e.to_string()))?;
    }
    if roots.is_empty() {
        return Err(refused("it holds no certificate".to_owned()));
    }
    Ok(roots)
}
