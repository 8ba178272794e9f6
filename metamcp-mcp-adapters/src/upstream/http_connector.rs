//! Connects to a server over streamable HTTP, modern or legacy, with one pool of connections.
//!
//! The system's proxy settings are not read and redirects are not followed: what is configured is what is called.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_STANDARD};
use http::{
    HeaderMap, HeaderName, HeaderValue, Uri,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT},
};
use metamcp_core::{
    id::ServerName,
    transport::{Connector, Delivered, McpTransport, TransportError, TransportErrorKind},
};
use percent_encoding::percent_decode_str;
use url::Url;

use super::{
    handover::Handover, handshake::Refusal, http::Http, http_client::Client, http_failure::innermost, redact,
    session::Session, way::error,
};
use crate::wire::era::Era;

/// Longest silence of a server in the middle of an answer, in seconds, unless told otherwise.
const IDLE_S_MAX: u64 = 300;
/// Headers that most requests have; more make the map grow.
const HEADERS_ROOM: usize = 16;

/// A server that is spoken to over streamable HTTP.
///
/// A legacy server is listened to on a stream of its own, and a broken stream of it is taken up again with `Last-Event-ID` where the
/// server marks its events; a modern one is listened to by `subscriptions/listen`.
///
/// ```no_run
/// use metamcp_core::{id::ServerName, transport::Connector};
/// use metamcp_mcp_adapters::upstream::HttpConnector;
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let server = ServerName::new("docs")?;
/// let docs = HttpConnector::new(server, "https://docs.example/mcp")?.header("authorization", "Bearer …")?;
/// let transport = docs.connect().await?;
/// # let _ = transport;
/// # Ok(())
/// # }
/// ```
pub struct HttpConnector {
    server: ServerName,
    url: Url,
    headers: HeaderMap,
    only: Option<Era>,
    handover: Option<Arc<Handover>>,
    idle: Duration,
    /// Made with the first connection; all later ones share its pool.
    client: OnceLock<Client>,
}

impl HttpConnector {
    /// A server at `url`. Credentials in the address are sent as basic authorization and never shown.
    ///
    /// # Errors
    /// When the address is not one of `http` or `https`.
    pub fn new(server: ServerName, url: &str) -> Result<Self, TransportError> {
        let invalid = |what: String| error(&server, TransportErrorKind::Invalid, Delivered::No, what);
        let url = Url::parse(url).map_err(|e| invalid(format!("`url` is not an address: {e}")))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(invalid(format!("`url` must begin with http:// or https://, not {}:", url.scheme())));
        }
        let (headers, idle, client) = (HeaderMap::new(), Duration::from_secs(IDLE_S_MAX), OnceLock::new());
        Ok(Self { server, url, headers, only: None, handover: None, idle, client })
    }

    /// With this header on every request. Values are never shown.
    ///
    /// # Errors
    /// When name or value cannot be a header.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, TransportError> {
        let invalid = |what| {
            error(&self.server, TransportErrorKind::Invalid, Delivered::No, format_args!("header `{name}`: {what}"))
        };
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid("the name is not one of a header"))?;
        let mut value = HeaderValue::from_str(value).map_err(|_| invalid("the value cannot be sent as a header"))?;
        value.set_sensitive(true);
        self.headers.insert(header, value);
        Ok(self)
    }

    /// Shares the requests that wait for answers with other processes.
    #[must_use]
    pub fn handover(mut self, handover: Arc<Handover>) -> Self {
        self.handover = Some(handover);
        self
    }

    /// Speaks this era only, without asking.
    #[must_use]
    pub const fn era(mut self, era: Era) -> Self {
        self.only = Some(era);
        self
    }

    /// How long nothing at all may come while an answer is awaited; 300 s unless told otherwise. A call as a whole has no bound here.
    #[must_use]
    pub const fn idle_timeout(mut self, idle: Duration) -> Self {
        self.idle = idle;
        self
    }

    async fn attempt(&self, era: Option<Era>) -> Result<Arc<Session>, Refusal> {
        let (uri, headers) = self.target_and_headers().map_err(Refusal::Final)?;
        let client = self.client(uri).map_err(Refusal::Final)?;
        let way = Http::new(self.server.clone(), client, headers, self.idle);
        Session::open(Arc::new(way), self.server.clone(), era, self.handover.clone(), None).await
    }

    fn client(&self, uri: Uri) -> Result<Client, TransportError> {
        if let Some(client) = self.client.get() {
            return Ok(client.clone());
        }
        let client = Client::new(uri).map_err(|e| {
            let what = format!("no HTTP client can be made: {}", innermost(&e));
            error(&self.server, TransportErrorKind::Invalid, Delivered::No, what).with_source(e)
        })?;
        Ok(self.client.get_or_init(|| client).clone())
    }

    /// What every request is sent to and with. Credentials go from the address into a header.
    fn target_and_headers(&self) -> Result<(Uri, HeaderMap), TransportError> {
        let mut url = self.url.clone();
        let mut headers = HeaderMap::with_capacity(HEADERS_ROOM);
        let agent = concat!("metamcp/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        if !url.username().is_empty() || url.password().is_some() {
            let decoded = |part: &str| percent_decode_str(part).collect::<Vec<u8>>();
            let mut pair = decoded(url.username());
            pair.push(b':');
            pair.extend(decoded(url.password().unwrap_or_default()));
            let basic = format!("Basic {}", BASE64_STANDARD.encode(pair));
            let mut basic = HeaderValue::from_str(&basic).expect("base64 is a header value");
            basic.set_sensitive(true);
            headers.insert(AUTHORIZATION, basic);
            // These fail only for addresses without a host.
            let _ = url.set_username("");
            let _ = url.set_password(None);
        }
        headers.extend(self.headers.clone());
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        url.set_fragment(None);
        let uri: Uri = url.as_str().parse().map_err(|_| {
            error(&self.server, TransportErrorKind::Invalid, Delivered::No, "`url` is not an address that HTTP takes")
        })?;
        // A plain connection adds none by itself. Over TLS it may be HTTP/2, which has it elsewhere.
        if let Some(host) = uri.authority().filter(|_| url.scheme() == "http")
            && let Ok(host) = HeaderValue::from_str(host.as_str())
        {
            headers.entry(HOST).or_insert(host);
        }
        Ok((uri, headers))
    }
}

#[async_trait]
impl Connector for HttpConnector {
    async fn connect(&self) -> Result<Arc<dyn McpTransport>, TransportError> {
        let opened = match self.attempt(self.only).await {
            // It broke off over a question it did not know: it is spoken to as of old.
            Err(Refusal::Died(error)) if self.only.is_none() => {
                tracing::debug!(server = %self.server, %error, "asking once more, as of old");
                self.attempt(Some(Era::Legacy)).await
            }
            opened => opened,
        };
        match opened {
            Ok(session) => Ok(session),
            Err(Refusal::Died(mut error) | Refusal::Final(mut error)) => {
                // Nothing was called yet, whatever broke.
                if error.kind == TransportErrorKind::Closed {
                    error.kind = TransportErrorKind::Connect;
                }
                if !matches!(error.kind, TransportErrorKind::Rejected { .. }) {
                    error.delivered = Delivered::No;
                }
                Err(error)
            }
        }
    }

    fn target(&self) -> String {
        redact::url(self.url.as_str())
    }
}

/// Shows no header value and no part of the address that lets one in.
impl fmt::Debug for HttpConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.headers.keys().collect();
        f.debug_struct("HttpConnector")
            .field("server", &self.server)
            .field("url", &self.target())
            .field("headers", &headers)
            .finish_non_exhaustive()
    }
}
