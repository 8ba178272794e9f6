//! The event bus: a ring of rows that all processes write to and read from, in the order of their commits.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use metamcp_core::{
    error::{StoreError, StoreErrorKind, StoreResult},
    event::{EVENT_PAGE_MAX, Event, EventBus, EventPage, NewEvent},
};
use tokio_postgres::{Error, Row};

use super::{Engine, Parameters, STORE, time::to_instant};

/// Events that are kept unless the terms say otherwise.
pub const EVENTS_KEPT_MAX: u64 = 100_000;
/// How far the ring may grow over its bound before it is cut back: one cut of many costs less than many of one.
const TRIM_EVENTS_MAX: i64 = 1_000;
/// Most events that one publish cuts off: more than it can add, so that a bound that was lowered is reached in time.
const CUT_EVENTS_MAX: i64 = 2_000;
/// Who waits for events looks for them at least this often, in milliseconds: hints may be lost.
const POLL_MS: u64 = 2_000;

/// The row of the span is locked until the commit: publishers take turns, and what one of them adds stands together. The newest are kept.
const PUBLISH: &str = "
with span as (
    update event_span
    set newest = newest + cardinality($2::text[]),
        oldest = case
            when newest + cardinality($2::text[]) + 1 - oldest > $3::bigint + $4::bigint
                then least(newest + cardinality($2::text[]) + 1 - $3::bigint, oldest + $5::bigint)
            else oldest
        end
    returning newest, oldest
), added as (
    insert into event (cursor, at, event)
    select s.newest - cardinality($2::text[]) + e.n,
        coalesce($1::bigint, floor(extract(epoch from clock_timestamp()) * 1000)::bigint), e.event::json
    from span s, unnest($2::text[]) with ordinality e(event, n)
), gone as (
    delete from event e using span s where e.cursor < s.oldest
)
select newest from span";
const READ: &str = "
select s.oldest, s.newest, e.cursor, e.at, e.event::text
from event_span s
left join lateral (
    select * from event where cursor > case when $1 > s.newest then 0 else $1 end order by cursor limit $2
) e on true
order by e.cursor";
const LATEST: &str = "select newest from event_span";

/// The event bus of one schema.
///
/// A publish is one commit, and commits of all processes follow one another: publish many events at once, as
/// [`BatchedEventBus`](metamcp_core::event::BatchedEventBus) does.
#[derive(Debug)]
pub struct PostgresEventBus {
    engine: Arc<Engine>,
}

impl PostgresEventBus {
    pub(super) const fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    /// What is kept after the cursor; `None` when there is nothing to tell yet.
    async fn page(&self, after: u64, max: u16) -> StoreResult<Option<EventPage>> {
        let (from, max) = (i64::try_from(after).unwrap_or(i64::MAX), i64::from(max));
        let rows = self.engine.pools.write().query(READ, &[&from, &max]).await?;
        let unreadable =
            || StoreError::new(StoreErrorKind::Corrupt, STORE, "the span of events is gone from its table");
        let (oldest, newest) = span(rows.first().ok_or_else(unreadable)?).map_err(|e| self.engine.failed(e))?;
        let mut events = Vec::with_capacity(rows.len());
        for row in &rows {
            events.extend(event(row).map_err(|e| self.engine.failed(e))?.transpose()?);
        }
        // A cursor ahead of the bus is of another life of it: the gap is told, and the reader starts over.
        let ahead = after > newest;
        let missed = ahead || after + 1 < oldest;
        if events.is_empty() && !missed {
            return Ok(None);
        }
        let next = events.last().map_or(newest, |event| event.cursor);
        Ok(Some(EventPage { events, next, missed }))
    }
}

fn cursor(row: &Row, at: usize) -> Result<u64, Error> {
    Ok(u64::try_from(row.try_get::<_, i64>(at)?).unwrap_or_default())
}

fn span(row: &Row) -> Result<(u64, u64), Error> {
    Ok((cursor(row, 0)?, cursor(row, 1)?))
}

/// The event of a row, if there is one in it.
fn event(row: &Row) -> Result<Option<StoreResult<Event>>, Error> {
    let Some(text) = row.try_get::<_, Option<&str>>(4)? else { return Ok(None) };
    let (cursor, at) = (cursor(row, 2)?, to_instant(row.try_get(3)?));
    let event = serde_json::from_str(text).map(|event| Event { cursor, at, event });
    Ok(Some(event.map_err(|e| {
        let message = format!("event {cursor} cannot be read; run the program that wrote it, or a newer one");
        StoreError::new(StoreErrorKind::Corrupt, STORE, message).with_source(e)
    })))
}

#[async_trait]
impl EventBus for PostgresEventBus {
    async fn publish(&self, events: &[NewEvent]) -> StoreResult<u64> {
        if events.is_empty() {
            return self.latest().await;
        }
        let invalid = |message| StoreError::new(StoreErrorKind::Invalid, STORE, message);
        if events.len() > usize::from(EVENT_PAGE_MAX) {
            let message =
                format!("{} events in one publish, split them into calls of at most {EVENT_PAGE_MAX}", events.len());
            return Err(invalid(message));
        }
        let texts = events.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>();
        let texts = texts.map_err(|e| invalid("an event has no form in JSON".to_owned()).with_source(e))?;
        let kept = i64::try_from(self.engine.terms.events_kept_max.max(1)).unwrap_or(i64::MAX / 4).min(i64::MAX / 4);
        let (now, trim) = (self.engine.time.now(), kept.min(TRIM_EVENTS_MAX));
        let parameters: Parameters<'_> = &[&now, &texts, &kept, &trim, &CUT_EVENTS_MAX];
        let rows = self.engine.pools.write().query(PUBLISH, parameters).await?;
        self.engine.notifier.news();
        let newest = rows.first().map(|row| cursor(row, 0)).transpose().map_err(|e| self.engine.failed(e))?;
        newest
            .ok_or_else(|| StoreError::new(StoreErrorKind::Corrupt, STORE, "the span of events is gone from its table"))
    }

    async fn read(&self, after: u64, max: u16, wait: Duration) -> StoreResult<EventPage> {
        let max = max.clamp(1, EVENT_PAGE_MAX);
        // Listens before it looks: what comes in between is not missed.
        let mut news = self.engine.notifier.events();
        news.mark_unchanged();
        if let Some(page) = self.page(after, max).await? {
            return Ok(page);
        }
        let found = async {
            loop {
                let _news_or_time_to_look = tokio::time::timeout(Duration::from_millis(POLL_MS), news.changed()).await;
                if let Some(page) = self.page(after, max).await? {
                    return Ok(page);
                }
            }
        };
        let nothing = EventPage { events: Vec::new(), next: after, missed: false };
        tokio::time::timeout(wait, found).await.unwrap_or(Ok(nothing))
    }

    async fn latest(&self) -> StoreResult<u64> {
        let rows = self.engine.pools.write().query(LATEST, &[]).await?;
        let newest = rows.first().map(|row| cursor(row, 0)).transpose().map_err(|e| self.engine.failed(e))?;
        Ok(newest.unwrap_or_default())
    }
}
