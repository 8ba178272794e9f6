//! `metamcp admin queues`, `stalled` and `dead`: what stands in a store.

use metamcp_core::{
    admin::{self, DeadFilter},
    queue::{Job, JobErrorCode, LIST_PAGE_MAX},
    time::Timestamp,
};
use serde::Serialize;

use super::{
    super::{
        exit::{Exit, Outcome},
        out,
        queues::table,
    },
    args::{DeadArgs, FilterArgs, StalledArgs, StoreArgs},
    store::{Folder, now, open},
};
use crate::api::doc::{JobDocument, Moment, QueueDocument};

/// Widest need or message in a list, in characters.
const TEXT_CHARS_MAX: usize = 60;

/// A job whose lease is over, as JSON.
#[derive(Debug, Serialize)]
struct Held {
    worker: Option<String>,
    lease_until: Option<Moment>,
    task: JobDocument,
}

pub(super) async fn queues(args: &StoreArgs) -> Outcome {
    let stores = open(&args.config.sources(), Folder::MustExist).await?;
    let queues = admin::queues(&*stores.jobs).await;
    stores.close().await;
    let queues: Vec<_> = queues.map_err(anyhow::Error::from)?.into_iter().map(QueueDocument::from).collect();
    if args.json { out::json(&queues) } else { out::text(&table(&queues)) }.map_err(anyhow::Error::from)?;
    Ok(Exit::Done)
}

pub(super) async fn stalled(args: &StalledArgs) -> Outcome {
    let stores = open(&args.store.config.sources(), Folder::MustExist).await?;
    let now = now();
    let stalled = admin::stalled(&*stores.jobs, now, args.limit.into()).await;
    stores.close().await;
    let stalled = stalled.map_err(anyhow::Error::from)?;
    if stalled.more {
        eprintln!("note: there are more than {}; raise --limit", args.limit);
    }
    if args.store.json {
        let held = |job: &Job| Held {
            worker: job.head.worker.as_ref().map(ToString::to_string),
            lease_until: job.head.lease_until.map(Moment),
            task: job.into(),
        };
        out::json(&stalled.jobs.iter().map(held).collect::<Vec<_>>()).map_err(anyhow::Error::from)?;
        return Ok(Exit::Done);
    }
    let row = |job: &Job| {
        let over = job.head.lease_until.map_or_else(String::new, |until| format!("{} s", now.since(until).as_secs()));
        vec![
            job.head.id.to_string(),
            job.head.lane.to_string(),
            job.head.worker.as_ref().map_or_else(String::new, ToString::to_string),
            over,
            job.head.lost.to_string(),
            out::short(&job.body.task.need.text, TEXT_CHARS_MAX),
        ]
    };
    let rows: Vec<_> = stalled.jobs.iter().map(row).collect();
    out::text(&out::table(&["ID", "LANE", "WORKER", "OVER FOR", "LOST", "NEED"], &rows))
        .map_err(anyhow::Error::from)?;
    Ok(Exit::Done)
}

pub(super) async fn dead(args: &DeadArgs) -> Outcome {
    let stores = open(&args.store.config.sources(), Folder::MustExist).await?;
    let wanted = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let filter = filter(&args.filter);
    let found = async {
        let (mut jobs, mut before) = (Vec::new(), None);
        loop {
            let page = admin::dead_letters(&*stores.jobs, &filter, before, LIST_PAGE_MAX).await?;
            jobs.extend(page.jobs.into_iter().take(wanted - jobs.len()));
            before = page.next;
            if before.is_none() || jobs.len() == wanted {
                return Ok::<_, anyhow::Error>(jobs);
            }
        }
    };
    let found = found.await;
    stores.close().await;
    let jobs = found?;
    if args.store.json {
        let documents: Vec<JobDocument> = jobs.iter().map(JobDocument::from).collect();
        out::json(&documents).map_err(anyhow::Error::from)?;
        return Ok(Exit::Done);
    }
    let row = |job: &Job| {
        let (code, message) = job
            .head
            .error
            .as_ref()
            .map_or_else(Default::default, |error| (word(error.code), out::short(&error.message, TEXT_CHARS_MAX)));
        let died = job.head.finished_at.map_or_else(String::new, |at| Moment(at).to_string());
        vec![job.head.id.to_string(), job.head.lane.to_string(), code, died, message]
    };
    let rows: Vec<_> = jobs.iter().map(row).collect();
    out::text(&out::table(&["ID", "LANE", "CODE", "DIED", "ERROR"], &rows)).map_err(anyhow::Error::from)?;
    Ok(Exit::Done)
}

/// Which dead letters are meant.
pub(super) fn filter(args: &FilterArgs) -> DeadFilter {
    let ago = |since: std::time::Duration| {
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        Timestamp::from_millis(now().as_millis().saturating_sub(millis))
    };
    DeadFilter { lane: args.lane.clone(), code: args.code, since: args.since.map(ago), label: args.label.clone() }
}

/// An error code as documents spell it.
fn word(code: JobErrorCode) -> String {
    serde_json::to_value(code).ok().and_then(|code| code.as_str().map(str::to_owned)).unwrap_or_default()
}
