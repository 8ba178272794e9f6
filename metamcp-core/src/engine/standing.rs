//! How each server serves this process: calls under way, how long they take, how many fail. Old news counts less and less, so that a server
//! that did badly is tried again after a while.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::id::ServerName;

/// After so long what is known of a server counts half.
const HALF_LIFE: Duration = Duration::from_secs(10);
/// How much one outcome moves the failure rate.
const OUTCOME_WEIGHT: f64 = 0.3;
/// Longest latency that is told apart from longer ones, in milliseconds.
const LATENCY_MS_MAX: f64 = 3_600_000.0;

/// How a server stands at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Load {
    /// Calls of this process that are under way; no more than its workers have slots.
    pub(super) in_flight: u32,
    /// How long a call takes, in milliseconds: recent peaks, and how long the oldest call has been under way.
    pub(super) latency_ms: f64,
    /// Which part of the recent calls failed, 0 to 1.
    pub(super) failure_rate: f64,
}

/// Every server's track record; as many as are configured.
#[derive(Debug)]
pub(super) struct Standings(BTreeMap<ServerName, Arc<Mutex<Track>>>);

impl Standings {
    pub(super) fn new(servers: impl IntoIterator<Item = ServerName>) -> Self {
        Self(servers.into_iter().map(|name| (name, Arc::default())).collect())
    }

    /// How a server stands; of one that is not configured nothing is known.
    pub(super) fn load(&self, server: &ServerName) -> Load {
        self.0.get(server).map(|track| lock(track).load(Instant::now())).unwrap_or_default()
    }

    /// A call of it begins. Dropped without an outcome, it tells only how long it lasted.
    pub(super) fn begin(&self, server: &ServerName) -> Flight {
        let track = self.0.get(server).cloned().unwrap_or_default();
        let ticket = lock(&track).begin(Instant::now());
        Flight { track, ticket, failed: None }
    }
}

/// A call under way.
#[derive(Debug)]
pub(super) struct Flight {
    track: Arc<Mutex<Track>>,
    ticket: u64,
    failed: Option<bool>,
}

impl Flight {
    /// The server is connected: the call itself begins now, so that a start counts once and not as what every call takes.
    pub(super) fn connected(&self) {
        lock(&self.track).flying.insert(self.ticket, Instant::now());
    }

    /// The call is over: the server answered, or it failed.
    pub(super) fn ended(mut self, failed: bool) {
        self.failed = Some(failed);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        lock(&self.track).end(self.ticket, self.failed, Instant::now());
    }
}

fn lock(track: &Mutex<Track>) -> std::sync::MutexGuard<'_, Track> {
    track.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The record of one server. Pure: it reads no clock.
#[derive(Debug, Default)]
struct Track {
    /// When each call under way began.
    flying: BTreeMap<u64, Instant>,
    tickets: u64,
    latency_ms: f64,
    failure_rate: f64,
    /// When both were last true.
    at: Option<Instant>,
}

impl Track {
    fn begin(&mut self, now: Instant) -> u64 {
        self.tickets += 1;
        self.flying.insert(self.tickets, now);
        self.tickets
    }

    /// A longer call than was known is known at once, shorter ones bring the latency down as time passes.
    fn end(&mut self, ticket: u64, failed: Option<bool>, now: Instant) {
        let Some(began) = self.flying.remove(&ticket) else { return };
        let keep = self.faded(now);
        let took = (now.duration_since(began).as_secs_f64() * 1_000.0).min(LATENCY_MS_MAX);
        // A call that failed at once says nothing of how long one takes.
        if failed != Some(true) || took > self.latency_ms {
            self.latency_ms = if took > self.latency_ms { took } else { self.latency_ms * keep + took * (1.0 - keep) };
        }
        self.failure_rate *= keep;
        if let Some(failed) = failed {
            self.failure_rate += OUTCOME_WEIGHT * (f64::from(u8::from(failed)) - self.failure_rate);
        }
        self.at = Some(now);
    }

    fn load(&self, now: Instant) -> Load {
        let keep = self.faded(now);
        let oldest = self.flying.values().min().map_or(0.0, |began| now.duration_since(*began).as_secs_f64() * 1_000.0);
        Load {
            in_flight: u32::try_from(self.flying.len()).unwrap_or(u32::MAX),
            latency_ms: (self.latency_ms * keep).max(oldest.min(LATENCY_MS_MAX)),
            failure_rate: self.failure_rate * keep,
        }
    }

    /// How much of what was known still counts.
    fn faded(&self, now: Instant) -> f64 {
        let age = self.at.map_or(Duration::ZERO, |at| now.duration_since(at));
        0.5_f64.powf(age.as_secs_f64() / HALF_LIFE.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn failures_show_at_once_and_fade_with_time() {
        let (mut track, start) = (Track::default(), Instant::now());
        for n in 0..5 {
            let ticket = track.begin(at(start, n));
            track.end(ticket, Some(true), at(start, n));
        }
        let then = track.load(at(start, 5));
        assert!(then.failure_rate > 0.8 && then.latency_ms < 1.0, "{then:?}");
        let half = track.load(at(start, 10_004)).failure_rate;
        assert!((half - then.failure_rate / 2.0).abs() < 0.01, "{half}");
        assert!(track.load(at(start, 120_000)).failure_rate < 0.001);
        let ticket = track.begin(at(start, 120_000));
        track.end(ticket, Some(false), at(start, 120_010));
        assert!(track.load(at(start, 120_010)).failure_rate < 0.001);
    }

    #[test]
    fn a_slow_call_shows_while_it_is_under_way_and_after() {
        let (mut track, start) = (Track::default(), Instant::now());
        let slow = track.begin(start);
        let quick = track.begin(at(start, 1_990));
        track.end(quick, Some(false), at(start, 2_000));
        let load = track.load(at(start, 2_000));
        assert_eq!((load.in_flight, load.latency_ms), (1, 2_000.0));
        // Whatever ended it, it lasted so long.
        track.end(slow, None, at(start, 3_000));
        let load = track.load(at(start, 3_000));
        assert_eq!((load.in_flight, load.latency_ms, load.failure_rate), (0, 3_000.0, 0.0));
        assert!(track.load(at(start, 63_000)).latency_ms < 50.0);
    }

    #[test]
    fn a_dropped_flight_is_under_way_no_more() {
        let name = ServerName::new("s").unwrap();
        let standings = Standings::new([name.clone()]);
        let flight = standings.begin(&name);
        assert_eq!(standings.load(&name).in_flight, 1);
        drop(flight);
        assert_eq!(standings.load(&name).in_flight, 0);
    }
}
