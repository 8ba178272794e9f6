//! Who waits in this process, and what the process still has to tell the others. Pure bookkeeping: [`super::notify`] brings it over the wire.
//!
//! Everything here is a hint. A hint may be lost, come twice, or be for somebody else; who waits asks the tables first and polls besides.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use metamcp_core::id::Lane;
use tokio::sync::{Notify, watch};

/// Most lanes one notification names; for more it says "every lane". With the longest names they fill 6.5 of the 8 kB a payload may have.
const LANES_NOTIFIED_MAX: usize = 100;

/// Most callers that are woken by hints; those above it find their work by polling.
const WAITERS_MAX: usize = 1_024;

/// Stands for every lane in a payload.
const EVERY_LANE: &str = "*";
/// Stands for news on the event bus in a payload.
const EVENTS: &str = "!";

/// What happened, as one process tells the others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Hints {
    lanes: BTreeSet<Lane>,
    every_lane: bool,
    events: bool,
}

impl Hints {
    pub(super) fn everything() -> Self {
        Self { lanes: BTreeSet::new(), every_lane: true, events: true }
    }

    fn add(&mut self, other: Self) {
        self.lanes.extend(other.lanes);
        self.every_lane |= other.every_lane || self.lanes.len() > LANES_NOTIFIED_MAX;
        self.events |= other.events;
        if self.every_lane {
            self.lanes.clear();
        }
    }

    /// Words with spaces between them: the sender, then what is new.
    pub(super) fn payload(&self, sender: u64) -> String {
        let every = self.every_lane.then_some(EVERY_LANE);
        let events = self.events.then_some(EVENTS);
        let words = every.into_iter().chain(events).chain(self.lanes.iter().map(Lane::as_str));
        words.fold(format!("{sender:016x}"), |text, word| text + " " + word)
    }

    /// The sender and what it tells. Words that are not understood, such as those of a newer version, are passed over.
    pub(super) fn read(payload: &str) -> (Option<u64>, Self) {
        let mut words = payload.split(' ');
        let sender = words.next().and_then(|word| u64::from_str_radix(word, 16).ok());
        let mut hints = Self::default();
        for word in words {
            match word {
                EVERY_LANE => hints.every_lane = true,
                EVENTS => hints.events = true,
                _ => hints.lanes.extend(Lane::new(word)),
            }
        }
        (sender, hints)
    }

    fn concerns(&self, lanes: &[Lane]) -> bool {
        self.every_lane || lanes.iter().any(|lane| self.lanes.contains(lane))
    }
}

struct Waiting {
    lanes: Vec<Lane>,
    signal: Arc<Notify>,
}

#[derive(Default)]
struct State {
    waiting: HashMap<u64, Waiting>,
    next: u64,
    untold: Hints,
}

/// What waiters, tellers and the wire share.
pub(super) struct Wakes {
    // A std lock: every section is short and none awaits.
    state: Mutex<State>,
    events: watch::Sender<u64>,
    /// There is something to tell the others.
    pub(super) told: Notify,
}

impl Wakes {
    pub(super) fn new() -> Self {
        Self { state: Mutex::default(), events: watch::Sender::new(0), told: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Hints are whole at every moment, whoever panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Jobs of these lanes became ready: wakes this process now and the others soon.
    pub(super) fn ready<'a>(&self, lanes: impl IntoIterator<Item = &'a Lane>) {
        self.tell(Hints { lanes: lanes.into_iter().cloned().collect(), ..Hints::default() });
    }

    /// There are new events.
    pub(super) fn news(&self) {
        self.tell(Hints { events: true, ..Hints::default() });
    }

    fn tell(&self, hints: Hints) {
        if hints == Hints::default() {
            return;
        }
        self.wake(&hints);
        self.state().untold.add(hints);
        self.told.notify_one();
    }

    /// What the others have not been told yet, if there is anything.
    pub(super) fn untold(&self) -> Option<Untold<'_>> {
        let hints = std::mem::take(&mut self.state().untold);
        (hints != Hints::default()).then_some(Untold { wakes: self, hints })
    }

    /// Wakes whom it concerns in this process.
    pub(super) fn wake(&self, hints: &Hints) {
        for waiting in self.state().waiting.values().filter(|waiting| hints.concerns(&waiting.lanes)) {
            waiting.signal.notify_one();
        }
        if hints.events {
            self.events.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    pub(super) fn waiter(self: &Arc<Self>, lanes: &[Lane]) -> Waiter {
        let signal = Arc::new(Notify::new());
        let mut state = self.state();
        let id = state.next;
        state.next += 1;
        if state.waiting.len() < WAITERS_MAX {
            state.waiting.insert(id, Waiting { lanes: lanes.to_vec(), signal: Arc::clone(&signal) });
        }
        drop(state);
        Waiter { wakes: Arc::clone(self), id, signal }
    }

    pub(super) fn events(&self) -> watch::Receiver<u64> {
        self.events.subscribe()
    }
}

impl fmt::Debug for Wakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Wakes")
            .field("waiting", &state.waiting.len())
            .field("untold", &state.untold)
            .finish_non_exhaustive()
    }
}

/// Hints on their way to the others. Dropped before they are [`told`](Self::told) they wait for the next time: the connection may end, and
/// whoever holds them with it.
#[derive(Debug)]
pub(super) struct Untold<'a> {
    wakes: &'a Wakes,
    hints: Hints,
}

impl Untold<'_> {
    pub(super) fn payload(&self, sender: u64) -> String {
        self.hints.payload(sender)
    }

    pub(super) fn told(mut self) {
        self.hints = Hints::default();
    }
}

impl Drop for Untold<'_> {
    fn drop(&mut self) {
        let hints = std::mem::take(&mut self.hints);
        if hints != Hints::default() {
            self.wakes.state().untold.add(hints);
            self.wakes.told.notify_one();
        }
    }
}

/// One who waits for a job. Hints count from the moment it was made: make it, ask the tables, then wait.
#[derive(Debug)]
pub struct Waiter {
    wakes: Arc<Wakes>,
    id: u64,
    signal: Arc<Notify>,
}

impl Waiter {
    /// Waits for the next hint since the last one.
    ///
    /// # Cancel safety
    /// A dropped wait takes no hint with it.
    pub async fn woken(&mut self) {
        self.signal.notified().await;
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.wakes.state().waiting.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(name: &str) -> Lane {
        Lane::new(name).unwrap()
    }

    async fn is_woken(waiter: &mut Waiter) -> bool {
        tokio::time::timeout(std::time::Duration::ZERO, waiter.woken()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_hint_wakes_whom_it_concerns_once_and_is_not_missed_between_asking_and_waiting() {
        let wakes = Arc::new(Wakes::new());
        let mut light = wakes.waiter(&[lane("other"), lane("light")]);
        let mut heavy = wakes.waiter(&[lane("heavy")]);
        wakes.ready(&[lane("light")]);
        assert!(is_woken(&mut light).await && !is_woken(&mut light).await && !is_woken(&mut heavy).await);
        wakes.wake(&Hints::everything());
        assert!(is_woken(&mut light).await && is_woken(&mut heavy).await);
    }

    #[test]
    fn who_stops_waiting_is_forgotten_and_those_above_the_bound_are_not_kept() {
        let wakes = Arc::new(Wakes::new());
        let waiters: Vec<Waiter> = (0..=WAITERS_MAX).map(|_| wakes.waiter(&[lane("light")])).collect();
        assert_eq!(wakes.state().waiting.len(), WAITERS_MAX);
        drop(waiters);
        assert_eq!(wakes.state().waiting.len(), 0);
    }

    #[test]
    fn what_was_told_between_two_notifications_is_one_payload_until_it_is_told() {
        let wakes = Wakes::new();
        wakes.ready(&[lane("light"), lane("heavy")]);
        wakes.ready(&[lane("light")]);
        wakes.ready(&[]);
        wakes.news();
        let untold = wakes.untold().unwrap();
        let payload = untold.payload(255);
        assert_eq!(payload, "00000000000000ff ! heavy light");
        assert_eq!(Hints::read(&payload), (Some(255), untold.hints.clone()));
        wakes.ready(&[lane("more")]);
        drop(untold);
        let untold = wakes.untold().unwrap();
        assert_eq!(untold.payload(255), payload + " more");
        untold.told();
        assert!(wakes.untold().is_none());
    }

    #[test]
    fn a_payload_stays_within_what_the_server_takes() {
        let longest = |n: usize| lane(&format!("{n:0>64}"));
        let wakes = Wakes::new();
        let lanes: Vec<Lane> = (0..LANES_NOTIFIED_MAX).map(longest).collect();
        wakes.ready(&lanes);
        wakes.news();
        assert!(wakes.untold().unwrap().payload(u64::MAX).len() < 8_000);
        wakes.ready(&[lane("one-more")]);
        assert_eq!(wakes.untold().unwrap().payload(0), "0000000000000000 * !");
    }

    #[test]
    fn words_of_a_newer_version_are_passed_over() {
        let (sender, hints) = Hints::read("00000000000000ff light ?new =x");
        assert_eq!((sender, hints), (Some(255), Hints { lanes: BTreeSet::from([lane("light")]), ..Hints::default() }));
        assert_eq!(Hints::read("nonsense"), (None, Hints::default()));
    }
}
