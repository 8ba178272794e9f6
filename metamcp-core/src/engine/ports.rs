//! What the engine stands on: one of each trait, and the terms. The engine names no implementation.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::sync::watch;

use super::policy::Policy;
use crate::{
    auth::Principal,
    entropy::Entropy,
    error::{StoreErrorKind, StoreResult},
    event::{EVENT_PAGE_MAX, EventBus, EventKind, NewEvent},
    id::JobId,
    matching::CapabilityMatcher,
    queue::{JobHead, JobStore},
    record::RecordStore,
    result::ResultStore,
    task::Limits,
    time::Clock,
};

/// The stores, the matcher, the clock, and the terms.
#[derive(Debug)]
pub(crate) struct Ports {
    pub(crate) jobs: Arc<dyn JobStore>,
    pub(crate) results: Arc<dyn ResultStore>,
    pub(crate) events: Arc<dyn EventBus>,
    pub(crate) records: Arc<dyn RecordStore>,
    pub(crate) matcher: Arc<dyn CapabilityMatcher>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) limits: Limits,
    /// Changes when a running job was asked to stop: workers of this process then beat at once, those of others with their next heartbeat.
    pub(crate) nudge: watch::Sender<()>,
}

/// Most tries of one store call, and the first pause between them; the pause doubles.
const STORE_TRIES_MAX: u32 = 6;
const STORE_PAUSE_MS: u64 = 50;

impl Ports {
    /// Tells news of a job. An event is never worth a job: when the bus fails, that is logged and the job goes on.
    pub(crate) async fn tell(&self, job: JobId, owner: &Principal, kind: EventKind) {
        let event = NewEvent { job, owner: owner.clone(), kind };
        if let Err(error) = self.events.publish(std::slice::from_ref(&event)).await {
            tracing::warn!(%job, %error, "event not published");
        }
    }

    /// Tells many news in few calls.
    pub(crate) async fn tell_all(&self, news: &[NewEvent]) {
        for some in news.chunks(usize::from(EVENT_PAGE_MAX)) {
            if let Err(error) = self.events.publish(some).await {
                tracing::warn!(events = some.len(), %error, "events not published");
            }
        }
    }

    /// Tells news of a job by its head.
    pub(crate) async fn tell_of(&self, head: &JobHead, kind: EventKind) {
        self.tell(head.id, &head.owner, kind).await;
    }
}

/// Repeats a store call while its error says that this can help soon: nobody makes room in a moment. Every store call is safe to repeat.
pub(crate) async fn persist<T, F>(what: &str, mut call: impl FnMut() -> F) -> StoreResult<T>
where
    F: Future<Output = StoreResult<T>>,
{
    let mut pause = Duration::from_millis(STORE_PAUSE_MS);
    for _ in 1..STORE_TRIES_MAX {
        match call().await {
            Err(error) if error.kind() == StoreErrorKind::Unavailable => {
                tracing::warn!(%error, what, "store call failed; repeating");
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            other => return other,
        }
    }
    call().await
}
