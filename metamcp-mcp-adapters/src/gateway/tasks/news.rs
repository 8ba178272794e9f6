//! Tells a client that listens of its tasks: each as `tasks/get` answers it, once at the beginning and whenever it has changed.
//!
//! Nothing queues up: a client that does not read is told of each task once, as it then stands.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use metamcp_core::{auth::Principal, engine::Orchestrator, event::EVENT_PAGE_MAX, id::JobId, json::RawJson};
use tokio::{sync::Notify, time::sleep};
use tokio_util::task::AbortOnDropHandle;

use super::{terms::takes_tasks, view};
use crate::gateway::{
    Caller, Gateway,
    subscribe::{News, Source},
};

/// Tasks that one subscription may follow.
pub(crate) const FOLLOWED_TASKS_MAX: usize = 256;
/// Longest wait of one read of events.
const READ_WAIT: Duration = Duration::from_secs(30);
/// Pause after a read that failed.
const READ_PAUSE: Duration = Duration::from_secs(1);

/// The tasks of one client that listens. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct TaskNews {
    gateway: Gateway,
    caller: Caller,
    followed: Arc<Followed>,
    _following: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Followed {
    /// How often each task has changed, and how often when it was last told. Short sections, never held over an await.
    tasks: Mutex<BTreeMap<JobId, (u64, u64)>>,
    ready: Notify,
}

impl Followed {
    fn changed(&self, which: impl Fn(JobId) -> bool) {
        let mut any = false;
        for (_, (changes, _)) in self.tasks().iter_mut().filter(|(id, _)| which(**id)) {
            *changes += 1;
            any = true;
        }
        if any {
            self.ready.notify_one();
        }
    }

    /// A task that has changed since it was told, and how often it had changed by now.
    fn next(&self) -> Option<(JobId, u64)> {
        self.tasks().iter().find(|(_, (changes, told))| changes != told).map(|(id, (changes, _))| (*id, *changes))
    }

    fn told(&self, id: JobId, at: u64) {
        if let Some((_, told)) = self.tasks().get_mut(&id) {
            *told = at;
        }
    }

    fn tasks(&self) -> MutexGuard<'_, BTreeMap<JobId, (u64, u64)>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Source for TaskNews {
    /// The next task that has changed. Cancel safe.
    async fn recv(&self) -> News {
        loop {
            let Some((id, at)) = self.followed.next() else {
                self.followed.ready.notified().await;
                continue;
            };
            let told = self.tell(id).await;
            self.followed.told(id, at);
            if let Some(params) = told {
                return News { method: "notifications/tasks", params: Some(params) };
            }
        }
    }
}

impl TaskNews {
    /// Follows these tasks, as far as they are the caller's, and gives back which; `None` when there are none to be followed.
    pub(crate) async fn follow(gateway: &Gateway, caller: &Caller, ids: &[String]) -> Option<(Self, Vec<String>)> {
        if !takes_tasks(caller) {
            return None;
        }
        let engine = gateway.engine();
        // Before they are read: what changes meanwhile is told twice rather than never.
        let after = engine.latest_event().await.ok()?;
        let mut tasks = BTreeMap::new();
        let mut granted = Vec::new();
        for text in ids.iter().take(FOLLOWED_TASKS_MAX) {
            let Ok(id) = text.parse::<JobId>() else { continue };
            if engine.get(&caller.principal, id).await.is_ok() {
                tasks.insert(id, (1, 0));
                granted.push(text.clone());
            }
        }
        if tasks.is_empty() {
            return None;
        }
        let followed = Arc::new(Followed { tasks: Mutex::new(tasks), ready: Notify::new() });
        let following = follow(engine.clone(), caller.principal.clone(), after, Arc::clone(&followed));
        let following = AbortOnDropHandle::new(tokio::spawn(following));
        let news = Self { gateway: gateway.clone(), caller: caller.clone(), followed, _following: following };
        Some((news, granted))
    }

    /// A task as it stands; `None` when it is not there any more.
    async fn tell(&self, id: JobId) -> Option<RawJson> {
        let job = self.gateway.engine().get(&self.caller.principal, id).await.ok()?;
        match view::members(&self.gateway, &self.caller, &job).await {
            Ok(members) => RawJson::parse(format!("{{{members}}}")).ok(),
            Err(fault) => {
                tracing::warn!(task = %id, why = fault.message, "a client is not told of its task");
                None
            }
        }
    }
}

async fn follow(engine: Orchestrator, who: Principal, mut after: u64, followed: Arc<Followed>) {
    loop {
        match engine.events(&who, after, EVENT_PAGE_MAX, READ_WAIT).await {
            Ok(page) => {
                if page.missed {
                    followed.changed(|_| true);
                }
                for event in &page.events {
                    followed.changed(|id| id == event.event.job);
                }
                after = page.next;
            }
            Err(error) => {
                tracing::warn!(%error, "news of tasks could not be read");
                sleep(READ_PAUSE).await;
            }
        }
    }
}
