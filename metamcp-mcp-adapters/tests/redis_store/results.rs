//! Results that many callers put at a time: few scripts, and the same pointers, counts and ends as one by one.

use bytes::Bytes;
use metamcp_core::{
    auth::Principal,
    id::JobId,
    pointer::ResultPointer,
    queue::LeaseKey,
    result::{ResultMeta, ResultStore},
    time::Timestamp,
};
use metamcp_mcp_adapters::{store::redis::RedisStore, testing::RedisServer};

use crate::fixture::{body_key, fresh};

/// Jobs whose results are put at a time.
const JOBS: u8 = 250;

async fn put(store: RedisStore, job: u8, body: Bytes, expires_at: Option<Timestamp>) -> ResultPointer {
    let key = LeaseKey { job: JobId::from_bytes([job; 16]), epoch: 1, nonce: 1 };
    let meta = ResultMeta { tenant: Principal::local().tenant, media_type: format!("text/{job}"), expires_at };
    store.results().put(key, body, meta).await.unwrap()
}

/// What each job brings: mostly a body of its own, now and then one that others bring too, small or large.
fn body_of(job: u8) -> Bytes {
    match job % 10 {
        0 => Bytes::from(vec![7; 600_000]),
        1..=3 => Bytes::from_static(b"the same"),
        _ => Bytes::from(job.to_string()),
    }
}

/// Puts everything at once, twice.
async fn put_all(store: &RedisStore) -> Vec<ResultPointer> {
    let all = || (0..JOBS).map(|job| tokio::spawn(put(store.clone(), job, body_of(job), None)));
    let tasks: Vec<_> = all().chain(all()).collect();
    let mut pointers = Vec::new();
    for task in tasks {
        pointers.push(task.await.unwrap());
    }
    let again = pointers.split_off(usize::from(JOBS));
    assert_eq!(pointers, again, "twice is once");
    pointers
}

async fn keys(server: &RedisServer, pattern: &str) -> usize {
    server.cli(&["KEYS", pattern]).await.unwrap().split_whitespace().count()
}

#[tokio::test]
async fn results_of_many_callers_cost_few_scripts_and_are_counted_one_by_one() {
    let (server, _clock, store) = fresh().await;
    server.cli(&["CONFIG", "RESETSTAT"]).await.unwrap();
    let pointers = put_all(&store).await;
    let stats = server.cli(&["INFO", "commandstats"]).await.unwrap();
    let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls=")?.split(',').next());
    let calls: u16 = calls.unwrap().parse().unwrap();
    assert!(calls < u16::from(JOBS), "{calls} scripts for {} puts", 2 * u16::from(JOBS));

    for (job, pointer) in (0..JOBS).zip(&pointers) {
        let told = store.results().get(pointer, None).await.unwrap();
        assert_eq!((told.bytes, told.media_type), (body_of(job), format!("text/{job}")));
    }
    assert_eq!(keys(&server, "*:upload:*").await, 0, "nothing of an upload is left");

    for (n, pointer) in pointers.iter().enumerate() {
        let others = pointers[n + 1..].iter().any(|other| other.digest == pointer.digest);
        store.results().delete(pointer).await.unwrap();
        let body = keys(&server, &body_key(pointer)).await;
        assert_eq!(body, usize::from(others), "a body goes with its last pointer");
    }
    assert_eq!(server.cli(&["HLEN", "{metamcp}:refs"]).await.unwrap().trim(), "0");
}

#[tokio::test]
async fn the_last_end_of_a_pointer_counts() {
    let (server, _clock, store) = fresh().await;
    let body = Bytes::from_static(b"a body");
    for (expires_at, ends) in [(Some(5), "1"), (None, "0"), (Some(9), "1"), (Some(7), "1")] {
        put(store.clone(), 1, body.clone(), expires_at.map(Timestamp::from_millis)).await;
        assert_eq!(server.cli(&["ZCOUNT", "{metamcp}:ptrs", "-inf", "(inf"]).await.unwrap().trim(), ends);
    }
    let max = std::num::NonZeroU16::MIN;
    assert_eq!(store.results().prune(Timestamp::from_millis(7), max).await.unwrap(), 0);
    assert_eq!(store.results().prune(Timestamp::from_millis(8), max).await.unwrap(), 1);
}
