//! Polls a connection that woke itself again at once.
//!
//! hyper hands the body of a request from one half of a connection's task to the other, and each hand-over wakes that task while it runs. The
//! runtime would queue it behind all others and rouse another thread to take it over, which costs more than all the rest of a short call.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::task::AtomicWaker;

/// Most polls in a row; after these the runtime decides whose turn it is.
const POLLS_MAX: usize = 8;

/// Nobody polls: a wake goes to the runtime.
const IDLE: u8 = 0;
/// It is being polled.
const POLLING: u8 = 1;
/// It was woken while it was polled, by itself or by anybody else.
const WOKEN: u8 = 2;

/// A future that is polled again when it was woken meanwhile.
pub(super) struct Again<F> {
    inner: Pin<Box<F>>,
    wakes: Arc<Wakes>,
    waker: Waker,
}

/// Takes the wakes of the future.
#[derive(Default)]
struct Wakes {
    state: AtomicU8,
    task: AtomicWaker,
}

impl<F> Again<F> {
    pub(super) fn new(inner: F) -> Self {
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        Self { inner: Box::pin(inner), wakes, waker }
    }
}

impl<F: Future> Future for Again<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        this.wakes.task.register(cx.waker());
        for _ in 0..POLLS_MAX {
            this.wakes.state.store(POLLING, Ordering::Release);
            let polled = this.inner.as_mut().poll(&mut Context::from_waker(&this.waker));
            if polled.is_ready() || this.wakes.state.swap(IDLE, Ordering::AcqRel) == POLLING {
                return polled;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let told =
            self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| (state != IDLE).then_some(WOKEN));
        if told.is_err() {
            self.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use futures_util::poll;

    use super::*;

    #[tokio::test]
    async fn what_wakes_itself_goes_on_at_once_and_not_for_ever() {
        let mut polls = 0;
        let mut few = Again::new(poll_fn(|cx| {
            polls += 1;
            cx.waker().wake_by_ref();
            if polls == 3 { Poll::Ready(()) } else { Poll::Pending }
        }));
        assert!(poll!(&mut few).is_ready());
        let mut restless = Again::new(poll_fn(|cx| {
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        }));
        assert!(poll!(&mut restless).is_pending());
    }

    #[tokio::test]
    async fn a_wake_from_elsewhere_is_not_lost() {
        let (send, receive) = tokio::sync::oneshot::channel();
        let waiting = tokio::spawn(Again::new(receive));
        tokio::task::yield_now().await;
        send.send(7).unwrap();
        let received = tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap();
        assert_eq!(received.unwrap().unwrap(), 7);
    }
}
