//! Follows one task to its end. Events tell when to look, the task's document tells what is true: a missed event costs a second, not the end.

use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::time::{Instant, timeout};

use super::client::{Client, ClientError};
use crate::api::doc::{EventKindDocument, JobDocument, TaskState};

/// Longest time between two looks at the task, in milliseconds.
const LOOK_MS: u64 = 1_000;
/// Longest time a server may be away while its task is followed, in seconds: enough for a restart.
const AWAY_S_MAX: u64 = 30;
/// Pause before a server that is away is asked again, in milliseconds.
const AWAY_PAUSE_MS: u64 = 250;

/// Waits until the task has ended or asks for input; tells `news` what happens on the way.
///
/// # Errors
/// When the server refuses, or is away for longer than it may be.
///
/// # Cancel safety
/// May be dropped at any time: the task goes on.
pub(super) async fn watch(
    client: &Client,
    id: &str,
    news: &mut dyn FnMut(&EventKindDocument),
) -> Result<JobDocument, ClientError> {
    let mut away_since = None;
    loop {
        match follow(client, id, news).await {
            Ok(Some(job)) => return Ok(job),
            // The stream ended: the server restarts, or cut a slow reader off.
            Ok(None) => away_since = None,
            Err(error @ ClientError::Unreachable(_)) => {
                let since = *away_since.get_or_insert_with(Instant::now);
                if since.elapsed() > Duration::from_secs(AWAY_S_MAX) {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(Duration::from_millis(AWAY_PAUSE_MS)).await;
    }
}

async fn follow(
    client: &Client,
    id: &str,
    news: &mut dyn FnMut(&EventKindDocument),
) -> Result<Option<JobDocument>, ClientError> {
    // Opened before the look, so that nothing can happen between the two.
    let mut events = client.events().await?;
    loop {
        let job = client.task(id).await?;
        if job.state.is_final() || job.state == TaskState::InputRequired {
            return Ok(Some(job));
        }
        let look_again = Instant::now() + Duration::from_millis(LOOK_MS);
        loop {
            match timeout(look_again.saturating_duration_since(Instant::now()), events.next()).await {
                Err(_) => break,
                Ok(None) => return Ok(None),
                Ok(Some(event)) if event.job == job.id => {
                    news(&event.kind);
                    if !matches!(event.kind, EventKindDocument::Progress(_)) {
                        break;
                    }
                }
                Ok(Some(_)) => {}
            }
        }
    }
}
