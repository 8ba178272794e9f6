//! The stored form of each version must load for ever: records and a whole journal of version 1 lie in `tests/fixtures/v1`.
//!
//! For a new version: add `tests/fixtures/vN`, run the tests once with `METAMCP_UPDATE_FIXTURES=1`, and commit what it wrote. Fixtures that
//! are there are never written again.

use std::{
    collections::BTreeMap,
    fs,
    num::NonZeroU16,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use metamcp_core::{
    auth::Principal,
    error::StoreErrorKind,
    event::{Event, EventBus, EventKind, NewEvent},
    id::{JobId, Lane, TenantId, WorkerId},
    json::RawJson,
    matching::{Candidate, Reason, Rejection, Route},
    pointer::{Digest, ResultPointer},
    queue::{
        Answer, Checkpoint, Final, Finish, InputRequest, Job, JobBody, JobError, JobErrorCode, JobHead, JobQuery,
        JobState, JobStore, LeaseEnd, LeaseKey, LeaseRequest, NewJob, Progress,
    },
    result::{ResultMeta, ResultStore},
    task::{Labels, Need, TaskRecord},
    testing::ManualClock,
    time::Timestamp,
};

use super::{
    EmbeddedOptions, EmbeddedStore,
    codec::{self, ResultRecord},
    journal,
    keys::{self, Kind},
};

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1")
}

/// The fixture of that name; written first when it is not there and the environment asks for it.
fn fixture(name: &str, write: impl FnOnce(&Path)) -> Vec<u8> {
    let path = dir().join(name);
    if !path.exists() && std::env::var_os("METAMCP_UPDATE_FIXTURES").is_some_and(|value| value == "1") {
        fs::create_dir_all(dir()).unwrap();
        write(&path);
    }
    fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}; run once with METAMCP_UPDATE_FIXTURES=1", path.display()))
}

fn id(n: u8) -> JobId {
    let mut bytes = [0x01, 0x9a, 0, 0, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, 0];
    bytes[15] = n;
    JobId::from_bytes(bytes)
}

const fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(1_767_225_600_000 + ms)
}

fn owner() -> Principal {
    Principal::new(TenantId::new("acme").unwrap(), "ada")
}

fn pointer(n: u8) -> ResultPointer {
    ResultPointer { tenant: owner().tenant, job: id(n), digest: Digest::of(b"{\"sum\":3}") }
}

/// A head of each state, every field used by at least one of them.
fn heads() -> Vec<JobHead> {
    let ready = JobHead {
        id: id(1),
        owner: owner(),
        lane: Lane::light(),
        priority: 7,
        state: JobState::Ready,
        created_at: at(0),
        updated_at: at(1),
        due_at: at(2),
        started_at: None,
        finished_at: None,
        deadline: Some(Duration::new(60, 7)),
        deadline_at: Some(at(60_000)),
        retain: Duration::new(86_400, 5),
        attempts: 0,
        attempts_max: 5,
        lost: 0,
        lost_max: 3,
        epoch: 0,
        nonce: 0,
        worker: None,
        lease_until: None,
        lease_end: None,
        maybe_called: false,
        cancel_reason: None,
        candidate: 0,
        checkpoint: None,
        requests: Vec::new(),
        answer: None,
        input_until: None,
        progress: None,
        result: None,
        error: None,
        idempotency_key: Some("größe-1".to_owned()),
        request_digest: Digest::of(b"request"),
    };
    let started = JobHead {
        started_at: Some(at(10)),
        epoch: 300,
        nonce: u64::MAX,
        lease_end: Some(LeaseEnd::Released),
        idempotency_key: None,
        ..ready.clone()
    };
    let delayed = JobHead {
        id: id(2),
        state: JobState::Delayed,
        attempts: 1,
        candidate: 2,
        lease_end: Some(LeaseEnd::Failed),
        error: Some(JobError::new(JobErrorCode::ServerUnavailable, "connection refused")),
        answer: Some(Answer { responses: r#"{"q":{"action":"accept"}}"#.to_owned() }),
        ..started.clone()
    };
    let leased = JobHead {
        id: id(3),
        lane: Lane::heavy(),
        state: JobState::Leased,
        worker: Some(WorkerId::new("4711-00ff").unwrap()),
        lease_until: Some(at(30_000)),
        lease_end: None,
        cancel_reason: Some("no longer needed".to_owned()),
        checkpoint: Some(Checkpoint { text: r#"{"task":"t-1"}"#.to_owned(), replay_safe: true }),
        progress: Some(Progress { value: 1.5, total: Some(3.0), message: Some("half".to_owned()) }),
        ..started.clone()
    };
    let input = JobHead {
        id: id(4),
        state: JobState::Input,
        lease_end: Some(LeaseEnd::Parked),
        checkpoint: Some(Checkpoint { text: "{}".to_owned(), replay_safe: false }),
        requests: vec![InputRequest { key: "q".to_owned(), request: r#"{"method":"elicitation/create"}"#.to_owned() }],
        input_until: Some(at(600_000)),
        ..started.clone()
    };
    let ended = JobHead { finished_at: Some(at(20_000)), lease_end: Some(LeaseEnd::Finished), ..started };
    vec![
        ready,
        delayed,
        leased,
        input,
        JobHead { id: id(5), state: JobState::Done, result: Some(pointer(5)), ..ended.clone() },
        JobHead {
            id: id(6),
            state: JobState::Dead,
            lost: 3,
            lease_end: Some(LeaseEnd::Lost),
            maybe_called: true,
            error: Some(JobError::new(JobErrorCode::OutcomeUnknown, "the call may have happened")),
            ..ended.clone()
        },
        JobHead { id: id(7), state: JobState::Cancelled, cancel_reason: Some("by owner".to_owned()), ..ended },
    ]
}

fn body() -> JobBody {
    let need = Need {
        text: "add two numbers".to_owned(),
        // Spelling and order of the input are kept as they came.
        input: RawJson::parse(r#"{ "b": 2.50, "a": 1e2 }"#).unwrap(),
        tool: Some("math/add".parse().unwrap()),
        lane: Some(Lane::light()),
        ..Need::default()
    };
    let candidate = Candidate {
        capability: "math/add".parse().unwrap(),
        score: 2.25,
        reasons: vec![
            Reason::Named,
            Reason::Term { field: "name".to_owned(), term: "add".to_owned(), score: 1.5 },
            Reason::Other { text: "worked before".to_owned(), score: 0.75 },
        ],
        lane: None,
        definition: Digest::of(b"definition"),
    };
    let rejected = Rejection { capability: "gpu/add".parse().unwrap(), reason: "needs a GPU".to_owned() };
    JobBody {
        task: TaskRecord { need, labels: Labels::from([("team".to_owned(), "blue".to_owned())]) },
        route: Route { candidates: vec![candidate], rejected: vec![rejected] },
    }
}

fn event() -> Event {
    let kind = EventKind::Completed { result: pointer(5) };
    Event { cursor: 42, at: at(20_000), event: NewEvent { job: id(5), owner: owner(), kind } }
}

#[test]
fn heads_of_version_1_load_in_every_state() {
    for head in heads() {
        let ended = matches!(head.state, JobState::Done | JobState::Cancelled);
        let key = keys::job_key(if ended { Kind::Final } else { Kind::Live }, head.id);
        let name = format!("head-{}.bin", format!("{:?}", head.state).to_lowercase());
        let now = codec::encode_head(&key, &head).unwrap();
        let stored = fixture(&name, |path| fs::write(path, &now).unwrap());
        assert_eq!(codec::decode_head(&key, &stored).unwrap(), head, "{name}");
        assert_eq!(now, stored, "{name}: this build writes another form under the same version");
    }
}

#[test]
fn a_body_and_an_event_and_a_result_reference_of_version_1_load() {
    let key = keys::job_key(Kind::Body, id(1));
    let now = codec::encode_json(&key, &body()).unwrap();
    let stored = fixture("body.bin", |path| fs::write(path, &now).unwrap());
    assert_eq!(codec::decode_body(&key, &stored).unwrap(), body());

    let key = keys::event_key(42);
    let now = codec::encode_json(&key, &event()).unwrap();
    let stored = fixture("event.bin", |path| fs::write(path, &now).unwrap());
    assert_eq!(codec::decode_json::<Event>(&key, &stored).unwrap(), event());

    let key = keys::result_key(&pointer(5));
    let record = ResultRecord { media_type: "application/json".to_owned(), bytes: 9, expires_at: Some(at(86_400_000)) };
    let now = codec::encode_json(&key, &record).unwrap();
    let stored = fixture("result.bin", |path| fs::write(path, &now).unwrap());
    assert_eq!(codec::decode_json::<ResultRecord>(&key, &stored).unwrap(), record);
    assert_eq!(keys::expired_result_of(&keys::result_expiry_key(at(1), &pointer(5))).unwrap(), pointer(5));
}

#[test]
fn a_damaged_a_misplaced_and_a_newer_record_are_refused_by_name() {
    let head = heads().remove(0);
    let key = keys::job_key(Kind::Live, head.id);
    let record = codec::encode_head(&key, &head).unwrap();
    for n in 0..record.len() {
        let mut damaged = record.clone();
        damaged[n] ^= 0x10;
        let e = codec::decode_head(&key, &damaged).unwrap_err();
        assert_eq!(e.kind(), StoreErrorKind::Corrupt);
        assert!(e.to_string().contains(&format!("live/{}", head.id)), "{e}");
        let e = codec::decode_head(&key, &record[..n]).unwrap_err();
        assert_eq!(e.kind(), StoreErrorKind::Corrupt);
    }
    assert!(codec::decode_head(&keys::job_key(Kind::Live, id(9)), &record).is_err());
    let mut newer = record;
    newer[0] += 1;
    let e = codec::decode_head(&key, &newer).unwrap_err();
    assert!(e.to_string().contains("version 2 is newer than 1"), "{e}");
}

/// Makes the small data directory whose journal is the fixture: a job in each state that a stopped store leaves, events, a result, a pause.
async fn fill(dir: &Path) {
    let clock = ManualClock::new();
    let store = EmbeddedStore::open(dir, clock, &EmbeddedOptions::default()).unwrap();
    let jobs = store.jobs();
    let new = |n: u8| NewJob {
        id: id(n),
        owner: owner(),
        lane: Lane::light(),
        priority: 0,
        delay: Duration::from_secs(u64::from(n == 2) * 3_600),
        deadline: (n == 2).then(|| Duration::from_secs(86_400)),
        retain: Duration::from_secs(86_400),
        attempts_max: 3,
        lost_max: 3,
        idempotency_key: (n == 1).then(|| "key".to_owned()),
        request_digest: Digest::of(&[n]),
        body: Arc::new(body()),
    };
    jobs.enqueue(&(1..=6).map(new).collect::<Vec<_>>()).await.unwrap();
    let want = LeaseRequest {
        lanes: vec![Lane::light()],
        max: 4,
        visibility: Duration::from_secs(30),
        worker: WorkerId::new("w").unwrap(),
        request: 1,
        nonce: 7,
    };
    let leased: Vec<LeaseKey> = jobs.lease(&want).await.unwrap().jobs.into_iter().map(|leased| leased.key).collect();
    let body = bytes::Bytes::from_static(b"{\"sum\":3}");
    let meta = ResultMeta { tenant: owner().tenant, media_type: "application/json".to_owned(), expires_at: None };
    let result = store.results().put(leased[0], body, meta).await.unwrap();
    let dead = JobError::new(JobErrorCode::TooLarge, "over the bound");
    let ends = [
        Finish { lease: leased[0], end: Final::Done(result) },
        Finish { lease: leased[1], end: Final::Dead(dead) },
        Finish { lease: leased[2], end: Final::Cancelled { reason: "by owner".to_owned() } },
    ];
    jobs.finish(&ends).await.unwrap();
    jobs.pause(&Lane::heavy(), true).await.unwrap();
    let kind = EventKind::Queued;
    let events: Vec<_> = (1..=3).map(|n| NewEvent { job: id(n), owner: owner(), kind: kind.clone() }).collect();
    store.events().publish(&events).await.unwrap();
}

#[tokio::test]
async fn a_journal_of_version_1_opens_with_all_it_holds() {
    let made = tempfile::tempdir().unwrap();
    let needs_one = !dir().join(journal::FILE_NAME).exists();
    if needs_one {
        fill(made.path()).await;
    }
    let stored = fixture(journal::FILE_NAME, |path| {
        fs::copy(made.path().join(journal::FILE_NAME), path).unwrap();
    });
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join(journal::FILE_NAME), stored).unwrap();
    let store = EmbeddedStore::open(home.path(), ManualClock::new(), &EmbeddedOptions::default()).unwrap();
    let jobs = store.jobs();
    jobs.verify().await.unwrap();
    let listed = jobs.list(&JobQuery::default()).await.unwrap().jobs;
    let states: BTreeMap<JobId, JobState> = listed.iter().map(|Job { head, .. }| (head.id, head.state)).collect();
    // The fourth grant was held when the process ended: it is taken back, without a delay.
    let expected = [
        (id(1), JobState::Done),
        (id(2), JobState::Delayed),
        (id(3), JobState::Dead),
        (id(4), JobState::Cancelled),
        (id(5), JobState::Ready),
        (id(6), JobState::Ready),
    ];
    assert_eq!(states, BTreeMap::from(expected));
    assert!(listed.iter().all(|job| *job.body == body()));
    assert_eq!(listed.iter().find(|job| job.head.id == id(1)).unwrap().head.result, Some(pointer(1)));
    assert_eq!(store.events().read(0, 10, Duration::ZERO).await.unwrap().events.len(), 3);
    assert_eq!(jobs.maintain(NonZeroU16::new(10).unwrap()).await.unwrap().promoted, 0);
}
