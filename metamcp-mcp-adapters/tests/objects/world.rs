//! A place of each kind, with a look behind the store, and the words the tests are written in.

use std::{any::Any, num::NonZeroU16, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use metamcp_core::{
    error::StoreResult,
    id::{JobId, TenantId},
    pointer::ResultPointer,
    queue::LeaseKey,
    result::{ResultMeta, ResultStore},
    testing::ManualClock,
    time::{Clock, SystemClock, Timestamp},
};
use metamcp_mcp_adapters::{
    store::objects::{GRACE, ObjectOptions, ObjectPlace, ObjectResultStore, S3Keys},
    testing::S3Server,
};
use object_store::{
    ObjectMeta, ObjectStore, ObjectStoreExt as _, aws::AmazonS3Builder, local::LocalFileSystem, path::Path,
};

/// One place, and what it needs to live.
pub(crate) struct World {
    pub(crate) place: ObjectPlace,
    /// The same objects without the store.
    pub(crate) raw: Arc<dyn ObjectStore>,
    /// Of all stores of this world; begins now, as objects bear the real time.
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) grace: Duration,
    _guard: Box<dyn Any + Send + Sync>,
}

/// A clock that can be moved on from now.
pub(crate) fn clock() -> Arc<ManualClock> {
    let clock = ManualClock::new();
    clock.set(SystemClock::default().now());
    clock
}

pub(crate) fn keys(server: &S3Server) -> S3Keys {
    S3Keys {
        access_key_id: server.access_key_id().to_owned(),
        secret_access_key: server.secret_access_key().to_owned(),
        session_token: None,
    }
}

impl World {
    pub(crate) fn directory() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().to_str().unwrap().parse().unwrap();
        let raw = Arc::new(LocalFileSystem::new_with_prefix(dir.path()).unwrap().with_automatic_cleanup(true));
        Self { place, raw, clock: clock(), grace: GRACE, _guard: Box::new(dir) }
    }

    /// The prefix is looked at too: nothing is written above it.
    pub(crate) async fn s3() -> Self {
        let server = S3Server::start().await.unwrap();
        let (bucket, region) = (server.bucket(), server.region());
        let place = format!("s3://{bucket}/team/results?endpoint={}&region={region}", server.endpoint());
        let place = place.parse::<ObjectPlace>().unwrap().with_keys(keys(&server));
        let raw = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_endpoint(server.endpoint())
            .with_region(region)
            .with_allow_http(true)
            .with_access_key_id(server.access_key_id())
            .with_secret_access_key(server.secret_access_key())
            .build();
        Self { place, raw: Arc::new(raw.unwrap()), clock: clock(), grace: GRACE, _guard: Box::new(server) }
    }

    /// Objects of this world are removed as soon as nothing refers to them.
    pub(crate) fn without_grace(self) -> Self {
        Self { grace: Duration::ZERO, ..self }
    }

    /// A store as another process would open it.
    pub(crate) fn store(&self) -> Arc<ObjectResultStore> {
        let mut options = ObjectOptions::default();
        options.grace = self.grace;
        Arc::new(ObjectResultStore::open(&self.place, Arc::clone(&self.clock) as _, &options).unwrap())
    }

    /// Every object there is.
    pub(crate) async fn objects(&self) -> Vec<ObjectMeta> {
        let mut objects: Vec<ObjectMeta> = self.raw.list(None).try_collect().await.unwrap();
        objects.sort_by(|a, b| a.location.cmp(&b.location));
        objects
    }

    /// The bodies that are stored, marks left out.
    pub(crate) async fn copies(&self) -> Vec<Path> {
        let is_copy = |path: &Path| path.as_ref().contains("/copies/") && !path.as_ref().ends_with(".closed");
        self.objects().await.into_iter().map(|object| object.location).filter(is_copy).collect()
    }

    /// Puts other bytes in the place of the only stored body.
    pub(crate) async fn damage(&self, bytes: &'static [u8]) {
        let copies = self.copies().await;
        assert_eq!(copies.len(), 1);
        self.raw.put(&copies[0], bytes.into()).await.unwrap();
    }

    /// Prunes, and lets the grace pass, until everything that is due is done.
    pub(crate) async fn settle(&self, store: &dyn ResultStore) {
        for _ in 0..3 {
            prune(store, self.clock.now(), 1_000).await;
            self.clock.advance(self.grace + Duration::from_secs(120));
        }
        prune(store, self.clock.now(), 1_000).await;
    }
}

pub(crate) async fn prune(store: &dyn ResultStore, before: Timestamp, max: u16) -> u16 {
    store.prune(before, NonZeroU16::new(max).unwrap()).await.unwrap()
}

/// The lease of a job by its number.
pub(crate) fn key(job: u64) -> LeaseKey {
    LeaseKey { job: JobId::from_bytes(u128::from(job).to_be_bytes()), epoch: 1, nonce: 1 }
}

pub(crate) fn meta(expires_at: Option<Timestamp>) -> ResultMeta {
    ResultMeta { tenant: TenantId::new("local").unwrap(), media_type: "text/plain".to_owned(), expires_at }
}

/// Puts a body as the result of a job of its own.
pub(crate) async fn put(store: &dyn ResultStore, body: &'static str, expires_at: Option<Timestamp>) -> ResultPointer {
    store
        .put(
            LeaseKey { job: JobId::new(Timestamp::default()), ..key(0) },
            Bytes::from_static(body.as_bytes()),
            meta(expires_at),
        )
        .await
        .unwrap()
}

pub(crate) async fn read(store: &dyn ResultStore, pointer: &ResultPointer) -> StoreResult<Bytes> {
    Ok(store.get(pointer, None).await?.bytes)
}

pub(crate) async fn is_gone(store: &dyn ResultStore, pointer: &ResultPointer) -> bool {
    read(store, pointer).await.is_err_and(|error| error.is_not_found())
}

/// Makes a test of each function for each kind of place.
macro_rules! in_every_place {
    ($($name:ident)*) => {
        mod in_a_directory {
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name($crate::world::World::directory()).await;
                }
            )*
        }
        mod in_s3 {
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name($crate::world::World::s3().await).await;
                }
            )*
        }
    };
}
pub(crate) use in_every_place;
