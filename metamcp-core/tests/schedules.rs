//! Recurring tasks: one job of each instant however many workers there are, and a schedule that goes on whatever happens to one time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so at once")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use metamcp_core::{
    auth::Principal,
    engine::{EngineError, Missed, NewSchedule, Orchestrator, Overlap, SCHEDULES_MAX, WorkerOptions},
    error::{StoreError, StoreErrorKind, StoreResult},
    id::ServerName,
    queue::{Job, JobQuery, JobState, JobStore, MemoryJobStore},
    record::{Expect, MemoryRecordStore, Record, RecordKind, RecordStore, Written},
    task::Task,
    testing::scripted::{ScriptedTransport, Step},
    time::{Clock, Timestamp},
};
use tokio::time::Instant;

#[derive(Debug)]
struct PausedClock(Instant);

impl Clock for PausedClock {
    fn now(&self) -> Timestamp {
        // 2026-09-21T14:13:20Z: twenty seconds past a minute.
        Timestamp::from_millis(1_790_000_000_000) + self.0.elapsed()
    }
}

/// Records of which a write can be made to fail after it was made, as when its answer is lost, or before.
#[derive(Debug)]
struct Failing {
    inner: MemoryRecordStore,
    loses_next_write: AtomicBool,
    /// Pages of lists that were read.
    pages: AtomicU32,
}

#[async_trait]
impl RecordStore for Failing {
    async fn get(&self, kind: RecordKind, name: &str) -> StoreResult<Option<Record>> {
        self.inner.get(kind, name).await
    }

    async fn put(
        &self,
        kind: RecordKind,
        name: &str,
        value: Bytes,
        expect: Expect,
        ttl: Option<Duration>,
    ) -> StoreResult<Written> {
        if self.loses_next_write.swap(false, Ordering::SeqCst) {
            return Err(StoreError::new(StoreErrorKind::Closed, "failing", "the process dies here"));
        }
        self.inner.put(kind, name, value, expect, ttl).await
    }

    async fn now(&self) -> StoreResult<Timestamp> {
        self.inner.now().await
    }

    async fn delete(&self, kind: RecordKind, name: &str) -> StoreResult<bool> {
        self.inner.delete(kind, name).await
    }

    async fn list(&self, kind: RecordKind, after: Option<&str>, max: u16) -> StoreResult<Vec<Record>> {
        self.pages.fetch_add(1, Ordering::SeqCst);
        self.inner.list(kind, after, max).await
    }
}

/// Stores that any number of engines share.
struct World {
    clock: Arc<PausedClock>,
    jobs: Arc<dyn JobStore>,
    records: Arc<Failing>,
    server: ScriptedTransport,
    who: Principal,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(PausedClock(Instant::now()));
        let inner = MemoryRecordStore::new(Arc::<PausedClock>::clone(&clock));
        let server =
            ScriptedTransport::new(ServerName::new("scripted").unwrap()).simple_tool("echo", "repeats words", true);
        Self {
            jobs: Arc::new(MemoryJobStore::new(Arc::<PausedClock>::clone(&clock))),
            records: Arc::new(Failing { inner, loses_next_write: AtomicBool::new(false), pages: AtomicU32::new(0) }),
            clock,
            server,
            who: Principal::local(),
        }
    }

    fn engine(&self) -> Orchestrator {
        self.engine_by(Arc::<PausedClock>::clone(&self.clock))
    }

    /// An engine whose process takes this for the time.
    fn engine_by(&self, clock: Arc<dyn Clock>) -> Orchestrator {
        Orchestrator::builder()
            .clock(clock)
            .jobs(Arc::clone(&self.jobs))
            .records(Arc::<Failing>::clone(&self.records))
            .server(ServerName::new("scripted").unwrap(), Arc::new(self.server.clone()))
            .build()
    }

    async fn made(&self) -> Vec<Job> {
        self.jobs.list(&JobQuery::default()).await.unwrap().jobs
    }
}

fn every_minute(name: &str) -> NewSchedule {
    NewSchedule {
        name: name.to_owned(),
        cron: "* * * * *".to_owned(),
        zone: "UTC".to_owned(),
        task: Task::new("").with_tool("scripted/echo".parse().unwrap()),
        missed: Missed::default(),
        overlap: Overlap::default(),
        paused: false,
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn any_number_of_workers_make_one_job_of_each_instant() {
    let world = World::new();
    let engines = [world.engine(), world.engine(), world.engine()];
    engines[0].put_schedule(&world.who, every_minute("m")).await.unwrap();
    let workers = engines.each_ref().map(|engine| engine.worker(WorkerOptions::default()));
    tokio::time::sleep(MINUTE * 5).await;
    assert_eq!(world.made().await.len(), 5);
    assert_eq!(world.server.calls("echo"), 5);
    let schedule = engines[1].schedule(&world.who, "m").await.unwrap();
    assert!(schedule.next_at > schedule.last_at && schedule.last_error.is_none(), "{schedule:?}");
    drop(workers);
}

/// An hour and a half ahead of the stores.
#[derive(Debug)]
struct Ahead(Arc<PausedClock>);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        self.0.now() + MINUTE * 90
    }
}

#[tokio::test(start_paused = true)]
async fn a_schedule_fires_by_the_time_of_the_store_whatever_its_workers_take_for_it() {
    let world = World::new();
    let engines = [world.engine_by(Arc::new(Ahead(Arc::clone(&world.clock)))), world.engine()];
    for (name, engine) in ["a", "b"].into_iter().zip(&engines) {
        engine.put_schedule(&world.who, every_minute(name)).await.unwrap();
    }
    let workers = engines.each_ref().map(|engine| engine.worker(WorkerOptions::default()));
    tokio::time::sleep(MINUTE * 5).await;
    assert_eq!(world.made().await.len(), 10, "one job of each instant of either");
    for name in ["a", "b"] {
        let schedule = engines[1].schedule(&world.who, name).await.unwrap();
        assert!(schedule.last_at.is_some_and(|at| at <= world.clock.now()), "{schedule:?}");
    }
    drop(workers);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_between_the_job_and_the_schedule_leaves_one_job() {
    let world = World::new();
    let engine = world.engine();
    engine.put_schedule(&world.who, every_minute("m")).await.unwrap();
    world.records.loses_next_write.store(true, Ordering::SeqCst);
    let _worker = engine.worker(WorkerOptions::default());
    tokio::time::sleep(MINUTE).await;
    assert_eq!(world.made().await.len(), 1, "fired twice, made once");
    assert!(!world.records.loses_next_write.load(Ordering::SeqCst), "the write was lost");
    assert!(engine.schedule(&world.who, "m").await.unwrap().last_at.is_some(), "and made up for");
}

#[tokio::test(start_paused = true)]
async fn what_was_missed_is_left_out_made_up_for_once_or_all_of_it() {
    for (missed, jobs) in [(Missed::Skip, 1), (Missed::Last, 1), (Missed::All, 10)] {
        let world = World::new();
        let engine = world.engine();
        engine.put_schedule(&world.who, NewSchedule { missed, ..every_minute("m") }).await.unwrap();
        tokio::time::sleep(MINUTE * 10).await;
        let _worker = engine.worker(WorkerOptions::default());
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(world.made().await.len(), jobs, "{missed:?}");
    }
    let world = World::new();
    let engine = world.engine();
    let hourly = NewSchedule { missed: Missed::Skip, cron: "0 * * * *".to_owned(), ..every_minute("h") };
    engine.put_schedule(&world.who, hourly).await.unwrap();
    tokio::time::sleep(MINUTE * 55).await;
    let _worker = engine.worker(WorkerOptions::default());
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(world.made().await.len(), 0, "the hour was struck long ago");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_refused_is_told_and_the_schedule_goes_on() {
    let world = World::new();
    let engine = world.engine();
    let mut terms = every_minute("m");
    terms.task = Task::new("").with_tool("scripted/nothing".parse().unwrap());
    engine.put_schedule(&world.who, terms).await.unwrap();
    let _worker = engine.worker(WorkerOptions::default());
    tokio::time::sleep(MINUTE).await;
    let schedule = engine.schedule(&world.who, "m").await.unwrap();
    assert!(schedule.last_error.unwrap().contains("no tool `nothing`"));
    engine.put_schedule(&world.who, every_minute("m")).await.unwrap();
    tokio::time::sleep(MINUTE).await;
    assert_eq!(world.made().await.len(), 1);
    assert_eq!(engine.schedule(&world.who, "m").await.unwrap().last_error, None);
}

#[tokio::test(start_paused = true)]
async fn jobs_overlap_only_if_they_may() {
    for (overlap, jobs) in [(Overlap::Allow, 3), (Overlap::Skip, 1)] {
        let world = World::new();
        let engine = world.engine();
        world.server.standing(Step::Hang);
        engine.put_schedule(&world.who, NewSchedule { overlap, ..every_minute("m") }).await.unwrap();
        let _worker = engine.worker(WorkerOptions::default());
        tokio::time::sleep(MINUTE * 3).await;
        assert_eq!(world.made().await.len(), jobs, "{overlap:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_schedule_is_paused_fired_by_hand_and_deleted_by_its_owner_alone() {
    let world = World::new();
    let engine = world.engine();
    let who = &world.who;
    engine.put_schedule(who, every_minute("m")).await.unwrap();
    let _worker = engine.worker(WorkerOptions::default());
    assert_eq!(engine.pause_schedule(who, "m", true).await.unwrap().next_at, None);
    tokio::time::sleep(MINUTE * 3).await;
    assert!(world.made().await.is_empty());
    let fired = engine.fire_schedule(who, "m").await.unwrap();
    assert!(!fired.duplicate);
    engine.pause_schedule(who, "m", false).await.unwrap();
    tokio::time::sleep(MINUTE).await;
    assert_eq!(world.made().await.iter().filter(|job| job.head.state == JobState::Done).count(), 2);

    let stranger = Principal::new(who.tenant.clone(), "stranger");
    assert!(matches!(engine.schedule(&stranger, "m").await, Err(EngineError::NotFound { .. })));
    assert!(matches!(engine.delete_schedule(&stranger, "m").await, Err(EngineError::NotFound { .. })));
    assert!(engine.schedules(&stranger, None, 10).await.unwrap().is_empty());
    engine.delete_schedule(who, "m").await.unwrap();
    tokio::time::sleep(MINUTE * 2).await;
    assert_eq!(world.made().await.len(), 2, "no more of them");
}

#[tokio::test(start_paused = true)]
async fn workers_read_the_schedules_again_only_when_one_was_changed() {
    let world = World::new();
    let engine = world.engine();
    let _worker = engine.worker(WorkerOptions::default());
    tokio::time::sleep(MINUTE * 5).await;
    assert_eq!(world.records.pages.swap(0, Ordering::SeqCst), 1);
    engine.put_schedule(&world.who, every_minute("m")).await.unwrap();
    let counted = world.records.pages.swap(0, Ordering::SeqCst);
    tokio::time::sleep(MINUTE * 5).await;
    assert_eq!((counted, world.records.pages.swap(0, Ordering::SeqCst)), (1, 1), "once to count, once to fire");
    assert_eq!(world.made().await.len(), 5);
    engine.pause_schedule(&world.who, "m", true).await.unwrap();
    engine.pause_schedule(&world.who, "m", false).await.unwrap();
    tokio::time::sleep(MINUTE * 5).await;
    assert_eq!((world.records.pages.load(Ordering::SeqCst), world.made().await.len()), (1, 10));
}

#[tokio::test(start_paused = true)]
async fn what_was_to_be_written_of_a_deleted_schedule_does_not_reach_the_one_made_after_it() {
    let world = World::new();
    let (engine, who) = (world.engine(), &world.who);
    engine.put_schedule(who, every_minute("m")).await.unwrap();
    let records = &world.records;
    let all = records.list(RecordKind::Schedule, None, 10).await.unwrap();
    // As a worker that fires it has it at hand.
    let old = all.into_iter().find(|record| !record.value.is_empty()).unwrap();
    engine.delete_schedule(who, "m").await.unwrap();
    assert!(matches!(engine.delete_schedule(who, "m").await, Err(EngineError::NotFound { .. })));
    assert!(engine.schedules(who, None, 10).await.unwrap().is_empty());
    let hourly = NewSchedule { cron: "0 * * * *".to_owned(), ..every_minute("m") };
    let made = engine.put_schedule(who, hourly).await.unwrap();
    let late =
        records.put(RecordKind::Schedule, &old.name, old.value, Expect::Version(old.version), None).await.unwrap();
    assert!(matches!(late, Written::Conflict { version: Some(_) }), "{late:?}");
    assert_eq!(engine.schedule(who, "m").await.unwrap(), made);
}

#[tokio::test(start_paused = true)]
async fn pages_of_schedules_are_full_whatever_was_deleted_in_between() {
    let world = World::new();
    let (engine, who) = (world.engine(), &world.who);
    for n in 0..9 {
        engine.put_schedule(who, every_minute(&format!("s{n}"))).await.unwrap();
    }
    for n in [1, 2, 3, 6] {
        engine.delete_schedule(who, &format!("s{n}")).await.unwrap();
    }
    let names = async |after: Option<&str>| {
        let page = engine.schedules(who, after, 3).await.unwrap();
        page.into_iter().map(|schedule| schedule.terms.name).collect::<Vec<_>>()
    };
    assert_eq!(names(None).await, ["s0", "s4", "s5"]);
    assert_eq!(names(Some("s5")).await, ["s7", "s8"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_a_schedule_names_its_field() {
    let world = World::new();
    let engine = world.engine();
    let good = || every_minute("m");
    let mut keyed = good();
    keyed.task = keyed.task.with_idempotency_key("k");
    for (terms, field) in [
        (NewSchedule { name: "a b".to_owned(), ..good() }, "name"),
        (NewSchedule { cron: "never".to_owned(), ..good() }, "cron"),
        (NewSchedule { cron: "0 0 30 2 *".to_owned(), ..good() }, "cron"),
        (NewSchedule { zone: "Nowhere".to_owned(), ..good() }, "zone"),
        (NewSchedule { task: Task::new(" "), ..good() }, "need"),
        (keyed, "idempotency_key"),
    ] {
        match engine.put_schedule(&world.who, terms).await {
            Err(EngineError::Invalid(why)) => assert_eq!(why.field, field, "{why}"),
            other => panic!("{field}: {other:?}"),
        }
    }
    for n in 0..SCHEDULES_MAX {
        engine.put_schedule(&world.who, every_minute(&format!("s{n}"))).await.unwrap();
    }
    let refused = engine.put_schedule(&world.who, good()).await.unwrap_err();
    assert!(refused.to_string().contains("delete one first"), "{refused}");
    let page = engine.schedules(&world.who, Some("s5"), 3).await.unwrap();
    let names: Vec<&str> = page.iter().map(|schedule| schedule.terms.name.as_str()).collect();
    assert_eq!(names, ["s50", "s500", "s501"]);
}
