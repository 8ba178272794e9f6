//! Identical calls served once: the result of a call that only reads, or may be repeated, is given to a later task of the same principal that
//! says how old a result may be.
//!
//! What is kept is a record that points to the job that made the call; its body goes to the later job as its own. A tool whose definition has
//! changed since is another tool.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::ports::Ports;
use crate::{
    auth::Principal,
    id::JobId,
    json::RawJson,
    matching::Candidate,
    pointer::{Digest, ResultPointer},
    queue::JobHead,
    record::{Expect, RecordKind},
    result::ResultBody,
    time::Timestamp,
};

/// Longest time for which a call is remembered: an older result serves no task, whatever it says.
pub(super) const CALL_KEPT: Duration = Duration::from_secs(24 * 3_600);

/// A call that was made.
#[derive(Debug, Serialize, Deserialize)]
struct Call {
    job: JobId,
    result: ResultPointer,
    at: Timestamp,
}

/// A result that serves another task.
#[derive(Debug)]
pub(super) struct Hit {
    pub(super) from: JobId,
    pub(super) body: ResultBody,
}

/// What makes two calls identical.
pub(super) fn call_key(who: &Principal, candidate: &Candidate, input: &RawJson) -> String {
    let text = (who, &candidate.capability, candidate.definition, input.get());
    Digest::of(&serde_json::to_vec(&text).expect("names and text are JSON")).to_string()
}

/// The result of an identical call that is no older than `age_max` at `now`, by the store's clock. A store that fails here costs a call, not the job.
pub(super) async fn find(ports: &Ports, key: &str, age_max: Duration, now: Timestamp) -> Option<Hit> {
    let record = ports.records.get(RecordKind::Call, key).await;
    let record = record.inspect_err(|error| tracing::warn!(%error, "no look into the cache")).ok()??;
    let call: Call = serde_json::from_slice(&record.value).ok()?;
    if now.since(call.at) > age_max {
        return None;
    }
    let body = ports.results.get(&call.result, None).await.ok()?;
    Some(Hit { from: call.job, body })
}

/// Remembers the call of a job, made by `now`, for later ones.
pub(super) async fn keep(ports: &Ports, key: &str, job: &JobHead, result: &ResultPointer, now: Timestamp) {
    let call = Call { job: job.id, result: result.clone(), at: now };
    let value = Bytes::from(serde_json::to_vec(&call).expect("ids and a pointer are JSON"));
    let kept = Some(CALL_KEPT.min(job.retain).max(Duration::from_millis(1)));
    if let Err(error) = ports.records.put(RecordKind::Call, key, value, Expect::Anything, kept).await {
        tracing::warn!(job = %job.id, %error, "call not remembered");
    }
}
