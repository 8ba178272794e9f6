//! The event bus on Redis: one stream for all processes, its cursors counted beside it.

use std::{fmt, pin::pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use metamcp_core::{
    error::StoreResult,
    event::{EVENT_PAGE_MAX, Event, EventBus, EventPage, NewEvent},
    time::Timestamp,
};
use redis::Cmd;

use super::{
    error::invalid,
    news::News,
    scripts,
    store::{Namespace, corrupt},
};

/// Entries of the stream that one read brings; each holds what one call published.
const ENTRIES_READ_MAX: usize = 16;
/// Longest a read waits, so that an instant can be told; a day.
const READ_WAIT_MAX: Duration = Duration::from_secs(86_400);

/// An [`EventBus`] on Redis.
pub struct RedisEventBus {
    namespace: Arc<Namespace>,
    news: News,
}

impl fmt::Debug for RedisEventBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisEventBus").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// An entry of the stream: its name, its fields.
type Entry = (String, Vec<(String, Vec<u8>)>);

/// The events of one entry.
fn events_of(entry: Entry) -> StoreResult<Vec<Event>> {
    let (name, fields) = entry;
    let unreadable = || corrupt(format!("the events {name} cannot be read; remove them with XDEL"));
    let field = |wanted: &str| fields.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_slice());
    let last = name.split('-').next().and_then(|last| last.parse::<u64>().ok()).ok_or_else(unreadable)?;
    let at = field("at").and_then(|at| std::str::from_utf8(at).ok()?.parse().ok()).map(Timestamp::from_millis);
    let (at, json) = at.zip(field("events")).ok_or_else(unreadable)?;
    let events: Vec<NewEvent> = serde_json::from_slice(json).map_err(|e| unreadable().with_source(e))?;
    let first = (last + 1).checked_sub(events.len() as u64).ok_or_else(unreadable)?;
    Ok((first..).zip(events).map(|(cursor, event)| Event { cursor, at, event }).collect())
}

impl RedisEventBus {
    pub(super) fn new(namespace: Arc<Namespace>) -> Self {
        let news = News::start(&namespace.pool, namespace.key("events"), namespace.key("cursor"));
        Self { namespace, news }
    }

    fn latest_cmd(&self) -> Cmd {
        let mut command = redis::cmd("GET");
        command.arg(self.namespace.key("cursor"));
        command
    }

    /// The entries that hold what came after a cursor, or end after it.
    fn range_cmd(&self, after: u64) -> Cmd {
        let mut command = redis::cmd("XRANGE");
        let start = format!("({after}-{}", u64::MAX);
        command.arg(self.namespace.key("events")).arg(start).arg("+").arg("COUNT").arg(ENTRIES_READ_MAX);
        command
    }

    /// At most `max` kept events after a cursor.
    async fn events_after(&self, after: u64, max: usize, mut entries: Vec<Entry>) -> StoreResult<Vec<Event>> {
        let mut events: Vec<Event> = Vec::new();
        loop {
            let read = entries.len();
            for entry in entries {
                events.extend(events_of(entry)?.into_iter().filter(|event| event.cursor > after));
            }
            // Each further turn brings an event at least: `max` bounds them.
            if events.len() >= max || read < ENTRIES_READ_MAX {
                events.truncate(max);
                return Ok(events);
            }
            let read_up_to = events.last().map_or(after, |event| event.cursor);
            entries = self.namespace.pool.query(&self.range_cmd(read_up_to)).await?;
        }
    }

    /// What is kept after the cursor; `None` when there is nothing to tell yet.
    async fn page(&self, after: u64, max: usize) -> StoreResult<Option<EventPage>> {
        let mut both = redis::pipe();
        both.add_command(self.latest_cmd()).add_command(self.range_cmd(after));
        let (latest, mut entries): (Option<u64>, Vec<Entry>) = self.namespace.pool.pipeline(&both).await?;
        let latest = latest.unwrap_or_default();
        // A cursor ahead of the bus is of another life of it: the gap is told, and the reader starts over.
        let ahead = after > latest && entries.is_empty();
        let from = if ahead { 0 } else { after };
        if ahead {
            entries = self.namespace.pool.query(&self.range_cmd(from)).await?;
        } else if entries.is_empty() && after == latest {
            return Ok(None);
        }
        let events = self.events_after(from, max, entries).await?;
        let missed = ahead || events.first().is_none_or(|first| first.cursor > after + 1);
        let next = events.last().map_or(latest, |event| event.cursor);
        Ok(Some(EventPage { events, next, missed }))
    }
}

#[async_trait]
impl EventBus for RedisEventBus {
    async fn publish(&self, events: &[NewEvent]) -> StoreResult<u64> {
        if events.is_empty() {
            return self.latest().await;
        }
        if events.len() > usize::from(EVENT_PAGE_MAX) {
            let count = events.len();
            return Err(invalid(format!("{count} events in one call, split them into calls of at most {EVENT_PAGE_MAX}")));
        }
        let json = serde_json::to_string(events).map_err(|e| invalid("this event has no stored form").with_source(e))?;
        let kept = self.namespace.options.events_kept_max;
        let call = self.namespace.call(&scripts::EVENTS_PUBLISH).arg(kept).arg(events.len()).arg(json);
        let last = self.namespace.run(&call).await?;
        // Readers of this process need not wait until Redis tells them.
        self.news.ring();
        Ok(last)
    }

    async fn read(&self, after: u64, max: u16, wait: Duration) -> StoreResult<EventPage> {
        let max = usize::from(max.clamp(1, EVENT_PAGE_MAX));
        let until = tokio::time::Instant::now() + wait.min(READ_WAIT_MAX);
        let listener = self.news.listen();
        loop {
            let mut rung = pin!(listener.rung());
            // Listens before it looks: what comes in between is not missed.
            rung.as_mut().enable();
            if let Some(page) = self.page(after, max).await? {
                return Ok(page);
            }
            if tokio::time::timeout_at(until, rung).await.is_err() {
                return Ok(EventPage { events: Vec::new(), next: after, missed: false });
            }
        }
    }

    async fn latest(&self) -> StoreResult<u64> {
        let latest: Option<u64> = self.namespace.pool.query(&self.latest_cmd()).await?;
        Ok(latest.unwrap_or_default())
    }
}
