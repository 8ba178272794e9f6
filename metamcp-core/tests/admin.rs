//! Whole stores in memory: moved, exported, imported, compared, redriven and drained, with jobs in every state.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test, like tests themselves")]

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use metamcp_core::{
    admin::{
        self, AdminError, CHUNK_BYTES, DeadFilter, MigrateOptions, Moved, Place, RedriveReport, Step, Tally,
        dead_letters, drain, export, import, migrate, queues, redrive, stalled, verify,
    },
    id::{JobId, Lane, WorkerId},
    pointer::ResultPointer,
    queue::{
        Checkpoint, ConcurrencyKey, Enqueued, Fenced, Final, Finish, InputRequest, Job, JobBody, JobError,
        JobErrorCode, JobQuery, JobState, JobStore, LeaseKey, LeaseRequest, MemoryJobStore, Nack, NackHow, NewJob,
        RateKey,
    },
    record::{Expect, MemoryRecordStore, RecordKind, RecordStore as _},
    result::{MemoryResultStore, ResultMeta, ResultStore as _},
    task::{Need, TaskRecord},
    testing::{ManualClock, job_store::new_job},
    time::Clock as _,
};

const HOUR: Duration = Duration::from_secs(3_600);

struct House {
    clock: Arc<ManualClock>,
    jobs: MemoryJobStore,
    results: MemoryResultStore,
    records: MemoryRecordStore,
}

impl House {
    fn new() -> Self {
        let clock = ManualClock::new();
        Self {
            jobs: MemoryJobStore::new(clock.clone()),
            results: MemoryResultStore::new(),
            records: MemoryRecordStore::new(clock.clone()),
            clock,
        }
    }

    fn place(&self) -> Place<'_> {
        Place { jobs: &self.jobs, results: &self.results, records: &self.records }
    }

    async fn add(&self, job: NewJob) -> JobId {
        let answers = self.jobs.enqueue(std::slice::from_ref(&job)).await.unwrap();
        assert!(matches!(answers[0], Enqueued::Ok { .. }), "{answers:?}");
        job.id
    }

    async fn take(&self, lane: &str) -> LeaseKey {
        let want = LeaseRequest {
            lanes: vec![Lane::new(lane).unwrap()],
            max: 1,
            visibility: Duration::from_secs(30),
            worker: WorkerId::new("w").unwrap(),
            request: rand::random(),
            nonce: rand::random(),
            shares: Arc::default(),
        };
        self.jobs.lease(&want).await.unwrap().jobs.pop().expect("a job is ready").key
    }

    async fn add_and_take(&self, job: NewJob) -> LeaseKey {
        let lane = job.lane.clone();
        self.add(job).await;
        self.take(lane.as_str()).await
    }

    async fn done(&self, job: NewJob, body: Vec<u8>) -> ResultPointer {
        let key = self.add_and_take(job).await;
        let meta = ResultMeta {
            tenant: new_job().owner.tenant,
            media_type: "application/json".to_owned(),
            expires_at: Some(self.clock.now() + HOUR),
        };
        let pointer = self.results.put(key, body.into(), meta).await.unwrap();
        let end = Final::Done(pointer.clone());
        assert_eq!(self.jobs.finish(&[Finish { lease: key, end }]).await.unwrap(), [Fenced::Ok(JobState::Done)]);
        pointer
    }

    async fn dead(&self, job: NewJob, code: JobErrorCode) -> JobId {
        let lease = self.add_and_take(job).await;
        let end = Final::Dead(JobError::new(code, "it did not work"));
        assert_eq!(self.jobs.finish(&[Finish { lease, end }]).await.unwrap(), [Fenced::Ok(JobState::Dead)]);
        lease.job
    }

    async fn all(&self) -> Vec<Job> {
        let mut query = JobQuery::default();
        let mut all = Vec::new();
        loop {
            let page = self.jobs.list(&query).await.unwrap();
            all.extend(page.jobs);
            query.before = page.next;
            if page.next.is_none() {
                return all;
            }
        }
    }

    /// Jobs in every state but leased, with all that a job may have, more of them than a page, records and a paused lane.
    async fn fill(&self) {
        let input = r#"{ "z": 1.10, "a": [1e3, "é"] }"#;
        let task = TaskRecord {
            need: Need { input: serde_json::from_str(input).unwrap(), ..Need::new("count") },
            labels: [("team".to_owned(), "docs".to_owned())].into(),
            cache: Some(HOUR),
        };
        let body = Arc::new(JobBody { task, ..JobBody::clone(&new_job().body) });
        self.done(NewJob { body, idempotency_key: Some("k1".to_owned()), ..job_in("done") }, b"[1]".to_vec()).await;
        self.done(job_in("done"), Vec::new()).await;
        self.done(job_in("done"), vec![7; 2 * CHUNK_BYTES + 5]).await;
        self.dead(job_in("dead"), JobErrorCode::ServerError).await;
        let cancelled = self.add(job_in("cancelled")).await;
        self.jobs.cancel(cancelled, "no longer needed").await.unwrap();
        let lease = self.add_and_take(job_in("input")).await;
        let how = NackHow::Park {
            requests: vec![InputRequest { key: "q".to_owned(), request: r#"{"method":"x"}"#.to_owned() }],
            checkpoint: Checkpoint { text: "\"here\"".to_owned(), replay_safe: false },
            ttl: HOUR,
        };
        assert_eq!(self.jobs.nack(&[Nack { lease, how }]).await.unwrap(), [Fenced::Ok(JobState::Input)]);
        self.add(NewJob { delay: HOUR, priority: 7, ..job_in("delayed") }).await;
        let parent = self.add(NewJob { deadline: Some(2 * HOUR), ..job_in("ready") }).await;
        self.add(NewJob { after: vec![parent], ..job_in("waiting") }).await;
        let concurrency = Some(ConcurrencyKey { key: "c".to_owned(), max: 1 });
        let rate = Some(RateKey { key: "r".to_owned(), every: HOUR, burst: 2 });
        self.add(NewJob { concurrency, rate, ..job_in("ready") }).await;
        for _ in 0..250 {
            self.add(new_job()).await;
        }
        self.jobs.pause(&Lane::heavy(), true).await.unwrap();
        for (kind, name, ttl) in [
            (RecordKind::Schedule, "nightly", None),
            (RecordKind::Schedule, "weekly", None),
            (RecordKind::Batch, "b1", Some(HOUR)),
            (RecordKind::Call, "c1", Some(HOUR)),
        ] {
            let value = Bytes::from(format!("{{\"of\":{name:?}}}"));
            self.records.put(kind, name, value, Expect::Absent, ttl).await.unwrap();
        }
    }

    async fn export(&self) -> Vec<u8> {
        let mut file = Vec::new();
        let exported = export(self.place(), &mut file, self.clock.now(), &mut |_, _| {}).await.unwrap();
        assert!(exported.findings.is_empty() && exported.without_result == 0, "{exported:?}");
        file
    }

    async fn import(&self, file: &[u8]) -> Result<Moved, AdminError> {
        import(&mut &*file, self.place(), self.clock.now(), &mut |_, _| {}).await
    }

    async fn assert_holds_all_of(&self, other: &Self) {
        assert_eq!(self.all().await, other.all().await);
        self.jobs.check().unwrap();
        let verified = verify(other.place(), self.place(), &mut |_, _| {}).await.unwrap();
        assert!(verified.findings.is_empty(), "{:?}", verified.findings);
        assert_eq!(verified.same, filled());
    }
}

fn job_in(lane: &str) -> NewJob {
    NewJob { lane: Lane::new(lane).unwrap(), ..new_job() }
}

/// What [`House::fill`] makes.
fn filled() -> Tally {
    Tally { jobs: 260, results: 3, result_bytes: 3 + 2 * CHUNK_BYTES as u64 + 5, records: 4, paused: 1 }
}

fn options(house: &House, force: bool) -> MigrateOptions {
    MigrateOptions { now: house.clock.now(), force }
}

#[tokio::test]
async fn everything_moves_and_a_second_move_changes_nothing() {
    let (from, to) = (House::new(), House::new());
    from.fill().await;
    let states: BTreeSet<JobState> = from.all().await.iter().map(|job| job.head.state).collect();
    assert_eq!(states.len(), 7, "every state but leased: {states:?}");
    let mut steps = Vec::new();
    let moved = migrate(from.place(), to.place(), &options(&to, false), &mut |step, tally| steps.push((step, *tally)))
        .await
        .unwrap();
    assert!(moved.is_whole(), "{moved:?}");
    assert_eq!((moved.moved.taken, moved.verified.same), (filled(), filled()));
    assert_eq!((steps.first().unwrap().0, *steps.last().unwrap()), (Step::Copy, (Step::Verify, filled())));
    to.assert_holds_all_of(&from).await;

    let again = migrate(from.place(), to.place(), &options(&to, false), &mut |_, _| {}).await.unwrap();
    assert!(again.is_whole(), "{again:?}");
    assert_eq!((again.moved.taken.jobs, again.moved.taken.records, again.moved.same), (0, 0, 260 + 4));
    to.assert_holds_all_of(&from).await;
}

#[tokio::test]
async fn a_move_goes_on_where_an_interrupted_one_ended() {
    let (from, to) = (House::new(), House::new());
    from.fill().await;
    let some: Vec<Job> = from.all().await.into_iter().take(70).collect();
    to.jobs.restore(&some).await.unwrap();
    let moved = migrate(from.place(), to.place(), &options(&to, false), &mut |_, _| {}).await.unwrap();
    assert!(moved.is_whole(), "{moved:?}");
    assert_eq!((moved.moved.same, moved.moved.taken.jobs), (70, 190));
    to.assert_holds_all_of(&from).await;
}

#[tokio::test]
async fn held_jobs_stop_a_move_unless_it_is_forced() {
    let (from, to) = (House::new(), House::new());
    let concurrency = Some(ConcurrencyKey { key: "c".to_owned(), max: 1 });
    let held = from.add_and_take(NewJob { concurrency: concurrency.clone(), ..new_job() }).await;
    let blocked = from.add(NewJob { concurrency, ..new_job() }).await;
    let error = migrate(from.place(), to.place(), &options(&to, false), &mut |_, _| {}).await.unwrap_err();
    assert!(matches!(error, AdminError::Held { leased: 1 }) && error.to_string().contains("stop the workers"));
    assert!(to.all().await.is_empty());
    let moved = migrate(from.place(), to.place(), &options(&to, true), &mut |_, _| {}).await.unwrap();
    assert!(moved.is_whole(), "{moved:?}");
    // The lease runs out there, and what it blocked goes on.
    to.clock.advance(HOUR);
    let done = to.jobs.maintain(std::num::NonZeroU16::MAX).await.unwrap();
    assert_eq!(done.reclaimed.first().map(|(id, _)| *id), Some(held.job));
    assert_eq!(to.take("light").await.job, blocked);
}

#[tokio::test]
async fn every_difference_is_found_and_nothing_there_is_overwritten() {
    let (from, to) = (House::new(), House::new());
    from.fill().await;
    let jobs = from.all().await;
    let mut tampered = jobs[0].clone();
    tampered.head.priority = 9;
    let mut other_request = jobs[1].clone();
    other_request.body = Arc::new(JobBody { route: jobs[1].body.route.clone(), ..JobBody::clone(&jobs[1].body) });
    Arc::make_mut(&mut other_request.body).task.labels.insert("x".to_owned(), "y".to_owned());
    to.jobs.restore(&[tampered.clone(), other_request]).await.unwrap();
    to.records.put(RecordKind::Schedule, "weekly", "other".into(), Expect::Absent, None).await.unwrap();
    let moved = migrate(from.place(), to.place(), &options(&to, false), &mut |_, _| {}).await.unwrap();
    assert_eq!(moved.moved.findings.total, 3, "{:?}", moved.moved.findings);
    assert!(!moved.is_whole());
    let id = tampered.head.id;
    let told = &moved.verified.findings;
    assert_eq!(told.total, 3, "{told:?}");
    assert!(told.first.contains(&format!("job {id}: its head differs in `priority`")), "{told:?}");
    assert!(told.first.contains(&format!("job {}: its request differs", jobs[1].head.id)), "{told:?}");
    assert!(told.first.contains(&"schedule record \"weekly\": differs".to_owned()), "{told:?}");
    assert_eq!(to.jobs.get(id).await.unwrap(), Some(tampered));

    // What is gone, new, or paused there.
    let with_result = jobs.iter().find(|job| job.head.result.is_some()).unwrap();
    to.results.delete(with_result.head.result.as_ref().unwrap()).await.unwrap();
    to.records.delete(RecordKind::Batch, "b1").await.unwrap();
    to.records.put(RecordKind::Schedule, "more", "1".into(), Expect::Absent, None).await.unwrap();
    to.jobs.pause(&Lane::light(), true).await.unwrap();
    let extra = to.add(job_in("extra")).await;
    let missing = from.add(job_in("missing")).await;
    let told = verify(from.place(), to.place(), &mut |_, _| {}).await.unwrap().findings;
    for what in [
        format!("job {}: its result cannot be read", with_result.head.id),
        "batch record \"b1\": is not there".to_owned(),
        "schedule record \"more\": is there and not in the source".to_owned(),
        "lane light:".to_owned(),
        format!("job {extra}: is there and not in the source"),
        format!("job {missing}: is not there"),
        "lane extra: is there".to_owned(),
        "lane missing: is not there".to_owned(),
    ] {
        assert!(told.first.iter().any(|finding| finding.starts_with(&what)), "{what}: {told:?}");
    }
    assert_eq!(told.total, 3 + 8, "{told:?}");
}

#[tokio::test]
async fn records_that_ran_out_since_are_no_differences_and_counted_apart() {
    let (from, to) = (House::new(), House::new());
    from.fill().await;
    migrate(from.place(), to.place(), &options(&to, false), &mut |_, _| {}).await.unwrap();
    from.clock.advance(2 * HOUR);
    let verified = verify(from.place(), to.place(), &mut |_, _| {}).await.unwrap();
    assert!(verified.findings.is_empty(), "{:?}", verified.findings);
    assert_eq!((verified.same.records, verified.ran_out), (2, 2), "schedules stay, a batch and a call ran out");
}

#[tokio::test]
async fn an_export_of_a_store_at_work_comes_in_whole() {
    let concurrency = Some(ConcurrencyKey { key: "c".to_owned(), max: 1 });
    let (from, to) = (House::new(), House::new());
    let parents = [from.add(new_job()).await, from.add(new_job()).await, from.add(new_job()).await];
    let child = from.add(NewJob { after: parents[..2].to_vec(), ..new_job() }).await;
    let lost = from.add(NewJob { after: vec![parents[0]], ..new_job() }).await;
    let blocked = from.add(NewJob { concurrency, ..job_in("other") }).await;
    let late = NewJob { id: JobId::MIN, after: vec![parents[2]], ..new_job() };
    from.add(late.clone()).await;
    let held = from.take("light").await;
    // Each job as it stood at another moment: with a user more and a user less, a child that names one that is gone, and one that is passed
    // over for nobody.
    let mut jobs = from.all().await;
    for Job { head, .. } in &mut jobs {
        match head.id {
            id if id == parents[0] => head.users = 7,
            id if id == parents[1] => head.users = 0,
            id if id == blocked => head.blocked = true,
            _ => {}
        }
    }
    jobs.retain(|job| job.head.id != lost);
    let torn = House::new();
    torn.jobs.restore(&jobs).await.unwrap();
    let moved = to.import(&torn.export().await).await.unwrap();
    assert!(moved.findings.is_empty() && moved.taken.jobs == 6, "{moved:?}");
    to.jobs.check().unwrap();
    let head = async |id| to.jobs.get(id).await.unwrap().unwrap().head;
    let users = [head(parents[0]).await.users, head(parents[1]).await.users, head(parents[2]).await.users];
    assert_eq!((users, head(child).await.state), ([1, 1, 1], JobState::Waiting));
    assert_eq!(to.take("other").await.job, blocked);
    let stood = torn.jobs.get(held.job).await.unwrap().unwrap().head;
    assert_eq!((held.job, head(held.job).await.state), (parents[0], JobState::Leased));
    to.clock.advance(HOUR);
    to.jobs.maintain(std::num::NonZeroU16::MAX).await.unwrap();
    let back = head(held.job).await;
    assert_eq!((back.state, back.lost, back.maybe_called), (JobState::Ready, stood.lost + 1, true));
    let again = to.import(&torn.export().await).await.unwrap();
    assert_eq!(again.taken.jobs, 0, "{again:?}");
}

#[tokio::test]
async fn a_job_that_is_named_and_did_not_come_is_told() {
    let (from, to) = (House::new(), House::new());
    let parent = from.add(new_job()).await;
    from.add(NewJob { after: vec![parent], ..new_job() }).await;
    let torn = House::new();
    torn.jobs.restore(&from.all().await[..1]).await.unwrap();
    let moved = to.import(&torn.export().await).await.unwrap();
    assert!(moved.findings.first[0].contains(&parent.to_string()), "{moved:?}");
}

#[tokio::test]
async fn an_idempotency_key_that_is_taken_there_is_told() {
    let (from, to) = (House::new(), House::new());
    let keyed = || NewJob { idempotency_key: Some("k".to_owned()), ..new_job() };
    let (left_out, holder) = (from.add(keyed()).await, to.add(keyed()).await);
    let moved = migrate(from.place(), to.place(), &options(&to, false), &mut |_, _| {}).await.unwrap();
    let told = &moved.moved.findings.first;
    assert!(told[0].contains(&left_out.to_string()) && told[0].contains(&holder.to_string()), "{told:?}");
}

#[tokio::test]
async fn an_export_brings_everything_back_once() {
    let (from, to) = (House::new(), House::new());
    from.fill().await;
    let file = from.export().await;
    assert_eq!(admin::check(&mut &*file, &mut |_, _| {}).await.unwrap(), filled());
    let moved = to.import(&file).await.unwrap();
    assert!(moved.findings.is_empty(), "{moved:?}");
    assert_eq!((moved.taken, moved.same, moved.without_result), (filled(), 0, 0));
    to.assert_holds_all_of(&from).await;
    let again = to.import(&file).await.unwrap();
    assert_eq!((again.taken.jobs, again.same, again.findings.total), (0, 264, 0));
    to.assert_holds_all_of(&from).await;
}

#[tokio::test]
async fn a_cut_file_is_told_and_the_whole_one_then_brings_the_rest() {
    let (from, to) = (House::new(), House::new());
    from.fill().await;
    let file = from.export().await;
    let lines: Vec<&[u8]> = file.split_inclusive(|byte| *byte == b'\n').collect();
    for kept in [1, 5, 120, lines.len() - 1] {
        let cut = lines[..kept].concat();
        for cut in [&cut[..], &[&cut[..], &lines[kept][..lines[kept].len() / 2]].concat()] {
            let error = to.import(cut).await.unwrap_err().to_string();
            assert!(error.starts_with(&format!("line {}: the file ends here", kept + 1)), "{error}");
            assert_eq!(admin::check(&mut &*cut, &mut |_, _| {}).await.unwrap_err().to_string(), error);
        }
    }
    assert!(!to.all().await.is_empty(), "what came before the cut was taken in");
    let moved = to.import(&file).await.unwrap();
    assert!(moved.findings.is_empty(), "{moved:?}");
    to.assert_holds_all_of(&from).await;
}

#[tokio::test]
async fn damage_is_told_with_its_line() {
    let from = House::new();
    from.fill().await;
    let text = String::from_utf8(from.export().await).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let (last, job) = (lines.len(), lines.iter().position(|line| line.starts_with("{\"job\"")).unwrap());
    let part = lines.iter().position(|line| line.starts_with("{\"result\"")).unwrap();
    let changed = |at: usize, line: &str| {
        let mut lines = lines.clone();
        lines[at] = line;
        lines.join("\n") + "\n"
    };
    let without = |at: usize| [&lines[..at], &lines[at + 1..]].concat().join("\n") + "\n";
    let newer = lines[0].replace("\"version\":1", "\"version\":2");
    let priority = lines[job].replace("\"priority\":0", "\"priority\":1");
    let other_digest = lines[part].replace("res://local/", "res://other/");
    assert!(priority != lines[job] && newer != lines[0] && other_digest != lines[part]);
    let more = format!("{text}{}\n", lines[job]);
    for (file, line, words) in [
        (changed(0, &newer), 1, "version 2"),
        (changed(0, "{}"), 1, "not the first line"),
        (changed(job, "{\"job\":{}}"), job + 1, "is damaged"),
        (changed(job, &priority), last, "another digest"),
        (changed(part, &other_digest), 0, ""),
        (without(job), last - 1, "another digest"),
        (without(part), 0, ""),
        (more, last, "something follows"),
        (String::new(), 1, "the file ends here"),
    ] {
        let to = House::new();
        let error = to.import(file.as_bytes()).await.unwrap_err();
        let AdminError::Line { line: told, why } = &error else { panic!("{error:?}") };
        assert!(line == 0 || *told == line as u64, "line {line} {words}: {error}");
        assert!(why.contains(words), "{words}: {error}");
        let checked = admin::check(&mut file.as_bytes(), &mut |_, _| {}).await.unwrap_err();
        assert_eq!(checked.to_string(), error.to_string());
    }
}

#[tokio::test]
async fn a_result_that_is_gone_keeps_no_job_back() {
    let (from, to) = (House::new(), House::new());
    let pointer = from.done(new_job(), b"1".to_vec()).await;
    from.results.delete(&pointer).await.unwrap();
    let moved = migrate(from.place(), to.place(), &options(&to, false), &mut |_, _| {}).await.unwrap();
    assert!(moved.is_whole() && moved.moved.without_result == 1, "{moved:?}");
    let mut file = Vec::new();
    let exported = export(from.place(), &mut file, from.clock.now(), &mut |_, _| {}).await.unwrap();
    assert_eq!((exported.without_result, exported.written.jobs), (1, 1));
    let other = House::new();
    assert_eq!(other.import(&file).await.unwrap().without_result, 1);
    assert_eq!(other.all().await, from.all().await);
}

#[tokio::test]
async fn moved_results_outlive_their_retention_from_now() {
    let (from, to) = (House::new(), House::new());
    let pointer = from.done(NewJob { retain: HOUR, ..new_job() }, b"1".to_vec()).await;
    to.clock.advance(100 * HOUR);
    migrate(from.place(), to.place(), &options(&to, false), &mut |_, _| {}).await.unwrap();
    let max = std::num::NonZeroU16::MAX;
    assert_eq!(to.results.prune(to.clock.now(), max).await.unwrap(), 0);
    assert!(to.results.get(&pointer, None).await.is_ok());
    to.clock.advance(367 * 24 * HOUR);
    assert_eq!(to.results.prune(to.clock.now(), max).await.unwrap(), 1);
}

#[tokio::test]
async fn dead_letters_are_redriven_by_filter_parents_first() {
    let house = House::new();
    let early = house.dead(job_in("a"), JobErrorCode::Lost).await;
    house.clock.advance(HOUR);
    let since = house.clock.now();
    let late = house.dead(job_in("a"), JobErrorCode::ServerError).await;
    let labelled = {
        let mut job = job_in("b");
        let labels = [("team".to_owned(), "docs".to_owned())].into();
        job.body =
            Arc::new(JobBody { task: TaskRecord { labels, ..job.body.task.clone() }, route: job.body.route.clone() });
        house.dead(job, JobErrorCode::Lost).await
    };
    let found = async |filter: DeadFilter| {
        let page = dead_letters(&house.jobs, &filter, None, 10).await.unwrap();
        page.jobs.iter().map(|job| job.head.id).collect::<Vec<_>>()
    };
    let lane = Some(Lane::new("a").unwrap());
    let label = Some(("team".to_owned(), "docs".to_owned()));
    assert_eq!(found(DeadFilter::default()).await, [labelled, late, early]);
    assert_eq!(found(DeadFilter { lane: lane.clone(), ..DeadFilter::default() }).await, [late, early]);
    let lost = DeadFilter { code: Some(JobErrorCode::Lost), ..DeadFilter::default() };
    assert_eq!(found(lost.clone()).await, [labelled, early]);
    assert_eq!(found(DeadFilter { since: Some(since), ..DeadFilter::default() }).await, [labelled, late]);
    assert_eq!(found(DeadFilter { label, ..DeadFilter::default() }).await, [labelled]);

    let mut told = Vec::new();
    let report = redrive(&house.jobs, &lost, &mut |report| told.push(*report)).await.unwrap();
    assert_eq!(report, RedriveReport { found: 2, redriven: 2, ..RedriveReport::default() });
    assert_eq!((told.first().unwrap().redriven, told.last()), (0, Some(&report)));
    let left = DeadFilter::default();
    assert_eq!(found(left.clone()).await, [late]);

    // A parent and the child that failed with it: the child waits for it again.
    let parent = house.add_and_take(job_in("p")).await;
    let child = house.add(NewJob { after: vec![parent.job], ..job_in("p") }).await;
    let end = Final::Dead(JobError::new(JobErrorCode::Internal, "no"));
    house.jobs.finish(&[Finish { lease: parent, end }]).await.unwrap();
    house.jobs.maintain(std::num::NonZeroU16::MAX).await.unwrap();
    assert_eq!(found(left.clone()).await, [child, parent.job, late]);
    assert_eq!(redrive(&house.jobs, &left, &mut |_| {}).await.unwrap().redriven, 3);
    house.jobs.maintain(std::num::NonZeroU16::MAX).await.unwrap();
    assert_eq!(house.jobs.get(child).await.unwrap().unwrap().head.state, JobState::Waiting);
    house.jobs.check().unwrap();
}

#[tokio::test]
async fn a_drain_cancels_what_waits_and_leaves_held_jobs_and_other_lanes_alone() {
    let house = House::new();
    let held = house.add_and_take(job_in("x")).await;
    let lease = house.add_and_take(job_in("x")).await;
    let how = NackHow::Park {
        requests: Vec::new(),
        checkpoint: Checkpoint { text: "1".to_owned(), replay_safe: true },
        ttl: HOUR,
    };
    house.jobs.nack(&[Nack { lease, how }]).await.unwrap();
    house.add(NewJob { after: vec![held.job], ..job_in("x") }).await;
    house.add(NewJob { delay: HOUR, ..job_in("x") }).await;
    for _ in 0..150 {
        house.add(job_in("x")).await;
    }
    let other = house.add(job_in("y")).await;
    let lane = Lane::new("x").unwrap();
    let report = drain(&house.jobs, &lane, &mut |_| {}).await.unwrap();
    assert_eq!((report.cancelled, report.asked, report.changed), (153, 0, 0));
    let queues = queues(&house.jobs).await.unwrap();
    let counts = queues.iter().find(|(name, _)| *name == lane).unwrap().1;
    assert_eq!((counts.leased, counts.ready + counts.waiting + counts.delayed + counts.input), (1, 0));
    assert_eq!(house.jobs.get(other).await.unwrap().unwrap().head.state, JobState::Ready);
    assert!(house.jobs.get(held.job).await.unwrap().unwrap().head.cancel_reason.is_none());
    assert_eq!(drain(&house.jobs, &lane, &mut |_| {}).await.unwrap().cancelled, 0);
}

#[tokio::test]
async fn leases_that_are_over_are_told() {
    let house = House::new();
    let first = house.add_and_take(new_job()).await;
    house.clock.advance(Duration::from_secs(20));
    let second = house.add_and_take(new_job()).await;
    assert!(stalled(&house.jobs, house.clock.now(), 10).await.unwrap().jobs.is_empty());
    house.clock.advance(Duration::from_secs(20));
    let told = stalled(&house.jobs, house.clock.now(), 10).await.unwrap();
    assert_eq!((told.jobs.len(), told.jobs[0].head.id, told.more), (1, first.job, false));
    house.clock.advance(Duration::from_secs(20));
    let told = stalled(&house.jobs, house.clock.now(), 1).await.unwrap();
    assert_eq!((told.jobs.len(), told.jobs[0].head.id, told.more), (1, second.job, true));
}
