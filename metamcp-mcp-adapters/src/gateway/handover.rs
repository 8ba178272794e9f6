//! Retries that reach another replica than the one where their request waits, alive, for an answer: handed over through the record store, and
//! what came of them brought back.
//!
//! A legacy server asks in the middle of a call, and only the process that holds the call can go on with it. The sealed state of the question
//! names that process. A retry that lands elsewhere becomes a record that is looked for as long as the question is open; the reply becomes
//! another. Notifications of the part that is served so reach nobody.
//!
//! ```text
//!  client ─▶ replica that got the retry ──▶ record `retry/…` ──▶ replica that holds the call ─▶ server
//!         ◀─                            ◀── record `reply/…` ◀──
//! ```

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use metamcp_core::{
    auth::Principal,
    error::StoreResult,
    json::RawJson,
    pointer::Digest,
    record::{Expect, RECORD_BYTES_MAX, RecordKind, RecordStore, Written},
};
use rand::random;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use super::{Caller, ClientSide, Gateway, Reply, Request, RpcFault, bridge, gateway::WeakGateway};
use crate::wire::era::{Era, INTERNAL_ERROR, INVALID_PARAMS};

/// Most open questions whose retries are looked for; of further ones a retry must reach this replica.
const WAITING_MAX: usize = 1_024;
/// How long retries of a question are looked for: as long as its request is kept alive.
const WAITING_TTL: Duration = Duration::from_secs(600);
/// Pause between two looks for retries.
const LOOK_PAUSE: Duration = Duration::from_millis(200);
/// Pause between two looks for the reply.
const REPLY_PAUSE: Duration = Duration::from_millis(50);
/// How long a retry waits to be taken.
const TAKE_WAIT: Duration = Duration::from_secs(5);
/// How often who serves a retry says that it lives.
const BEAT: Duration = Duration::from_secs(2);
/// How long that is believed; also how long a reply is kept for who waits for it.
const REPLY_TTL: Duration = Duration::from_secs(20);

/// The open questions of one replica.
#[derive(Debug)]
pub(crate) struct Handover {
    /// This replica, as sealed states name it.
    replica: String,
    /// Until when retries are looked for, by the name of their record.
    waiting: Mutex<HashMap<String, Instant>>,
    came: Notify,
}

impl Default for Handover {
    fn default() -> Self {
        let replica = format!("{:032x}", random::<u128>());
        Self { replica, waiting: Mutex::default(), came: Notify::new() }
    }
}

impl Handover {
    /// Looks for retries of a question whose state is known to this process alone; what its sealed state is to name. `None`: any replica
    /// can go on with this state.
    pub(crate) fn expect(&self, inner: &RawJson) -> Option<String> {
        if !crate::upstream::is_held(inner.raw()) {
            return None;
        }
        let mut waiting = self.waiting();
        if waiting.len() < WAITING_MAX {
            waiting.insert(retry_name(inner), Instant::now() + WAITING_TTL);
            self.came.notify_one();
        }
        Some(self.replica.clone())
    }

    fn forget(&self, inner: &RawJson) {
        self.waiting().remove(&retry_name(inner));
    }

    /// The records to be looked for now.
    fn open(&self) -> Vec<String> {
        let (mut waiting, now) = (self.waiting(), Instant::now());
        waiting.retain(|_, until| *until > now);
        waiting.keys().cloned().collect()
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A retry on its way.
#[derive(Debug, Serialize, Deserialize)]
struct Retry {
    /// The record that the reply goes to.
    reply: String,
    who: Principal,
    endpoint: Option<String>,
    revision: String,
    capabilities: RawJson,
    client_info: Option<RawJson>,
    log_level: Option<RawJson>,
    id: RawJson,
    method: String,
    params: Vec<(String, RawJson)>,
    meta: Vec<(String, RawJson)>,
}

/// What the one who waits is told.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Told {
    /// It is being served.
    Taken,
    /// It ended so.
    Result(RawJson),
    Fault(RpcFault),
}

/// Serves a retry on the replica that holds its request; `None` when that is this one, or it does not answer: then what happens here is told.
pub(super) async fn elsewhere(gateway: &Gateway, caller: &Caller, request: &Request<'_>) -> Option<Reply> {
    let (home, inner) = bridge::held_at(gateway.seal(), caller, request)?;
    if home == gateway.handover().replica {
        gateway.handover().forget(&inner);
        return None;
    }
    let handed = hand_over(gateway.records(), caller, request, &inner).await;
    handed.unwrap_or_else(|error| Some(fault(INTERNAL_ERROR, format!("the answer could not be handed over: {error}"))))
}

async fn hand_over(
    records: &Arc<dyn RecordStore>,
    caller: &Caller,
    request: &Request<'_>,
    inner: &RawJson,
) -> StoreResult<Option<Reply>> {
    let (name, reply) = (retry_name(inner), format!("reply/{:032x}", random::<u128>()));
    let value = serde_json::to_vec(&Retry::of(caller, request, reply.clone())).expect("made of JSON");
    if value.len() > RECORD_BYTES_MAX {
        let why = format!(
            "the answer came to another replica and has {} bytes with its request; at most {RECORD_BYTES_MAX} are handed on: answer less, \
             or send a client to one replica",
            value.len()
        );
        return Ok(Some(fault(INVALID_PARAMS, why)));
    }
    let mut client = Waits { records: Arc::clone(records), reply: Some(reply.clone()) };
    let kept = Some(TAKE_WAIT + REPLY_TTL);
    if let Written::Conflict { .. } =
        records.put(RecordKind::Gateway, &name, value.into(), Expect::Absent, kept).await?
    {
        client.reply = None;
        return Ok(Some(fault(INVALID_PARAMS, "requestState: its request is being gone on with".to_owned())));
    }
    let (began, mut taken) = (Instant::now(), false);
    // Ends: whoever has taken it says so again and again, and what it said runs out.
    loop {
        sleep(REPLY_PAUSE).await;
        let told = records.get(RecordKind::Gateway, &reply).await?;
        match told.and_then(|record| serde_json::from_slice(&record.value).ok()) {
            Some(Told::Result(result)) => {
                client.done().await;
                return Ok(Some(Reply::Result(result)));
            }
            Some(Told::Fault(fault)) => {
                client.done().await;
                return Ok(Some(Reply::Fault(fault)));
            }
            Some(Told::Taken) => taken = true,
            None if taken => {
                client.reply = None;
                let why = "the replica that held the call ended before it answered: the call may have happened";
                return Ok(Some(fault(INTERNAL_ERROR, why.to_owned())));
            }
            None if began.elapsed() > TAKE_WAIT => {
                if records.delete(RecordKind::Gateway, &name).await? {
                    client.reply = None;
                    return Ok(None);
                }
                // It was taken just now.
                taken = records.get(RecordKind::Gateway, &reply).await?.is_some() || began.elapsed() > 2 * TAKE_WAIT;
            }
            None => {}
        }
    }
}

/// A client that waits for a reply; when it goes away first, that is told.
struct Waits {
    records: Arc<dyn RecordStore>,
    reply: Option<String>,
}

impl Waits {
    async fn done(&mut self) {
        if let Some(reply) = self.reply.take()
            && let Err(error) = self.records.delete(RecordKind::Gateway, &reply).await
        {
            tracing::debug!(%error, "a reply that was taken stays until it runs out");
        }
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        let (Some(reply), Ok(runtime)) = (self.reply.take(), tokio::runtime::Handle::try_current()) else { return };
        let records = Arc::clone(&self.records);
        runtime.spawn(async move {
            let left = left_name(&reply);
            let put = records.put(RecordKind::Gateway, &left, Bytes::new(), Expect::Anything, Some(REPLY_TTL)).await;
            if let Err(error) = put {
                tracing::debug!(%error, "a call goes on though its client went away");
            }
        });
    }
}

/// Looks for the retries of open questions for as long as the gateway lives.
pub(super) async fn keep(gateway: WeakGateway) {
    loop {
        let Some(strong) = gateway.upgrade() else { return };
        let names = strong.handover().open();
        if names.is_empty() {
            let handover = Arc::clone(strong.handover());
            drop(strong);
            // Ends with the task, which the gateway owns.
            handover.came.notified().await;
            continue;
        }
        for name in names {
            match strong.records().get(RecordKind::Gateway, &name).await {
                Ok(Some(record)) => take(&strong, &name, &record.value).await,
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "retries of open questions could not be looked for"),
            }
        }
        drop(strong);
        sleep(LOOK_PAUSE).await;
    }
}

/// Takes a retry and serves it beside.
async fn take(gateway: &Gateway, name: &str, value: &[u8]) {
    match gateway.records().delete(RecordKind::Gateway, name).await {
        Ok(true) => {}
        // Whoever waited has given it up.
        Ok(false) => return,
        Err(error) => return tracing::debug!(%error, "a retry could not be taken"),
    }
    gateway.handover().waiting().remove(name);
    let Ok(retry) = serde_json::from_slice::<Retry>(value) else { return };
    let gateway = gateway.clone();
    tokio::spawn(async move { serve(&gateway, &retry).await });
}

async fn serve(gateway: &Gateway, retry: &Retry) {
    let records = &**gateway.records();
    let caller = retry.caller();
    let request = retry.request();
    tell(records, &retry.reply, &Told::Taken).await;
    let mut served = Box::pin(gateway.handle(&caller, &request, &Nobody));
    let reply = loop {
        tokio::select! {
            reply = &mut served => break reply,
            () = sleep(BEAT) => {
                if matches!(records.get(RecordKind::Gateway, &left_name(&retry.reply)).await, Ok(Some(_))) {
                    // To drop it takes the request back.
                    return;
                }
                tell(records, &retry.reply, &Told::Taken).await;
            }
        }
    };
    let told = match reply {
        Reply::Result(result) => Told::Result(result),
        Reply::Kept(page) => match RawJson::parse(String::from_utf8_lossy(&page)) {
            Ok(result) => Told::Result(result),
            Err(_) => Told::Fault(RpcFault::new(INTERNAL_ERROR, "the reply is no JSON")),
        },
        Reply::Fault(fault) => Told::Fault(fault),
    };
    tell(records, &retry.reply, &told).await;
}

async fn tell(records: &dyn RecordStore, name: &str, told: &Told) {
    let mut value = serde_json::to_vec(told).expect("made of JSON");
    if value.len() > RECORD_BYTES_MAX {
        let why = format!(
            "the call is done; its result has {} bytes and was waited for at another replica, which is handed at most {RECORD_BYTES_MAX}: \
             let large results go by pointer, or send a client to one replica",
            value.len()
        );
        value = serde_json::to_vec(&Told::Fault(RpcFault::new(INTERNAL_ERROR, why))).expect("made of strings");
    }
    let put = records.put(RecordKind::Gateway, name, Bytes::from(value), Expect::Anything, Some(REPLY_TTL)).await;
    if let Err(error) = put {
        tracing::warn!(%error, "what came of a retry could not be handed back");
    }
}

impl Retry {
    fn of(caller: &Caller, request: &Request<'_>, reply: String) -> Self {
        let owned = |members: &[(Cow<'_, str>, &RawValue)]| {
            members.iter().map(|(key, value)| (key.to_string(), (*value).to_owned().into())).collect()
        };
        Self {
            reply,
            who: caller.principal.clone(),
            endpoint: caller.endpoint.as_deref().map(str::to_owned),
            revision: caller.revision.to_string(),
            capabilities: caller.capabilities.clone(),
            client_info: caller.client_info.clone(),
            log_level: caller.log_level.clone(),
            id: request.id.to_owned().into(),
            method: request.method.to_string(),
            params: owned(&request.params),
            meta: owned(&request.meta),
        }
    }

    fn caller(&self) -> Caller {
        Caller {
            principal: self.who.clone(),
            endpoint: self.endpoint.as_deref().map(Arc::from),
            // Only modern clients are shown questions.
            era: Era::Modern,
            revision: self.revision.as_str().into(),
            capabilities: self.capabilities.clone(),
            client_info: self.client_info.clone(),
            log_level: self.log_level.clone(),
        }
    }

    fn request(&self) -> Request<'_> {
        Request {
            id: self.id.raw(),
            method: self.method.as_str().into(),
            params: members(&self.params),
            meta: members(&self.meta),
        }
    }
}

fn members(owned: &[(String, RawJson)]) -> Vec<(Cow<'_, str>, &RawValue)> {
    owned.iter().map(|(key, value)| (key.as_str().into(), value.raw())).collect()
}

/// The client is at another replica.
struct Nobody;

#[async_trait]
impl ClientSide for Nobody {
    fn notify(&self, _method: &str, _params: Option<&RawValue>) {}

    async fn ask(&self, method: &str, _params: &RawJson) -> Result<RawJson, RpcFault> {
        Err(RpcFault::new(INTERNAL_ERROR, format!("a modern client is not asked `{method}`")))
    }
}

fn fault(code: i64, why: String) -> Reply {
    Reply::Fault(RpcFault::new(code, why))
}

fn retry_name(inner: &RawJson) -> String {
    format!("retry/{}", Digest::of(inner.get().as_bytes()))
}

fn left_name(reply: &str) -> String {
    format!("left/{reply}")
}
