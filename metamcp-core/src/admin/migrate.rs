//! Moves all that one store holds into another, and proves it.

use serde::Serialize;

use super::{
    AdminError, Place, Step, Watch,
    export::result_of,
    intake::{Intake, Moved},
    verify::{Verified, verify},
    walk::{self, Jobs, KINDS, Records},
};
use crate::time::Timestamp;

/// How a store is moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MigrateOptions {
    /// What time it is: a result is kept for a while from now at least.
    pub now: Timestamp,
    /// Although workers hold jobs. Their leases run out in the new store.
    pub force: bool,
}

/// What a move did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Migrated {
    /// What was taken in.
    pub moved: Moved,
    /// What the comparison at the end found.
    pub verified: Verified,
}

impl Migrated {
    /// Whether the new store holds what the old one holds, and nothing else.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.moved.findings.is_empty() && self.verified.findings.is_empty()
    }
}

/// Copies jobs, the results they point to, records and pauses, then compares both sides. Nothing of `from` is changed. Events are not moved.
///
/// For stores at rest: no server and no worker may use either. An interrupted move is simply repeated: what stands in the new store already is
/// passed over, and told when it differs. Records are in version 1 there.
///
/// # Errors
/// [`AdminError::Held`] when workers hold jobs and it is not forced; when a store fails, or refuses a result; and for more lanes than a store
/// tells of.
pub async fn migrate(
    from: Place<'_>,
    to: Place<'_>,
    options: &MigrateOptions,
    watch: &mut Watch<'_>,
) -> Result<Migrated, AdminError> {
    let lanes = walk::lanes(&from).await?;
    let leased = lanes.iter().map(|(_, counts)| counts.leased).sum();
    if leased > 0 && !options.force {
        return Err(AdminError::Held { leased });
    }
    let mut intake = Intake::new(to, options.now);
    // Pauses first: a worker that was started too early then takes nothing.
    for (lane, _) in lanes.iter().filter(|(_, counts)| counts.paused) {
        intake.pause(lane).await?;
    }
    let mut jobs = Jobs::all(from.jobs);
    while let Some(job) = jobs.next().await? {
        let body = result_of(from.results, &job, &mut intake.moved.findings).await?;
        intake.job(job, body, watch).await?;
    }
    intake.jobs_end(watch).await?;
    for kind in KINDS {
        let mut records = Records::all(from.records, kind);
        while let Some(record) = records.next().await? {
            intake.record(kind, record).await?;
        }
    }
    watch(Step::Copy, &intake.moved.taken);
    let verified = verify(from, to, watch).await?;
    Ok(Migrated { moved: intake.moved, verified })
}
