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

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use metamcp_core::{
    error::StoreResult,
    id::ServerName,
    json::RawJson,
    pointer::Digest,
    queue::InputRequest,
    record::{Expect, RECORD_BYTES_MAX, RecordKind, RecordStore, Written},
    transport::{Delivered, RelayMeta, RelayRequest, TransportErrorKind},
};
use rand::random;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    parked::PARKED_S_MAX,
    session::{Reached, Session},
    way::{Deaf, Failure, error},
};
use crate::wire::frame::RpcError;

/// Most parked requests of one process whose answers are looked for; those of further ones must reach it directly.
const HELD_MAX: usize = 1_024;
/// Pause between two looks for answers.
const LOOK_PAUSE: Duration = Duration::from_millis(200);
/// Pause between two looks for what came of one.
const TOLD_PAUSE: Duration = Duration::from_millis(50);
/// How long an answer waits to be taken.
const TAKE_WAIT: Duration = Duration::from_secs(5);
/// How often who goes on with a request says that it lives.
const BEAT: Duration = Duration::from_secs(2);
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

/// What is brought to the process that holds a request.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Brought {
    Answer(Answer),
    /// Nobody goes on with it: it is to end.
    End,
}

/// An answer on its way.
#[derive(Serialize, Deserialize)]
struct Answer {
    /// The record that is waited for.
    told: String,
    method: String,
    name: Option<String>,
    capabilities: Option<RawJson>,
    responses: Option<RawJson>,
}

/// What the one who waits is told.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Told {
    /// The request goes on.
    Taken,
    Result(RawJson),
    Parked {
        open: Vec<InputRequest>,
        state: String,
    },
    Rpc(RpcError),
    /// `called`: whether the request may have had its effect.
    Failed {
        called: bool,
        why: String,
    },
}

impl Told {
    fn of(session: &Session, reached: Result<Reached, Failure>) -> Self {
        match reached {
            Ok(Reached::Result(result)) => Self::Result(result),
            Ok(Reached::Parked { open, state }) => Self::Parked { open, state },
            Err(Failure::Rpc(rpc, _)) => Self::Rpc(rpc),
            Err(failure) => {
                let error = session.failed(failure);
                Self::Failed { called: error.delivered != Delivered::No, why: error.to_string() }
            }
        }
    }

    fn reached(self, server: &ServerName) -> Result<Reached, Failure> {
        let (called, why) = match self {
            Self::Result(result) => return Ok(Reached::Result(result)),
            Self::Parked { open, state } => return Ok(Reached::Parked { open, state }),
            Self::Rpc(rpc) => return Err(Failure::Rpc(rpc, None)),
            Self::Failed { called, why } => (called, why),
            Self::Taken => (true, "the process that held the call ended before it answered".to_owned()),
        };
        let delivered = if called { Delivered::Maybe } else { Delivered::No };
        Err(error(server, TransportErrorKind::Closed, delivered, why).into())
    }
}

async fn hand_over(
    records: &Arc<dyn RecordStore>,
    state: &str,
    responses: Option<&RawValue>,
    request: &RelayRequest<'_>,
) -> StoreResult<Option<Told>> {
    let (name, told) = (ask_name(state), format!("told/{:032x}", random::<u128>()));
    let owned = |raw: &RawValue| RawJson::from(raw.to_owned());
    let answer = Answer {
        told: told.clone(),
        method: request.method.to_owned(),
        name: request.name.map(str::to_owned),
        capabilities: request.meta.capabilities.map(owned),
        responses: responses.map(owned),
    };
    let value = serde_json::to_vec(&Brought::Answer(answer)).expect("made of JSON");
    if value.len() > RECORD_BYTES_MAX {
        let why = format!(
            "the answer came to another process than the one that waits for it and has {} bytes; at most {RECORD_BYTES_MAX} are handed on: \
             answer less, or send a client to one replica",
            value.len()
        );
        return Ok(Some(Told::Failed { called: true, why }));
    }
    let mut waits = Waits { records: Arc::clone(records), told: Some(told.clone()) };
    let kept = Some(TAKE_WAIT + TOLD_TTL);
    let put = records.put(RecordKind::Handover, &name, value.into(), Expect::Absent, kept).await?;
    if matches!(put, Written::Conflict { .. }) {
        waits.told = None;
        return Ok(Some(Told::Failed { called: true, why: "the call is being gone on with".to_owned() }));
    }
    let (began, mut taken) = (Instant::now(), false);
    // Ends: whoever has taken it says so again and again, and what it said runs out.
    loop {
        sleep(TOLD_PAUSE).await;
        let record = records.get(RecordKind::Handover, &told).await?;
        match record.and_then(|record| serde_json::from_slice::<Told>(&record.value).ok()) {
            Some(Told::Taken) => taken = true,
            Some(ended) => {
                waits.done().await;
                return Ok(Some(ended));
            }
            None if taken => {
                waits.told = None;
                return Ok(Some(Told::Taken));
            }
            None if began.elapsed() > TAKE_WAIT => {
                if records.delete(RecordKind::Handover, &name).await? {
                    waits.told = None;
                    return Ok(None);
                }
                // It was taken just now, or its taker died at once.
                taken = began.elapsed() > 2 * TAKE_WAIT;
            }
            None => {}
        }
    }
}

/// Who waits for what comes of an answer; when it goes away first, that is told.
struct Waits {
    records: Arc<dyn RecordStore>,
    told: Option<String>,
}

impl Waits {
    async fn done(&mut self) {
        if let Some(told) = self.told.take()
            && let Err(error) = self.records.delete(RecordKind::Handover, &told).await
        {
            tracing::debug!(%error, "what was handed back stays until it runs out");
        }
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        let (Some(told), Ok(runtime)) = (self.told.take(), tokio::runtime::Handle::try_current()) else { return };
        let records = Arc::clone(&self.records);
        runtime.spawn(async move {
            let left = left_name(&told);
            let put = records.put(RecordKind::Handover, &left, Bytes::new(), Expect::Anything, Some(TOLD_TTL)).await;
            if let Err(error) = put {
                tracing::debug!(%error, "a request goes on though nobody waits for it");
            }
        });
    }
}

/// Looks for answers for as long as the process has parked requests.
async fn keep(shared: Arc<Shared>) {
    loop {
        let open = shared.open();
        if open.is_empty() {
            shared.came.notified().await;
            continue;
        }
        for (state, held) in open {
            let name = ask_name(&state);
            match shared.records.get(RecordKind::Handover, &name).await {
                Ok(Some(record)) => take(&shared, &state, &held, &record.value).await,
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "answers to parked requests could not be looked for"),
            }
        }
        sleep(LOOK_PAUSE).await;
    }
}

/// Takes an answer, and goes on with its request beside.
async fn take(shared: &Arc<Shared>, state: &str, held: &Held, value: &[u8]) {
    match shared.records.delete(RecordKind::Handover, &ask_name(state)).await {
        Ok(true) => {}
        // Whoever waited has given it up.
        Ok(false) => return,
        Err(error) => return tracing::debug!(%error, "an answer could not be taken"),
    }
    let (Some(session), Ok(brought)) = (held.session.upgrade(), serde_json::from_slice::<Brought>(value)) else {
        return;
    };
    let answer = match brought {
        Brought::Answer(answer) => answer,
        Brought::End => return session.end_parked(state).await,
    };
    let (records, state) = (Arc::clone(&shared.records), state.to_owned());
    tokio::spawn(async move { serve(&*records, &session, &state, &answer).await });
}

async fn serve(records: &dyn RecordStore, session: &Session, state: &str, brought: &Answer) {
    tell(records, &brought.told, &Told::Taken).await;
    let request = RelayRequest {
        method: &brought.method,
        name: brought.name.as_deref(),
        params: &[],
        meta: RelayMeta { capabilities: brought.capabilities.as_ref().map(RawJson::raw), ..RelayMeta::default() },
    };
    let responses = brought.responses.as_ref().map(RawJson::raw);
    let mut going = Box::pin(session.go_on(state, responses, request, &Deaf));
    let reached = loop {
        tokio::select! {
            reached = &mut going => break reached,
            () = sleep(BEAT) => {
                if matches!(records.get(RecordKind::Handover, &left_name(&brought.told)).await, Ok(Some(_))) {
                    // To drop it takes the request back.
                    return;
                }
                tell(records, &brought.told, &Told::Taken).await;
            }
        }
    };
    tell(records, &brought.told, &Told::of(session, reached)).await;
}

async fn tell(records: &dyn RecordStore, name: &str, told: &Told) {
    let mut value = serde_json::to_vec(told).expect("made of JSON");
    if value.len() > RECORD_BYTES_MAX {
        let why = format!(
            "the call is done; its result has {} bytes and was waited for in another process, which is handed at most {RECORD_BYTES_MAX}",
            value.len()
        );
        value = serde_json::to_vec(&Told::Failed { called: true, why }).expect("made of strings");
    }
    let put = records.put(RecordKind::Handover, name, Bytes::from(value), Expect::Anything, Some(TOLD_TTL)).await;
    if let Err(error) = put {
        tracing::warn!(%error, "what came of an answer could not be handed back");
    }
}

fn ask_name(state: &str) -> String {
    format!("ask/{}", Digest::of(state.as_bytes()))
}

fn left_name(told: &str) -> String {
    format!("left/{told}")
}

impl fmt::Debug for Handover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.shared.held().len();
        f.debug_struct("Handover").field("home", &self.shared.home).field("held", &held).finish_non_exhaustive()
    }
}
