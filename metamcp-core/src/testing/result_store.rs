//! The behaviours every [`ResultStore`] has, and the macro that makes a named test of each.

use std::{any::Any, fmt, num::NonZeroU16, sync::Arc};

use bytes::Bytes;

use crate::{
    error::StoreErrorKind,
    id::{JobId, TenantId},
    pointer::{Digest, ResultPointer},
    queue::LeaseKey,
    result::{ByteRange, MEDIA_TYPE_BYTES_MAX, RESULT_BYTES_MAX, ResultMeta, ResultStore},
    time::Timestamp,
};

/// Makes one test of each behaviour of a result store. `$make` is the path of an async function that makes a fresh
/// [`ResultStoreFixture`]. The crate that calls it needs tokio with `macros` and `rt-multi-thread`.
#[macro_export]
macro_rules! result_store_suite {
    ($make:path) => {
        $crate::result_store_suite!($make, behaviours);
    };
    ($make:path, $as:ident) => {
        $crate::$as!(@flat result_store, $make;
            a_body_reads_as_it_was_put
            an_empty_body_is_a_body
            a_large_body_reads_as_it_was_put
            the_pointer_names_tenant_job_and_digest
            the_same_put_again_gives_the_same_pointer
            two_jobs_with_one_body_have_two_pointers
            another_tenant_does_not_reach_the_body
            a_range_reads_a_part
            a_range_is_cut_at_the_end
            a_range_behind_the_end_is_invalid
            an_unknown_pointer_is_not_found
            what_is_deleted_is_not_found
            deleting_twice_is_deleting_once
            deleting_one_pointer_leaves_the_other
            too_large_a_body_is_invalid
            too_long_a_media_type_is_invalid
            prune_removes_what_expired_before
            prune_keeps_within_its_bound
            prune_leaves_the_body_to_a_pointer_that_lives
            a_body_put_again_gets_the_new_expiry
            many_puts_of_one_body_are_one
        );
    };
}

/// A fresh, empty store for one behaviour.
pub struct ResultStoreFixture {
    /// The store.
    pub store: Arc<dyn ResultStore>,
    /// Dropped last: a directory, a connection, a process.
    pub guard: Box<dyn Any + Send + Sync>,
}

impl fmt::Debug for ResultStoreFixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResultStoreFixture").field("store", &self.store).finish_non_exhaustive()
    }
}

impl ResultStoreFixture {
    /// A store, and what is to be dropped after it.
    pub fn new(store: Arc<dyn ResultStore>, guard: impl Any + Send + Sync) -> Self {
        Self { store, guard: Box::new(guard) }
    }

    async fn put(&self, key: LeaseKey, body: &'static str) -> ResultPointer {
        self.store.put(key, Bytes::from_static(body.as_bytes()), meta("local", None)).await.expect("the store answers")
    }

    async fn read(&self, pointer: &ResultPointer) -> Bytes {
        self.store.get(pointer, None).await.expect("the body is kept").bytes
    }

    async fn is_gone(&self, pointer: &ResultPointer) -> bool {
        match self.store.get(pointer, None).await {
            Ok(_) => false,
            Err(error) => {
                assert!(error.is_not_found(), "{error}");
                true
            }
        }
    }

    async fn prune(&self, before_ms: u64, max: u16) -> u16 {
        let max = NonZeroU16::new(max).expect("not zero");
        self.store.prune(Timestamp::from_millis(before_ms), max).await.expect("the store answers")
    }
}

fn key(job: u64) -> LeaseKey {
    LeaseKey { job: JobId::new(Timestamp::from_millis(job)), epoch: 1, nonce: 1 }
}

fn meta(tenant: &str, expires_ms: Option<u64>) -> ResultMeta {
    ResultMeta {
        tenant: TenantId::new(tenant).expect("a valid name"),
        media_type: "application/json".to_owned(),
        expires_at: expires_ms.map(Timestamp::from_millis),
    }
}

/// The behaviours. The name of each is what it says.
mod behaviours {
    #![expect(missing_docs, reason = "the name of each function is the behaviour")]

    use super::*;

    pub async fn a_body_reads_as_it_was_put(fx: ResultStoreFixture) {
        let pointer = fx.put(key(1), r#"{"a": 1.0}"#).await;
        let body = fx.store.get(&pointer, None).await.expect("the body is kept");
        assert_eq!((&body.bytes[..], body.total), (br#"{"a": 1.0}"#.as_slice(), 10));
        assert_eq!(body.media_type, "application/json");
    }

    pub async fn an_empty_body_is_a_body(fx: ResultStoreFixture) {
        let pointer = fx.put(key(1), "").await;
        let body = fx.store.get(&pointer, None).await.expect("the body is kept");
        assert_eq!((body.bytes.len(), body.total), (0, 0));
    }

    pub async fn a_large_body_reads_as_it_was_put(fx: ResultStoreFixture) {
        let large: Bytes = (0..3_000_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
        let pointer = fx.store.put(key(1), large.clone(), meta("local", None)).await.expect("the store answers");
        assert!(fx.read(&pointer).await == large, "the bytes differ");
    }

    pub async fn the_pointer_names_tenant_job_and_digest(fx: ResultStoreFixture) {
        let key = key(1);
        let pointer = fx.put(key, "body").await;
        assert_eq!((pointer.tenant.as_str(), pointer.job, pointer.digest), ("local", key.job, Digest::of(b"body")));
    }

    pub async fn the_same_put_again_gives_the_same_pointer(fx: ResultStoreFixture) {
        let key = key(1);
        let first = fx.put(key, "body").await;
        assert_eq!(fx.put(LeaseKey { epoch: 2, nonce: 9, ..key }, "body").await, first, "whichever lease put it");
        fx.store.delete(&first).await.expect("the store answers");
        assert!(fx.is_gone(&first).await, "twice is once");
    }

    pub async fn two_jobs_with_one_body_have_two_pointers(fx: ResultStoreFixture) {
        let (one, two) = (fx.put(key(1), "body").await, fx.put(key(2), "body").await);
        assert!(one != two && one.digest == two.digest);
        assert_eq!(fx.read(&one).await, fx.read(&two).await);
    }

    pub async fn another_tenant_does_not_reach_the_body(fx: ResultStoreFixture) {
        let pointer = fx.put(key(1), "body").await;
        let forged = ResultPointer { tenant: TenantId::new("other").expect("a valid name"), ..pointer.clone() };
        assert!(fx.is_gone(&forged).await);
        fx.store.delete(&forged).await.expect("the store answers");
        assert!(!fx.is_gone(&pointer).await);
        let other = ResultPointer { job: key(2).job, ..pointer };
        assert!(fx.is_gone(&other).await, "nor does another job");
    }

    pub async fn a_range_reads_a_part(fx: ResultStoreFixture) {
        let pointer = fx.put(key(1), "0123456789").await;
        for (start, len, part) in [(0, 4, "0123"), (3, 1, "3"), (6, 4, "6789"), (2, 0, "")] {
            let body = fx.store.get(&pointer, Some(ByteRange { start, len })).await.expect("the body is kept");
            assert_eq!((&body.bytes[..], body.total), (part.as_bytes(), 10), "{len} bytes from {start}");
        }
    }

    pub async fn a_range_is_cut_at_the_end(fx: ResultStoreFixture) {
        let pointer = fx.put(key(1), "0123456789").await;
        for len in [5, u64::MAX] {
            let body = fx.store.get(&pointer, Some(ByteRange { start: 7, len })).await.expect("the body is kept");
            assert_eq!((&body.bytes[..], body.total), (b"789".as_slice(), 10));
        }
    }

    pub async fn a_range_behind_the_end_is_invalid(fx: ResultStoreFixture) {
        let pointer = fx.put(key(1), "0123456789").await;
        for start in [11, u64::MAX] {
            let refused = fx.store.get(&pointer, Some(ByteRange { start, len: 1 })).await.expect_err("behind the end");
            assert_eq!(refused.kind(), StoreErrorKind::Invalid);
        }
    }

    pub async fn an_unknown_pointer_is_not_found(fx: ResultStoreFixture) {
        let known = fx.put(key(1), "body").await;
        assert!(fx.is_gone(&ResultPointer { digest: Digest::of(b"another"), ..known }).await);
    }

    pub async fn what_is_deleted_is_not_found(fx: ResultStoreFixture) {
        let pointer = fx.put(key(1), "body").await;
        fx.store.delete(&pointer).await.expect("the store answers");
        assert!(fx.is_gone(&pointer).await);
        assert_eq!(fx.put(pointer_key(&pointer), "body").await, pointer, "it can come again");
        assert!(!fx.is_gone(&pointer).await);
    }

    pub async fn deleting_twice_is_deleting_once(fx: ResultStoreFixture) {
        let pointer = fx.put(key(1), "body").await;
        for _ in 0..2 {
            fx.store.delete(&pointer).await.expect("what is not there is fine");
        }
        assert!(fx.is_gone(&pointer).await);
    }

    pub async fn deleting_one_pointer_leaves_the_other(fx: ResultStoreFixture) {
        let (one, two) = (fx.put(key(1), "body").await, fx.put(key(2), "body").await);
        fx.store.delete(&one).await.expect("the store answers");
        assert!(fx.is_gone(&one).await);
        assert_eq!(fx.read(&two).await, "body");
    }

    pub async fn too_large_a_body_is_invalid(fx: ResultStoreFixture) {
        let large = Bytes::from(vec![0; RESULT_BYTES_MAX + 1]);
        let refused = fx.store.put(key(1), large, meta("local", None)).await.expect_err("too large");
        assert_eq!(refused.kind(), StoreErrorKind::Invalid);
    }

    pub async fn too_long_a_media_type_is_invalid(fx: ResultStoreFixture) {
        let meta = ResultMeta { media_type: "x".repeat(MEDIA_TYPE_BYTES_MAX + 1), ..meta("local", None) };
        let refused = fx.store.put(key(1), Bytes::new(), meta).await.expect_err("too long");
        assert_eq!(refused.kind(), StoreErrorKind::Invalid);
    }

    pub async fn prune_removes_what_expired_before(fx: ResultStoreFixture) {
        let mut pointers = Vec::new();
        for (job, expires) in [(1, Some(1_000)), (2, Some(2_000)), (3, None)] {
            let body = Bytes::from(format!("body {job}"));
            pointers.push(fx.store.put(key(job), body, meta("local", expires)).await.expect("the store answers"));
        }
        assert_eq!(fx.prune(500, 10).await, 0);
        assert_eq!(fx.prune(1_500, 10).await, 1);
        assert!(fx.is_gone(&pointers[0]).await && !fx.is_gone(&pointers[1]).await);
        assert_eq!(fx.prune(u64::MAX, 10).await, 1);
        assert!(fx.is_gone(&pointers[1]).await && !fx.is_gone(&pointers[2]).await, "what never expires stays");
    }

    pub async fn prune_keeps_within_its_bound(fx: ResultStoreFixture) {
        for job in 1..=5 {
            let body = Bytes::from(format!("body {job}"));
            fx.store.put(key(job), body, meta("local", Some(job))).await.expect("the store answers");
        }
        assert_eq!([fx.prune(100, 2).await, fx.prune(100, 2).await, fx.prune(100, 2).await], [2, 2, 1]);
    }

    pub async fn prune_leaves_the_body_to_a_pointer_that_lives(fx: ResultStoreFixture) {
        let body = || Bytes::from_static(b"body");
        let short = fx.store.put(key(1), body(), meta("local", Some(1_000))).await.expect("the store answers");
        let long = fx.store.put(key(2), body(), meta("local", Some(9_000))).await.expect("the store answers");
        assert_eq!(fx.prune(5_000, 10).await, 1);
        assert!(fx.is_gone(&short).await);
        assert_eq!(fx.read(&long).await, "body");
    }

    pub async fn a_body_put_again_gets_the_new_expiry(fx: ResultStoreFixture) {
        let key = key(1);
        for expires in [1_000, 9_000] {
            fx.store
                .put(key, Bytes::from_static(b"body"), meta("local", Some(expires)))
                .await
                .expect("the store answers");
        }
        assert_eq!(fx.prune(5_000, 10).await, 0);
        assert_eq!(fx.prune(10_000, 10).await, 1);
    }

    pub async fn many_puts_of_one_body_are_one(fx: ResultStoreFixture) {
        let key = key(1);
        let puts: Vec<_> = (0..8)
            .map(|_| {
                let store = Arc::clone(&fx.store);
                let body = Bytes::from(vec![7; 100_000]);
                tokio::spawn(async move { store.put(key, body, meta("local", None)).await.expect("the store answers") })
            })
            .collect();
        let mut pointers = Vec::new();
        for put in puts {
            pointers.push(put.await.expect("no put panics"));
        }
        assert!(pointers.iter().all(|pointer| *pointer == pointers[0]));
        assert_eq!(fx.read(&pointers[0]).await.len(), 100_000);
    }

    fn pointer_key(pointer: &ResultPointer) -> LeaseKey {
        LeaseKey { job: pointer.job, epoch: 1, nonce: 1 }
    }
}

pub use behaviours::*;
