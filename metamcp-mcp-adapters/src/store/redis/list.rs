//! Pages of a list. The ids are in indexes: of all jobs, of those of one owner, of live ones and of dead letters. The narrowest that holds all
//! that is asked for is read; what it does not know is filtered here.

use metamcp_core::{
    error::StoreResult,
    queue::{Job, JobPage, JobQuery, JobState},
};

use super::{
    bodies,
    head::{self, ToldJob, ToldJobs},
    namespace::Namespace,
    scripts,
    words::word,
};

/// Most jobs that are looked at for one page.
const LIST_SCAN_MAX: usize = 2_000;
/// Most jobs that one script reads.
const LIST_READ_MAX: usize = 100;
/// Bytes of bodies after which one script reads no further job.
const LIST_BYTES_MAX: usize = 4 << 20;

/// A job as it is shown; a damaged body is told in its place. `None`: it was removed since its head was read, and its large body with it.
pub(super) fn shown(told: ToldJob) -> StoreResult<Option<Job>> {
    if told.2.is_none() {
        return Ok(None);
    }
    let (job, unreadable) = head::job(told)?;
    if let Some(error) = unreadable {
        tracing::error!(job = %job.head.id, %error, "stored body cannot be read");
    }
    Ok(Some(job))
}

/// The index that is read, and whether it holds jobs that are not asked for.
fn index(query: &JobQuery) -> (String, bool) {
    let all = |wanted: fn(&JobState) -> bool| !query.states.is_empty() && query.states.iter().all(wanted);
    let other_filters = query.lane.is_some() || query.label.is_some();
    if all(|state| *state == JobState::Dead) {
        ("dead".to_owned(), other_filters || query.owner.is_some())
    } else if all(|state| !state.is_final()) {
        ("live".to_owned(), true)
    } else if let Some(owner) = &query.owner {
        (format!("o:{}:{}", owner.tenant, word(&owner.subject)), other_filters || !query.states.is_empty())
    } else {
        ("all".to_owned(), other_filters || !query.states.is_empty())
    }
}

/// One page.
pub(super) async fn page(namespace: &Namespace, query: &JobQuery) -> StoreResult<JobPage> {
    let (index, filtered) = index(query);
    let mut page = JobPage { jobs: Vec::new(), next: query.before };
    let mut seen = 0;
    while seen < LIST_SCAN_MAX {
        // One more than there is room for tells whether the page is the last.
        let room = query.page_size() - page.jobs.len();
        let wanted = if filtered { LIST_READ_MAX } else { LIST_READ_MAX.min(room + 1) };
        let before = page.next.map_or_else(|| "+".to_owned(), |id| format!("({id}"));
        let call = namespace.call(&scripts::LIST).arg(&index).arg(before).arg(wanted).arg(LIST_BYTES_MAX);
        let (more, last, ToldJobs(mut told)): (u8, String, ToldJobs) = namespace.run(&call).await?;
        bodies::bring_large(namespace, &mut told).await?;
        seen += wanted;
        for one in told {
            if page.jobs.len() == query.page_size() {
                return Ok(page);
            }
            let job = match shown(one) {
                Ok(Some(job)) => job,
                Ok(None) => continue,
                Err(error) => {
                    tracing::error!(%error, "a job is left out of a list");
                    continue;
                }
            };
            page.next = Some(job.head.id);
            page.jobs.extend(query.matches(&job).then_some(job));
        }
        page.next = last.parse().ok().filter(|_| more == 1);
        if page.next.is_none() {
            break;
        }
    }
    Ok(page)
}
