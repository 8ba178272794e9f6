//! The checker: reads every record of the journal and compares it with the others and with what is in memory. It mends nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
};

use metamcp_core::{
    error::{StoreError, StoreErrorKind, StoreResult},
    event::Event,
    id::JobId,
    queue::{JobHead, JobState, moves},
};

use super::{
    STORE,
    codec::{self, ResultRecord},
    head,
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
    /// The expiries that results and records call for.
    due_expiries: BTreeSet<Vec<u8>>,
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
    found.check_users()?;
    found.check_expiries()?;
    found.check_rest(state)?;
    found.check_memory(state)
}

impl Found {
    fn take(&mut self, key: &[u8], record: &[u8]) -> StoreResult<()> {
        match Kind::of(key).map(|(kind, _)| kind) {
            Some(kind @ (Kind::Live | Kind::Final)) => {
                let head = head::decode_head(key, record)?;
                if is_kept_apart(&head) != (kind == Kind::Final) || head.id != keys::job_of(key)? {
                    return Err(keys::corrupt(key, &format!("it holds job {} in state {:?}", head.id, head.state)));
                }
                moves::check(&head).map_err(|what| keys::corrupt(key, what))?;
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
                    self.due_expiries.insert(expiry);
                }
            }
            Some(Kind::Record) => {
                let stored = codec::decode_record(key, record)?;
                keys::record_name(key)?;
                self.due_expiries.extend(stored.until.map(|until| keys::record_expiry_key(until, key)));
            }
            Some(Kind::JobExpiry | Kind::ResultExpiry | Kind::RecordExpiry) => {
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
        Ok(())
    }

    /// Each job counts the live ones that name it, and those find it.
    fn check_users(&self) -> StoreResult<()> {
        let mut users: BTreeMap<JobId, u32> = BTreeMap::new();
        for head in self.heads.values().filter(|head| !head.state.is_final()) {
            for parent in &head.after {
                *users.entry(*parent).or_default() += 1;
            }
        }
        if let Some(id) = users.keys().find(|id| !self.heads.contains_key(id)) {
            return Err(differs(format!("job {id} is gone, and live jobs wait for it or take its result")));
        }
        for head in self.heads.values() {
            let users = users.get(&head.id).copied().unwrap_or_default();
            if head.users != users {
                return Err(differs(format!(
                    "job {} is used by {users} live jobs, and counts {}",
                    head.id, head.users
                )));
            }
        }
        Ok(())
    }

    /// What may be removed has its entry in the order of expiry, and nothing else has one.
    fn check_expiries(&self) -> StoreResult<()> {
        let removable = self.heads.values().filter(|head| is_kept_apart(head) && head.users == 0);
        let expiries: BTreeSet<Vec<u8>> =
            removable.map(keys::expiry_of).chain(self.due_expiries.iter().cloned()).collect();
        if expiries != self.expiries {
            return Err(differs("expiry records do not match jobs, results and records"));
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
        let held = |head: &&JobHead| !is_kept_apart(head) || head.users > 0;
        if !state.core.heads().map(|head| head.id).eq(self.heads.values().rev().filter(held).map(|head| head.id)) {
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

/// Whether the job is stored as a final one, which is in memory only while others use it.
const fn is_kept_apart(head: &JobHead) -> bool {
    matches!(head.state, JobState::Done | JobState::Cancelled)
}

fn differs(what: impl std::fmt::Display) -> StoreError {
    let message = format!("{what}; restore the data directory from a copy");
    StoreError::new(StoreErrorKind::Corrupt, STORE, message)
}
