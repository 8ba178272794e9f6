//! Bodies: a request's is read whole under a bound, an answer's is pieces that are there or events as they come.

use std::{
    convert::Infallible,
    fmt,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, future::poll_fn};
use http_body::{Body, Frame, SizeHint};
use tokio::time::timeout;

/// Events of a stream.
pub(super) type Events = Pin<Box<dyn Stream<Item = Bytes> + Send>>;

/// The body of an answer.
pub struct GatewayBody(Kind);

enum Kind {
    /// Pieces and how many bytes are left in them.
    Whole(std::vec::IntoIter<Bytes>, u64),
    Events(Events),
}

impl GatewayBody {
    /// Nothing.
    pub(super) fn empty() -> Self {
        Self::whole(Vec::new())
    }

    /// These pieces.
    pub(super) fn whole(pieces: Vec<Bytes>) -> Self {
        let left = pieces.iter().map(|piece| piece.len() as u64).sum();
        Self(Kind::Whole(pieces.into_iter(), left))
    }

    /// Events as they come.
    pub(super) fn events(events: Events) -> Self {
        Self(Kind::Events(events))
    }
}

impl Body for GatewayBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.0 {
            Kind::Whole(pieces, left) => Poll::Ready(pieces.next().map(|piece| {
                *left -= piece.len() as u64;
                Ok(Frame::data(piece))
            })),
            Kind::Events(events) => {
                events.as_mut().poll_next(cx).map(|event| event.map(|event| Ok(Frame::data(event))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.0, Kind::Whole(_, 0))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(_, left) => SizeHint::with_exact(*left),
            Kind::Events(_) => SizeHint::default(),
        }
    }
}

impl fmt::Debug for GatewayBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Whole(_, left) => f.debug_tuple("Whole").field(left).finish(),
            Kind::Events(_) => f.write_str("Events"),
        }
    }
}

/// Why a body is not there.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unread {
    TooLarge,
    Broken,
    /// It did not come in time.
    Late,
}

/// As [`read`], but not for longer than `limit`. What is there at once, or once the connection was looked at again, pays for no clock.
pub(super) async fn read_in_time<B: Body<Data = Bytes>>(
    body: B,
    bytes_max: usize,
    limit: Duration,
) -> Result<Bytes, Unread> {
    let mut reading = pin!(read(body, bytes_max));
    let mut looks = 0;
    let soon = poll_fn(|cx| match reading.as_mut().poll(cx) {
        Poll::Ready(read) => Poll::Ready(Some(read)),
        Poll::Pending if looks > 0 => Poll::Ready(None),
        Poll::Pending => {
            looks += 1;
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    });
    match soon.await {
        Some(read) => read,
        // Boxed: rare, and the future of every call would carry it.
        None => Box::pin(timeout(limit, reading)).await.unwrap_or(Err(Unread::Late)),
    }
}

/// Reads a whole body of at most `bytes_max` bytes; one that came in one piece is not copied.
pub(super) async fn read<B: Body<Data = Bytes>>(body: B, bytes_max: usize) -> Result<Bytes, Unread> {
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(Unread::TooLarge);
    }
    let mut body = pin!(body);
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let Ok(data) = frame.map_err(|_| Unread::Broken)?.into_data() else { continue };
        if first.len() + all.len() + data.len() > bytes_max {
            return Err(Unread::TooLarge);
        }
        if first.is_empty() && all.is_empty() {
            first = data;
        } else {
            if all.is_empty() {
                let expected = body.size_hint().lower().min(bytes_max as u64);
                all.reserve(first.len() + data.len() + usize::try_from(expected).unwrap_or(0));
                all.extend_from_slice(&std::mem::take(&mut first));
            }
            all.extend_from_slice(&data);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full, StreamBody};

    use super::*;

    fn in_parts(parts: &[&'static str]) -> impl Body<Data = Bytes, Error = Infallible> {
        let parts: Vec<_> = parts.iter().map(|part| Ok(Frame::data(Bytes::from_static(part.as_bytes())))).collect();
        StreamBody::new(futures_util::stream::iter(parts))
    }

    #[tokio::test]
    async fn a_body_is_read_whole_and_no_further_than_its_bound() {
        let whole = Bytes::from_static(b"abc");
        let read_back = read(Full::new(whole.clone()), 3).await.unwrap();
        assert_eq!((read_back.as_ptr(), read_back.len()), (whole.as_ptr(), 3));
        assert_eq!(read(in_parts(&["ab", "", "cd", "e"]), 5).await.unwrap(), "abcde");
        assert_eq!(read(in_parts(&["ab", "cd", "e"]), 4).await, Err(Unread::TooLarge));
        assert_eq!(read(Full::new(whole), 2).await, Err(Unread::TooLarge));
        assert_eq!(read(in_parts(&[]), 0).await.unwrap(), "");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_not_waited_for_any_longer() {
        let limit = Duration::from_secs(5);
        assert_eq!(read_in_time(in_parts(&["ab", "c"]), 3, limit).await.unwrap(), "abc");
        let late = futures_util::stream::once(async {
            tokio::time::sleep(Duration::from_secs(4)).await;
            Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"late")))
        });
        assert_eq!(read_in_time(StreamBody::new(late), 9, limit).await.unwrap(), "late");
        let never = StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, Infallible>>());
        assert_eq!(read_in_time(never, 9, limit).await, Err(Unread::Late));
    }

    #[tokio::test]
    async fn an_answer_of_pieces_tells_its_length() {
        let body = GatewayBody::whole(vec![Bytes::from_static(b"ab"), Bytes::from_static(b"c")]);
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(3), false));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "abc");
        assert!(GatewayBody::empty().is_end_stream());
    }
}
