//! Server-sent events of a response body, each under a bound; decoding itself is `sse-stream`'s.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use sse_stream::SseByteStream;

type Chunks = Pin<Box<dyn Stream<Item = Result<Bytes, EventsError>> + Send>>;

/// One event.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    /// The text of a message; `None` when the event only says where the stream stands.
    pub(crate) data: Option<String>,
    /// Where the stream stands after it.
    pub(crate) id: Option<String>,
    /// How long to wait before the stream is taken up again, in milliseconds.
    pub(crate) retry_ms: Option<u64>,
}

/// The events of a stream, one after another.
pub(crate) struct Events {
    inner: Pin<Box<SseByteStream<Chunks>>>,
    /// Bytes since the last event.
    pending: Arc<AtomicUsize>,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("pending", &self.pending).finish_non_exhaustive()
    }
}

/// Why a stream of events ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EventsError {
    /// One event is over the bound.
    #[error("one event is larger than {0} bytes")]
    TooLarge(usize),
    /// Nothing came for too long.
    #[error("nothing came for too long")]
    Silent,
    /// The connection broke, or what came is not a stream of events.
    #[error("{0}")]
    Broken(String),
}

impl Events {
    /// Events of at most `bytes_max` bytes (to within one read) out of a body, whose errors `read` tells apart.
    pub(crate) fn new<E: Error + Send + 'static>(
        body: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
        bytes_max: usize,
        read: fn(&E) -> EventsError,
    ) -> Self {
        let pending = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&pending);
        let chunks: Chunks = Box::pin(body.map(move |chunk| {
            let chunk = chunk.map_err(|error| read(&error))?;
            if count.fetch_add(chunk.len(), Ordering::Relaxed) > bytes_max {
                return Err(EventsError::TooLarge(bytes_max));
            }
            Ok(chunk)
        }));
        Self { inner: Box::pin(SseByteStream::new(chunks)), pending }
    }

    /// The next event that says anything to us; `None` at the end of the stream. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>, EventsError> {
        while let Some(event) = self.inner.next().await {
            let event = match event {
                Ok(event) => event,
                Err(sse_stream::Error::Body(error)) => {
                    return Err(match error.downcast::<EventsError>() {
                        Ok(error) => *error,
                        Err(error) => EventsError::Broken(error.to_string()),
                    });
                }
                Err(error) => return Err(EventsError::Broken(error.to_string())),
            };
            self.pending.store(0, Ordering::Relaxed);
            let is_message = event.event.as_deref().is_none_or(|kind| kind == "message");
            let data = event.data.filter(|data| is_message && !data.trim().is_empty());
            if data.is_some() || event.id.is_some() || event.retry.is_some() {
                return Ok(Some(Event { data, id: event.id, retry_ms: event.retry }));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(chunks: &[&'static str], bytes_max: usize) -> Events {
        let chunks: Vec<_> = chunks.iter().map(|c| Ok::<_, std::io::Error>(Bytes::from_static(c.as_bytes()))).collect();
        Events::new(futures_util::stream::iter(chunks), bytes_max, |error| EventsError::Broken(error.to_string()))
    }

    #[tokio::test]
    async fn only_messages_and_marks_of_the_stream_are_given_out() {
        let chunks = [
            "id: 1\ndata:\n\n: keep alive\n\nretry: 50\n\ndata: {\"a\"",
            ":1}\n\nevent: ping\ndata: x\n\ndata: a\ndata: b\nid: 2\n\n",
        ];
        let mut events = events(&chunks, 1_000);
        let mut seen = Vec::new();
        while let Some(Event { data, id, retry_ms }) = events.next().await.unwrap() {
            seen.push((data.unwrap_or_default(), id.unwrap_or_default(), retry_ms));
        }
        let expected = [("", "1", None), ("", "", Some(50)), ("{\"a\":1}", "", None), ("a\nb", "2", None)];
        assert_eq!(seen, expected.map(|(data, id, retry_ms)| (data.to_owned(), id.to_owned(), retry_ms)));
    }

    #[tokio::test]
    async fn an_event_over_the_bound_ends_the_stream_with_words() {
        let mut events = events(&["data: 0123456789", "0123456789", "0123456789\n\n"], 15);
        assert!(matches!(events.next().await, Err(EventsError::TooLarge(15))));
    }
}
