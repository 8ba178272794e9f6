//! What is handed to clients and must come back untouched: session ids, cursors, the state of a question.
//!
//! A seal proves that we wrote a text, for this purpose; it does not hide it. All replicas of a gateway share one key through the record store,
//! so any of them takes what another gave out.

use std::sync::Arc;

use aws_lc_rs::{
    hmac,
    rand::{SecureRandom as _, SystemRandom},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use metamcp_core::{
    error::{StoreError, StoreErrorKind, StoreResult},
    record::{Expect, RecordKind, RecordStore, Written},
};

/// Length of the key, in bytes.
pub(crate) const SEAL_KEY_BYTES: usize = 32;
/// Length of a tag, in bytes: a whole SHA-256.
const TAG_BYTES: usize = 32;
/// The record that keeps the shared key.
const KEY_NAME: &str = "seal";

/// Writes and proves seals under one key.
#[derive(Debug, Clone)]
pub(crate) struct Seal(Arc<hmac::Key>);

impl Seal {
    /// Seals under this key.
    pub(crate) fn new(key: &[u8; SEAL_KEY_BYTES]) -> Self {
        Self(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, key)))
    }

    /// Seals under the key that all replicas on this store share; the first of them draws it.
    ///
    /// # Errors
    /// When the store cannot be used, or what it keeps is no key.
    pub(crate) async fn shared(records: &dyn RecordStore) -> StoreResult<Self> {
        if let Some(record) = records.get(RecordKind::Gateway, KEY_NAME).await? {
            return Self::from_record(&record.value);
        }
        let mut key = [0_u8; SEAL_KEY_BYTES];
        SystemRandom::new().fill(&mut key).map_err(|_| unusable("the system gives no random numbers"))?;
        let drawn = Bytes::copy_from_slice(&key);
        match records.put(RecordKind::Gateway, KEY_NAME, drawn, Expect::Absent, None).await? {
            Written::Ok { .. } => Ok(Self::new(&key)),
            // Another replica was first: its key holds.
            Written::Conflict { .. } => match records.get(RecordKind::Gateway, KEY_NAME).await? {
                Some(record) => Self::from_record(&record.value),
                None => Err(unusable("the shared key was removed while it was read; start again")),
            },
        }
    }

    fn from_record(value: &[u8]) -> StoreResult<Self> {
        let key =
            value.try_into().map_err(|_| unusable("the shared key is damaged; remove the record to draw another"))?;
        Ok(Self::new(key))
    }

    /// `text` in a form of visible ASCII that only we can have written.
    pub(crate) fn seal(&self, purpose: &str, text: &str) -> String {
        let mut bytes = Vec::with_capacity(TAG_BYTES + text.len());
        bytes.extend_from_slice(self.tag(purpose, text.as_bytes()).as_ref());
        bytes.extend_from_slice(text.as_bytes());
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What was sealed for this purpose; `None` when it was not, or was changed.
    pub(crate) fn open(&self, purpose: &str, sealed: &str) -> Option<String> {
        let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(sealed).ok()?;
        if bytes.len() < TAG_BYTES {
            return None;
        }
        let text = bytes.split_off(TAG_BYTES);
        hmac::verify(&self.0, &signed(purpose, &text), &bytes).ok()?;
        String::from_utf8(text).ok()
    }

    fn tag(&self, purpose: &str, text: &[u8]) -> hmac::Tag {
        hmac::sign(&self.0, &signed(purpose, text))
    }
}

/// Purposes hold no zero byte, so the parts cannot run into each other.
fn signed(purpose: &str, text: &[u8]) -> Vec<u8> {
    [purpose.as_bytes(), &[0], text].concat()
}

fn unusable(why: &str) -> StoreError {
    StoreError::new(StoreErrorKind::Corrupt, "seal of the gateway", why.to_owned())
}

#[cfg(test)]
mod tests {
    use metamcp_core::{record::MemoryRecordStore, time::SystemClock};
    use proptest::prelude::*;

    use super::*;

    #[tokio::test]
    async fn replicas_on_one_store_share_the_key() {
        let records = MemoryRecordStore::new(Arc::new(SystemClock::default()));
        let (one, two) = tokio::join!(Seal::shared(&records), Seal::shared(&records));
        let (one, two) = (one.unwrap(), two.unwrap());
        assert_eq!(two.open("session", &one.seal("session", "text")).as_deref(), Some("text"));
        let elsewhere = Seal::new(&[7; SEAL_KEY_BYTES]);
        assert_eq!(elsewhere.open("session", &one.seal("session", "text")), None);
    }

    #[tokio::test]
    async fn a_damaged_key_is_told_and_not_replaced() {
        let records = MemoryRecordStore::new(Arc::new(SystemClock::default()));
        records.put(RecordKind::Gateway, KEY_NAME, Bytes::from_static(b"short"), Expect::Absent, None).await.unwrap();
        assert!(Seal::shared(&records).await.unwrap_err().to_string().contains("damaged"));
    }

    proptest! {
        #[test]
        fn only_what_was_sealed_for_the_purpose_opens(text in ".*", at in 0_usize..200, bit in 0_u8..6) {
            let seal = Seal::new(&[1; SEAL_KEY_BYTES]);
            let sealed = seal.seal("state", &text);
            prop_assert!(sealed.bytes().all(|b| b.is_ascii_graphic()));
            let opened = seal.open("state", &sealed);
            prop_assert_eq!(opened.as_deref(), Some(text.as_str()));
            prop_assert_eq!(seal.open("session", &sealed), None);
            let mut changed = sealed.clone().into_bytes();
            let at = at % changed.len();
            changed[at] ^= 1 << bit;
            if let Ok(changed) = String::from_utf8(changed) {
                prop_assert_ne!(seal.open("state", &changed), Some(text.clone()));
            }
            prop_assert_eq!(seal.open("state", &text), None);
        }
    }
}
