//! The parked requests of this process, and what who holds one does with an answer to it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use async_trait::async_trait;
use metamcp_core::{
    id::ServerName,
    record::RecordStore,
    transport::{RelayRequest, RelaySide},
};
use rand::random;
use serde_json::value::RawValue;
use tokio::{sync::Notify, time::Instant};

use crate::upstream::{parked::PARKED_S_MAX, reached::Reached, way::Failure};

/// Most parked requests of one process whose answers are looked for; those of further ones must reach it directly.
const HELD_MAX: usize = 1_024;
/// How long an answer waits to be taken.
pub(super) const TAKE_WAIT: Duration = Duration::from_secs(5);
/// How long that is believed; also how long what came of it is kept for who waits for it.
pub(super) const TOLD_TTL: Duration = Duration::from_secs(20);

/// Who has parked requests.
#[async_trait]
pub(in crate::upstream) trait Holder: Send + Sync {
    /// The server that they were made to.
    fn server(&self) -> &ServerName;

    /// Goes on with a parked request. With some of the answers that it waits for it
    /// goes on waiting for the others; without any, the server is told that there is none.
    async fn go_on(
        &self,
        state: &str,
        responses: Option<&RawValue>,
        request: RelayRequest<'_>,
        side: &dyn RelaySide,
    ) -> Result<Reached, Failure>;

    /// Ends a parked request that nobody goes on with, here or in the process that has it.
    async fn end_parked(&self, state: &str);
}

/// What the keeper and those who bring answers share.
pub(super) struct Shared {
    pub(super) records: Arc<dyn RecordStore>,
    /// This process, as states name it.
    pub(super) home: String,
    held: Mutex<HashMap<String, Held>>,
    /// A request has come to be held.
    pub(super) came: Notify,
}

/// Whose request it is, and until when it is kept.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) holder: Weak<dyn Holder>,
    until: Instant,
}

impl Shared {
    pub(super) fn new(records: Arc<dyn RecordStore>) -> Self {
        let home = format!("{:032x}", random::<u128>());
        Self { records, home, held: Mutex::default(), came: Notify::new() }
    }

    pub(super) fn hold(&self, state: &str, holder: Weak<dyn Holder>) {
        let mut held = self.held();
        if held.len() < HELD_MAX {
            let until = Instant::now() + Duration::from_secs(PARKED_S_MAX);
            held.insert(state.to_owned(), Held { holder, until });
            self.came.notify_one();
        }
    }

    pub(super) fn let_go(&self, state: &str) {
        self.held().remove(state);
    }

    pub(super) fn count(&self) -> usize {
        self.held().len()
    }

    /// The records to be looked for now, with whose they are.
    pub(super) fn open(&self) -> Vec<(String, Held)> {
        let (mut held, now) = (self.held(), Instant::now());
        held.retain(|_, one| one.until > now && one.holder.strong_count() > 0);
        held.iter().map(|(state, one)| (state.clone(), one.clone())).collect()
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
