//! Keeps what each server offered in the record store, so that a restart shows the last known lists at once.
//!
//! A record is small, so a long text is cut into parts named by its digest, and one record names the digest. Replicas that write at the same
//! time write the same or different parts, never mixed ones; parts that nobody names any more end by themselves.

use std::time::Duration;

use bytes::Bytes;
use metamcp_core::{
    error::StoreResult,
    id::ServerName,
    pointer::Digest,
    record::{Expect, RECORD_BYTES_MAX, RecordKind, RecordStore},
};
use serde::{Deserialize, Serialize};

use super::offer::Lists;

/// How long the lists of a server are kept that is not seen again.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3_600);
/// How old what is kept may become before it is written again, unchanged, so that it does not end.
pub(super) const RENEW_AFTER: Duration = Duration::from_secs(24 * 3_600);
/// Longest text that is kept, in bytes; the lists of a larger server are read anew at each start.
const KEPT_BYTES_MAX: usize = 32 << 20;

/// The record that names the parts.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    digest: Digest,
    parts: usize,
}

/// Writes what a server offers.
pub(super) async fn write(records: &dyn RecordStore, server: &ServerName, lists: &Lists) -> StoreResult<()> {
    let text = Bytes::from(lists.to_json());
    if text.len() > KEPT_BYTES_MAX {
        tracing::warn!(%server, bytes = text.len(), "lists are too large to be kept over a restart");
        return Ok(());
    }
    let digest = Digest::of(&text);
    let parts: Vec<Bytes> = (0..text.len())
        .step_by(RECORD_BYTES_MAX)
        .map(|from| text.slice(from..text.len().min(from + RECORD_BYTES_MAX)))
        .collect();
    let count = parts.len();
    for (number, part) in parts.into_iter().enumerate() {
        put(records, &part_name(server, &digest, number), part).await?;
    }
    let head = serde_json::to_vec(&Head { digest, parts: count }).expect("a digest and a number are JSON");
    put(records, &head_name(server), head.into()).await
}

/// What a server offered when it was last written; `None` when that is not known whole.
pub(super) async fn read(records: &dyn RecordStore, server: &ServerName) -> StoreResult<Option<Lists>> {
    let Some(head) = records.get(RecordKind::Catalog, &head_name(server)).await? else { return Ok(None) };
    let Ok(Head { digest, parts }) = serde_json::from_slice(&head.value) else { return Ok(None) };
    if parts > KEPT_BYTES_MAX / RECORD_BYTES_MAX + 1 {
        return Ok(None);
    }
    let mut text = Vec::new();
    for number in 0..parts {
        let Some(part) = records.get(RecordKind::Catalog, &part_name(server, &digest, number)).await? else {
            return Ok(None);
        };
        text.extend_from_slice(&part.value);
    }
    if Digest::of(&text) != digest {
        return Ok(None);
    }
    Ok(serde_json::from_slice(&text).ok())
}

async fn put(records: &dyn RecordStore, name: &str, value: Bytes) -> StoreResult<()> {
    records.put(RecordKind::Catalog, name, value, Expect::Anything, Some(KEPT)).await.map(drop)
}

fn head_name(server: &ServerName) -> String {
    format!("offer/{server}")
}

fn part_name(server: &ServerName, digest: &Digest, number: usize) -> String {
    format!("part/{server}/{digest}/{number}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use metamcp_core::{json::RawJson, record::MemoryRecordStore, time::SystemClock};

    use super::*;

    #[tokio::test]
    async fn lists_of_any_size_come_back_as_they_were() {
        let records = MemoryRecordStore::new(Arc::new(SystemClock::default()));
        let server = ServerName::new("s").unwrap();
        assert_eq!(read(&records, &server).await.unwrap(), None);
        for count in [0, 1, 9_000] {
            let tool = |n| {
                RawJson::parse(format!(r#"{{"name":"t{n}","n":1.0,"description":"{}"}}"#, "x".repeat(100))).unwrap()
            };
            let lists = Lists { tools: (0..count).map(tool).collect(), modern: true, ..Lists::default() };
            write(&records, &server, &lists).await.unwrap();
            assert_eq!(read(&records, &server).await.unwrap(), Some(lists));
        }
        let parts = records.list(RecordKind::Catalog, Some("part/"), 200).await.unwrap();
        records.delete(RecordKind::Catalog, &parts.last().unwrap().name).await.unwrap();
        records.put(RecordKind::Catalog, "offer/t", Bytes::from_static(b"{"), Expect::Anything, None).await.unwrap();
        assert_eq!(read(&records, &ServerName::new("t").unwrap()).await.unwrap(), None, "what is damaged is not known");
    }
}
