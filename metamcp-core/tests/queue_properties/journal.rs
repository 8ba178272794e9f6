//! What the state machine tells to persist is enough: a second one, loaded from it, stands where the first one stands.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use metamcp_core::{
    id::{JobId, Lane},
    matching::Route,
    queue::{Change, Core, CoreLimits, Job, JobBody, JobHead, JobState, LeaseBatch, LeaseEnd, Leased},
    task::{Need, TaskRecord},
    testing::{
        ManualClock,
        model::{Call, Caller, Reply, ops},
    },
    time::{Clock, Timestamp},
};
use proptest::prelude::*;

/// Moves of one round of maintenance, few enough that rounds are cut short.
const BUDGET: u16 = 3;

/// What a store would have on disk.
#[derive(Debug, Default)]
struct Disk {
    heads: BTreeMap<JobId, JobHead>,
    paused: BTreeSet<Lane>,
}

impl Disk {
    fn write(&mut self, changes: Vec<Change>) {
        let mut seen = BTreeSet::new();
        for change in changes {
            match change {
                Change::Put(head) => {
                    assert!(seen.insert(head.id), "{} is told twice", head.id);
                    self.heads.insert(head.id, *head);
                }
                Change::Removed(id) => {
                    assert!(seen.insert(id), "{id} is told twice");
                    self.heads.remove(&id);
                }
                Change::Paused(lane, paused) => {
                    self.paused.remove(&lane);
                    self.paused.extend(paused.then_some(lane));
                }
            }
        }
    }

    fn open(&self) -> Core {
        let mut core = Core::new(CoreLimits::default());
        self.heads.values().cloned().for_each(|head| core.load(head));
        self.paused.iter().for_each(|lane| core.load_paused(lane));
        assert!(core.take_changes().is_empty(), "loading changes nothing");
        core
    }
}

/// The leases that were granted, as a caller learns them.
fn grants(heads: impl Iterator<Item = JobHead>) -> Reply {
    let task = TaskRecord { need: Need::new("count the words"), labels: BTreeMap::new(), cache: None };
    let body = Arc::new(JobBody { task, route: Route::default() });
    let jobs = heads.map(|head| Leased { key: head.lease_key(), job: Job { head, body: Arc::clone(&body) } });
    Reply::Leased(LeaseBatch { jobs: jobs.collect(), next_due: None })
}

/// Makes one call on the bare state machine; answers what a caller must learn.
fn make(core: &mut Core, clock: &ManualClock, call: &Call) -> Reply {
    let now: Timestamp = clock.now();
    match call {
        Call::Enqueue(jobs) => jobs.iter().for_each(|job| {
            core.enqueue(now, job);
        }),
        Call::Lease(want) => {
            let granted = core.lease(now, want).jobs;
            return grants(granted.iter().map(|id| core.head(*id).expect("what is granted stands").clone()));
        }
        Call::Heartbeat(beats, extend) => beats.iter().for_each(|beat| {
            core.heartbeat(now, beat, *extend);
        }),
        Call::Checkpoint(key, checkpoint) => {
            core.checkpoint(now, *key, checkpoint.clone());
        }
        Call::Finish(done) => done.iter().for_each(|finish| {
            core.finish(now, finish);
        }),
        Call::Nack(back) => back.iter().for_each(|nack| {
            core.nack(now, nack);
        }),
        Call::Answer(job, answer) => {
            core.answer(now, *job, answer);
        }
        Call::Redrive(job) => {
            core.redrive(now, *job);
        }
        Call::Cancel(job, reason) => {
            core.cancel(now, *job, reason);
        }
        Call::Pause(lane, paused) => core.pause(lane, *paused),
        Call::Maintain => {
            core.maintain(now, BUDGET);
        }
        Call::Advance(by) => clock.advance(*by),
    }
    Reply::Nothing
}

/// The heads without what a heartbeat alone may have changed: it is not persisted.
fn persisted(core: &Core) -> Vec<JobHead> {
    let without_beats = |head: &JobHead| match head.state {
        JobState::Leased => JobHead { lease_until: None, progress: None, ..head.clone() },
        _ => head.clone(),
    };
    core.heads().map(without_beats).collect()
}

/// Pages every ended job that no other one uses out and in again.
fn page_out_and_in(core: &mut Core) {
    let unused = |head: &&JobHead| head.state.is_final() && head.users == 0;
    let ended: Vec<JobHead> = core.heads().filter(unused).cloned().collect();
    for head in &ended {
        assert!(core.evict(head.id), "what has ended, is persisted and not in use can be paged out");
        assert!(!core.contains(head.id));
        core.check().expect("paging out leaves every index right");
    }
    let held: Vec<JobId> = core.heads().map(|head| head.id).collect();
    assert!(held.into_iter().all(|id| !core.evict(id)), "what has not ended, or is in use, stays");
    ended.into_iter().for_each(|head| core.load(head));
}

proptest! {
    #[test]
    fn a_machine_loaded_from_the_changes_stands_where_the_first_stands(ops in ops(80)) {
        let (clock, mut caller) = (ManualClock::new(), Caller::new());
        let (mut core, mut disk) = (Core::new(CoreLimits::default()), Disk::default());
        for op in &ops {
            let call = caller.call(op);
            let reply = make(&mut core, &clock, &call);
            caller.learn(&reply);
            disk.write(core.take_changes());
            page_out_and_in(&mut core);
            prop_assert_eq!(core.check(), Ok(()));
            let loaded = disk.open();
            prop_assert_eq!(loaded.check(), Ok(()));
            prop_assert_eq!(persisted(&loaded), persisted(&core), "after {:?}", call);
            for lane in Caller::lanes() {
                prop_assert_eq!(loaded.is_paused(&lane), core.is_paused(&lane));
                prop_assert_eq!(loaded.counts(&lane, clock.now()), core.counts(&lane, clock.now()));
            }
        }
    }

    #[test]
    fn after_a_restart_every_lease_is_over_and_counted(ops in ops(80)) {
        let (clock, mut caller, mut core) = (ManualClock::new(), Caller::new(), Core::new(CoreLimits::default()));
        for op in &ops {
            let call = caller.call(op);
            let reply = make(&mut core, &clock, &call);
            caller.learn(&reply);
        }
        let before: BTreeMap<JobId, JobHead> =
            core.heads().filter(|head| head.state == JobState::Leased).map(|head| (head.id, head.clone())).collect();
        let reclaimed = core.reclaim_all(clock.now());
        prop_assert_eq!(core.check(), Ok(()));
        prop_assert_eq!(reclaimed.len(), before.len());
        for (id, state) in reclaimed {
            let (was, is) = (&before[&id], core.head(id).unwrap());
            let expected = match (&was.cancel_reason, was.lost + 1 >= was.lost_max) {
                (Some(_), _) => JobState::Cancelled,
                (None, true) => JobState::Dead,
                (None, false) => JobState::Ready,
            };
            prop_assert_eq!((state, is.state, is.lost), (expected, expected, was.lost + 1));
            prop_assert_eq!((is.lease_key(), is.lease_end, is.maybe_called), (was.lease_key(), Some(LeaseEnd::Lost), true));
        }
        prop_assert!(core.heads().all(|head| head.state != JobState::Leased));
    }
}
