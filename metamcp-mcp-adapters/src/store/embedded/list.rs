//! Reads of jobs as of the last commit: one by its id, and pages of a list. A head is where its state says; its body is read beside it.

use std::{iter::Peekable, sync::Arc};

use metamcp_core::{
    error::{StoreError, StoreResult},
    id::JobId,
    matching::Route,
    queue::{Job, JobBody, JobHead, JobPage, JobQuery, JobState},
    task::{Labels, Need, TaskRecord},
};

use super::{
    Engine, codec, head,
    journal::{Entries, View},
    keys::{self, Kind},
};

/// Most heads that are looked at for one page of a list.
const LIST_SCAN_MAX: usize = 2_000;

/// The head of a job as it is stored, ended or not.
pub(super) fn stored_head(view: &View, id: JobId) -> StoreResult<Option<JobHead>> {
    for kind in [Kind::Live, Kind::Final] {
        let key = keys::job_key(kind, id);
        if let Some(record) = view.get(&key)? {
            return head::decode_head(&key, &record).map(Some);
        }
    }
    Ok(None)
}

/// The job of a head; `None` when it was removed meanwhile.
pub(super) fn with_body(view: &View, head: JobHead) -> StoreResult<Option<Job>> {
    let key = keys::job_key(Kind::Body, head.id);
    let Some(record) = view.get(&key)? else { return Ok(None) };
    let body = codec::decode_body(&key, &record).unwrap_or_else(|error| {
        tracing::error!(job = %head.id, %error, "stored body cannot be read");
        damaged(&error)
    });
    Ok(Some(Job { head, body: Arc::new(body) }))
}

/// Stands for a body that cannot be read, so that its owner still sees the job, how it ended, and every other job of a list.
fn damaged(error: &StoreError) -> JobBody {
    let need = Need::new(format!("(the stored request cannot be read: {error})"));
    JobBody { task: TaskRecord { need, labels: Labels::new(), cache: None }, route: Route::default() }
}

/// One page: live and final heads merged by id, the newest first.
pub(super) fn page(engine: &Engine, query: &JobQuery) -> StoreResult<JobPage> {
    let view = engine.journal.view()?;
    let end = |kind: Kind| query.before.map_or_else(|| kind.end(), |before| keys::job_key(kind, before));
    let ended = |state: &JobState| matches!(state, JobState::Done | JobState::Cancelled);
    let mut sides = Vec::new();
    for (kind, wanted) in [
        (Kind::Live, query.states.is_empty() || !query.states.iter().all(ended)),
        (Kind::Final, query.states.is_empty() || query.states.iter().any(ended)),
    ] {
        if wanted {
            sides.push(view.backwards(&(kind.first()..end(kind)))?.peekable());
        }
    }
    let mut by_head = query.clone();
    by_head.label = None;
    let no_body = Arc::new(empty_body());
    let mut page = JobPage::default();
    for _ in 0..LIST_SCAN_MAX {
        let Some((key, record)) = newest(&mut sides)? else {
            page.next = None;
            return Ok(page);
        };
        if page.jobs.len() == query.page_size() {
            return Ok(page);
        }
        let mut head = head::decode_head(&key, &record)?;
        page.next = Some(head.id);
        if head.state == JobState::Leased {
            head = engine.writer.shared().beaten(head.id).unwrap_or(head);
        }
        let job = Job { head, body: Arc::clone(&no_body) };
        if by_head.matches(&job)
            && let Some(job) = with_body(&view, job.head)?
            && query.matches(&job)
        {
            page.jobs.push(job);
        }
    }
    Ok(page)
}

/// The body that stands in while only the head is asked about.
fn empty_body() -> JobBody {
    JobBody { task: TaskRecord { need: Need::default(), labels: Labels::new(), cache: None }, route: Route::default() }
}

/// Takes the entry with the largest id.
fn newest(sides: &mut [Peekable<Entries<'_>>]) -> StoreResult<Option<(Vec<u8>, Vec<u8>)>> {
    let mut best: Option<(usize, JobId)> = None;
    for (n, side) in sides.iter_mut().enumerate() {
        match side.peek() {
            Some(Ok((key, _))) => {
                let id = keys::job_of(key)?;
                if best.is_none_or(|(_, other)| id > other) {
                    best = Some((n, id));
                }
            }
            Some(Err(_)) => return side.next().transpose(),
            None => {}
        }
    }
    best.and_then(|(n, _)| sides[n].next()).transpose()
}
