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
    error::{corrupt, invalid},
    namespace::Namespace,
    news::News,
    scripts,
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

/// What entries hold.
#[derive(Debug, Default)]
struct Found {
    events: Vec<Event>,
    /// Some could not be read.
    gap: bool,
    /// The cursor of the last that was looked at.
    up_to: u64,
}

impl Found {
    fn add(&mut self, entry: Entry, after: u64) {
        let name = entry.0.clone();
        self.up_to = last_of(&name).unwrap_or(self.up_to);
        match events_of(entry) {
            Ok(events) => self.events.extend(events.into_iter().filter(|event| event.cursor > after)),
            Err(error) => {
                // Readers must not stand before it for ever: they are told that they missed something.
                tracing::error!(%error, entry = name, "events are left out");
                self.gap = true;
            }
        }
    }
}

/// The cursor of an entry's last event, which is the first part of its name.
fn last_of(name: &str) -> Option<u64> {
    name.split('-').next()?.parse().ok()
}

/// The events of one entry.
fn events_of(entry: Entry) -> StoreResult<Vec<Event>> {
    let (name, fields) = entry;
    let unreadable = || corrupt(format!("the events {name} cannot be read"));
    let field = |wanted: &str| fields.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_slice());
    let last = last_of(&name).ok_or_else(unreadable)?;
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
        // No entry ends at the largest number, and Redis knows none behind it.
        let start = format!("({}-{}", after.min(u64::MAX - 1), u64::MAX);
        command.arg(self.namespace.key("events")).arg(start).arg("+").arg("COUNT").arg(ENTRIES_READ_MAX);
        command
    }

    /// At most `max` kept events after a cursor; `entries` are the first that hold any.
    async fn found_after(&self, after: u64, max: usize, mut entries: Vec<Entry>) -> StoreResult<Found> {
        let mut found = Found { up_to: after, ..Found::default() };
        // Each turn but the last brings events, or finds a gap and ends.
        loop {
            let more = entries.len() == ENTRIES_READ_MAX;
            for entry in entries {
                found.add(entry, after);
            }
            if found.events.len() >= max || !more || found.gap {
                return Ok(found);
            }
            entries = self.namespace.pool.query(&self.range_cmd(found.up_to)).await?;
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
        let Found { mut events, gap, up_to } = self.found_after(from, max, entries).await?;
        let missed = ahead || gap || events.first().is_none_or(|first| first.cursor > after + 1);
        let cut = events.len() > max;
        events.truncate(max);
        let next = match events.last() {
            Some(last) if cut => last.cursor,
            _ => up_to,
        };
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
            return Err(invalid(format!(
                "{count} events in one call, split them into calls of at most {EVENT_PAGE_MAX}"
            )));
        }
        let json =
            serde_json::to_string(events).map_err(|e| invalid("this event has no stored form").with_source(e))?;
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
