//! Taking in jobs as another store held them: nothing of them is changed, judged or told.

use metamcp_core::{
    error::StoreResult,
    queue::{Job, Restored},
};
use tokio::try_join;
use tokio_postgres::error::SqlState;

use super::{
    super::{
        Engine,
        tx::{Act, Fault, Tx},
    },
    admit::{Asked, Met, RACES_MAX, raced},
    columns::uuids,
    heads::Before,
    save::{Counts, Woken, WriteStatements, Writes},
};

/// Which of parent and child comes first does not matter: whoever has ended and is waited for is looked at by the next maintenance.
const MARK: &str = "
update job p set unsettled = true
where p.id = any($1) and p.state >= 6 and not p.unsettled and exists (select from job_after a where a.parent = p.id)";

struct Restore<'a> {
    engine: &'a Engine,
    jobs: &'a [Job],
}

impl Act for Restore<'_> {
    /// `None` when another process took an id or a key meanwhile.
    type Output = Option<(Vec<Restored>, Woken)>;

    async fn act(&mut self, tx: &mut Tx<'_>) -> Result<Self::Output, Fault> {
        let Self { engine, jobs } = *self;
        let mut asked = Asked::default();
        let mut families = Vec::new();
        for Job { head, .. } in jobs {
            asked.ids.push(head.id);
            asked.keys.extend(head.idempotency_key.as_deref().map(|key| (&head.owner.tenant, key)));
            families.push(head.id);
            families.extend(&head.waits_on);
        }
        let mut met = Met::read(tx, engine, &asked).await?;
        let answers = jobs.iter().map(|job| take_in(&mut met, job)).collect();
        let statements = WriteStatements::of(tx).await?;
        let [mark] = tx.statements([MARK]).await?;
        let families = uuids(&families);
        let writes = Writes::of(&met.heads, Counts::default(), engine.schema());
        let written = try_join!(biased; writes.write(tx, &statements), tx.query(&mark, [&families]), tx.commit());
        match written {
            Ok(_) => {
                tx.committed();
                Ok(Some((answers, writes.woken)))
            }
            Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => {
                tx.roll_back().await?;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn take_in(met: &mut Met, Job { head, body }: &Job) -> Restored {
    if met.standing.contains_key(&head.id) {
        return Restored::Exists;
    }
    let key = head.idempotency_key.as_ref().map(|key| (head.owner.tenant.clone(), key.clone()));
    if let Some(keyed) = key.as_ref().and_then(|key| met.keyed.get(key)) {
        return Restored::KeyTaken { job: keyed.job };
    }
    met.took(head, key);
    met.heads.add(head.clone(), Before::Restored(body.clone()));
    Restored::Ok
}

pub(super) async fn restore(engine: &Engine, jobs: &[Job]) -> StoreResult<Vec<Restored>> {
    for _ in 0..RACES_MAX {
        if let Some((answers, woken)) = engine.transact(Restore { engine, jobs }).await? {
            engine.wake(&woken);
            return Ok(answers);
        }
    }
    Err(raced())
}
