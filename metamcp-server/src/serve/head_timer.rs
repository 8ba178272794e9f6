//! One clock for the heads that a connection reads one after the other.
//!
//! hyper wants a new sleep for every head and lets go of it once the head is there. To move a sleep that the runtime knows already to a later
//! time costs next to nothing; to make a new one takes a lock that all connections share, and so does letting go of it.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use hyper::rt::{Sleep, Timer};

type Clock = Pin<Box<tokio::time::Sleep>>;

/// The timer of one connection.
#[derive(Debug, Clone, Default)]
pub(super) struct HeadTimer {
    /// The clock that nobody waits for now.
    spare: Arc<Mutex<Option<Clock>>>,
}

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).take();
        let clock = match spare {
            Some(mut clock) => {
                clock.as_mut().reset(deadline.into());
                clock
            }
            None => Box::pin(tokio::time::sleep_until(deadline.into())),
        };
        Box::pin(Borrowed { clock: Some(clock), spare: Arc::clone(&self.spare) })
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn Sleep>>, deadline: Instant) {
        if let Some(sleep) = sleep.as_mut().downcast_mut_pin::<Borrowed>()
            && let Some(clock) = &mut sleep.get_mut().clock
        {
            clock.as_mut().reset(deadline.into());
        }
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into()
    }
}

/// A clock that is given back when nobody waits for it any more.
struct Borrowed {
    /// `None` only while it is dropped.
    clock: Option<Clock>,
    spare: Arc<Mutex<Option<Clock>>>,
}

impl Sleep for Borrowed {}

impl Future for Borrowed {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.clock {
            Some(clock) => clock.as_mut().poll(cx),
            None => Poll::Ready(()),
        }
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        *self.spare.lock().unwrap_or_else(PoisonError::into_inner) = self.clock.take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_clock_is_used_again_and_rings_when_the_last_user_wants() {
        let timer = HeadTimer::default();
        let began = timer.now();
        drop(timer.sleep(Duration::from_secs(3)));
        assert!(timer.spare.lock().unwrap().is_some());
        let mut second = timer.sleep(Duration::from_secs(5));
        assert!(timer.spare.lock().unwrap().is_none());
        timer.reset(&mut second, began + Duration::from_secs(4));
        second.await;
        // The runtime counts whole milliseconds.
        assert_eq!((timer.now() - began + Duration::from_millis(500)).as_secs(), 4);
        timer.sleep(Duration::from_secs(1)).await;
        assert_eq!((timer.now() - began + Duration::from_millis(500)).as_secs(), 5);
    }
}
