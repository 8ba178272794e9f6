//! What came of a lease is written down, under its fence, and then told: results, checkpoints and ends.

use std::time::Duration;

use bytes::Bytes;

use super::{Cached, Dispatch, NO_SEAT_PAUSE, RESULT_GRACE, STORE_PAUSE, Work};
use crate::{
    engine::{
        cache::{self, Hit},
        plan::{self, Ending},
        ports::persist,
    },
    error::StoreResult,
    event::EventKind,
    matching::{Candidate, Verdict},
    pointer::ResultPointer,
    queue::{
        CHECKPOINT_BYTES_MAX, Checkpoint, Fenced, Final, Finish, JobError, JobErrorCode, JobState, Nack, NackHow,
        Progress,
    },
    result::{RESULT_BYTES_MAX, ResultMeta},
    transport::ToolOutput,
};

impl Dispatch {
    /// Writes down what the work led to.
    pub(super) async fn conclude(self, work: Work) {
        match work {
            Work::Ended(ending) => {
                let begun = match &ending {
                    Ending::Nack(NackHow::Park { checkpoint, .. }) => Some(checkpoint.clone()),
                    _ => self.job.head.checkpoint.clone(),
                };
                // Where the job stands counts, not what was meant: it may have been cancelled meanwhile, or be another worker's.
                let state = self.end(ending).await;
                if let (Some(JobState::Dead | JobState::Cancelled), Some(checkpoint)) = (state, begun) {
                    self.servers.stop_remote(&self.job, &checkpoint);
                }
            }
            Work::Elsewhere { checkpoint, poll_after, progress } => {
                if let Some(progress) = progress {
                    self.report(progress).await;
                }
                let (least, most) = self.ports.policy.poll;
                let delay = poll_after.clamp(least, most);
                let state = self.end(Ending::Nack(NackHow::Release { delay, maybe_called: false })).await;
                if state == Some(JobState::Cancelled) {
                    self.servers.stop_remote(&self.job, &checkpoint);
                }
            }
            Work::Done(result, cached) => {
                let state = self.end(Ending::Finish(Final::Done(result.clone()))).await;
                // Only what was accepted under the fence serves others.
                if let (Some(JobState::Done), Some(cached)) = (state, cached) {
                    let head = &self.job.head;
                    cache::keep(&self.ports, &cached.key, head, &result, self.clock.now()).await;
                }
            }
            Work::Moved(candidate) => {
                tracing::info!(job = %self.job.head.id, from = self.job.head.candidate, to = candidate, "moved");
                self.give_back(Ending::Nack(NackHow::Move { candidate })).await;
            }
            Work::NoSeat => {
                let pause = NO_SEAT_PAUSE.mul_f64(0.5 + self.ports.entropy.unit());
                self.give_back(plan::not_begun(&self.job, pause)).await;
                // The slot is kept for a moment, or a backlog of this server would be leased and given back as fast as the store allows.
                self.cut.run_until_cancelled(tokio::time::sleep(NO_SEAT_PAUSE / 4)).await;
            }
            Work::Nothing => tracing::warn!(job = %self.job.head.id, "lease lost; its work is dropped"),
        }
    }

    /// Gives a job back that was not begun and did not fail: that is no news, unless it was to be cancelled.
    async fn give_back(&self, ending: Ending) {
        if let Some(JobState::Cancelled) = self.write(&ending).await
            && let Some(kind) = self.news(JobState::Cancelled, ending)
        {
            self.ports.tell_of(&self.job.head, kind).await;
        }
    }

    pub(super) async fn done(
        &self,
        candidate: &Candidate,
        output: ToolOutput,
        took: Duration,
        cached: Option<Cached>,
    ) -> Work {
        let serves_others = !output.is_error;
        let verdict = if output.is_error { Verdict::Refused } else { Verdict::Served };
        self.observe(candidate, verdict, took).await;
        let body = Bytes::copy_from_slice(output.body.get().as_bytes());
        if body.len() > RESULT_BYTES_MAX {
            let message = format!("the result has {} bytes, over the bound of {RESULT_BYTES_MAX}", body.len());
            return Work::Ended(Ending::Finish(Final::Dead(JobError::new(JobErrorCode::TooLarge, message))));
        }
        match self.put(body, "application/json").await {
            Ok(pointer) => Work::Done(pointer, cached.filter(|_| serves_others)),
            Err(error) => {
                let message = format!("the tool has answered, and its result cannot be kept: {error}");
                Work::Ended(Ending::Finish(Final::Dead(JobError::new(JobErrorCode::Internal, message))))
            }
        }
    }

    /// Ends the job with the result of an identical call.
    pub(super) async fn served(&self, hit: Hit) -> Work {
        match self.put(hit.body.bytes, &hit.body.media_type).await {
            Ok(result) => Work::Ended(Ending::Finish(Final::Cached { result, from: hit.from })),
            Err(_) => Work::Ended(plan::not_begun(&self.job, STORE_PAUSE)),
        }
    }

    async fn put(&self, body: Bytes, media_type: &str) -> StoreResult<ResultPointer> {
        let head = &self.job.head;
        let meta = ResultMeta {
            tenant: head.owner.tenant.clone(),
            media_type: media_type.to_owned(),
            expires_at: Some(self.clock.now() + head.retain + RESULT_GRACE),
        };
        let put = persist("put", || self.ports.results.put(self.hold.key, body.clone(), meta.clone())).await;
        put.inspect_err(|error| tracing::error!(job = %head.id, %error, "result not stored"))
    }

    pub(super) async fn save(&self, checkpoint: Checkpoint, poll_after: Duration, progress: Option<Progress>) -> Work {
        if checkpoint.text.len() > CHECKPOINT_BYTES_MAX {
            return handle_too_large();
        }
        match persist("checkpoint", || self.ports.jobs.checkpoint(self.hold.key, checkpoint.clone())).await {
            Ok(Fenced::Ok(_) | Fenced::OkAgain(_)) => Work::Elsewhere { checkpoint, poll_after, progress },
            Ok(Fenced::Stale | Fenced::Gone) => Work::Nothing,
            Err(error) => {
                tracing::error!(job = %self.job.head.id, %error, "checkpoint not stored");
                Work::Nothing
            }
        }
    }

    /// Writes the end of the lease, then tells it; answers where the job then stands. A stale lease writes and tells nothing.
    async fn end(&self, ending: Ending) -> Option<JobState> {
        let state = self.write(&ending).await?;
        if let Some(kind) = self.news(state, ending) {
            self.ports.tell_of(&self.job.head, kind).await;
        }
        Some(state)
    }

    /// Writes the end of the lease.
    async fn write(&self, ending: &Ending) -> Option<JobState> {
        let lease = self.hold.key;
        let written = match ending {
            Ending::Finish(end) => {
                let finish = [Finish { lease, end: end.clone() }];
                persist("finish", || self.ports.jobs.finish(&finish)).await
            }
            Ending::Nack(how) => {
                let nack = [Nack { lease, how: how.clone() }];
                persist("nack", || self.ports.jobs.nack(&nack)).await
            }
        };
        match written.as_deref() {
            Ok([Fenced::Ok(state) | Fenced::OkAgain(state)]) => Some(*state),
            Ok(_) => {
                tracing::warn!(job = %lease.job, epoch = lease.epoch, "stale lease; its outcome is dropped");
                None
            }
            Err(error) => {
                tracing::error!(job = %lease.job, %error, "outcome not stored; the lease will run out");
                None
            }
        }
    }

    /// What to tell of an ending that left the job in `state`.
    fn news(&self, state: JobState, ending: Ending) -> Option<EventKind> {
        let cancelled = |reason: Option<&String>| EventKind::Cancelled { reason: reason.cloned().unwrap_or_default() };
        Some(match ending {
            Ending::Finish(Final::Done(result) | Final::Cached { result, .. }) => EventKind::Completed { result },
            Ending::Finish(Final::Dead(error)) => EventKind::Failed { error },
            Ending::Finish(Final::Cancelled { reason }) => EventKind::Cancelled { reason },
            Ending::Nack(_) if state == JobState::Cancelled => cancelled(self.hold.cancel_reason.get()),
            Ending::Nack(NackHow::Fail { error, .. }) if state == JobState::Dead => EventKind::Failed { error },
            Ending::Nack(NackHow::Fail { delay, error, .. }) => {
                EventKind::Retrying { error, delay_ms: u64::try_from(delay.as_millis()).unwrap_or(u64::MAX) }
            }
            Ending::Nack(NackHow::Park { requests, .. }) => {
                EventKind::InputRequired { keys: requests.into_iter().map(|r| r.key).collect() }
            }
            Ending::Nack(NackHow::Release { .. } | NackHow::Move { .. }) => {
                // A remote task that is polled again is no news.
                if self.job.head.checkpoint.is_some() {
                    return None;
                }
                EventKind::Released
            }
        })
    }
}

pub(super) fn handle_too_large() -> Work {
    let message = format!("the server's handle to go on with is over the bound of {CHECKPOINT_BYTES_MAX} bytes");
    Work::Ended(Ending::Finish(Final::Dead(JobError::new(JobErrorCode::ProtocolViolation, message))))
}
