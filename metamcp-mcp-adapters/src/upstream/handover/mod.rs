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
mod held;
mod hold;
mod letter;

use std::{
    fmt,
    sync::{Arc, Weak},
};

use metamcp_core::{
    id::ServerName,
    record::{Expect, RecordKind, RecordStore},
    transport::{Delivered, RelayRequest, TransportErrorKind},
};
use serde_json::value::RawValue;
use tokio_util::task::AbortOnDropHandle;

pub(super) use self::held::Holder;
use self::{
    bring::hand_over,
    held::{Shared, TAKE_WAIT, TOLD_TTL},
    hold::keep,
    letter::{Brought, ask_name},
};
use super::{
    reached::Reached,
    way::{Failure, error},
};

/// The parked requests of this process, as other processes on the same store reach them. Connectors that share one share it with each other.
///
/// It looks for answers as long as it lives, in a task of its own.
pub struct Handover {
    shared: Arc<Shared>,
    _keeper: AbortOnDropHandle<()>,
}

impl Handover {
    /// Hands over through these records, which all processes of a fleet share. Must be called within a tokio runtime.
    #[must_use]
    pub fn new(records: Arc<dyn RecordStore>) -> Self {
        let shared = Arc::new(Shared::new(records));
        let keeper = AbortOnDropHandle::new(tokio::spawn(keep(Arc::clone(&shared))));
        Self { shared, _keeper: keeper }
    }

    /// This process, as states name it.
    pub(super) fn home(&self) -> &str {
        &self.shared.home
    }

    /// Looks for answers to a request that is parked here.
    pub(super) fn hold(&self, state: &str, holder: Weak<dyn Holder>) {
        self.shared.hold(state, holder);
    }

    /// The request waits no more.
    pub(super) fn let_go(&self, state: &str) {
        self.shared.let_go(state);
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

impl fmt::Debug for Handover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.shared.count();
        f.debug_struct("Handover").field("home", &self.shared.home).field("held", &held).finish_non_exhaustive()
    }
}
