//! In which order jobs are handed out: by place inside a tenant, by turns between tenants.

use std::{collections::BTreeMap, time::Duration};

use metamcp_core::{
    auth::Principal,
    id::{JobId, Lane, TenantId, WorkerId},
    queue::{Core, CoreLimits, LeaseRequest, NewJob},
    testing::job_store::new_job,
    time::Timestamp,
};
use proptest::{collection::vec, prelude::*};

const START: Timestamp = Timestamp::from_millis(1_767_225_600_000);

fn of_tenant(n: usize) -> Principal {
    Principal::new(TenantId::new(format!("tenant-{n}")).expect("a valid name"), "somebody")
}

fn lease_one(core: &mut Core, now: Timestamp, request: u64) -> Option<JobId> {
    let want = LeaseRequest {
        lanes: vec![Lane::light()],
        max: 1,
        visibility: Duration::from_secs(3_600),
        worker: WorkerId::new("w").expect("a valid name"),
        request,
        nonce: request,
        shares: std::sync::Arc::default(),
    };
    core.lease(now, &want).jobs.pop()
}

/// Leases everything there is and answers it in order, with its tenant.
fn lease_all(core: &mut Core, now: Timestamp) -> Vec<(JobId, Principal)> {
    let ids: Vec<JobId> = (0..).map_while(|request| lease_one(core, now, request)).collect();
    ids.into_iter().map(|id| (id, core.head(id).expect("what is granted stands").owner.clone())).collect()
}

proptest! {
    #[test]
    fn inside_a_tenant_the_place_is_due_less_a_minute_a_step(
        jobs in vec((0..=9_u8, 0..900_u64, 0..120_u64), 1..60)
    ) {
        let mut core = Core::new(CoreLimits::default());
        let mut now = START;
        let mut places = Vec::new();
        for (priority, gap_s, delay_s) in jobs {
            now = now + Duration::from_secs(gap_s);
            let job = NewJob { priority, delay: Duration::from_secs(delay_s), ..new_job() };
            core.enqueue(now, &job);
            let due_s = now.as_millis() / 1_000 + delay_s;
            places.push((due_s - u64::from(priority) * 60, job.id));
        }
        places.sort_unstable();
        let taken = lease_all(&mut core, now + Duration::from_secs(120));
        let expected: Vec<JobId> = places.into_iter().map(|(_, id)| id).collect();
        prop_assert_eq!(taken.into_iter().map(|(id, _)| id).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn tenants_with_work_are_never_more_than_one_job_apart(owners in vec(0..5_usize, 1..120)) {
        let mut core = Core::new(CoreLimits::default());
        let mut left = BTreeMap::<usize, u32>::new();
        for owner in owners {
            core.enqueue(START, &NewJob { owner: of_tenant(owner), ..new_job() });
            *left.entry(owner).or_default() += 1;
        }
        let mut served: BTreeMap<usize, u32> = left.keys().map(|owner| (*owner, 0)).collect();
        for (_, owner) in lease_all(&mut core, START) {
            let owner = (0..5).find(|n| of_tenant(*n) == owner).unwrap();
            *served.get_mut(&owner).unwrap() += 1;
            let busy = served.iter().filter(|(owner, served)| **served < left[owner]).map(|(_, served)| *served);
            let (least, most) = (busy.clone().min().unwrap_or(0), busy.max().unwrap_or(0));
            prop_assert!(most - least <= 1, "{:?} of {:?}", served, left);
        }
        prop_assert_eq!(served, left);
    }

    #[test]
    fn a_tenant_that_comes_late_gets_its_share_and_no_more(alone in 0..100_usize, idle in 0..3_u64) {
        let mut core = Core::new(CoreLimits::default());
        let mut request = 0;
        let mut take = |core: &mut Core| {
            request += 1;
            lease_one(core, START, request).map(|id| core.head(id).unwrap().owner.clone())
        };
        // The late one was here before and took a few.
        for _ in 0..idle {
            core.enqueue(START, &NewJob { owner: of_tenant(1), ..new_job() });
        }
        for _ in 0..alone + 60 {
            core.enqueue(START, &NewJob { owner: of_tenant(0), ..new_job() });
        }
        for _ in 0..alone as u64 + idle {
            take(&mut core);
        }
        for _ in 0..60 {
            core.enqueue(START, &NewJob { owner: of_tenant(1), ..new_job() });
        }
        let late = (0..40).filter(|_| take(&mut core) == Some(of_tenant(1))).count();
        prop_assert!((18..=22).contains(&late), "{} of 40", late);
    }
}
