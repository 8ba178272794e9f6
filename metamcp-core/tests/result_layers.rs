//! Result stores made of others: the cache and the two tiers pass the behaviour suite, ask the stores behind them no more than they must, and
//! tell what those say.

#![expect(clippy::unwrap_used, reason = "a test stops where something is wrong")]

use std::{
    num::NonZeroU16,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use metamcp_core::{
    error::{StoreError, StoreErrorKind, StoreResult},
    id::{JobId, TenantId},
    pointer::ResultPointer,
    queue::LeaseKey,
    result::{
        ByteRange, CacheOptions, CachedResultStore, INLINE_BYTES_MAX, MemoryResultStore, ResultBody, ResultMeta,
        ResultStore, TieredResultStore,
    },
    testing::result_store::ResultStoreFixture,
    time::Timestamp,
};

const KIB: usize = 1 << 10;

/// A store in memory that counts who asks it, and that can be told to fail or to hand out damage.
#[derive(Debug, Default)]
struct Watched {
    store: MemoryResultStore,
    gets: AtomicUsize,
    deletes: AtomicUsize,
    down: AtomicBool,
    damaged: AtomicBool,
}

impl Watched {
    fn gets(&self) -> usize {
        self.gets.load(Ordering::SeqCst)
    }

    fn check(&self) -> StoreResult<()> {
        if self.down.load(Ordering::SeqCst) {
            return Err(StoreError::new(StoreErrorKind::Unavailable, "watched", "it is down"));
        }
        Ok(())
    }
}

#[async_trait]
impl ResultStore for Watched {
    async fn put(&self, key: LeaseKey, body: Bytes, meta: ResultMeta) -> StoreResult<ResultPointer> {
        self.check()?;
        self.store.put(key, body, meta).await
    }

    async fn get(&self, pointer: &ResultPointer, range: Option<ByteRange>) -> StoreResult<ResultBody> {
        self.gets.fetch_add(1, Ordering::SeqCst);
        // Others get the time to come with the same wish.
        tokio::task::yield_now().await;
        self.check()?;
        let mut body = self.store.get(pointer, range).await?;
        if self.damaged.load(Ordering::SeqCst) {
            body.bytes = body.bytes.iter().map(|byte| !byte).collect();
        }
        Ok(body)
    }

    async fn delete(&self, pointer: &ResultPointer) -> StoreResult<()> {
        self.deletes.fetch_add(1, Ordering::SeqCst);
        self.check()?;
        self.store.delete(pointer).await
    }

    async fn prune(&self, expired_before: Timestamp, max: NonZeroU16) -> StoreResult<u16> {
        self.check()?;
        self.store.prune(expired_before, max).await
    }
}

fn cached(ttl: Duration) -> (Arc<Watched>, CachedResultStore) {
    let inner = Arc::new(Watched::default());
    let mut options = CacheOptions::default();
    options.ttl = ttl;
    (Arc::clone(&inner), CachedResultStore::new(inner, &options))
}

fn tiered(inline_bytes_max: usize) -> (Arc<Watched>, Arc<Watched>, TieredResultStore) {
    let (small, large) = (Arc::<Watched>::default(), Arc::<Watched>::default());
    (Arc::clone(&small), Arc::clone(&large), TieredResultStore::new(small, large, inline_bytes_max))
}

async fn put(store: &dyn ResultStore, job: u64, body: Bytes) -> ResultPointer {
    let key = LeaseKey { job: JobId::new(Timestamp::from_millis(job)), epoch: 1, nonce: 1 };
    let tenant = TenantId::new("local").unwrap();
    let meta =
        ResultMeta { tenant, media_type: "text/plain".to_owned(), expires_at: Some(Timestamp::from_millis(1_000)) };
    store.put(key, body, meta).await.unwrap()
}

/// Bytes that differ from place to place.
fn body(len: usize) -> Bytes {
    (0..len).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[4]).collect()
}

fn range(start: u64, len: u64) -> Option<ByteRange> {
    Some(ByteRange { start, len })
}

async fn read(store: &dyn ResultStore, pointer: &ResultPointer) -> StoreResult<Bytes> {
    Ok(store.get(pointer, None).await?.bytes)
}

mod cache_suite {
    use super::*;

    async fn make() -> ResultStoreFixture {
        ResultStoreFixture::new(Arc::new(cached(Duration::from_secs(60)).1), ())
    }

    metamcp_core::result_store_suite!(make);
}

/// Every body but the empty one and those of four bytes is large.
mod tiers_suite {
    use super::*;

    async fn make() -> ResultStoreFixture {
        ResultStoreFixture::new(Arc::new(tiered(4).2), ())
    }

    metamcp_core::result_store_suite!(make);
}

mod usual_tiers_suite {
    use super::*;

    async fn make() -> ResultStoreFixture {
        ResultStoreFixture::new(Arc::new(tiered(INLINE_BYTES_MAX).2), ())
    }

    metamcp_core::result_store_suite!(make);
}

#[tokio::test]
async fn a_body_is_read_once_and_then_served_from_the_cache() {
    let (inner, store) = cached(Duration::from_secs(60));
    for (job, len) in [(1, 0), (2, 10), (3, 256 * KIB)] {
        let pointer = put(&store, job, body(len)).await;
        let before = inner.gets();
        for _ in 0..3 {
            assert_eq!(read(&store, &pointer).await.unwrap(), body(len));
            let part = store.get(&pointer, range(len as u64 / 2, 7)).await.unwrap();
            assert_eq!((part.bytes, part.total), (body(len).slice(len / 2..len.min(len / 2 + 7)), len as u64));
            assert_eq!(part.media_type, "text/plain");
        }
        assert_eq!(inner.gets() - before, 1, "{len} bytes");
    }
}

#[tokio::test]
async fn parts_of_a_large_body_are_cached_in_blocks_and_are_the_right_ones() {
    let (inner, store) = cached(Duration::from_secs(60));
    let whole = body(1_300 * KIB + 17);
    let (total, block) = (whole.len() as u64, 256 * KIB as u64);
    let pointer = put(&store, 1, whole.clone()).await;
    let edges = [0, 1, block - 1, block, block + 1, 3 * block, total - 1, total];
    for start in edges {
        for len in [0, 1, 2, block - 1, block, block + 1, 2 * block + 3, u64::MAX] {
            let part = store.get(&pointer, range(start, len)).await.unwrap();
            let end = start.saturating_add(len).min(total);
            assert!(part.bytes == whole.slice(start as usize..end as usize), "{len} bytes from {start}");
            assert_eq!(part.total, total);
        }
    }
    for start in [total + 1, 2 * total, 100 * total, u64::MAX] {
        assert_eq!(store.get(&pointer, range(start, 1)).await.unwrap_err().kind(), StoreErrorKind::Invalid);
    }
    let before = inner.gets();
    for start in (0..total).step_by(100 * KIB) {
        store.get(&pointer, range(start, 64 * KIB as u64)).await.unwrap();
    }
    assert_eq!(inner.gets(), before, "all blocks were there");
    assert_eq!(read(&store, &pointer).await.unwrap(), whole, "the first block is not the whole");
}

#[tokio::test]
async fn readers_of_one_body_wait_for_one_read() {
    let (inner, store) = cached(Duration::from_secs(60));
    let pointer = put(&store, 1, body(1_000)).await;
    let (a, b, c, d) = tokio::join!(
        read(&store, &pointer),
        read(&store, &pointer),
        store.get(&pointer, range(1, 1)),
        read(&store, &pointer)
    );
    assert_eq!((a.unwrap(), b.unwrap(), d.unwrap()), (body(1_000), body(1_000), body(1_000)));
    assert_eq!(c.unwrap().bytes, body(1_000).slice(1..2));
    assert_eq!(inner.gets(), 1);
}

#[tokio::test]
async fn a_failed_read_is_told_to_all_who_waited_and_not_remembered() {
    let (inner, store) = cached(Duration::from_secs(60));
    let pointer = put(&store, 1, body(10)).await;
    inner.down.store(true, Ordering::SeqCst);
    let (a, b) = tokio::join!(read(&store, &pointer), read(&store, &pointer));
    for refused in [a.unwrap_err(), b.unwrap_err()] {
        assert!(refused.is_retryable() && refused.to_string().contains("it is down"), "{refused}");
    }
    inner.down.store(false, Ordering::SeqCst);
    assert_eq!(read(&store, &pointer).await.unwrap(), body(10));
}

#[tokio::test]
async fn what_was_removed_elsewhere_is_served_until_its_time_is_over_and_what_was_removed_here_is_not() {
    let ttl = Duration::from_millis(300);
    let (inner, store) = cached(ttl);
    let pointer = put(&store, 1, body(10)).await;
    read(&store, &pointer).await.unwrap();
    inner.store.delete(&pointer).await.unwrap();
    // However long it takes: once the store behind is asked again, it is gone.
    while inner.gets() == 1 {
        let _ = read(&store, &pointer).await;
        tokio::time::sleep(ttl / 10).await;
    }
    assert!(read(&store, &pointer).await.unwrap_err().is_not_found());

    let (inner, store) = cached(Duration::from_secs(3_600));
    let pointer = put(&store, 1, body(600 * KIB)).await;
    for start in [0, 300, 599] {
        store.get(&pointer, range(start * KIB as u64, 9)).await.unwrap();
    }
    inner.store.delete(&pointer).await.unwrap();
    store.get(&pointer, range(300 * KIB as u64, 9)).await.expect("it is served from the cache");
    store.delete(&pointer).await.unwrap();
    for start in [0, 300, 599] {
        assert!(store.get(&pointer, range(start * KIB as u64, 9)).await.unwrap_err().is_not_found());
    }
}

#[tokio::test]
async fn a_damaged_body_never_comes_from_the_cache() {
    let (inner, store) = cached(Duration::from_secs(60));
    let pointer = put(&store, 1, body(10)).await;
    inner.damaged.store(true, Ordering::SeqCst);
    let refused = store.get(&pointer, range(0, 5)).await.unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::Corrupt);
    inner.damaged.store(false, Ordering::SeqCst);
    assert_eq!(read(&store, &pointer).await.unwrap(), body(10));
}

#[tokio::test]
async fn a_body_is_where_its_size_says_and_another_process_finds_it() {
    let (small, large, store) = tiered(100);
    let (little, much) = (put(&store, 1, body(100)).await, put(&store, 2, body(101)).await);
    assert!(small.store.get(&little, None).await.is_ok() && large.store.get(&little, None).await.is_err());
    assert!(large.store.get(&much, None).await.is_ok() && small.store.get(&much, None).await.is_err());
    // One that has seen no put, and another bound.
    let other = TieredResultStore::new(Arc::clone(&small) as _, Arc::clone(&large) as _, 7);
    assert_eq!(read(&other, &little).await.unwrap(), body(100));
    assert_eq!(read(&other, &much).await.unwrap(), body(101));
    let before = small.gets();
    assert_eq!(other.get(&much, range(5, 5)).await.unwrap().bytes, body(101).slice(5..10));
    assert_eq!(small.gets(), before, "it knows by now that the body is large");
    assert_eq!((large.gets(), read(&store, &little).await.unwrap()), (2, body(100)), "a small one is asked for once");
}

#[tokio::test]
async fn deleting_a_small_result_leaves_the_large_store_alone() {
    let (small, large, store) = tiered(100);
    let (little, much) = (put(&store, 1, body(100)).await, put(&store, 2, body(101)).await);
    let other = TieredResultStore::new(Arc::clone(&small) as _, Arc::clone(&large) as _, 100);
    other.delete(&little).await.unwrap();
    assert_eq!(large.deletes.load(Ordering::SeqCst), 0);
    other.delete(&much).await.unwrap();
    for pointer in [&little, &much] {
        assert!(read(&store, pointer).await.unwrap_err().is_not_found());
    }
}

#[tokio::test]
async fn a_store_that_is_down_does_not_keep_the_other_from_being_pruned() {
    let (small, large, store) = tiered(100);
    let late = Timestamp::from_millis(2_000);
    let max = NonZeroU16::new(10).unwrap();
    for (down, up, len) in [(&small, &large, 101), (&large, &small, 100)] {
        let pointer = put(&store, 1, body(len)).await;
        down.down.store(true, Ordering::SeqCst);
        for _ in 0..2 {
            assert!(store.prune(late, max).await.unwrap_err().is_retryable(), "it is told");
        }
        assert!(up.store.get(&pointer, None).await.unwrap_err().is_not_found());
        down.down.store(false, Ordering::SeqCst);
        assert_eq!(store.prune(late, max).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_small_store_that_is_down_is_not_taken_for_one_without_the_body() {
    let (small, large, store) = tiered(100);
    let little = put(&store, 1, body(100)).await;
    small.down.store(true, Ordering::SeqCst);
    assert!(read(&store, &little).await.unwrap_err().is_retryable());
    assert!(store.delete(&little).await.unwrap_err().is_retryable());
    assert_eq!((large.gets(), large.deletes.load(Ordering::SeqCst)), (0, 0));
}
