//! What the replicas of a gateway tell one another of a session: that it ended, what was set in it, and what its client said to another
//! replica than the one that it is for: answers, and that it takes a request back.
//!
//! A session of which nothing was set has no record. Whoever serves it looks at the record when it takes the session up and from time to time.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use metamcp_core::{
    error::{StoreError, StoreErrorKind, StoreResult},
    json::RawJson,
    pointer::Digest,
    record::{Expect, RECORD_BYTES_MAX, RecordKind, RecordStore, Written},
    time::{Clock as _, SystemClock, Timestamp},
};
use serde::{Deserialize, Serialize};

use crate::{gateway::RpcFault, wire::era::INTERNAL_ERROR};

/// How long an answer, or that a request was taken back, waits for the replica that it is for, in seconds.
const ANSWER_KEPT_S: u64 = 60;
/// Elicitations that are complete and kept for a client's own stream; above it the first is forgotten.
pub(super) const COMPLETED_MAX: usize = 16;
/// How long each is kept, in seconds.
const COMPLETED_S_MAX: u64 = 600;
/// Tries to change a record that others change too.
const CHANGES_MAX: usize = 8;

/// What was set in a session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shared {
    /// It was ended by its client.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) ended: bool,
    /// The least severe log level it wants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) log_level: Option<RawJson>,
    /// The resources it is told of.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) uris: BTreeSet<String>,
    /// Elicitations that are complete, of which its client may not have been told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) completed: Vec<Completed>,
}

/// That an elicitation is complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Completed {
    /// As its server told it.
    pub(crate) params: RawJson,
    /// Until when the client may still be told.
    until: Timestamp,
}

impl Shared {
    /// An elicitation is complete; with too many of them, the first is forgotten.
    pub(super) fn complete(&mut self, params: &RawJson, now: Timestamp) {
        self.completed.retain(|one| one.until > now);
        if self.completed.len() >= COMPLETED_MAX {
            self.completed.remove(0);
        }
        let until = now + Duration::from_secs(COMPLETED_S_MAX);
        self.completed.push(Completed { params: params.clone(), until });
    }
}

/// What is set in a session now, and the version of its record; 0 when nothing is set.
pub(super) async fn read(records: &dyn RecordStore, nonce: u128) -> StoreResult<(Shared, u64)> {
    let record = records.get(RecordKind::Gateway, &name(nonce)).await?;
    let version = record.as_ref().map_or(0, |record| record.version);
    let mut shared: Shared = record.and_then(|record| serde_json::from_slice(&record.value).ok()).unwrap_or_default();
    let now = SystemClock::default().now();
    shared.completed.retain(|one| one.until > now);
    Ok((shared, version))
}

/// Changes what is set in a session, and gives back what is set then, with the version of its record.
pub(super) async fn change(
    records: &dyn RecordStore,
    nonce: u128,
    kept: Duration,
    change: impl Fn(&mut Shared),
) -> StoreResult<(Shared, u64)> {
    let name = name(nonce);
    for _ in 0..CHANGES_MAX {
        let standing = records.get(RecordKind::Gateway, &name).await?;
        let version = standing.as_ref().map(|record| record.version);
        let expect = version.map_or(Expect::Absent, Expect::Version);
        let before: Shared = standing.and_then(|record| serde_json::from_slice(&record.value).ok()).unwrap_or_default();
        let mut shared = before.clone();
        change(&mut shared);
        if shared == before {
            return Ok((shared, version.unwrap_or_default()));
        }
        let value = Bytes::from(serde_json::to_vec(&shared).expect("made of strings"));
        let written = records.put(RecordKind::Gateway, &name, value, expect, Some(kept)).await?;
        if let Written::Ok { version } = written {
            return Ok((shared, version));
        }
    }
    let why = format!("a session was changed by others {CHANGES_MAX} times meanwhile; try again");
    Err(StoreError::new(StoreErrorKind::Unavailable, "sessions of the gateway", why))
}

/// What a client answered.
#[derive(Serialize, Deserialize)]
enum Answer {
    #[serde(rename = "result")]
    Result(RawJson),
    #[serde(rename = "error")]
    Error(RpcFault),
}

/// Hands an answer of the client to whoever asked.
pub(super) async fn hand_over(
    records: &dyn RecordStore,
    nonce: u128,
    question: &str,
    outcome: Result<RawJson, RpcFault>,
) -> StoreResult<()> {
    let answer = match outcome {
        Ok(result) => Answer::Result(result),
        Err(fault) => Answer::Error(fault),
    };
    let mut value = serde_json::to_vec(&answer).expect("made of JSON");
    if value.len() > RECORD_BYTES_MAX {
        let message = format!(
            "the client's answer has {} bytes and came to another replica; at most {RECORD_BYTES_MAX} are handed on: \
             send a session to one replica, or answer less",
            value.len()
        );
        let fault = Answer::Error(RpcFault::new(INTERNAL_ERROR, message));
        value = serde_json::to_vec(&fault).expect("made of strings");
    }
    let kept = Some(Duration::from_secs(ANSWER_KEPT_S));
    let name = answer_name(nonce, question);
    records.put(RecordKind::Gateway, &name, value.into(), Expect::Anything, kept).await.map(|_| ())
}

/// Takes the answer that another replica handed over.
pub(super) async fn take_over(
    records: &dyn RecordStore,
    nonce: u128,
    question: &str,
) -> StoreResult<Option<Result<RawJson, RpcFault>>> {
    let name = answer_name(nonce, question);
    let Some(record) = records.get(RecordKind::Gateway, &name).await? else { return Ok(None) };
    records.delete(RecordKind::Gateway, &name).await?;
    Ok(serde_json::from_slice(&record.value).ok().map(|answer| match answer {
        Answer::Result(result) => Ok(result),
        Answer::Error(fault) => Err(fault),
    }))
}

/// Tells whoever answers this request that the client took it back.
pub(super) async fn take_back(records: &dyn RecordStore, nonce: u128, request: &str) -> StoreResult<()> {
    let (name, kept) = (taken_back_name(nonce, request), Some(Duration::from_secs(ANSWER_KEPT_S)));
    records.put(RecordKind::Gateway, &name, Bytes::new(), Expect::Anything, kept).await.map(|_| ())
}

/// Whether the client took this request back.
pub(super) async fn is_taken_back(records: &dyn RecordStore, nonce: u128, request: &str) -> StoreResult<bool> {
    let record = records.get(RecordKind::Gateway, &taken_back_name(nonce, request)).await?;
    Ok(record.is_some())
}

fn name(nonce: u128) -> String {
    format!("session/{nonce:032x}")
}

/// Clients spell the ids of their requests as they like: a digest fits into a name.
fn taken_back_name(nonce: u128, request: &str) -> String {
    format!("taken-back/{nonce:032x}/{}", Digest::of(request.as_bytes()))
}

fn answer_name(nonce: u128, question: &str) -> String {
    format!("answer/{nonce:032x}/{question}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use metamcp_core::{record::MemoryRecordStore, time::SystemClock};

    use super::*;

    const KEPT: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn what_one_replica_sets_another_reads() {
        let records = MemoryRecordStore::new(Arc::new(SystemClock::default()));
        assert_eq!(read(&records, 1).await.unwrap(), (Shared::default(), 0));
        change(&records, 1, KEPT, |_| ()).await.unwrap();
        assert!(records.list(RecordKind::Gateway, None, 10).await.unwrap().is_empty(), "nothing was set");
        let add = |uri: &'static str| {
            change(&records, 1, KEPT, move |shared| {
                shared.uris.insert(uri.to_owned());
            })
        };
        let (one, two) = tokio::join!(add("a:1"), add("a:2"));
        let (one, two) = (one.unwrap(), two.unwrap());
        assert_eq!(one.0.uris.len() < two.0.uris.len(), one.1 < two.1, "what was set later is of a later version");
        change(&records, 1, KEPT, |shared| shared.ended = true).await.unwrap();
        let (read_back, _) = read(&records, 1).await.unwrap();
        assert_eq!((read_back.uris.len(), read_back.ended), (2, true));
        assert_eq!(read(&records, 2).await.unwrap(), (Shared::default(), 0));
    }

    #[tokio::test]
    async fn an_answer_is_handed_over_once() {
        let records = MemoryRecordStore::new(Arc::new(SystemClock::default()));
        let answer = RawJson::parse(r#"{"action":"accept","n":1.0}"#).unwrap();
        hand_over(&records, 1, "q-1", Ok(answer.clone())).await.unwrap();
        assert!(take_over(&records, 2, "q-1").await.unwrap().is_none(), "another session's");
        assert_eq!(take_over(&records, 1, "q-1").await.unwrap(), Some(Ok(answer)));
        assert!(take_over(&records, 1, "q-1").await.unwrap().is_none());
        take_back(&records, 1, "\"a/b\"").await.unwrap();
        assert!(is_taken_back(&records, 1, "\"a/b\"").await.unwrap());
        assert!(!is_taken_back(&records, 2, "\"a/b\"").await.unwrap(), "another session's");
        let large = RawJson::parse(format!("\"{}\"", "x".repeat(RECORD_BYTES_MAX))).unwrap();
        hand_over(&records, 1, "q-2", Ok(large)).await.unwrap();
        let told = take_over(&records, 1, "q-2").await.unwrap().unwrap().unwrap_err();
        assert!(told.message.contains("another replica"), "{}", told.message);
    }
}
