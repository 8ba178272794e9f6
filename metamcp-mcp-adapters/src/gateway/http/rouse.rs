//! Polls a piece of work only when something it waits for has happened.
//!
//! A connection polls what it serves for many reasons: its body was read, its socket took more. A call that waits for its server is many
//! futures deep, and to ask all of them again costs as much as a good part of the call.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::task::AtomicWaker;

/// Work with a waker of its own. Once ready it must not be polled again.
pub(super) struct Roused<F> {
    work: F,
    wakes: Arc<Wakes>,
    waker: Waker,
}

struct Wakes {
    /// Something the work waits for has happened since it was polled.
    roused: AtomicBool,
    /// Whoever polls the work.
    task: AtomicWaker,
}

impl<F: Future + Unpin> Roused<F> {
    pub(super) fn new(work: F) -> Self {
        // The first poll needs no reason.
        let wakes = Arc::new(Wakes { roused: AtomicBool::new(true), task: AtomicWaker::new() });
        let waker = Waker::from(Arc::clone(&wakes));
        Self { work, wakes, waker }
    }

    /// Has the work polled at the next turn.
    pub(super) fn waker(&self) -> &Waker {
        &self.waker
    }

    /// The work as it is, for whoever polls it from now on.
    pub(super) fn into_inner(self) -> F {
        self.work
    }

    /// Polls the work if it was roused.
    pub(super) fn poll(&mut self, cx: &Context<'_>) -> Poll<F::Output> {
        // In this order: a wake in between is seen here or wakes the task.
        self.wakes.task.register(cx.waker());
        if !self.wakes.roused.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        Pin::new(&mut self.work).poll(&mut Context::from_waker(&self.waker))
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.roused.store(true, Ordering::Release);
        self.task.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn work_is_polled_when_it_was_woken_and_at_no_other_time() {
        let (tell, told) = oneshot::channel();
        let polls = Arc::new(std::sync::Mutex::new(0));
        let counted = Arc::clone(&polls);
        let mut told = Box::pin(told);
        let mut roused = Roused::new(poll_fn(move |cx| {
            *counted.lock().unwrap() += 1;
            told.as_mut().poll(cx)
        }));
        for _ in 0..3 {
            assert!(poll_fn(|cx| Poll::Ready(roused.poll(cx))).await.is_pending());
        }
        assert_eq!(*polls.lock().unwrap(), 1);
        tokio::spawn(async move { tell.send(7) });
        assert_eq!(poll_fn(|cx| roused.poll(cx)).await, Ok(7));
        assert_eq!(*polls.lock().unwrap(), 2);
    }

    #[tokio::test]
    async fn work_goes_on_with_another_who_polls_it() {
        let (tell, told) = oneshot::channel();
        let mut roused = Roused::new(told);
        assert!(poll_fn(|cx| Poll::Ready(roused.poll(cx))).await.is_pending());
        let rest = tokio::spawn(roused.into_inner());
        tell.send(7).unwrap();
        assert_eq!(rest.await.unwrap(), Ok(7));
    }
}
