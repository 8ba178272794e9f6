//! A process that dies between any two changes: what was handed out before stays readable, and what is left is found and removed.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt as _, TryStreamExt as _};
use metamcp_core::{
    error::StoreResult,
    pointer::ResultPointer,
    result::ResultStore as _,
    testing::ManualClock,
    time::{Clock as _, Timestamp},
};
use metamcp_mcp_adapters::store::objects::{GRACE, ObjectOptions, ObjectResultStore};
use object_store::{ObjectMeta, ObjectStore, memory::InMemory};

use super::{
    faulty::Faulty,
    world::{clock, key, meta, prune, read},
};

/// No call here changes more objects than this.
const CHANGES_MAX: u32 = 40;
/// Polls after which a future without a turn of its own is taken as stopped.
const POLLS_MAX: u32 = 1_000;

const BODY: Bytes = Bytes::from_static(b"body");

struct Scene {
    objects: Arc<InMemory>,
    clock: Arc<ManualClock>,
    /// When every result expires that is put here.
    expiry: Timestamp,
}

impl Scene {
    fn new() -> Self {
        let clock = clock();
        let expiry = clock.now() + 3 * GRACE;
        Self { objects: Arc::default(), clock, expiry }
    }

    fn over(&self, objects: Arc<dyn ObjectStore>) -> ObjectResultStore {
        ObjectResultStore::over(objects, "", "memory", Arc::clone(&self.clock) as _, &ObjectOptions::default())
    }

    fn store(&self) -> ObjectResultStore {
        self.over(Arc::clone(&self.objects) as _)
    }

    async fn put(&self, store: &ObjectResultStore, job: u64) -> StoreResult<ResultPointer> {
        store.put(key(job), BODY, meta(Some(self.expiry))).await
    }

    async fn nothing_is_left(&self) -> bool {
        // The latest that anything expires here, and what is due after.
        self.clock.advance(10 * GRACE);
        for _ in 0..4 {
            prune(&self.store(), self.clock.now(), 1_000).await;
            self.clock.advance(GRACE + Duration::from_secs(120));
        }
        let left: Vec<ObjectMeta> = self.objects.list(None).try_collect().await.unwrap();
        assert_eq!(left, []);
        true
    }
}

/// Runs to the end, or to where it stops for good.
fn until_dead<T>(work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    (0..POLLS_MAX).find_map(|_| work.as_mut().now_or_never())
}

/// Calls `work` with a store that dies after each number of changes in turn, on a scene set by `set`, whose pointers must outlive that.
async fn at_every_change<W: Future<Output = StoreResult<Option<ResultPointer>>>>(
    set: impl AsyncFn(&Scene) -> Vec<ResultPointer>,
    work: impl Fn(Arc<Scene>, Arc<ObjectResultStore>, Vec<ResultPointer>) -> W,
) -> u32 {
    for changes in 0..CHANGES_MAX {
        let scene = Arc::new(Scene::new());
        let mut pointers = set(&scene).await;
        let dying = Arc::new(scene.over(Faulty::dying(&scene.objects, changes)));
        let done = until_dead(work(Arc::clone(&scene), dying, pointers.clone()));
        let ended = done.is_some();
        pointers.extend(done.and_then(|pointer| pointer.unwrap()));
        for pointer in &pointers {
            assert_eq!(read(&scene.store(), pointer).await.unwrap(), BODY, "after {changes} changes");
        }
        assert!(scene.nothing_is_left().await, "after {changes} changes");
        if ended {
            return changes;
        }
    }
    panic!("more than {CHANGES_MAX} changes")
}

#[tokio::test]
async fn a_put_may_stop_at_every_change() {
    let work = async |scene: Arc<Scene>, store: Arc<ObjectResultStore>, _| scene.put(&store, 9).await.map(Some);
    let nothing = async |_: &Scene| Vec::new();
    assert_eq!(at_every_change(nothing, &work).await, 3, "entry, copy, reference");
    let shared = async |scene: &Scene| vec![scene.put(&scene.store(), 1).await.unwrap()];
    assert_eq!(at_every_change(shared, &work).await, 2, "entry, reference");
    let again = async |scene: &Scene| vec![scene.put(&scene.store(), 9).await.unwrap()];
    assert_eq!(at_every_change(again, work).await, 3, "entry, reference, the old reference");
}

#[tokio::test]
async fn a_delete_may_stop_at_every_change() {
    let set = async |scene: &Scene| vec![scene.put(&scene.store(), 1).await.unwrap()];
    let work = async |scene: Arc<Scene>, store: Arc<ObjectResultStore>| {
        let late = meta(Some(scene.expiry + 5 * GRACE));
        let doomed = scene.store().put(key(2), BODY, late).await?;
        store.delete(&doomed).await.map(|()| None)
    };
    assert_eq!(at_every_change(set, |a, b, _| work(a, b)).await, 2, "entry, reference");
}

#[tokio::test]
async fn a_prune_may_stop_at_every_change() {
    let set = async |scene: &Scene| {
        let long = meta(Some(scene.expiry + 3 * GRACE));
        vec![scene.store().put(key(7), Bytes::from_static(b"body"), long).await.unwrap()]
    };
    // The first visit of a body of its own: reference, mark, put off, entry. The second: copy, mark, entry.
    for (rounds_before, changes) in [(0, 4), (1, 3)] {
        let work = async |scene: Arc<Scene>, store: Arc<ObjectResultStore>| {
            scene.store().put(key(2), Bytes::from_static(b"another"), meta(Some(scene.expiry))).await?;
            scene.clock.advance(3 * GRACE + Duration::from_secs(1));
            for _ in 0..rounds_before {
                prune(&scene.store(), scene.clock.now(), 1_000).await;
                scene.clock.advance(GRACE + Duration::from_secs(61));
            }
            prune(&*store, scene.clock.now(), 1_000).await;
            Ok(None)
        };
        assert_eq!(at_every_change(set, |a, b, _| work(a, b)).await, changes, "{rounds_before} rounds before");
    }
}
