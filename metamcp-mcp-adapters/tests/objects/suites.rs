//! Every behaviour of a result store: on a directory, on S3, and on the whole pile that a deployment has: a cache over two tiers, the small
//! one in an embedded store.

use std::sync::Arc;

use metamcp_core::{
    result::{CacheOptions, CachedResultStore, TieredResultStore},
    testing::{ManualClock, result_store::ResultStoreFixture},
};
use metamcp_mcp_adapters::store::embedded::{EmbeddedOptions, EmbeddedStore};

use super::world::World;

mod directory {
    use super::*;

    async fn make() -> ResultStoreFixture {
        let world = World::directory();
        ResultStoreFixture::new(world.store(), world)
    }

    metamcp_core::result_store_suite!(make);
}

mod s3 {
    use super::*;

    async fn make() -> ResultStoreFixture {
        let world = World::s3().await;
        ResultStoreFixture::new(world.store(), world)
    }

    metamcp_core::result_store_suite!(make);
}

mod pile {
    use super::*;

    /// Some of the suite's bodies are longer than this, some are not.
    const INLINE_BYTES_MAX: usize = 5;

    async fn make() -> ResultStoreFixture {
        let (world, dir) = (World::directory(), tempfile::tempdir().unwrap());
        let small = EmbeddedStore::open(dir.path(), ManualClock::new(), &EmbeddedOptions::default()).unwrap();
        let tiers = TieredResultStore::new(small.results(), world.store(), INLINE_BYTES_MAX);
        let cached = CachedResultStore::new(Arc::new(tiers), &CacheOptions::default());
        ResultStoreFixture::new(Arc::new(cached), (small, dir, world))
    }

    metamcp_core::result_store_suite!(make);
}
