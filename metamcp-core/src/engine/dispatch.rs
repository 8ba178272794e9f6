//! One leased job, from lease to end: connect, call, and write down what came of it. The races of a call with cancel, deadline, drain and the
//! loss of its lease are all in [`Dispatch::raced`].

use std::{
    future::Future,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    arguments::{self, Unfilled},
    cache::{self, Hit},
    plan::{self, Ending, Start},
    ports::{Ports, persist},
    servers::Servers,
    slots::Seats,
    store_clock::StoreClock,
    submit::look,
};
use crate::{
    error::StoreResult,
    event::EventKind,
    json::RawJson,
    matching::{Annotations, Candidate, Outcome, Verdict, refusal},
    pointer::ResultPointer,
    queue::{
        Beat, CHECKPOINT_BYTES_MAX, Checkpoint, Fenced, Final, Finish, Heartbeat, Job, JobError, JobErrorCode,
        JobState, LeaseKey, Leased, Nack, NackHow, Progress,
    },
    result::{RESULT_BYTES_MAX, ResultMeta},
    transport::{
        CallContext, McpTransport, Resume, ToolCall, ToolOutput, ToolReply, TransportError, TransportErrorKind,
    },
};

/// How long a job waits whose input or cached result could not be read or written.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// How long a job waits, on average, whose server takes up as many slots of the worker as it may.
const NO_SEAT_PAUSE: Duration = Duration::from_secs(1);
/// How much longer than its job's retention a result is kept, should the job's own removal be missed. As long as a job may be delayed: one that
/// takes this result keeps the job for as long.
pub(crate) const RESULT_GRACE: Duration = Duration::from_secs(366 * 24 * 3_600);

/// What the worker's heartbeat and the dispatch of one job share.
#[derive(Debug)]
pub(super) struct Hold {
    pub(super) key: LeaseKey,
    /// The lease is gone, or cannot be shown to be held: stop and write nothing.
    lost: CancellationToken,
    /// The owner's wish to stop.
    cancel: CancellationToken,
    cancel_reason: OnceLock<String>,
    /// On this process's own clock, counted from before the request: until then the lease is surely ours.
    until: Mutex<Instant>,
    progress: Mutex<Option<Progress>>,
    progress_news: Notify,
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
    async fn gone(&self) {
        let ran_out = async {
            loop {
                let until = self.until();
                if until <= Instant::now() {
                    return;
                }
                tokio::time::sleep_until(until).await;
            }
        };
        tokio::select! {
            biased;
            () = self.lost.cancelled() => {},
            () = ran_out => {},
        }
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

    fn take_progress(&self) -> Option<Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

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

    async fn conclude(self, work: Work) {
        match work {
            Work::Ended(ending) => {
                let over = matches!(ending, Ending::Finish(Final::Dead(_) | Final::Cancelled { .. }));
                self.end(ending).await;
                if let (true, Some(checkpoint)) = (over, &self.job.head.checkpoint) {
                    self.servers.stop_remote(&self.job, checkpoint);
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
            && let Some(reason) = refusal(capability, self.job.body.input())
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

    /// The tool's arguments with what they take from other jobs in its place.
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
        let refused = catalog
            .get(&candidate.capability)
            .filter(|_| input != *self.job.body.input())
            .and_then(|capability| refusal(capability, &input));
        match refused {
            Some(why) => {
                let error = JobError::new(JobErrorCode::InvalidInput, why);
                Err(Work::Ended(Ending::Finish(Final::Dead(error))))
            }
            None => Ok(input),
        }
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

    async fn done(&self, candidate: &Candidate, output: ToolOutput, took: Duration, cached: Option<Cached>) -> Work {
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
    async fn served(&self, hit: Hit) -> Work {
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

    async fn save(&self, checkpoint: Checkpoint, poll_after: Duration, progress: Option<Progress>) -> Work {
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

fn handle_too_large() -> Work {
    let message = format!("the server's handle to go on with is over the bound of {CHECKPOINT_BYTES_MAX} bytes");
    Work::Ended(Ending::Finish(Final::Dead(JobError::new(JobErrorCode::ProtocolViolation, message))))
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
