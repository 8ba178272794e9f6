//! What every face calls: one method per thing a caller may want, each authorised here, so that a policy holds on every path.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    adopt::{self, Adopted, Adoption},
    arguments,
    batch::{self, Batch, BatchState},
    batch_id::BatchId,
    chain::{self, Plan},
    choice,
    error::EngineError,
    ports::{Ports, persist},
    schedule::{self, NewSchedule, Schedule},
    servers::{ServerEntry, Servers},
    submit::{self, Submitted},
    worker::{Worker, WorkerOptions},
};
use crate::{
    auth::Principal,
    error::StoreErrorKind,
    event::{EVENT_PAGE_MAX, EventKind, EventPage},
    id::{CapabilityId, JobId, Lane, ServerName},
    json::RawJson,
    matching::{Catalog, Route, ServerTerms, UNKNOWN_INPUT},
    pointer::ResultPointer,
    queue::{Answer, Answered, Cancelled, Job, JobPage, JobQuery, JobState, LaneCounts, Redriven, StoreHealth},
    registry::ServerStatus,
    result::{ByteRange, ResultBody},
    task::{InvalidTask, Need, Task},
    transport::{McpTransport, TransportError},
};

/// Longest time between two looks at a job that is waited for, in seconds: news of it may be lost.
const LOOK_S_MAX: u64 = 5;
/// Longest cancel reason, in bytes; longer ones are cut.
const REASON_BYTES_MAX: usize = 512;

/// The engine. Cheap to clone; clones are the same engine.
///
/// # Cancel safety
/// Every method may be dropped: what it had begun is then done or not done, and asking again tells. Submissions should carry an idempotency
/// key if they may be repeated.
#[derive(Debug, Clone)]
pub struct Orchestrator {
    ports: Arc<Ports>,
    servers: Arc<Servers>,
    adoption: Arc<Adoption>,
}

impl Orchestrator {
    pub(super) fn new(ports: Ports, servers: Vec<ServerEntry>) -> Self {
        let servers = Arc::new(Servers::new(servers, Arc::clone(&ports.clock), Arc::clone(&ports.policy)));
        let adoption = Arc::new(Adoption::new(&*ports.entropy));
        Self { ports: Arc::new(ports), servers, adoption }
    }

    /// Accepts a task: matched, durable, and told before this returns.
    ///
    /// # Errors
    /// When the task breaks a bound, nothing fits it, its idempotency key is another request's, or its lane is full.
    pub async fn submit(&self, who: &Principal, task: Task) -> Result<Submitted, EngineError> {
        let own = |key: &String| submit::RESERVED_KEYS.iter().any(|prefix| key.starts_with(prefix));
        if task.idempotency_key.as_ref().is_some_and(own) {
            let mend =
                format!("must not begin with {}; schedules and batches use these", submit::RESERVED_KEYS.join(" or "));
            return Err(InvalidTask::new("idempotency_key", mend).into());
        }
        // On the heap from the start: the future of every caller would carry it.
        Box::pin(submit::submit(&self.ports, &self.servers, who, task)).await
    }

    /// Accepts many tasks in one call, at most [`BATCH_TASKS_MAX`](super::BATCH_TASKS_MAX), each by itself: one that is refused holds no other
    /// one back. With an idempotency key the same call again finds the same batch; the tasks' own keys are then not used.
    ///
    /// # Errors
    /// When the number of tasks is out of bounds, the key belongs to other tasks, or a store fails.
    pub async fn submit_batch(
        &self,
        who: &Principal,
        tasks: Vec<Task>,
        idempotency_key: Option<&str>,
    ) -> Result<Batch, EngineError> {
        self.check_key(idempotency_key)?;
        batch::submit(&self.ports, &self.servers, who, tasks, idempotency_key).await
    }

    fn check_key(&self, key: Option<&str>) -> Result<(), EngineError> {
        let key_bytes_max = self.ports.limits.idempotency_key_bytes_max;
        if key.is_some_and(|key| key.is_empty() || key.len() > key_bytes_max) {
            return Err(InvalidTask::new("idempotency_key", format!("must be 1 to {key_bytes_max} bytes")).into());
        }
        Ok(())
    }

    /// A batch of the caller.
    ///
    /// # Errors
    /// `NotFound` when it is not there or not the caller's.
    pub async fn batch(&self, who: &Principal, id: &BatchId) -> Result<Batch, EngineError> {
        batch::get(&self.ports, who, id).await
    }

    /// How the tasks of a batch stand.
    ///
    /// # Errors
    /// `NotFound` when it is not there or not the caller's.
    pub async fn batch_state(&self, who: &Principal, id: &BatchId) -> Result<BatchState, EngineError> {
        batch::state(&self.ports, &self.batch(who, id).await?).await
    }

    /// Waits until every task of a batch has ended, or `max_wait` is over; answers how they then stand.
    ///
    /// # Errors
    /// `NotFound` when it is not there or not the caller's.
    pub async fn wait_batch(
        &self,
        who: &Principal,
        id: &BatchId,
        max_wait: Duration,
    ) -> Result<BatchState, EngineError> {
        batch::wait(&self.ports, &self.batch(who, id).await?, max_wait).await
    }

    /// Cancels every task of a batch that has not ended; answers how they then stand.
    ///
    /// # Errors
    /// `NotFound` when it is not there or not the caller's.
    pub async fn cancel_batch(&self, who: &Principal, id: &BatchId, reason: &str) -> Result<BatchState, EngineError> {
        let batch = self.batch(who, id).await?;
        for job in batch.jobs() {
            match self.cancel(who, job, reason).await {
                // It has ended, or was removed since.
                Ok(_) | Err(EngineError::State { .. } | EngineError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        batch::state(&self.ports, &batch).await
    }

    /// Makes a recurring task, or changes the caller's one of that name. It fires while some worker runs on the same stores.
    ///
    /// # Errors
    /// When the name, the timetable or the task is out of bounds, or the schedule is changed by another at the same moment.
    pub async fn put_schedule(&self, who: &Principal, schedule: NewSchedule) -> Result<Schedule, EngineError> {
        schedule::put(&self.ports, who, schedule).await
    }

    /// A recurring task of the caller.
    ///
    /// # Errors
    /// `NotFound` when there is none of that name.
    pub async fn schedule(&self, who: &Principal, name: &str) -> Result<Schedule, EngineError> {
        Ok(schedule::get(&self.ports, who, name).await?.schedule)
    }

    /// The caller's recurring tasks in order of name, after `after`, at most `max` and never more than
    /// [`RECORD_PAGE_MAX`](crate::record::RECORD_PAGE_MAX); a short page is the last.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn schedules(
        &self,
        who: &Principal,
        after: Option<&str>,
        max: u16,
    ) -> Result<Vec<Schedule>, EngineError> {
        schedule::list(&self.ports, who, after, max).await
    }

    /// Stops or resumes a recurring task. What would have been due in between is not made up for.
    ///
    /// # Errors
    /// `NotFound` when there is none of that name.
    pub async fn pause_schedule(&self, who: &Principal, name: &str, paused: bool) -> Result<Schedule, EngineError> {
        schedule::pause(&self.ports, who, name, paused).await
    }

    /// Deletes a recurring task; its jobs stay.
    ///
    /// # Errors
    /// `NotFound` when there is none of that name.
    pub async fn delete_schedule(&self, who: &Principal, name: &str) -> Result<(), EngineError> {
        schedule::delete(&self.ports, who, name).await
    }

    /// Submits the task of a schedule now; when it fires next does not change.
    ///
    /// # Errors
    /// `NotFound` when there is none of that name, or what [`submit`](Self::submit) refuses.
    pub async fn fire_schedule(&self, who: &Principal, name: &str) -> Result<Submitted, EngineError> {
        let task = self.schedule(who, name).await?.terms.task;
        self.submit(who, task).await
    }

    /// Makes a job of a call that runs already, durable and leased by this process before this returns; [`Adopted::run`] goes on with the call.
    /// The job has no bound on how many of its kind run: its call is on its way.
    ///
    /// # Errors
    /// When the arguments break a bound, the tool is not known, or the store fails. The call itself is not touched.
    pub async fn adopt(
        &self,
        who: &Principal,
        capability: &CapabilityId,
        arguments: RawJson,
    ) -> Result<Adopted, EngineError> {
        adopt::adopt(&self.ports, &self.servers, &self.adoption, who, capability, arguments).await
    }

    /// Ranks without submitting.
    ///
    /// # Errors
    /// When the need breaks a bound or the matcher fails. An empty route is an answer.
    pub async fn route(&self, who: &Principal, need: Need) -> Result<Route, EngineError> {
        let task = Task { need, ..Task::default() };
        self.ports.limits.check(&task)?;
        let route = submit::rank(&self.ports, &self.servers, who, &task.need).await?;
        Ok(choice::told(route, &|server| self.servers.seen(server)))
    }

    /// Proposes how to serve a need that may take several steps, each by one tool, one handing its result to the next. Runs nothing; when one
    /// tool covers the whole need, the plan has one step. A plan without steps is an answer: nothing fits.
    ///
    /// # Errors
    /// When the need breaks a bound, names a tool, or asks for more than [`PLAN_STEPS_MAX`](super::PLAN_STEPS_MAX) steps, or the matcher fails.
    pub async fn plan(&self, who: &Principal, need: Need) -> Result<Plan, EngineError> {
        chain::propose::propose(&self.ports, &self.servers, who, need).await
    }

    /// Accepts a plan: each step becomes a task that waits for the one before, all of them a batch. The plan may have been changed since it was
    /// proposed; everything in it is checked as if it were new. With an idempotency key the same call again finds the same batch.
    ///
    /// # Errors
    /// When the plan breaks a bound, a tool is not there for the caller or has changed, or an argument is missing or does not fit: no step runs
    /// then. Also what [`submit`](Self::submit) refuses; steps that were accepted before are then cancelled.
    pub async fn run_plan(
        &self,
        who: &Principal,
        plan: &Plan,
        idempotency_key: Option<&str>,
    ) -> Result<Batch, EngineError> {
        self.check_key(idempotency_key)?;
        chain::run::run(&self.ports, &self.servers, who, plan, idempotency_key).await
    }

    /// Ranks the capabilities of a catalogue for a need; without an input by words alone, whatever input they take.
    ///
    /// # Errors
    /// When the need breaks a bound or the matcher fails. An empty route is an answer.
    pub async fn find(
        &self,
        who: &Principal,
        words: &str,
        input: Option<RawJson>,
        among: &Catalog,
    ) -> Result<Route, EngineError> {
        let open = input.is_none();
        let need = Need { input: input.unwrap_or_default(), ..Need::new(words) };
        let mut task = Task { need, ..Task::default() };
        self.ports.limits.check(&task)?;
        if open {
            task.need.input = RawJson::parse(UNKNOWN_INPUT).expect("`null` is JSON");
        }
        Ok(self.ports.matcher.rank(who, &task.need, among).await?)
    }

    /// Arguments with everything they refer to (`{"$ref": "task://…"}`, `{"$ref": "res://…"}`) in its place, under the caller's rights; `None`
    /// when a task that they name has not ended, so that only a task of its own can wait for it.
    ///
    /// # Errors
    /// When a reference is malformed, is not the caller's, or leads to nothing.
    pub async fn fill(&self, who: &Principal, arguments: &RawJson) -> Result<Option<RawJson>, EngineError> {
        arguments::filled_now(&self.ports, who, arguments).await
    }

    /// One job.
    ///
    /// # Errors
    /// `NotFound` when it is not there or not the caller's.
    pub async fn get(&self, who: &Principal, id: JobId) -> Result<Job, EngineError> {
        match self.ports.jobs.get(id).await? {
            Some(job) if who.may_access(&job.head.owner) => Ok(job),
            _ => Err(EngineError::NotFound { what: "task" }),
        }
    }

    /// The caller's jobs, newest first; the query's owner is always the caller.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self, who: &Principal, mut query: JobQuery) -> Result<JobPage, EngineError> {
        query.owner = Some(who.clone());
        Ok(self.ports.jobs.list(&query).await?)
    }

    /// Waits until the job has ended or asks for input, or `max_wait` is over; answers the job as it then stands.
    ///
    /// # Errors
    /// `NotFound` when it is not there or not the caller's.
    pub async fn wait(&self, who: &Principal, id: JobId, max_wait: Duration) -> Result<Job, EngineError> {
        let end = Instant::now() + max_wait;
        let mut cursor = self.ports.events.latest().await?;
        loop {
            let job = self.get(who, id).await?;
            // An event may be lost: the job is looked at again after a while.
            let left = end.saturating_duration_since(Instant::now()).min(Duration::from_secs(LOOK_S_MAX));
            if job.head.state.is_final() || job.head.state == JobState::Input || left.is_zero() {
                return Ok(job);
            }
            let news = async {
                loop {
                    let page = self.ports.events.read(cursor, EVENT_PAGE_MAX, left).await?;
                    cursor = page.next;
                    if page.missed || page.events.iter().any(|e| e.event.job == id) {
                        return Ok::<_, EngineError>(());
                    }
                }
            };
            // Whether news came or the time is over, the job is read again.
            if let Ok(outcome) = tokio::time::timeout(left, news).await {
                outcome?;
            }
        }
    }

    /// Ends a job that nobody works on; asks its worker to stop otherwise.
    ///
    /// # Errors
    /// `NotFound`, or `State` when it has ended.
    pub async fn cancel(&self, who: &Principal, id: JobId, reason: &str) -> Result<Job, EngineError> {
        let job = self.get(who, id).await?;
        let reason = &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)];
        match persist("cancel", || self.ports.jobs.cancel(id, reason)).await? {
            Cancelled::Now => {
                self.ports.tell_of(&job.head, EventKind::Cancelled { reason: reason.to_owned() }).await;
                if let Some(checkpoint) = &job.head.checkpoint {
                    self.servers.stop_remote(&job, checkpoint);
                }
            }
            Cancelled::Asked => self.ports.nudge.send_replace(()),
            Cancelled::Already(JobState::Cancelled) => {}
            Cancelled::Already(state) => {
                return Err(EngineError::State { state, mend: "it has ended and cannot be cancelled" });
            }
            Cancelled::Gone => return Err(EngineError::NotFound { what: "task" }),
        }
        self.get(who, id).await
    }

    /// Queues a dead job again.
    ///
    /// # Errors
    /// `NotFound`, or `State` when it is not dead.
    pub async fn retry(&self, who: &Principal, id: JobId) -> Result<Job, EngineError> {
        let job = self.get(who, id).await?;
        match persist("redrive", || self.ports.jobs.redrive(id)).await? {
            Redriven::Ok => self.ports.tell_of(&job.head, EventKind::Resumed).await,
            Redriven::NotDead(state) => {
                return Err(EngineError::State { state, mend: "only a failed task can be retried" });
            }
            Redriven::Missing { .. } => {
                let mend = "a task that it takes input from is no longer kept; submit both anew";
                return Err(EngineError::State { state: JobState::Dead, mend });
            }
            Redriven::Gone => return Err(EngineError::NotFound { what: "task" }),
        }
        self.get(who, id).await
    }

    /// Brings the answers a job waits for: a JSON object from request key to response.
    ///
    /// # Errors
    /// `NotFound`, `Invalid` when the answers do not fit what is asked, or `State` when nothing is asked.
    pub async fn answer(&self, who: &Principal, id: JobId, answer: Answer) -> Result<Job, EngineError> {
        let job = self.get(who, id).await?;
        if job.head.state == JobState::Input {
            submit::check_answer(&job.head.requests, &answer)?;
        }
        match persist("answer", || self.ports.jobs.answer(id, answer.clone())).await? {
            Answered::Ok => self.ports.tell_of(&job.head, EventKind::Resumed).await,
            Answered::NotWaiting(state) => {
                return Err(EngineError::State { state, mend: "it asks for no input" });
            }
            Answered::Gone => return Err(EngineError::NotFound { what: "task" }),
        }
        self.get(who, id).await
    }

    /// Reads a result or a part of it. Only the pointer that its job tells is served: a body that was never acknowledged is not there.
    ///
    /// # Errors
    /// `NotFound` when it is not there or not the caller's; `Invalid` for a range behind the end.
    pub async fn result(
        &self,
        who: &Principal,
        pointer: &ResultPointer,
        range: Option<ByteRange>,
    ) -> Result<ResultBody, EngineError> {
        let missing = || EngineError::NotFound { what: "result" };
        let job = self.get(who, pointer.job).await.map_err(|error| match error {
            EngineError::NotFound { .. } => missing(),
            other => other,
        })?;
        if job.head.result.as_ref() != Some(pointer) {
            return Err(missing());
        }
        self.ports.results.get(pointer, range).await.map_err(|error| match error.kind() {
            StoreErrorKind::NotFound => missing(),
            StoreErrorKind::Invalid => InvalidTask::new("range", error.to_string()).into(),
            _ => error.into(),
        })
    }

    /// Reads the caller's events after a cursor, waiting up to `wait` for the first.
    ///
    /// # Errors
    /// When the bus fails.
    pub async fn events(
        &self,
        who: &Principal,
        after: u64,
        max: u16,
        wait: Duration,
    ) -> Result<EventPage, EngineError> {
        let mut page = self.ports.events.read(after, max.min(EVENT_PAGE_MAX), wait).await?;
        page.events.retain(|event| who.may_access(&event.event.owner));
        Ok(page)
    }

    /// The cursor of the newest event.
    ///
    /// # Errors
    /// When the bus fails.
    pub async fn latest_event(&self) -> Result<u64, EngineError> {
        Ok(self.ports.events.latest().await?)
    }

    /// What configuration says of a server; `None` when it is not configured.
    #[must_use]
    pub fn terms(&self, name: &ServerName) -> Option<Arc<ServerTerms>> {
        self.servers.terms(name)
    }

    /// The servers that the caller may use, ordered by name, as they are known now; starts none.
    #[must_use]
    pub fn servers_for(&self, who: &Principal) -> Vec<ServerStatus> {
        self.servers.statuses_for(who)
    }

    /// Every tool that the caller may use. Servers that were never connected are, waiting for them as a submission does.
    pub async fn tools_for(&self, who: &Principal) -> Arc<Catalog> {
        self.servers.discover(None, self.ports.policy.discover_wait).await;
        self.servers.catalog_for(who)
    }

    /// What is known at this moment of the tools that the caller may use; starts nothing.
    #[must_use]
    pub fn catalog_for(&self, who: &Principal) -> Arc<Catalog> {
        self.servers.catalog_for(who)
    }

    /// Every configured server, ordered by name, as it is known now; starts none. For the operator: it asks for nobody's rights.
    #[must_use]
    pub fn servers(&self) -> Vec<ServerStatus> {
        self.servers.statuses()
    }

    /// Every known tool, whoever may use it. Servers that were never connected are, waiting for them as a submission does.
    pub async fn tools(&self) -> Arc<Catalog> {
        self.servers.discover(None, self.ports.policy.discover_wait).await;
        self.servers.catalog()
    }

    /// What is known of all tools at this moment, whoever may use them; starts nothing.
    #[must_use]
    pub fn catalog(&self) -> Arc<Catalog> {
        self.servers.catalog()
    }

    /// How many jobs of a lane stand where.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn counts(&self, lane: &Lane) -> Result<LaneCounts, EngineError> {
        Ok(self.ports.jobs.counts(lane).await?)
    }

    /// The lanes that workers serve and those that hold jobs or are paused, A to Z, with how many jobs stand where.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn lanes(&self, _who: &Principal) -> Result<Vec<(Lane, LaneCounts)>, EngineError> {
        let mut told = Vec::new();
        for lane in self.known_lanes().await? {
            let counts = self.ports.jobs.counts(&lane).await?;
            told.push((lane, counts));
        }
        Ok(told)
    }

    /// Stops or resumes leasing from a lane, for all workers of the store; held jobs go on. Answers how many jobs then stand where.
    ///
    /// # Errors
    /// `NotFound` for a lane that no worker serves and that holds no jobs.
    pub async fn pause_lane(&self, _who: &Principal, lane: &Lane, paused: bool) -> Result<LaneCounts, EngineError> {
        if !self.known_lanes().await?.contains(lane) {
            return Err(EngineError::NotFound { what: "lane" });
        }
        persist("pause", || self.ports.jobs.pause(lane, paused)).await?;
        self.counts(lane).await
    }

    async fn known_lanes(&self) -> Result<BTreeSet<Lane>, EngineError> {
        let mut known: BTreeSet<Lane> = self.ports.jobs.lanes().await?.into_iter().collect();
        known.extend(self.ports.policy.lanes.iter().cloned());
        Ok(known)
    }

    /// The live connection to a server, made if there is none. While a failed server is in its pause this answers at once.
    ///
    /// # Errors
    /// When the server is not configured, is down, or does not come up.
    pub async fn transport(&self, name: &ServerName) -> Result<Arc<dyn McpTransport>, TransportError> {
        self.servers.transport(name).await
    }

    /// What the job store really gives.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn health(&self) -> Result<StoreHealth, EngineError> {
        Ok(self.ports.jobs.health().await?)
    }

    /// Starts a loop that serves jobs in this process until it is drained or dropped.
    #[must_use]
    pub fn worker(&self, options: WorkerOptions) -> Worker {
        Worker::start(Arc::clone(&self.ports), Arc::clone(&self.servers), options)
    }

    /// Gives the jobs of adopted calls back and closes every connection to a server; child processes are reaped when this returns. Drain
    /// workers first.
    pub async fn close(&self) {
        self.adoption.close().await;
        self.servers.close().await;
    }
}
