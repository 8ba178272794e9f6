//! One leased job, from lease to end: connect, call, and write down what came of it. The races of a call with cancel, deadline, drain and the
//! loss of its lease are all in [`Dispatch::raced`].

mod written;

use std::{future::Future, sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::written::handle_too_large;
use super::{
    arguments::{self, Unfilled},
    cache,
    hold::Hold,
    plan::{self, Ending, Start},
    ports::Ports,
    servers::Servers,
    slots::Seats,
    store_clock::StoreClock,
    submit::look,
};
use crate::{
    event::EventKind,
    json::RawJson,
    matching::{Annotations, Candidate, Outcome, Verdict, refusal, refusal_of_need},
    pointer::ResultPointer,
    queue::{
        CHECKPOINT_BYTES_MAX, Checkpoint, Final, Heartbeat, Job, JobError, JobErrorCode, Leased, NackHow, Progress,
    },
    transport::{CallContext, McpTransport, Resume, ToolCall, ToolReply, TransportError, TransportErrorKind},
};

/// How long a job waits whose input or cached result could not be read or written.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// How long a job waits, on average, whose server takes up as many slots of the worker as it may.
const NO_SEAT_PAUSE: Duration = Duration::from_secs(1);
/// How much longer than its job's retention a result is kept, should the job's own removal be missed. As long as a job may be delayed: one that
/// takes this result keeps the job for as long.
pub(crate) const RESULT_GRACE: Duration = Duration::from_secs(366 * 24 * 3_600);

/// Why a job's work was broken off.
enum Stop {
    /// The lease is gone: nothing more is written.
    Lost,
    Cancelled(String),
    Deadline,
    Drained,
}

/// How a job's call may be served from, and serve, identical ones.
struct Cached {
    key: String,
    age_max: Duration,
}

impl Cached {
    /// `None` when the caller does not allow it, or the tool does not declare that a call may be made again.
    fn new(job: &Job, annotations: Annotations, candidate: &Candidate, input: &RawJson) -> Option<Self> {
        let age_max = job.body.task.cache.filter(|_| annotations.replay_is_safe())?;
        Some(Self { key: cache::call_key(&job.head.owner, candidate, input), age_max })
    }
}

/// What came of the work on one lease.
enum Work {
    Ended(Ending),
    /// The call goes on at the far side and was checkpointed.
    Elsewhere {
        checkpoint: Checkpoint,
        poll_after: Duration,
        progress: Option<Progress>,
    },
    /// The tool has answered, and its result may serve identical calls.
    Done(ResultPointer, Option<Cached>),
    /// Its server takes up as many slots as it may: the job waits a little, and no longer here.
    NoSeat,
    /// Another candidate serves it better; nothing was called.
    Moved(u16),
    Nothing,
}

/// The work on one leased job.
pub(super) struct Dispatch {
    pub(super) ports: Arc<Ports>,
    pub(super) servers: Arc<Servers>,
    pub(super) seats: Arc<Seats>,
    pub(super) hold: Arc<Hold>,
    pub(super) job: Job,
    clock: StoreClock,
    /// Cut the call off and give the job back.
    pub(super) cut: CancellationToken,
}

impl Dispatch {
    pub(super) fn new(
        ports: Arc<Ports>,
        servers: Arc<Servers>,
        seats: Arc<Seats>,
        hold: Arc<Hold>,
        leased: Leased,
        clock: StoreClock,
        cut: CancellationToken,
    ) -> Self {
        Self { ports, servers, seats, hold, job: leased.job, clock, cut }
    }

    /// Serves the job. What it leads to is written under the lease's fence, told, and nothing else.
    pub(super) async fn run(self) {
        let work = self.work().await;
        self.conclude(work).await;
    }

    /// Serves the job by a call that was made before there was a job.
    pub(super) async fn run_adopted(self, call: impl Future<Output = Result<ToolReply, TransportError>>) {
        let work = self.adopted(call).await;
        self.conclude(work).await;
    }

    /// The candidate that serves the job better than its current one, as things stand now.
    fn better(&self) -> Option<u16> {
        let route = &self.job.body.route.candidates;
        let here = route.get(usize::from(self.job.head.candidate))?;
        if !route.iter().any(|c| c.capability != here.capability && c.is_equivalent_to(here)) {
            return None;
        }
        let cost_ms = |candidate: &Candidate| {
            let server = candidate.capability.server();
            let seen = look(&self.servers, server);
            // A server with a bound over all workers takes only jobs that were enqueued under it.
            let open = candidate == here || seen.terms.concurrency.is_none();
            let admitted = seen.terms.admits(&self.job.head.owner.tenant);
            (open && admitted && self.seats.has_room(server)).then(|| seen.cost_ms())
        };
        plan::moved(&self.job, &cost_ms, self.ports.entropy.next_u64())
    }

    async fn work(&self) -> Work {
        let Some(candidate) = self.job.body.route.candidates.get(usize::from(self.job.head.candidate)).cloned() else {
            let error = JobError::new(JobErrorCode::Internal, "the job's route has no such candidate");
            return Work::Ended(Ending::Finish(Final::Dead(error)));
        };
        let catalog = self.servers.catalog_for(&self.job.head.owner);
        let known = catalog.get(&candidate.capability).map(|c| c.annotations).unwrap_or_default();
        drop(catalog);
        if let Some(end) = plan::over(&self.job, known, self.clock.now()) {
            return Work::Ended(Ending::Finish(end));
        }
        if let Some(better) = self.better() {
            return Work::Moved(better);
        }
        let Some(_seat) = self.seats.take(candidate.capability.server()) else { return Work::NoSeat };
        let flight = self.servers.begin(candidate.capability.server());
        let connected = match self.raced(self.servers.transport(candidate.capability.server()), false).await {
            Ok(connected) => connected,
            Err(work) => return work,
        };
        let transport = match connected {
            Ok(transport) => transport,
            Err(error) => {
                flight.ended(true);
                return self.failed(&error, known);
            }
        };
        flight.connected();
        let annotations = match self.approved(&candidate) {
            Ok(annotations) => annotations,
            Err(why) => return Work::Ended(plan::tool_gone(&self.job, &why, known, &self.ports.policy)),
        };
        let start = plan::start(&self.job, annotations, self.clock.now());
        let (input, resume) = match start {
            Start::End(end) => return Work::Ended(Ending::Finish(end)),
            Start::Resume(resume) => (self.job.body.input().clone(), Some(resume)),
            Start::Call => match self.raced(self.arguments(&candidate), false).await {
                Ok(Ok(input)) => (input, None),
                Ok(Err(work)) | Err(work) => return work,
            },
        };
        let cached = Cached::new(&self.job, annotations, &candidate, &input);
        if let (None, Some(cached)) = (&resume, &cached) {
            let look = cache::find(&self.ports, &cached.key, cached.age_max, self.clock.now());
            if let Some(hit) = self.raced(look, false).await.unwrap_or(None) {
                return self.served(hit).await;
            }
        }
        let (began, resumed) = (Instant::now(), resume.is_some());
        let called = async {
            let reply = self.raced(self.call(&*transport, &candidate, input, resume), true).await;
            (reply, began.elapsed())
        };
        let told = async {
            if !resumed {
                let (capability, attempts) = (candidate.capability.clone(), self.job.head.attempts);
                self.ports.tell_of(&self.job.head, EventKind::Started { capability, attempts }).await;
            }
        };
        // The start is told while the call is under way: the call need not wait for it, but what comes of the call does.
        let ((reply, took), ()) = tokio::join!(called, told);
        let reply = match reply {
            Ok(reply) => reply,
            Err(work) => return work,
        };
        flight.ended(reply.as_ref().is_err_and(|error| verdict_of(error) == Verdict::Unreached));
        // What a caller's answers led to is not what the same arguments lead to.
        self.replied(&candidate, annotations, reply, took, cached.filter(|_| !resumed)).await
    }

    async fn adopted(&self, call: impl Future<Output = Result<ToolReply, TransportError>>) -> Work {
        let Some(candidate) = self.job.body.route.candidates.first() else {
            let error = JobError::new(JobErrorCode::Internal, "the job's route is empty");
            return Work::Ended(Ending::Finish(Final::Dead(error)));
        };
        let annotations = self.servers.catalog().get(&candidate.capability).map(|c| c.annotations).unwrap_or_default();
        let began = Instant::now();
        match self.raced(call, true).await {
            Ok(reply) => self.replied(candidate, annotations, reply, began.elapsed(), None).await,
            Err(work) => work,
        }
    }

    async fn replied(
        &self,
        candidate: &Candidate,
        annotations: Annotations,
        reply: Result<ToolReply, TransportError>,
        took: Duration,
        cached: Option<Cached>,
    ) -> Work {
        match reply {
            Ok(ToolReply::Done(output)) => self.done(candidate, output, took, cached).await,
            Ok(ToolReply::Working { checkpoint, poll_after, progress }) => {
                self.save(checkpoint, poll_after, progress).await
            }
            Ok(ToolReply::NeedsInput { checkpoint, .. }) if checkpoint.text.len() > CHECKPOINT_BYTES_MAX => {
                handle_too_large()
            }
            Ok(ToolReply::NeedsInput { checkpoint, requests }) => {
                let ttl = self.ports.policy.input_ttl;
                Work::Ended(Ending::Nack(NackHow::Park { requests, checkpoint, ttl }))
            }
            Err(error) => {
                self.observe(candidate, verdict_of(&error), took).await;
                self.failed(&error, annotations)
            }
        }
    }

    /// What the catalogue says of the tool now; an error when it is gone, or changed so that it refuses the input.
    fn approved(&self, candidate: &Candidate) -> Result<Annotations, String> {
        let catalog = self.servers.catalog_for(&self.job.head.owner);
        let capability = catalog
            .get(&candidate.capability)
            .ok_or_else(|| format!("`{}` is no longer offered by its server", candidate.capability))?;
        if capability.digest != candidate.definition
            && let Some(reason) = refusal_of_need(capability, &self.job.body.task.need)
        {
            return Err(format!("`{}` was changed by its server since it was matched: {reason}", candidate.capability));
        }
        Ok(capability.annotations)
    }

    async fn call(
        &self,
        transport: &dyn McpTransport,
        candidate: &Candidate,
        input: RawJson,
        resume: Option<Resume>,
    ) -> Result<ToolReply, TransportError> {
        let progress = |progress| self.hold.put_progress(progress);
        let cx = CallContext { progress: &progress };
        match (resume, &self.job.head.checkpoint) {
            (Some(resume), Some(checkpoint)) => transport.resume(checkpoint, resume, &cx).await,
            _ => {
                let call =
                    ToolCall::new(candidate.capability.tool(), input).for_job(self.job.head.id, self.hold.key.epoch);
                transport.call(&call, &cx).await
            }
        }
    }

    /// The tool's own arguments, with what they take from other jobs in its place.
    async fn arguments(&self, candidate: &Candidate) -> Result<RawJson, Work> {
        let input = match arguments::filled(&self.ports, &self.job).await {
            Ok(input) => input,
            Err(Unfilled::Never(error)) => return Err(Work::Ended(Ending::Finish(Final::Dead(error)))),
            Err(Unfilled::Store(error)) => {
                tracing::warn!(job = %self.job.head.id, %error, "arguments not read");
                return Err(Work::Ended(plan::not_begun(&self.job, STORE_PAUSE)));
            }
        };
        let catalog = self.servers.catalog();
        let Some(capability) = catalog.get(&candidate.capability) else { return Ok(input) };
        // What a group's words come to may have been declared anew since the tool was matched.
        let as_matched = input == *self.job.body.input() && candidate.group.is_none();
        let own = if self.job.body.task.need.tool.is_some() { Ok(input) } else { capability.arguments(&input) };
        let refused = |own: &RawJson| if as_matched { None } else { refusal(capability, own) };
        own.and_then(|own| refused(&own).map_or(Ok(own), Err)).map_err(|why| {
            let error = JobError::new(JobErrorCode::InvalidInput, why);
            Work::Ended(Ending::Finish(Final::Dead(error)))
        })
    }

    /// Runs `work` until it is done or something stops it; then it is dropped. Progress is reported on the way.
    async fn raced<T>(&self, work: impl Future<Output = T>, calling: bool) -> Result<T, Work> {
        tokio::pin!(work);
        let now = self.clock.now();
        let deadline = Instant::now()
            + self
                .job
                .head
                .deadline_at
                .map_or(Duration::from_secs(u64::from(u32::MAX)), |deadline| deadline.since(now));
        let stop = async {
            tokio::select! {
                biased;
                () = self.hold.gone() => Stop::Lost,
                () = self.hold.cancel.cancelled() => {
                    Stop::Cancelled(self.hold.cancel_reason.get().cloned().unwrap_or_default())
                },
                () = tokio::time::sleep_until(deadline) => Stop::Deadline,
                () = self.cut.cancelled() => Stop::Drained,
            }
        };
        tokio::pin!(stop);
        // What is over already is not begun: a call goes out with its first poll.
        let over = tokio::select! {
            biased;
            stopped = &mut stop => Some(stopped),
            () = std::future::ready(()) => None,
        };
        let stopped = loop {
            if let Some(stopped) = over {
                break stopped;
            }
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                stopped = &mut stop => break stopped,
                () = self.hold.progress_news.notified() => {
                    let Some(progress) = self.hold.take_progress() else { continue };
                    // The call goes on while its progress is written down.
                    let reported = async {
                        self.report(progress).await;
                        tokio::time::sleep(self.ports.policy.progress_interval).await;
                    };
                    tokio::select! {
                        biased;
                        done = &mut work => return Ok(done),
                        stopped = &mut stop => break stopped,
                        () = reported => {},
                    }
                },
            }
        };
        Err(match stopped {
            Stop::Lost => Work::Nothing,
            Stop::Cancelled(reason) => Work::Ended(Ending::Finish(Final::Cancelled { reason })),
            Stop::Deadline => {
                let mut error = plan::deadline_exceeded();
                if calling {
                    error.message.push_str("; its call was made and may have happened");
                }
                Work::Ended(Ending::Finish(Final::Dead(error)))
            }
            Stop::Drained => Work::Ended(plan::drained(&self.job, calling)),
        })
    }

    async fn report(&self, progress: Progress) {
        let asked = Instant::now();
        let visibility = self.ports.policy.visibility;
        let beat = Heartbeat { lease: self.hold.key, progress: Some(progress.clone()) };
        match self.ports.jobs.heartbeat(&[beat], visibility).await {
            Ok(beats) => {
                if let Some(beat) = beats.first() {
                    self.hold.beat(beat, asked, visibility);
                }
            }
            Err(error) => tracing::warn!(job = %self.job.head.id, %error, "progress not saved"),
        }
        self.ports.tell_of(&self.job.head, EventKind::Progress(progress)).await;
    }

    fn failed(&self, error: &TransportError, annotations: Annotations) -> Work {
        tracing::info!(job = %self.job.head.id, delivered = ?error.delivered, %error, "attempt failed");
        Work::Ended(plan::failed(&self.job, error, annotations, &self.ports.policy, self.ports.entropy.unit()))
    }

    async fn observe(&self, candidate: &Candidate, verdict: Verdict, took: Duration) {
        let need = self.job.body.task.need.clone();
        let head = &self.job.head;
        let (owner, capability, at) = (head.owner.clone(), candidate.capability.clone(), self.clock.now());
        let outcome = Outcome { job: head.id, owner, need, capability, verdict, at, took };
        if let Err(error) = self.ports.matcher.observe(&outcome).await {
            tracing::warn!(%error, "outcome not learned");
        }
    }
}

/// What a failed call tells a matcher: a refusal tells of the tool, the rest of its server.
const fn verdict_of(error: &TransportError) -> Verdict {
    match error.kind {
        TransportErrorKind::Rejected { .. } | TransportErrorKind::Invalid => Verdict::Refused,
        TransportErrorKind::Connect
        | TransportErrorKind::Closed
        | TransportErrorKind::Timeout
        | TransportErrorKind::Protocol
        | TransportErrorKind::Busy
        | TransportErrorKind::TooLarge => Verdict::Unreached,
    }
}
