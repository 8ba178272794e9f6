//! The checker: reads every record of the journal and compares it with the others and with what is in memory. It mends nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
};

use metamcp_core::{
    error::{StoreError, StoreErrorKind, StoreResult},
    event::Event,
    id::JobId,
    queue::{JobHead, JobState},
};

use super::{
    STORE,
    codec::{self, ResultRecord},
    keys::{self, Kind},
    state::State,
};

/// Everything of the journal that another record must agree with.
#[derive(Debug, Default)]
struct Found {
    heads: BTreeMap<JobId, JobHead>,
    bodies: BTreeSet<JobId>,
    keys: BTreeMap<Vec<u8>, JobId>,
    expiries: BTreeSet<Vec<u8>>,
    result_expiries: BTreeSet<Vec<u8>>,
    events: Vec<u64>,
}

/// Compares all records with each other and with the queue in memory.
pub(super) fn verify(state: &mut State) -> StoreResult<()> {
    // What calls before this one have changed is to be read from the journal, too.
    state.commit_now()?;
    state.core.check().map_err(|what| differs(format!("the queue in memory is inconsistent: {what}")))?;
    let mut found = Found::default();
    state.view()?.scan(&(Vec::new()..vec![u8::MAX]), |key, record| {
        found.take(key, record)?;
        Ok(ControlFlow::Continue(()))
    })?;
    found.check_jobs()?;
    found.check_rest(state)?;
    found.check_memory(state)
}

impl Found {
    fn take(&mut self, key: &[u8], record: &[u8]) -> StoreResult<()> {
        match Kind::of(key).map(|(kind, _)| kind) {
            Some(kind @ (Kind::Live | Kind::Final)) => {
                let head = codec::decode_head(key, record)?;
                let ended = matches!(head.state, JobState::Done | JobState::Cancelled);
                if ended != (kind == Kind::Final) || head.id != keys::job_of(key)? {
                    return Err(keys::corrupt(key, &format!("it holds job {} in state {:?}", head.id, head.state)));
                }
                if self.heads.insert(head.id, head).is_some() {
                    return Err(keys::corrupt(key, "the job is live and final at once"));
                }
            }
            Some(Kind::Body) => {
                codec::decode_body(key, record)?;
                self.bodies.insert(keys::job_of(key)?);
            }
            Some(Kind::Idempotency) => {
                self.keys.insert(key.to_vec(), codec::decode_job_id(key, record)?);
            }
            Some(Kind::Event) => {
                let event: Event = codec::decode_json(key, record)?;
                if event.cursor != keys::cursor_of(key)? {
                    return Err(keys::corrupt(key, &format!("it holds event {}", event.cursor)));
                }
                self.events.push(event.cursor);
            }
            Some(Kind::Result) => {
                let stored: ResultRecord = codec::decode_json(key, record)?;
                if let Some(at) = stored.expires_at {
                    let expiry =
                        [&[Kind::ResultExpiry as u8], at.as_millis().to_be_bytes().as_slice(), &key[1..]].concat();
                    self.result_expiries.insert(expiry);
                }
            }
            Some(Kind::JobExpiry | Kind::ResultExpiry) => {
                codec::decode_mark(key, record)?;
                self.expiries.insert(key.to_vec());
            }
            Some(Kind::Paused | Kind::Meta) => codec::decode_mark(key, record)?,
            None => return Err(keys::corrupt(key, "its kind is unknown to this build")),
        }
        Ok(())
    }

    fn check_jobs(&self) -> StoreResult<()> {
        let headless = self.bodies.iter().find(|id| !self.heads.contains_key(id));
        let bodyless = self.heads.keys().find(|id| !self.bodies.contains(id));
        if let Some(id) = headless.or(bodyless) {
            return Err(differs(format!("job {id} has only one of head and body")));
        }
        let mut keys = BTreeMap::new();
        for head in self.heads.values() {
            if let Some(word) = &head.idempotency_key {
                keys.insert(keys::idempotency_key(&head.owner.tenant, word), head.id);
            }
        }
        if keys != self.keys {
            return Err(differs("idempotency records do not match the jobs"));
        }
        let ended = self.heads.values().filter(|head| matches!(head.state, JobState::Done | JobState::Cancelled));
        let expiries: BTreeSet<Vec<u8>> =
            ended.map(keys::expiry_of).chain(self.result_expiries.iter().cloned()).collect();
        if expiries != self.expiries {
            return Err(differs("expiry records do not match jobs and results"));
        }
        Ok(())
    }

    fn check_rest(&self, state: &State) -> StoreResult<()> {
        let span = state.events;
        if !self.events.iter().copied().eq(span.oldest..=span.newest) {
            return Err(differs(format!("events {} to {} are not all there", span.oldest, span.newest)));
        }
        Ok(())
    }

    fn check_memory(&self, state: &State) -> StoreResult<()> {
        let live = |head: &&JobHead| !matches!(head.state, JobState::Done | JobState::Cancelled);
        if !state.core.heads().map(|head| head.id).eq(self.heads.values().rev().filter(live).map(|head| head.id)) {
            return Err(differs("other jobs are in memory than in the journal"));
        }
        for head in state.core.heads() {
            // A heartbeat moves these without a commit.
            let stored = self.heads.get(&head.id).cloned();
            let stored = stored.map(|stored| JobHead {
                lease_until: head.lease_until,
                progress: head.progress.clone(),
                ..stored
            });
            if stored.as_ref() != Some(head) {
                return Err(differs(format!("job {} is not in memory as it is stored", head.id)));
            }
        }
        Ok(())
    }
}

fn differs(what: impl std::fmt::Display) -> StoreError {
    let message = format!("{what}; restore the data directory from a copy");
    StoreError::new(StoreErrorKind::Corrupt, STORE, message)
}
