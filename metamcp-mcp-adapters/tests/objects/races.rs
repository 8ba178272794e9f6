//! Puts, deletes and prunes of one body in every order a seed can draw, with no grace at all: a pointer that was given out can always be read,
//! and in the end nothing is left. `METAMCP_OBJECT_SEEDS` says how many seeds.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{TryStreamExt as _, future::join_all};
use metamcp_core::{
    entropy::SeededEntropy,
    pointer::ResultPointer,
    result::ResultStore as _,
    testing::ManualClock,
    time::{Clock as _, Timestamp},
};
use metamcp_mcp_adapters::store::objects::{ObjectOptions, ObjectResultStore};
use object_store::{ObjectMeta, ObjectStore as _, memory::InMemory};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::{
    faulty::Faulty,
    world::{key, meta, prune, read},
};

/// Seeds of a plain run.
const SEEDS: u64 = 400;
const BODY: Bytes = Bytes::from_static(b"fought over");
const PUTTERS: u64 = 3;
const PUTS_EACH: u64 = 4;
const PRUNERS: u32 = 2;
const PRUNES_EACH: u32 = 6;
const HOUR: Duration = Duration::from_secs(3_600);

fn seeds() -> u64 {
    std::env::var("METAMCP_OBJECT_SEEDS").map_or(SEEDS, |seeds| seeds.parse().unwrap())
}

/// What one run is about: who puts, deletes and reads, and what must be readable.
struct Run {
    store: ObjectResultStore,
    now: Timestamp,
    /// Prunes look as if it were an hour later, so that all that is due is visited at once.
    late: Timestamp,
    living: Mutex<Vec<ResultPointer>>,
    refused: AtomicU32,
}

impl Run {
    async fn put(&self, actor: u64, seed: u64) {
        let mut random = StdRng::seed_from_u64(seed);
        for round in 0..PUTS_EACH {
            // Some jobs come twice; one comes from all, as after a lost lease, and is never deleted.
            let shared = random.random_bool(0.25);
            let job = if shared { key(0) } else { key(1_000 * (actor + 1) + random.random_range(0..=round)) };
            let expires_at = match random.random_range(0..3) {
                _ if shared => Some(self.late + 24 * HOUR),
                0 => None,
                1 => Some(self.late + 24 * HOUR),
                _ => Some(self.now),
            };
            let pointer = match self.store.put(job, BODY, meta(expires_at)).await {
                Ok(pointer) => pointer,
                Err(error) => {
                    assert!(error.is_retryable(), "{error}");
                    self.refused.fetch_add(1, Ordering::SeqCst);
                    continue;
                }
            };
            let lives = expires_at.is_none_or(|at| at >= self.late);
            if lives {
                assert_eq!(read(&self.store, &pointer).await.unwrap(), BODY, "seed {seed}");
            }
            self.living.lock().unwrap().retain(|other| *other != pointer);
            if shared || lives && random.random_bool(0.5) {
                self.living.lock().unwrap().push(pointer);
            } else {
                self.store.delete(&pointer).await.unwrap();
            }
        }
    }

    async fn prune(&self) {
        for _ in 0..PRUNES_EACH {
            prune(&self.store, self.late, 1_000).await;
        }
    }
}

async fn run(seed: u64) -> u32 {
    let (objects, clock) = (Arc::<InMemory>::default(), ManualClock::new());
    let mut options = ObjectOptions::default();
    options.grace = Duration::ZERO;
    // All from the seed, so that it can be run again.
    let entropy = Arc::new(SeededEntropy::new(seed));
    let store = |objects| {
        let store = ObjectResultStore::over(objects, "", "memory", Arc::clone(&clock) as _, &options);
        store.with_entropy(entropy.clone())
    };
    let run = Run {
        store: store(Faulty::shuffled(&objects, seed)),
        now: clock.now(),
        late: clock.now() + HOUR,
        living: Mutex::default(),
        refused: AtomicU32::new(0),
    };
    let puts = join_all((0..PUTTERS).map(|actor| run.put(actor, seed * PUTTERS + actor)));
    let prunes = join_all((0..PRUNERS).map(|_| run.prune()));
    tokio::join!(puts, prunes);
    let store = store(objects.clone());
    let living = run.living.into_inner().unwrap();
    for pointer in &living {
        assert_eq!(read(&store, pointer).await.unwrap(), BODY, "seed {seed}");
    }
    prune(&store, run.late, 1_000).await;
    for pointer in &living {
        assert_eq!(read(&store, pointer).await.unwrap(), BODY, "seed {seed}, after one more prune");
        store.delete(pointer).await.unwrap();
    }
    for _ in 0..4 {
        clock.advance(48 * HOUR);
        prune(&store, clock.now(), 1_000).await;
    }
    let left: Vec<ObjectMeta> = objects.list(None).try_collect().await.unwrap();
    assert_eq!(left, [], "seed {seed}");
    run.refused.into_inner()
}

#[tokio::test]
async fn no_order_of_puts_deletes_and_prunes_leaves_a_pointer_without_its_body() {
    let (seeds, mut refused) = (seeds(), 0);
    for seed in 0..seeds {
        refused += run(seed).await;
    }
    println!("{seeds} seeds, {refused} puts were told to try again");
    // A put that always gives up would pass as well.
    assert!(u64::from(refused) < seeds * PUTTERS * PUTS_EACH / 10, "{refused} puts gave up");
}
