//! Objects in memory whose calls come in an order drawn from a seed, or stop for good after so many changes, as if the process had died.
//! A list is as bad as S3 allows: what is written or removed while it runs may be in it or not, each object on its own.

use std::{
    fmt,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result, memory::InMemory, path::Path,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

/// Most turns others get before a call goes on.
const TURNS_MAX: u32 = 12;

#[derive(Debug)]
pub(crate) struct Faulty {
    objects: Arc<InMemory>,
    gate: Arc<Gate>,
}

#[derive(Debug)]
struct Gate {
    order: Option<Mutex<StdRng>>,
    /// Changes that still happen.
    changes_left: AtomicU32,
}

impl Gate {
    fn draw(&self, max: u32) -> u32 {
        self.order.as_ref().map_or(0, |order| order.lock().unwrap().random_range(0..=max))
    }

    async fn turn(&self) {
        for _ in 0..self.draw(TURNS_MAX) {
            tokio::task::yield_now().await;
        }
    }

    async fn change(&self) {
        self.turn().await;
        if self.changes_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Faulty {
    /// Calls of several tasks of one thread come in the order of this seed.
    pub(crate) fn shuffled(objects: &Arc<InMemory>, seed: u64) -> Arc<Self> {
        Self::new(objects, Some(Mutex::new(StdRng::seed_from_u64(seed))), u32::MAX)
    }

    /// After this many changes no change comes back.
    pub(crate) fn dying(objects: &Arc<InMemory>, changes: u32) -> Arc<Self> {
        Self::new(objects, None, changes)
    }

    fn new(objects: &Arc<InMemory>, order: Option<Mutex<StdRng>>, changes: u32) -> Arc<Self> {
        let gate = Arc::new(Gate { order, changes_left: AtomicU32::new(changes) });
        Arc::new(Self { objects: Arc::clone(objects), gate })
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty objects")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.gate.change().await;
        let done = self.objects.put_opts(location, payload, options).await;
        self.gate.turn().await;
        done
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.objects.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.gate.turn().await;
        let answer = self.objects.get_opts(location, options).await;
        self.gate.turn().await;
        answer
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.objects.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let gate = Arc::clone(&self.gate);
        let locations = locations.then(move |location| {
            let gate = Arc::clone(&gate);
            async move {
                gate.change().await;
                location
            }
        });
        let gate = Arc::clone(&self.gate);
        let removed = self.objects.delete_stream(locations.boxed());
        let answers = removed.then(move |location| {
            let gate = Arc::clone(&gate);
            async move {
                gate.turn().await;
                location
            }
        });
        answers.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (objects, gate, prefix) = (Arc::clone(&self.objects), Arc::clone(&self.gate), prefix.cloned());
        let list = async move {
            gate.turn().await;
            let before: Vec<ObjectMeta> = objects.list(prefix.as_ref()).try_collect().await?;
            gate.turn().await;
            let after: Vec<ObjectMeta> = objects.list(prefix.as_ref()).try_collect().await?;
            // What was there all the time is seen; what came or went in between is seen or not.
            let mut seen = Vec::new();
            for object in before.iter().chain(after.iter().filter(|object| !before.contains(object))) {
                let all_the_time = before.contains(object) && after.contains(object);
                if all_the_time || gate.draw(1) == 0 {
                    seen.push(Ok(object.clone()));
                }
            }
            gate.turn().await;
            Ok::<_, object_store::Error>(stream::iter(seen))
        };
        stream::once(list).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.gate.turn().await;
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.objects.copy_opts(from, to, options).await
    }
}
