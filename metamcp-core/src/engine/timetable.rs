//! When a recurring task is due: a cron expression in a time zone. Pure: instants in, instants out.
//!
//! Across a change of the clocks the wall clock counts: a time that is skipped fires when the clocks have moved on, one that comes twice
//! fires the first time if it names an hour, and both times if it recurs within the hour.

use croner::{
    Cron,
    parser::{CronParser, Seconds},
};
use jiff::{Timestamp as Instant, Zoned, tz::TimeZone};

use crate::{task::InvalidTask, time::Timestamp};

/// Longest cron expression, in bytes.
const CRON_BYTES_MAX: usize = 256;

/// A cron expression in a time zone.
#[derive(Debug, Clone)]
pub(super) struct Timetable {
    cron: Cron,
    zone: TimeZone,
}

impl Timetable {
    /// `cron` has five fields, or six with seconds first; `zone` is an IANA name.
    pub(super) fn new(cron: &str, zone: &str) -> Result<Self, InvalidTask> {
        if cron.len() > CRON_BYTES_MAX {
            return Err(InvalidTask::new("cron", format!("at most {CRON_BYTES_MAX} bytes")));
        }
        let parser = CronParser::builder().seconds(Seconds::Optional).build();
        let cron = parser.parse(cron).map_err(|error| {
            InvalidTask::new("cron", format!("{error}; write it as `minute hour day month weekday`"))
        })?;
        let zone = TimeZone::get(zone).map_err(|_| {
            InvalidTask::new("zone", format!("`{zone}` is no time zone; name one such as Europe/Berlin"))
        })?;
        Ok(Self { cron, zone })
    }

    /// The first instant after `after`; `None` when there is none within the reach of the calendar.
    pub(super) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let from = self.zoned(after)?;
        let next = self.cron.find_next_occurrence(&from, false).ok()?;
        u64::try_from(next.timestamp().as_millisecond()).ok().map(Timestamp::from_millis)
    }

    /// The last `max` instants from `first`, which is one, up to `now`, in order.
    pub(super) fn due(&self, first: Timestamp, now: Timestamp, max: usize) -> Vec<Timestamp> {
        let mut due = Vec::new();
        let mut at = self.last_before(now, true);
        while let Some(instant) = at.filter(|instant| *instant >= first && due.len() < max) {
            due.push(instant);
            at = self.last_before(instant, false);
        }
        due.reverse();
        due
    }

    fn last_before(&self, until: Timestamp, inclusive: bool) -> Option<Timestamp> {
        let found = self.cron.find_previous_occurrence(&self.zoned(until)?, inclusive).ok()?;
        u64::try_from(found.timestamp().as_millisecond()).ok().map(Timestamp::from_millis)
    }

    fn zoned(&self, at: Timestamp) -> Option<Zoned> {
        let instant = Instant::from_millisecond(i64::try_from(at.as_millis()).ok()?).ok()?;
        Some(instant.to_zoned(self.zone.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        let instant: Instant = text.parse().unwrap();
        Timestamp::from_millis(u64::try_from(instant.as_millisecond()).unwrap())
    }

    fn nexts(cron: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
        let table = Timetable::new(cron, zone).unwrap();
        let mut now = at(from);
        let mut told = Vec::new();
        for _ in 0..count {
            now = table.next(now).unwrap();
            told.push(Instant::from_millisecond(i64::try_from(now.as_millis()).unwrap()).unwrap().to_string());
        }
        told
    }

    #[test]
    fn a_time_that_the_clocks_skip_is_not_lost_and_one_that_comes_twice_counts_once() {
        // Berlin: 2026-03-29 02:00 → 03:00, 2026-10-25 03:00 → 02:00.
        let spring = nexts("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 2);
        assert_eq!(spring, ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
        let autumn = nexts("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2);
        assert_eq!(autumn, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
        let often = nexts("*/30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", 5);
        assert_eq!(often[4], "2026-10-25T02:30:00Z", "what recurs within the hour goes on: {often:?}");
    }

    #[test]
    fn what_was_missed_is_bounded_and_the_last_ones_are_told() {
        let table = Timetable::new("* * * * *", "UTC").unwrap();
        let due = table.due(at("2026-01-01T00:00:00Z"), at("2026-01-01T02:00:30Z"), 3);
        assert_eq!(due, [at("2026-01-01T01:58:00Z"), at("2026-01-01T01:59:00Z"), at("2026-01-01T02:00:00Z")]);
        assert!(table.due(at("2026-01-01T00:01:00Z"), at("2026-01-01T00:00:30Z"), 3).is_empty());
    }

    #[test]
    fn what_is_wrong_names_its_field() {
        for (cron, zone, field) in
            [("x", "UTC", "cron"), ("61 * * * *", "UTC", "cron"), ("* * * * *", "Mars/Olympus", "zone")]
        {
            assert_eq!(Timetable::new(cron, zone).unwrap_err().field, field, "{cron} {zone}");
        }
        assert!(Timetable::new("*/5 * * * * *", "Asia/Tokyo").is_ok(), "seconds may stand first");
    }
}
