//! An upstream server behind TLS, with a certificate that a private authority has signed.

use std::{path::PathBuf, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer},
    },
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    client::{Client, text},
    fleet::ready,
    support::{Home, Serve},
    until,
};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "the authority of a test");
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority")
}

/// Ends TLS in front of a plain server.
struct Tls {
    url: String,
    _accepting: AbortOnDropHandle<()>,
}

impl Tls {
    /// A front of the server at `to` that offers these protocols.
    async fn start(to: &str, authority: &Authority, protocols: &[&str]) -> Self {
        let key = KeyPair::generate().expect("a key");
        let names = CertificateParams::new(vec!["localhost".to_owned()]).expect("a good name");
        let certificate = names.signed_by(&key, authority).expect("a certificate");
        let chain = vec![CertificateDer::from(certificate)];
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key in PKCS#8");
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let config = config.with_safe_default_protocol_versions().expect("versions").with_no_client_auth();
        let mut config = config.with_single_cert(chain, key).expect("they belong together");
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
        let url = format!("https://localhost:{}/mcp", listener.local_addr().expect("it is bound").port());
        let to = to.trim_start_matches("http://").to_owned();
        let accepting = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, to) = (acceptor.clone(), to.clone());
                connections.spawn(async move {
                    // A client that does not trust us hangs up, and that is all.
                    let Ok(mut near) = acceptor.accept(stream).await else { return };
                    let Ok(mut far) = TcpStream::connect(to).await else { return };
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        Self { url, _accepting: AbortOnDropHandle::new(accepting) }
    }
}

/// A gateway over the server at `url` that trusts this authority and no other.
fn gateway(home: &Home, url: &str, trusts: &Authority) -> Serve {
    let trusted: PathBuf = home.file("trusted.pem", &trusts.pem());
    let config = home.file("metamcp.toml", &format!("[builtin.code]\nenabled = false\n[servers.far]\nurl = {url:?}\n"));
    let mut command = home.command(["serve", "--listen", "127.0.0.1:0", "--log", "warn", "--memory", "--config"]);
    Serve::of(command.arg(config).env("SSL_CERT_FILE", trusted))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_over_tls_is_served_through_when_its_authority_is_trusted_and_else_told_of() {
    let far = Home::new();
    let upstream = Serve::start(&far, &[]);
    let (ours, other) = (authority(), authority());
    for protocols in [["h2", "http/1.1"].as_slice(), &["http/1.1"], &[]] {
        let tls = Tls::start(&upstream.url, &ours, protocols).await;
        let home = Home::new();
        let serve = gateway(&home, &tls.url, &ours);
        ready(&serve.url, &["far__code__parse"]).await;
        let snippet = json!({ "text": "fn main() {}", "language": "rust" });
        for client in [Client::modern(&serve.url), Client::legacy(&serve.url).await] {
            let parsed = client.call("far__code__parse", snippet.clone()).await;
            assert!(text(&parsed).contains("function_item"), "{protocols:?}: {parsed}");
        }
    }

    let tls = Tls::start(&upstream.url, &ours, &["h2"]).await;
    let home = Home::new();
    let serve = gateway(&home, &tls.url, &other);
    let client = Client::modern(&serve.url);
    let why = until("why is told", async || client.server("far").await["reason"].as_str().map(str::to_owned)).await;
    assert!(why.to_lowercase().contains("certificate"), "{why}");
    let tools = client.tools().await;
    assert!(!tools.iter().any(|tool| tool.starts_with("far__")), "who is not trusted offers nothing: {tools:?}");
}
