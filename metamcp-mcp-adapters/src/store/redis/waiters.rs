//! Who in this process waits for work, and in which lanes. A token that came from Redis goes to the one who has waited longest.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, oneshot};

/// Most callers that are woken by tokens; those above it sleep for as long as they said they would wait.
const WAITERS_MAX: usize = 1_024;
/// Most lanes watched at a time, those of the longest waiting first.
const WATCHED_LANES_MAX: usize = 256;

#[derive(Debug)]
struct Waiter {
    lanes: Vec<String>,
    woken: oneshot::Sender<String>,
}

#[derive(Debug, Default)]
struct Line {
    next: u64,
    /// By number: the longest waiting first.
    waiting: BTreeMap<u64, Waiter>,
}

/// The line of those who wait.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    line: Mutex<Line>,
    joined: Notify,
}

impl Waiters {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a token of one of `lanes`, or until `wait_max` is over. Cancel-safe: a token that came for one who has left goes to the next.
    pub(super) async fn wait(&self, lanes: Vec<String>, wait_max: Duration) {
        let Some(mut place) = self.join(lanes) else {
            tokio::time::sleep(wait_max).await;
            return;
        };
        let _ended_by_time = tokio::time::timeout(wait_max, &mut place.woken).await;
        // A token that came in the last moment is this caller's, who will look for work now in any case.
        let _taken = place.woken.try_recv();
    }

    fn join(&self, lanes: Vec<String>) -> Option<Place<'_>> {
        let mut line = self.line();
        if line.waiting.len() >= WAITERS_MAX {
            return None;
        }
        let (sender, woken) = oneshot::channel();
        let number = line.next;
        line.next += 1;
        line.waiting.insert(number, Waiter { lanes, woken: sender });
        drop(line);
        self.joined.notify_one();
        Some(Place { waiters: self, number, woken })
    }

    /// Wakes the one who has waited longest for `lane`; `false` when nobody does.
    pub(super) fn wake_one(&self, lane: &str) -> bool {
        let mut line = self.line();
        loop {
            let found = line.waiting.iter().find(|(_, waiter)| waiter.lanes.iter().any(|of| of == lane));
            let Some(number) = found.map(|(number, _)| *number) else { return false };
            // It fails for one who is just leaving: then the next is asked.
            if line.waiting.remove(&number).is_some_and(|waiter| waiter.woken.send(lane.to_owned()).is_ok()) {
                return true;
            }
        }
    }

    /// The lanes somebody waits for, each once.
    pub(super) fn lanes(&self) -> Vec<String> {
        let line = self.line();
        let mut lanes: Vec<String> = Vec::new();
        for lane in line.waiting.values().flat_map(|waiter| &waiter.lanes) {
            if lanes.len() < WATCHED_LANES_MAX && !lanes.contains(lane) {
                lanes.push(lane.clone());
            }
        }
        lanes
    }

    /// Ends once somebody waits for a lane that is not among `watched`. Cancel-safe.
    pub(super) async fn other_than(&self, watched: &[String]) {
        while self.lanes().iter().all(|lane| watched.contains(lane)) {
            // Keeps the news of one who joined since the look.
            self.joined.notified().await;
        }
    }
}

/// A place in the line, left when it is dropped.
struct Place<'a> {
    waiters: &'a Waiters,
    number: u64,
    woken: oneshot::Receiver<String>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiters.line().waiting.remove(&self.number);
        if let Ok(lane) = self.woken.try_recv() {
            self.waiters.wake_one(&lane);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        pin::{Pin, pin},
        task::Poll,
    };

    use super::*;

    const LONG: Duration = Duration::from_secs(3_600);

    fn lanes(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    async fn poll<F: Future>(wait: &mut Pin<&mut F>) -> Poll<F::Output> {
        poll_fn(|cx| Poll::Ready(wait.as_mut().poll(cx))).await
    }

    #[tokio::test]
    async fn a_token_wakes_the_longest_waiting_of_its_lane_alone() {
        let waiters = Waiters::default();
        let (mut other, mut first, mut second) = (
            pin!(waiters.wait(lanes(&["a"]), LONG)),
            pin!(waiters.wait(lanes(&["a", "b"]), LONG)),
            pin!(waiters.wait(lanes(&["b"]), LONG)),
        );
        assert!(poll(&mut other).await.is_pending());
        assert!(poll(&mut first).await.is_pending() && poll(&mut second).await.is_pending());
        assert!(waiters.wake_one("b"));
        assert_eq!(poll(&mut first).await, Poll::Ready(()));
        assert!(poll(&mut other).await.is_pending() && poll(&mut second).await.is_pending());
        assert_eq!(waiters.lanes(), lanes(&["a", "b"]));
        assert!(!waiters.wake_one("c"), "nobody waits for it");
    }

    #[tokio::test]
    async fn a_token_for_one_who_leaves_goes_to_the_next() {
        let waiters = Waiters::default();
        let mut leaves = Box::pin(waiters.wait(lanes(&["a"]), LONG));
        let mut stays = pin!(waiters.wait(lanes(&["a"]), LONG));
        assert!(poll(&mut leaves.as_mut()).await.is_pending() && poll(&mut stays).await.is_pending());
        assert!(waiters.wake_one("a"));
        drop(leaves);
        assert_eq!(poll(&mut stays).await, Poll::Ready(()));
        assert!(waiters.lanes().is_empty());
    }

    #[tokio::test]
    async fn who_watches_is_told_of_new_lanes_alone() {
        let waiters = Waiters::default();
        let watched = lanes(&["a"]);
        let mut news = pin!(waiters.other_than(&watched));
        let mut known = pin!(waiters.wait(lanes(&["a"]), LONG));
        assert!(poll(&mut known).await.is_pending() && poll(&mut news).await.is_pending());
        let mut unknown = pin!(waiters.wait(lanes(&["b"]), LONG));
        assert!(poll(&mut unknown).await.is_pending());
        assert_eq!(poll(&mut news).await, Poll::Ready(()));
    }

    #[tokio::test(start_paused = true)]
    async fn those_above_the_bound_sleep() {
        let waiters = Waiters::default();
        let places: Vec<_> = (0..WAITERS_MAX).map(|_| waiters.join(lanes(&["a"]))).collect();
        assert!(places.iter().all(Option::is_some));
        waiters.wait(lanes(&["a"]), LONG).await;
        drop(places);
        assert!(waiters.lanes().is_empty());
    }
}
