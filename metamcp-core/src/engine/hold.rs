//! The hold on one leased job: what its worker's heartbeats and the dispatch of it tell each other. It knows neither stores nor servers.

use std::{
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::queue::{Beat, LeaseKey, Progress};

/// What the worker's heartbeat and the dispatch of one job share.
#[derive(Debug)]
pub(super) struct Hold {
    pub(super) key: LeaseKey,
    /// The lease is gone, or cannot be shown to be held: stop and write nothing.
    lost: CancellationToken,
    /// The owner's wish to stop.
    pub(super) cancel: CancellationToken,
    pub(super) cancel_reason: OnceLock<String>,
    /// On this process's own clock, counted from before the request: until then the lease is surely ours.
    until: Mutex<Instant>,
    progress: Mutex<Option<Progress>>,
    pub(super) progress_news: Notify,
}

impl Hold {
    pub(super) fn new(key: LeaseKey, until: Instant) -> Self {
        Self {
            key,
            lost: CancellationToken::new(),
            cancel: CancellationToken::new(),
            cancel_reason: OnceLock::new(),
            until: Mutex::new(until),
            progress: Mutex::default(),
            progress_news: Notify::new(),
        }
    }

    /// Takes in the answer to a heartbeat that was asked at `asked`.
    pub(super) fn beat(&self, beat: &Beat, asked: Instant, visibility: Duration) {
        match beat {
            Beat::Lost => return self.lost.cancel(),
            Beat::CancelAsked { reason } => {
                // Only the first reason counts; later beats repeat it.
                let _ = self.cancel_reason.set(reason.clone());
                self.cancel.cancel();
            }
            Beat::Ok => {}
        }
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = asked + visibility;
    }

    fn until(&self) -> Instant {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when the lease can no longer be shown to be held.
    pub(super) async fn gone(&self) {
        let ran_out = async {
            loop {
                let until = self.until();
                if until <= Instant::now() {
                    return;
                }
                tokio::time::sleep_until(until).await;
            }
        };
        // Cut short when the lease is lost.
        let _ = self.lost.run_until_cancelled(ran_out).await;
    }

    /// Takes a report in; one whose value is no number is none.
    pub(super) fn put_progress(&self, mut progress: Progress) {
        if !progress.value.is_finite() {
            return;
        }
        progress.total = progress.total.filter(|total| total.is_finite());
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = Some(progress);
        self.progress_news.notify_one();
    }

    pub(super) fn take_progress(&self) -> Option<Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
