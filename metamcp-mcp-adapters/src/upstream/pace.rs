//! When to write to a server that is at work.
//!
//! A server that has much to do answers in bursts. What is asked until some of it is answered goes out in one write, which both sides handle for
//! the price of one. A server that is slow is not waited for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

/// Requests under way up to which each is written at once.
const AT_ONCE_MAX: usize = 8;
/// Of so many requests that were written one must be answered before more are written.
const ANSWERED_SHARE: usize = 4;
/// Longest that a frame waits for that, in milliseconds.
const HELD_MS_MAX: u64 = 1;

/// What the server has said, as far as the writer wants to know.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Lines since the last write.
    lines: AtomicUsize,
    news: Notify,
}

impl Said {
    /// A line was read.
    pub(super) fn line(&self) {
        self.lines.fetch_add(1, Ordering::Relaxed);
    }

    /// All that has come was read.
    pub(super) fn all_read(&self) {
        self.news.notify_one();
    }
}

/// The pace of one writer.
#[derive(Debug)]
pub(super) struct Pace {
    said: Arc<Said>,
    /// The server said enough in time before the last write: it is worth waiting for.
    is_quick: bool,
    /// Frames since the last write.
    held: usize,
}

impl Pace {
    pub(super) const fn new(said: Arc<Said>) -> Self {
        Self { said, is_quick: true, held: 0 }
    }

    /// A frame is to be written.
    pub(super) const fn hold(&mut self) {
        self.held += 1;
    }

    /// Whether there are frames to be written.
    pub(super) const fn holds(&self) -> bool {
        self.held > 0
    }

    /// Waits until a server that is quick, and at work on something, has said enough since the last write; not long. `under_way` requests wait
    /// for their answers, those that are held among them.
    pub(super) async fn keep(&mut self, under_way: usize) {
        let written = under_way.saturating_sub(self.held);
        let enough = (written / ANSWERED_SHARE).max(1);
        if self.is_quick && written > 0 && under_way > AT_ONCE_MAX {
            let answers = async {
                while self.said.lines.load(Ordering::Relaxed) < enough {
                    self.said.news.notified().await;
                }
            };
            let _in_time = tokio::time::timeout(Duration::from_millis(HELD_MS_MAX), answers).await;
        }
        self.is_quick = self.said.lines.load(Ordering::Relaxed) >= enough;
    }

    /// All that was held is written.
    pub(super) fn has_written(&mut self) {
        self.said.lines.store(0, Ordering::Relaxed);
        self.held = 0;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn pace() -> (Pace, Arc<Said>) {
        let said = Arc::new(Said::default());
        (Pace::new(Arc::clone(&said)), said)
    }

    /// Holds a frame beside `written` requests; how long it was kept.
    async fn kept(pace: &mut Pace, written: usize) -> Duration {
        let began = Instant::now();
        pace.hold();
        pace.keep(written + 1).await;
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn few_requests_and_the_first_of_many_are_written_at_once() {
        let (mut pace, _said) = pace();
        assert_eq!(kept(&mut pace, AT_ONCE_MAX - 1).await, Duration::ZERO);
        let (mut pace, _said) = self::pace();
        for _ in 0..9 {
            pace.hold();
        }
        assert_eq!(kept(&mut pace, 9).await, Duration::ZERO, "nothing that was written can be answered");
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_server_is_written_to_when_it_has_answered_its_share() {
        let (mut pace, said) = pace();
        tokio::spawn(async move {
            for _ in 0..2 {
                said.line();
                said.all_read();
                tokio::task::yield_now().await;
            }
        });
        assert_eq!(kept(&mut pace, 8).await, Duration::ZERO);
        assert_eq!(pace.said.lines.load(Ordering::Relaxed), 2, "it was waited for");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_server_is_waited_for_once() {
        let (mut pace, said) = pace();
        let first = kept(&mut pace, 8).await;
        assert!(first >= Duration::from_millis(HELD_MS_MAX), "{first:?}");
        pace.has_written();
        assert_eq!(kept(&mut pace, 8).await, Duration::ZERO);
        pace.has_written();
        // It has become quick.
        (0..4).for_each(|_| said.line());
        assert_eq!(kept(&mut pace, 8).await, Duration::ZERO);
        pace.has_written();
        assert!(kept(&mut pace, 8).await > Duration::ZERO);
    }
}
