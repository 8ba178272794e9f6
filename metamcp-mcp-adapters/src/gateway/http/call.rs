//! One POST that is being answered: as one JSON text, or, when something is to be told before the answer, as a stream of events from there on.
//!
//! Nothing is spawned for it: whoever writes the response drives the work, and a modern client that goes away takes it along. What a legacy
//! client leaves behind goes on, as its revisions ask for, within bounds.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, future::poll_fn};
use http::{HeaderValue, StatusCode};
use tokio::{
    runtime::Handle,
    time::{Instant, Sleep, sleep},
};

use super::{body::Events, outbox::Outbox, rouse::Roused};
use crate::gateway::front::Frame;

/// Longest time that what a legacy client left goes on, in seconds.
const LEFT_S_MAX: u64 = 600;
/// A sign of life on a silent stream.
pub(super) const ALIVE: Bytes = Bytes::from_static(b":\n\n");

/// What a POST is answered with.
pub(super) enum Answer {
    /// Nothing: what came wants no answer.
    Accepted,
    /// Nothing: what was to be done is done.
    Ended,
    /// One text.
    Whole {
        status: StatusCode,
        frame: Frame,
        /// The session that begins with it.
        session: Option<HeaderValue>,
    },
    /// A stream without an end of its own.
    Events(Events),
}

impl Answer {
    /// A text without a session that begins.
    pub(super) const fn whole(status: StatusCode, frame: Frame) -> Self {
        Self::Whole { status, frame, session: None }
    }
}

/// What makes an answer.
pub(super) type Work = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// A POST that is being answered.
pub(super) struct Call {
    work: Option<Roused<Work>>,
    outbox: Arc<Outbox>,
    /// The last event.
    last: Option<Bytes>,
    keep_alive: Duration,
    silence: Option<Pin<Box<Sleep>>>,
}

/// What came first.
pub(super) enum First {
    /// The answer.
    Answer(Answer),
    /// Something to be told before it.
    Events(Call),
}

impl Call {
    /// Will be answered by `work`, which tells of its progress in `outbox`.
    pub(super) fn new(work: Work, outbox: Arc<Outbox>, keep_alive: Duration) -> Self {
        Self { work: Some(Roused::new(work)), outbox, last: None, keep_alive, silence: None }
    }

    /// Waits for the answer, or for something to be told before it.
    pub(super) async fn first(mut self) -> First {
        let answer = poll_fn(|cx| {
            self.wake();
            match self.poll_work(cx) {
                Poll::Ready(answer) => Poll::Ready(Some(answer)),
                Poll::Pending if self.outbox.has_events() => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        match answer {
            Some(answer) if !self.outbox.has_events() => First::Answer(answer),
            Some(answer) => {
                self.end(answer);
                First::Events(self)
            }
            None => First::Events(self),
        }
    }

    /// Has itself polled when something is to be told or the request is taken back.
    fn wake(&self) {
        if let Some(work) = &self.work {
            self.outbox.wake(&Context::from_waker(work.waker()));
        }
    }

    /// The answer, once.
    fn poll_work(&mut self, cx: &mut Context<'_>) -> Poll<Answer> {
        let Some(work) = &mut self.work else { return Poll::Pending };
        let answer = std::task::ready!(work.poll(cx));
        self.work = None;
        Poll::Ready(answer)
    }

    fn end(&mut self, answer: Answer) {
        self.last = self.outbox.last(match answer {
            Answer::Whole { frame, .. } => Some(frame),
            Answer::Accepted | Answer::Ended | Answer::Events(_) => None,
        });
    }

    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        let pause = self.keep_alive;
        let silence = self.silence.get_or_insert_with(|| Box::pin(sleep(pause)));
        std::task::ready!(silence.as_mut().poll(cx));
        silence.as_mut().reset(Instant::now() + pause);
        Poll::Ready(ALIVE)
    }
}

impl Stream for Call {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.wake();
        if let Some(event) = self.outbox.next() {
            return Poll::Ready(Some(event));
        }
        if let Poll::Ready(answer) = self.poll_work(cx) {
            self.end(answer);
        }
        // What was told while it worked goes before the answer.
        if let Some(event) = self.outbox.next().or_else(|| self.last.take()) {
            return Poll::Ready(Some(event));
        }
        if self.work.is_none() {
            return Poll::Ready(None);
        }
        self.poll_silence(cx).map(Some)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // In the legacy revisions a lost connection takes nothing back; there is `notifications/cancelled` for that.
        let (Some(work), Some(_)) = (self.work.take(), self.outbox.session()) else { return };
        let Ok(runtime) = Handle::try_current() else { return };
        let outbox = Arc::clone(&self.outbox);
        outbox.detach();
        runtime.spawn(async move {
            let answer = tokio::time::timeout(Duration::from_secs(LEFT_S_MAX), work.into_inner()).await;
            if let Ok(Answer::Whole { frame, .. }) = answer
                && outbox.has_begun()
            {
                outbox.last(Some(frame));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;

    use super::*;

    fn whole(text: &'static str) -> Answer {
        Answer::whole(StatusCode::OK, Frame::of(text))
    }

    fn call(work: impl Future<Output = Answer> + Send + 'static, outbox: &Arc<Outbox>) -> Call {
        Call::new(Box::pin(work), Arc::clone(outbox), Duration::from_secs(3_600))
    }

    #[tokio::test]
    async fn an_answer_without_news_is_one_text() {
        let outbox = Arc::new(Outbox::new(true));
        let first = call(async { whole("{}") }, &outbox).first().await;
        let First::Answer(Answer::Whole { frame, .. }) = first else { panic!("one text") };
        assert_eq!(frame.into_bytes(), "{}");
    }

    #[tokio::test]
    async fn news_come_before_the_answer_whenever_they_come() {
        let outbox = Arc::new(Outbox::new(true));
        let teller = Arc::clone(&outbox);
        let work = async move {
            teller.send("1".to_owned()).unwrap();
            tokio::task::yield_now().await;
            teller.send("2".to_owned()).unwrap();
            whole("3")
        };
        let First::Events(events) = call(work, &outbox).first().await else { panic!("events") };
        let told: Vec<_> = events.collect().await;
        assert_eq!(told, ["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"]);
    }

    #[tokio::test]
    async fn a_client_without_streams_gets_its_answer() {
        let outbox = Arc::new(Outbox::new(false));
        let teller = Arc::clone(&outbox);
        let work = async move {
            teller.send("1".to_owned()).unwrap_err();
            whole("2")
        };
        assert!(matches!(call(work, &outbox).first().await, First::Answer(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_stream_shows_that_it_lives() {
        let outbox = Arc::new(Outbox::new(true));
        outbox.send("1".to_owned()).unwrap();
        let work = async {
            sleep(Duration::from_secs(5)).await;
            whole("2")
        };
        let call = Call::new(Box::pin(work), outbox, Duration::from_secs(2));
        let First::Events(events) = call.first().await else { panic!("events") };
        let told: Vec<_> = events.collect().await;
        assert_eq!(told, ["data: 1\n\n", ":\n\n", ":\n\n", "data: 2\n\n"]);
    }
}
