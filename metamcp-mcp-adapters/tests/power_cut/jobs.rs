//! The jobs of a workload: new ones, and families as another store held them.

use std::{sync::Arc, time::Duration};

use metamcp_core::{
    auth::Principal,
    id::{JobId, Lane, TenantId, WorkerId},
    matching::Route,
    pointer::Digest,
    queue::{
        ConcurrencyKey, Final, Job, JobBody, JobError, JobErrorCode, JobState, LeaseRequest, NewJob, RateKey, moves,
    },
    task::{Labels, Need, TaskRecord},
    time::Timestamp,
};

use crate::{calls::pointer_of, random::Random};

/// The one lane of a workload.
pub(crate) fn lane() -> Lane {
    Lane::light()
}

fn body() -> Arc<JobBody> {
    let task = TaskRecord { need: Need::new("anything"), labels: Labels::new(), cache: None };
    Arc::new(JobBody { task, route: Route::default() })
}

/// A job that waits for no other.
pub(crate) fn new_job(id: JobId, random: &mut Random) -> NewJob {
    let tenant = TenantId::new(["a", "b"][random.below(2)]).unwrap();
    let concurrency = |random: &mut Random| ConcurrencyKey { key: ["x", "y"][random.below(2)].to_owned(), max: 1 };
    let rate = || RateKey { key: "r".to_owned(), every: Duration::from_millis(700), burst: 2 };
    NewJob {
        id,
        owner: Principal::new(tenant, "s"),
        lane: lane(),
        priority: 0,
        delay: Duration::from_millis(if random.chance(20) { 500 } else { 0 }),
        deadline: random.chance(10).then_some(Duration::from_secs(20)),
        retain: Duration::from_secs(5),
        attempts_max: 3,
        lost_max: 3,
        idempotency_key: random.chance(50).then(|| id.to_string()),
        request_digest: Digest::of(id.as_bytes()),
        after: Vec::new(),
        concurrency: random.chance(25).then(|| concurrency(random)),
        rate: random.chance(15).then(rate),
        held: None,
        body: body(),
    }
}

/// A parent that is held, done or dead, and a child that waits for it or takes its result.
pub(crate) fn new_family(ids: [JobId; 2], now: Timestamp, random: &mut Random) -> [(NewJob, Job); 2] {
    let [parent, child] = ids.map(|id| new_job(id, random));
    let parent = NewJob { concurrency: None, ..parent };
    let child = NewJob { owner: parent.owner.clone(), after: vec![parent.id], ..child };
    let want = LeaseRequest {
        lanes: vec![lane()],
        max: 1,
        visibility: Duration::from_secs(3),
        worker: WorkerId::new("elsewhere").unwrap(),
        request: 1,
        nonce: random.next(),
        shares: Arc::default(),
    };
    let mut held = moves::accept(&parent, now, Vec::new());
    moves::lease(&mut held, now, &want);
    held.users = 1;
    match random.below(3) {
        0 => {}
        1 => {
            let result = pointer_of(held.lease_key());
            moves::finish(&mut held, now, &Final::Done(result));
        }
        _ => moves::finish(&mut held, now, &Final::Dead(JobError::new(JobErrorCode::ServerError, "no luck"))),
    }
    let undone = if held.state == JobState::Done { Vec::new() } else { vec![parent.id] };
    let waits = moves::accept(&child, now, undone);
    let job = |head| Job { head, body: body() };
    [(parent, job(held)), (child, job(waits))]
}
