//! The HTTP client below the way: pooled connections without delay, TLS against the system's authorities, no proxies, no redirects.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::Uri;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client as Pooled, connect::HttpConnector as Tcp},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::time::timeout;
use tower_service::Service;

/// Longest wait for a connection, TLS included, in seconds.
const CONNECT_S_MAX: u64 = 10;
/// How long an idle connection is kept, in seconds.
const POOL_IDLE_S: u64 = 90;

/// Sends requests whose bodies are whole.
pub(super) type Client = Pooled<Patient, Full<Bytes>>;

/// A client; `tls` unless only plain addresses are called: then there is no need for authorities, which a small container may not have.
pub(super) fn client(tls: bool) -> Result<Client, rustls::Error> {
    let mut tcp = Tcp::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    // The provider is named, so that it does not depend on what the process has installed.
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let config = config.with_safe_default_protocol_versions()?;
    let config =
        if tls { config.with_platform_verifier()? } else { config.with_root_certificates(RootCertStore::empty()) };
    let https = HttpsConnectorBuilder::new().with_tls_config(config.with_no_client_auth()).https_or_http();
    let connector = Patient(https.enable_all_versions().wrap_connector(tcp));
    let mut builder = Pooled::builder(TokioExecutor::new());
    builder.pool_idle_timeout(Duration::from_secs(POOL_IDLE_S)).pool_timer(TokioTimer::new()).timer(TokioTimer::new());
    Ok(builder.build(connector))
}

/// Connects, but does not wait for ever.
#[derive(Debug, Clone)]
pub(super) struct Patient(HttpsConnector<Tcp>);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Service<Uri> for Patient {
    type Response = <HttpsConnector<Tcp> as Service<Uri>>::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let connecting = timeout(Duration::from_secs(CONNECT_S_MAX), self.0.call(to));
        Box::pin(async move {
            connecting.await.unwrap_or_else(|_| Err(format!("no connection within {CONNECT_S_MAX} s").into()))
        })
    }
}
