//! The process that has the answer: brings it to the one that holds the request, and waits for what comes of it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use metamcp_core::{
    error::StoreResult,
    json::RawJson,
    record::{Expect, RECORD_BYTES_MAX, RecordKind, RecordStore, Written},
    transport::RelayRequest,
};
use rand::random;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep};

use super::{
    held::{TAKE_WAIT, TOLD_TTL},
    letter::{Answer, Brought, Told, ask_name, left_name},
};

/// Pause between two looks for what came of one.
const TOLD_PAUSE: Duration = Duration::from_millis(50);

pub(super) async fn hand_over(
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
