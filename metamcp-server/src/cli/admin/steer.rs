//! `metamcp admin redrive`, `pause`, `resume` and `drain`: changes many jobs at once, so it asks first.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};

use metamcp_core::admin::{self, Drained, RedriveReport};
use serde_json::json;

use super::{
    super::{
        exit::{Exit, Failure, Outcome},
        out,
    },
    args::{DrainArgs, LaneArgs, RedriveArgs},
    live::Live,
    look::filter,
    store::{Folder, open},
};

/// Longest answer to a question that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 64;

pub(super) async fn redrive(args: &RedriveArgs) -> Outcome {
    agree(args.yes, "bring every dead letter that fits back into the queue").await?;
    let stores = open(&args.store.config.sources(), Folder::MustExist).await?;
    let mut live = Live::new();
    let mut tell = |report: &RedriveReport| live.tell(format!("redriven {} of {}", report.redriven, report.found));
    let report = admin::redrive(&*stores.jobs, &filter(&args.filter), &mut tell).await;
    drop(live);
    stores.close().await;
    let report = report.map_err(anyhow::Error::from)?;
    if args.store.json {
        out::json(&report).map_err(anyhow::Error::from)?;
    } else {
        let RedriveReport { found, redriven, missing, changed, .. } = report;
        let told = format!(
            "{redriven} of {found} dead letters are back in the queue; {missing} wait for a job that is no longer kept, {changed} had changed"
        );
        out::text(&told).map_err(anyhow::Error::from)?;
    }
    if report.more {
        eprintln!("note: there are more; run it again");
    }
    Ok(if report.missing > 0 { Exit::Failed } else { Exit::Done })
}

pub(super) async fn pause(args: &LaneArgs, paused: bool) -> Outcome {
    let LaneArgs { lane, store } = args;
    let stores = open(&store.config.sources(), Folder::MustExist).await?;
    let done = stores.jobs.pause(lane, paused).await;
    stores.close().await;
    done.map_err(anyhow::Error::from)?;
    if store.json {
        out::json(&json!({ "lane": lane, "paused": paused })).map_err(anyhow::Error::from)?;
    } else {
        let how = if paused { "is paused" } else { "is not paused" };
        out::text(&format!("lane {lane} {how}")).map_err(anyhow::Error::from)?;
    }
    Ok(Exit::Done)
}

pub(super) async fn drain(args: &DrainArgs) -> Outcome {
    let LaneArgs { lane, store } = &args.lane;
    agree(args.yes, &format!("cancel every job that waits in lane {lane}")).await?;
    let stores = open(&store.config.sources(), Folder::MustExist).await?;
    let mut live = Live::new();
    let mut tell = |report: &Drained| live.tell(format!("cancelled {}", report.cancelled));
    let report = admin::drain(&*stores.jobs, lane, &mut tell).await;
    drop(live);
    stores.close().await;
    let report = report.map_err(anyhow::Error::from)?;
    if store.json {
        out::json(&report).map_err(anyhow::Error::from)?;
    } else {
        let Drained { cancelled, asked, changed } = report;
        let told = format!(
            "{cancelled} jobs of lane {lane} are cancelled; {asked} were leased meanwhile and asked to stop, {changed} had ended"
        );
        out::text(&told).map_err(anyhow::Error::from)?;
    }
    Ok(Exit::Done)
}

/// Asks on a terminal; elsewhere `--yes` is the answer.
///
/// # Errors
/// When the answer is no, or nobody can be asked.
async fn agree(yes: bool, what: &str) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Failure::refused(format!("this would {what}; add --yes to do so")));
    }
    let question = format!("this will {what}; go on? [y/N] ");
    let asked = tokio::task::spawn_blocking(move || {
        eprint!("{question}");
        io::stderr().flush()?;
        let mut answer = String::new();
        io::stdin().lock().take(ANSWER_BYTES_MAX).read_line(&mut answer)?;
        Ok::<_, io::Error>(answer)
    });
    let answer = asked.await.map_err(anyhow::Error::from)?.map_err(anyhow::Error::from)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::refused("nothing was changed")),
    }
}
