//! What owners and operators do to a job or a lane, without a lease: answer, redrive, cancel, pause.

use metamcp_core::{
    error::StoreResult,
    id::{JobId, Lane},
    queue::{Answer, Answered, Cancelled, JobState, Redriven, moves},
};
use tokio::try_join;

use super::{
    super::{
        Engine, locks,
        tx::{Act, Fault, Tx},
    },
    heads::Heads,
    hold::{hold, load_reach},
    save::{Counts, Woken, save},
};

const LOCK_LANE: &str = "select pg_advisory_xact_lock($1)";
const PAUSE: &str = "
insert into lane (lane, paused) values ($1, $2) on conflict (lane) do update set paused = excluded.paused";

/// One change of one job by somebody who does not hold it.
struct Steer<'a, T> {
    engine: &'a Engine,
    job: JobId,
    how: &'a (dyn Fn(&mut Heads) -> T + Sync),
}

impl<T: Send> Act for Steer<'_, T> {
    type Output = (T, Woken);

    async fn act(&mut self, tx: &mut Tx<'_>) -> Result<Self::Output, Fault> {
        let mut heads = hold(tx, &self.engine.time, &[self.job]).await?;
        let mut reach = heads.reach();
        // Nothing here ends a job as done, which alone lets others go on at once.
        reach.parents.clear();
        load_reach(tx, &mut heads, &reach, self.engine.schema()).await?;
        let answer = (self.how)(&mut heads);
        let woken = save(tx, &heads, Counts::default(), self.engine.schema()).await?;
        Ok((answer, woken))
    }
}

async fn steer<T: Send>(engine: &Engine, job: JobId, how: impl Fn(&mut Heads) -> T + Sync) -> StoreResult<T> {
    let (answer, woken) = engine.transact(Steer { engine, job, how: &how }).await?;
    engine.wake(&woken);
    Ok(answer)
}

pub(super) async fn answer(engine: &Engine, job: JobId, answer: &Answer) -> StoreResult<Answered> {
    steer(engine, job, |heads| {
        let now = heads.now();
        heads.change_if(job, |head| moves::answer(head, now, answer)).unwrap_or(Answered::Gone)
    })
    .await
}

pub(super) async fn cancel(engine: &Engine, job: JobId, reason: &str) -> StoreResult<Cancelled> {
    steer(engine, job, |heads| {
        let now = heads.now();
        heads.change_if(job, |head| moves::cancel(head, now, reason)).unwrap_or(Cancelled::Gone)
    })
    .await
}

pub(super) async fn redrive(engine: &Engine, job: JobId) -> StoreResult<Redriven> {
    steer(engine, job, |heads| {
        let Some(head) = heads.get(job) else { return Redriven::Gone };
        if head.state != JobState::Dead {
            return Redriven::NotDead(head.state);
        }
        let parents = head.after.clone();
        if let Some(missing) = parents.iter().find(|parent| heads.get(**parent).is_none()) {
            return Redriven::Missing { job: *missing };
        }
        let (now, undone) = (heads.now(), heads.undone(&parents));
        heads.change(job, |head| moves::redrive(head, now, undone.clone()));
        heads.keep_parents(&parents);
        Redriven::Ok
    })
    .await
}

struct Pause<'a> {
    engine: &'a Engine,
    lane: &'a Lane,
    paused: bool,
}

impl Act for Pause<'_> {
    type Output = ();

    async fn act(&mut self, tx: &mut Tx<'_>) -> Result<(), Fault> {
        let [lock, pause] = tx.statements([LOCK_LANE, PAUSE]).await?;
        let (number, name) = (locks::of_lane(self.engine.schema(), self.lane), self.lane.as_str());
        tx.opens();
        // Who is leasing ends first: nothing is handed out once this is answered.
        try_join!(
            biased;
            tx.begin(),
            tx.query(&lock, [&number]),
            tx.query(&pause, [&name, &self.paused]),
            tx.commit(),
        )?;
        tx.committed();
        Ok(())
    }
}

pub(super) async fn pause(engine: &Engine, lane: &Lane, paused: bool) -> StoreResult<()> {
    engine.transact(Pause { engine, lane, paused }).await?;
    if !paused {
        engine.notifier.ready([lane]);
    }
    Ok(())
}
