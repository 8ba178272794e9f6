//! The caller's events as one stream, whatever carries it: replayed from a cursor, gaps told, silence broken by heartbeats, ended by drain.

use std::collections::VecDeque;

use futures_util::{Stream, StreamExt, stream};
use metamcp_core::{auth::Principal, event::EventPage, id::JobId};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use super::{
    doc::{EventDocument, MissedDocument},
    problem::Problem,
    state::ApiState,
};

/// Most events read at once; what a slow reader makes the server hold.
const PAGE_MAX: u16 = 100;

/// One thing a stream says.
#[derive(Debug)]
pub(super) enum News {
    /// Something happened.
    Event(EventDocument),
    /// Events were dropped before they could be read.
    Missed(MissedDocument),
    /// Nothing happened for a while.
    Heartbeat,
    /// The stream cannot go on.
    Failed(Problem),
}

#[derive(Debug)]
struct Feed {
    state: ApiState,
    who: Principal,
    job: Option<JobId>,
    cursor: u64,
    queue: VecDeque<News>,
    beat_at: Instant,
    failed: bool,
    /// Held as long as the stream lives.
    _place: OwnedSemaphorePermit,
}

/// Opens a stream after `after`, or from now on. When this returns, everything that happens from then on will be told.
pub(super) async fn open(
    state: ApiState,
    who: Principal,
    after: Option<u64>,
    job: Option<JobId>,
) -> Result<impl Stream<Item = News> + Send + 'static, Problem> {
    let place = state.stream_place()?;
    let cursor = match after {
        Some(after) => after,
        None => state.engine().latest_event().await?,
    };
    let drained = state.options().drain.clone().cancelled_owned();
    let beat_at = Instant::now() + state.options().heartbeat;
    let feed = Feed { state, who, job, cursor, queue: VecDeque::new(), beat_at, failed: false, _place: place };
    Ok(stream::unfold(feed, Feed::next).take_until(drained))
}

impl Feed {
    async fn next(mut self) -> Option<(News, Self)> {
        loop {
            if let Some(news) = self.queue.pop_front() {
                self.beat_at = Instant::now() + self.state.options().heartbeat;
                return Some((news, self));
            }
            if self.failed {
                return None;
            }
            let silence = self.beat_at.saturating_duration_since(Instant::now());
            if silence.is_zero() {
                self.queue.push_back(News::Heartbeat);
                continue;
            }
            match self.state.engine().events(&self.who, self.cursor, PAGE_MAX, silence).await {
                Ok(page) => self.take(&page),
                Err(error) => {
                    self.queue.push_back(News::Failed(error.into()));
                    self.failed = true;
                }
            }
        }
    }

    fn take(&mut self, page: &EventPage) {
        if page.missed {
            let next = page.events.first().map_or(page.next, |first| first.cursor - 1);
            self.queue.push_back(News::Missed(MissedDocument { after: self.cursor, next }));
        }
        let wanted = page.events.iter().filter(|event| self.job.is_none_or(|job| job == event.event.job));
        self.queue.extend(wanted.filter_map(EventDocument::of).map(News::Event));
        self.cursor = page.next;
    }
}
