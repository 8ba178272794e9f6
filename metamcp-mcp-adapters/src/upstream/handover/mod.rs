//! Answers that reach another process than the one where their request waits, alive: handed over through the record store, and what came of
//! them brought back.
//!
//! A legacy server asks in the middle of a request, and only the process that holds the request can go on with it. The state of a parked
//! request names that process, so that a client's retry at another replica, and a job that another worker leases, still find it. Notifications
//! of the part that is served so reach nobody. That nobody goes on with a request is brought the same way, and not waited for.
//!
//! ```text
//!  process that has the answer ──▶ record `ask/…` ──▶ process that holds the request ─▶ server
//!                              ◀── record `told/…` ◀──
//! ```

mod bring;
mod hold;
mod letter;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use metamcp_core::{
    id::ServerName,
    record::{Expect, RecordKind, RecordStore},
    transport::{Delivered, RelayRequest, TransportErrorKind},
};
use rand::random;
use serde_json::value::RawValue;
use tokio::{sync::Notify, time::Instant};
use tokio_util::task::AbortOnDropHandle;

use self::{
    bring::hand_over,
    hold::keep,
    letter::{Brought, ask_name},
};
use super::{
    parked::PARKED_S_MAX,
    session::{Reached, Session},
    way::{Failure, error},
};

/// Most parked requests of one process whose answers are looked for; those of further ones must reach it directly.
const HELD_MAX: usize = 1_024;
/// How long an answer waits to be taken.
const TAKE_WAIT: Duration = Duration::from_secs(5);
/// How long that is believed; also how long what came of it is kept for who waits for it.
const TOLD_TTL: Duration = Duration::from_secs(20);

/// The parked requests of this process, as other processes on the same store reach them. Connectors that share one share it with each other.
///
/// It looks for answers as long as it lives, in a task of its own.
pub struct Handover {
    shared: Arc<Shared>,
    _keeper: AbortOnDropHandle<()>,
}

struct Shared {
    records: Arc<dyn RecordStore>,
    /// This process, as states name it.
    home: String,
    held: Mutex<HashMap<String, Held>>,
    came: Notify,
}

/// Whose request it is, and until when it is kept.
#[derive(Clone)]
struct Held {
    session: Weak<Session>,
    until: Instant,
}

impl Handover {
    /// Hands over through these records, which all processes of a fleet share. Must be called within a tokio runtime.
    #[must_use]
    pub fn new(records: Arc<dyn RecordStore>) -> Self {
        let home = format!("{:032x}", random::<u128>());
        let shared = Arc::new(Shared { records, home, held: Mutex::default(), came: Notify::new() });
        let keeper = AbortOnDropHandle::new(tokio::spawn(keep(Arc::clone(&shared))));
        Self { shared, _keeper: keeper }
    }

    /// This process, as states name it.
    pub(super) fn home(&self) -> &str {
        &self.shared.home
    }

    /// Looks for answers to a request that is parked here.
    pub(super) fn hold(&self, state: &str, session: Weak<Session>) {
        let mut held = self.shared.held();
        if held.len() < HELD_MAX {
            let until = Instant::now() + Duration::from_secs(PARKED_S_MAX);
            held.insert(state.to_owned(), Held { session, until });
            self.shared.came.notify_one();
        }
    }

    /// The request waits no more.
    pub(super) fn let_go(&self, state: &str) {
        self.shared.held().remove(state);
    }

    /// Ends a request that is parked in another process. When an answer to it is on its way there, it goes on.
    pub(super) async fn give_up(&self, server: &ServerName, state: &str) {
        let value = serde_json::to_vec(&Brought::End).expect("made of words");
        let (name, kept) = (ask_name(state), Some(TAKE_WAIT + TOLD_TTL));
        let put = self.shared.records.put(RecordKind::Handover, &name, value.into(), Expect::Absent, kept).await;
        if let Err(error) = put {
            tracing::warn!(%server, %error, "a call that waits in another process is not ended there before its time");
        }
    }

    /// Goes on with a request that is parked in another process; `None` when that process does not take it.
    pub(super) async fn go_on(
        &self,
        server: &ServerName,
        state: &str,
        responses: Option<&RawValue>,
        request: &RelayRequest<'_>,
    ) -> Option<Result<Reached, Failure>> {
        match hand_over(&self.shared.records, state, responses, request).await {
            Ok(told) => told.map(|told| told.reached(server)),
            Err(why) => {
                let what = format!("the answer could not be handed to the process that waits for it: {why}");
                Some(Err(error(server, TransportErrorKind::Closed, Delivered::Maybe, what).into()))
            }
        }
    }
}

impl Shared {
    /// The records to be looked for now, with whose they are.
    fn open(&self) -> Vec<(String, Held)> {
        let (mut held, now) = (self.held(), Instant::now());
        held.retain(|_, one| one.until > now && one.session.strong_count() > 0);
        held.iter().map(|(state, one)| (state.clone(), one.clone())).collect()
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Handover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.shared.held().len();
        f.debug_struct("Handover").field("home", &self.shared.home).field("held", &held).finish_non_exhaustive()
    }
}
