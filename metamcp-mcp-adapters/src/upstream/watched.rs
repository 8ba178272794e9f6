//! What a server is asked to tell about now.

use std::collections::BTreeSet;

use tokio::sync::{Mutex, MutexGuard};
use tokio_util::task::AbortOnDropHandle;

/// The resources that are watched. Held while they are changed, so that changes do not cross.
#[derive(Debug, Default)]
pub(super) struct Watched(Mutex<Watching>);

#[derive(Debug, Default)]
pub(super) struct Watching {
    pub(super) uris: BTreeSet<String>,
    /// The session in which they are: after how many renewals.
    pub(super) renewals: u64,
    /// The stream of a modern server that tells about them.
    pub(super) _stream: Option<AbortOnDropHandle<()>>,
}

impl Watched {
    pub(super) async fn lock(&self) -> MutexGuard<'_, Watching> {
        self.0.lock().await
    }
}
