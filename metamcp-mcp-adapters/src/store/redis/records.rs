//! Records on Redis.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use metamcp_core::{
    error::StoreResult,
    record::{Expect, RECORD_PAGE_MAX, Record, RecordKind, RecordStore, Written, check_put},
    time::Timestamp,
};

use super::{error::STORE, namespace::Namespace, scripts, words::span_ms};

/// Bytes of values after which one script reads no further record.
const LIST_BYTES_MAX: usize = 4 << 20;

/// A [`RecordStore`] on Redis.
#[derive(Debug)]
pub struct RedisRecordStore {
    namespace: Arc<Namespace>,
}

impl RedisRecordStore {
    pub(super) const fn new(namespace: Arc<Namespace>) -> Self {
        Self { namespace }
    }
}

#[async_trait]
impl RecordStore for RedisRecordStore {
    async fn get(&self, kind: RecordKind, name: &str) -> StoreResult<Option<Record>> {
        let call = self.namespace.call(&scripts::RECORDS_GET).arg(kind.as_str()).arg(name);
        let told: Option<(u64, Vec<u8>)> = self.namespace.run(&call).await?;
        Ok(told.map(|(version, value)| Record { name: name.to_owned(), version, value: value.into() }))
    }

    async fn put(
        &self,
        kind: RecordKind,
        name: &str,
        value: Bytes,
        expect: Expect,
        ttl: Option<Duration>,
    ) -> StoreResult<Written> {
        check_put(STORE, name, &value, ttl)?;
        let expected = match expect {
            Expect::Anything => "any".to_owned(),
            Expect::Absent => "0".to_owned(),
            // Versions begin with 1, and 0 stands for none.
            Expect::Version(0) => "-1".to_owned(),
            Expect::Version(version) => version.to_string(),
        };
        let ttl = ttl.map_or_else(String::new, |ttl| span_ms(ttl).to_string());
        let call = self.namespace.call(&scripts::RECORDS_PUT).arg(kind.as_str()).arg(name).arg(&value[..]);
        let (written, version): (u8, u64) = self.namespace.acknowledge(&call.arg(expected).arg(ttl)).await?;
        Ok(match (written, version) {
            (1, version) => Written::Ok { version },
            (_, 0) => Written::Conflict { version: None },
            (_, version) => Written::Conflict { version: Some(version) },
        })
    }

    async fn now(&self) -> StoreResult<Timestamp> {
        self.namespace.now().await
    }

    async fn delete(&self, kind: RecordKind, name: &str) -> StoreResult<bool> {
        let call = self.namespace.call(&scripts::RECORDS_DELETE).arg(kind.as_str()).arg(name);
        let stood: u8 = self.namespace.acknowledge(&call).await?;
        Ok(stood == 1)
    }

    async fn list(&self, kind: RecordKind, after: Option<&str>, max: u16) -> StoreResult<Vec<Record>> {
        let max = usize::from(max.min(RECORD_PAGE_MAX));
        let mut records = Vec::new();
        let mut from = after.map_or_else(|| "-".to_owned(), |name| format!("({name}"));
        // Each turn but the last brings a record, or passes over expired ones: there are no more of those than are in the index.
        while records.len() < max {
            let wanted = max - records.len();
            let call = self.namespace.call(&scripts::RECORDS_LIST).arg(kind.as_str()).arg(&from).arg(wanted);
            let told: (u8, String, Vec<(String, u64, Vec<u8>)>) = self.namespace.run(&call.arg(LIST_BYTES_MAX)).await?;
            let (more, last, page) = told;
            let record = |(name, version, value): (String, u64, Vec<u8>)| Record { name, version, value: value.into() };
            records.extend(page.into_iter().map(record));
            if more == 0 {
                break;
            }
            from = format!("({last}");
        }
        Ok(records)
    }
}
