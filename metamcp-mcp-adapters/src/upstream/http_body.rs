//! The body of an answer: read whole under a bound, or as a stream of events; no silence is longer than it may be.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::{future::poll_immediate, stream};
use http::{HeaderMap, header::CONTENT_TYPE};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use tokio::time::timeout;

use super::{http_client::AnswerBody, http_failure::innermost};
use crate::wire::{
    FRAME_BYTES_MAX,
    sse::{Event, Events, EventsError},
};

/// The media type of one JSON text.
pub(super) const JSON: &str = "application/json";
/// The media type of a stream of events.
pub(super) const EVENTS: &str = "text/event-stream";

pub(super) fn is_media(headers: &HeaderMap, media: &str) -> bool {
    let Some(kind) = headers.get(CONTENT_TYPE) else { return false };
    let is = |kind: &str| kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(media));
    kind == media || kind.to_str().is_ok_and(is)
}

/// Why there is no more of a body.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// Nothing came for too long.
    #[error("nothing came for too long")]
    Silent,
    /// The connection broke.
    #[error("{0}")]
    Broken(String),
}

/// What was read of a body.
pub(super) enum Body {
    Whole(Bytes),
    /// Its first part, as large as the bound.
    Cut(Bytes),
}

/// The next part of a body; `None` at its end.
async fn chunk(body: &mut AnswerBody, idle: Duration) -> Result<Option<Bytes>, BodyError> {
    loop {
        // What is there already needs no clock.
        let next = match poll_immediate(body.frame()).await {
            Some(next) => Ok(next),
            // Boxed: the future of every call would carry the clock.
            None => Box::pin(timeout(idle, body.frame())).await,
        };
        match next {
            Err(_) => return Err(BodyError::Silent),
            Ok(None) => return Ok(None),
            Ok(Some(Err(error))) => return Err(BodyError::Broken(innermost(&error))),
            // Trailers say nothing to us.
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// The whole of a body, or as much of it as the bound lets in. A body that came in one part is not copied.
pub(super) async fn whole(mut body: AnswerBody, bytes_max: usize, idle: Duration) -> Result<Body, BodyError> {
    let Some(mut first) = chunk(&mut body, idle).await? else { return Ok(Body::Whole(Bytes::new())) };
    if first.len() > bytes_max {
        return Ok(Body::Cut(first.split_to(bytes_max)));
    }
    if body.is_end_stream() {
        return Ok(Body::Whole(first));
    }
    let Some(second) = chunk(&mut body, idle).await? else { return Ok(Body::Whole(first)) };
    let expected = usize::try_from(body.size_hint().lower()).unwrap_or(bytes_max).min(bytes_max);
    let mut all = BytesMut::with_capacity(first.len() + second.len() + expected);
    all.extend_from_slice(&first);
    let mut next = Some(second);
    while let Some(part) = next {
        all.extend_from_slice(&part);
        if all.len() > bytes_max {
            all.truncate(bytes_max);
            return Ok(Body::Cut(all.freeze()));
        }
        next = chunk(&mut body, idle).await?;
    }
    Ok(Body::Whole(all.freeze()))
}

/// A body as a stream of events.
#[derive(Debug)]
pub(super) struct EventBody {
    events: Events,
    /// Whether nobody has read for a while.
    rested: Arc<AtomicBool>,
}

impl EventBody {
    pub(super) fn new(body: AnswerBody, idle: Duration) -> Self {
        let rested = Arc::new(AtomicBool::new(false));
        let resting = Arc::clone(&rested);
        let chunks = stream::unfold((body, resting), move |(mut body, resting)| async move {
            loop {
                match chunk(&mut body, idle).await {
                    // The clock goes on when a read is left off; a stream that nobody reads is not silent.
                    Err(BodyError::Silent) if resting.swap(false, Ordering::Relaxed) => {}
                    part => return Some((part.transpose()?, (body, resting))),
                }
            }
        });
        let events = Events::new(chunks, FRAME_BYTES_MAX, |error: &BodyError| match error {
            BodyError::Silent => EventsError::Silent,
            BodyError::Broken(reason) => EventsError::Broken(reason.clone()),
        });
        Self { events, rested }
    }

    /// The next event; `None` at the end of the stream. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Option<Event>, EventsError> {
        self.events.next().await
    }

    /// It will not be read for a while.
    pub(super) fn rest(&self) {
        self.rested.store(true, Ordering::Relaxed);
    }
}
