//! Why a server has not taken a request, from the status and the first words of its answer.

use std::time::Duration;

use bytes::Bytes;
use http::{
    Response, StatusCode,
    header::{LOCATION, RETRY_AFTER, WWW_AUTHENTICATE},
};
use metamcp_core::{
    id::ServerName,
    transport::{Delivered, TransportErrorKind},
};

use super::{
    http_body::{self, Body, is_media},
    http_client::AnswerBody,
    way::{Failure, error},
};
use crate::wire::frame::{self, Frame, Outcome};

/// Most of the body of a refusal that is read, in bytes.
const REFUSAL_BYTES_MAX: usize = 64 << 10;
/// Most of it that a message repeats, in bytes.
const EXCERPT_BYTES_MAX: usize = 200;
/// Longest pause a server may ask for, in seconds.
const RETRY_AFTER_S_MAX: u64 = 24 * 3_600;

/// Why the server has not taken the request, as far as its status tells.
pub(super) async fn refused(server: &ServerName, idle: Duration, response: Response<AnswerBody>) -> Failure {
    let status = response.status();
    let (head, body) = response.into_parts();
    let headers = head.headers;
    let body = match http_body::whole(body, REFUSAL_BYTES_MAX, idle).await {
        Ok(Body::Whole(body) | Body::Cut(body)) => body,
        // The status alone says enough.
        Err(_) => Bytes::new(),
    };
    let text = String::from_utf8_lossy(&body);
    let mut rpc = None;
    let read = frame::each(&text, |frame| {
        if let Frame::Response { outcome: Outcome::Error(error), .. } = frame {
            rpc = Some(error);
        }
    });
    let wait = headers.get(RETRY_AFTER).and_then(|wait| wait.to_str().ok()?.trim().parse().ok());
    let wait = wait.map(|seconds: u64| Duration::from_secs(seconds.min(RETRY_AFTER_S_MAX)));
    let delivered = if not_taken(status, wait.is_some()) { Delivered::No } else { Delivered::Maybe };
    let fail = |kind, delivered, what: String| {
        let error = error(server, kind, delivered, what).with_retry_after(wait);
        Failure::Status(status.as_u16(), error)
    };
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            let challenge =
                headers.get(WWW_AUTHENTICATE).and_then(|challenge| challenge.to_str().ok()).unwrap_or_default();
            let challenge = excerpt(challenge);
            let what = format!("wants authorization (HTTP {status}) {challenge}: set an `Authorization` header for it");
            fail(TransportErrorKind::Rejected { code: status.as_u16().into() }, Delivered::Yes, what)
        }
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            fail(TransportErrorKind::Busy, delivered, format!("is busy (HTTP {status})"))
        }
        status if status.is_redirection() => {
            let to = headers.get(LOCATION).and_then(|to| to.to_str().ok()).unwrap_or_default();
            let to = excerpt(to.split('?').next().unwrap_or_default());
            let what = format!("redirects to {to} (HTTP {status}); configure the address it is really at");
            // Only these two say that the request is to be made again elsewhere; after others it may have been taken here.
            let untouched = matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
            fail(TransportErrorKind::Connect, if untouched { Delivered::No } else { Delivered::Maybe }, what)
        }
        status => {
            if let (Ok(()), Some(rpc)) = (read, rpc) {
                return Failure::Rpc(rpc, Some(status.as_u16()));
            }
            let shown = if is_media(&headers, "text/html") { String::new() } else { excerpt(&text) };
            if status.is_server_error() {
                fail(TransportErrorKind::Closed, Delivered::Maybe, format!("failed (HTTP {status}) {shown}"))
            } else {
                let kind = TransportErrorKind::Rejected { code: status.as_u16().into() };
                fail(kind, Delivered::Yes, format!("refused (HTTP {status}) {shown}"))
            }
        }
    }
}

/// Whether a status says that the request was not taken and may be sent again.
fn not_taken(status: StatusCode, has_retry_after: bool) -> bool {
    // A 503 without a time is also what proxies answer when a server broke off in the middle.
    status == StatusCode::TOO_MANY_REQUESTS || (status == StatusCode::SERVICE_UNAVAILABLE && has_retry_after)
}

/// The first words of a text.
pub(super) fn excerpt(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words[..words.floor_char_boundary(EXCERPT_BYTES_MAX)].to_owned()
}
