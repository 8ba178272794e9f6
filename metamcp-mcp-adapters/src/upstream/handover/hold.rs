//! The process that holds the request: looks for answers to it, goes on with it, and hands back what comes of it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use metamcp_core::{
    json::RawJson,
    record::{Expect, RECORD_BYTES_MAX, RecordKind, RecordStore},
    transport::{RelayMeta, RelayRequest},
};
use tokio::time::sleep;

use super::{
    held::{Held, Holder, Shared, TOLD_TTL},
    letter::{Answer, Brought, Told, ask_name, left_name},
};
use crate::upstream::way::Deaf;

/// Pause between two looks for answers.
const LOOK_PAUSE: Duration = Duration::from_millis(200);
/// How often who goes on with a request says that it lives.
const BEAT: Duration = Duration::from_secs(2);

/// Looks for answers for as long as the process has parked requests.
pub(super) async fn keep(shared: Arc<Shared>) {
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
    let (Some(holder), Ok(brought)) = (held.holder.upgrade(), serde_json::from_slice::<Brought>(value)) else {
        return;
    };
    let answer = match brought {
        Brought::Answer(answer) => answer,
        Brought::End => return holder.end_parked(state).await,
    };
    let (records, state) = (Arc::clone(&shared.records), state.to_owned());
    tokio::spawn(async move { serve(&*records, &*holder, &state, &answer).await });
}

async fn serve(records: &dyn RecordStore, holder: &dyn Holder, state: &str, brought: &Answer) {
    tell(records, &brought.told, &Told::Taken).await;
    let request = RelayRequest {
        method: &brought.method,
        name: brought.name.as_deref(),
        params: &[],
        meta: RelayMeta { capabilities: brought.capabilities.as_ref().map(RawJson::raw), ..RelayMeta::default() },
    };
    let responses = brought.responses.as_ref().map(RawJson::raw);
    let mut going = holder.go_on(state, responses, request, &Deaf);
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
    tell(records, &brought.told, &Told::of(holder.server(), reached)).await;
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
