//! The slots of one worker: how many jobs it takes of each lane, and how many of them one server may take up.
//!
//! A server that never answers would otherwise come to hold every slot, and jobs of all other servers would wait for its deadlines.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::id::{Lane, ServerName};

/// One lane as a worker serves it.
#[derive(Debug)]
struct LaneSlots {
    lane: Lane,
    max: usize,
    used: Arc<AtomicUsize>,
}

/// What to ask a store for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) lanes: Vec<Lane>,
    pub(super) max: usize,
    /// Every lane with a free slot is among them.
    pub(super) all: bool,
}

/// The slots of a worker by lane. Lanes take turns at being the first, so that none is starved by another's backlog.
#[derive(Debug)]
pub(super) struct Slots {
    lanes: Vec<LaneSlots>,
    total: usize,
    turn: usize,
}

impl Slots {
    /// `total` slots over `lanes`, of which a lane takes up at most what `bounds` says, and may always take up one.
    pub(super) fn new(total: usize, lanes: &[Lane], bounds: &BTreeMap<Lane, u16>) -> Self {
        let slots = |lane: &Lane| LaneSlots {
            lane: lane.clone(),
            max: bounds.get(lane).map_or(total, |max| usize::from(*max).clamp(1, total)),
            used: Arc::default(),
        };
        Self { lanes: lanes.iter().map(slots).collect(), total, turn: 0 }
    }

    /// The next wish; `None` when no slot is free. A lane with fewer free slots than the one whose turn it is waits for its own turn.
    pub(super) fn wish(&mut self) -> Option<Wish> {
        let room = |slots: &LaneSlots| slots.max.saturating_sub(slots.used.load(Ordering::Relaxed));
        let used: usize = self.lanes.iter().map(|slots| slots.used.load(Ordering::Relaxed)).sum();
        let free = self.total.saturating_sub(used);
        let count = self.lanes.len();
        let turns = (0..count).map(|step| &self.lanes[(self.turn + step) % count]);
        let open: Vec<&LaneSlots> = turns.filter(|slots| room(slots) > 0 && free > 0).collect();
        let max = room(open.first()?).min(free);
        let fits = |slots: &&&LaneSlots| room(slots) >= max;
        let lanes: Vec<Lane> = open.iter().filter(fits).map(|slots| slots.lane.clone()).collect();
        let all = lanes.len() == open.len();
        self.turn = (self.turn + 1) % count;
        Some(Wish { lanes, max, all })
    }

    /// The lanes with a free slot.
    pub(super) fn open(&self) -> Vec<Lane> {
        let has_room = |slots: &&LaneSlots| slots.used.load(Ordering::Relaxed) < slots.max;
        self.lanes.iter().filter(has_room).map(|slots| slots.lane.clone()).collect()
    }

    /// Takes up a slot of the lane until the answer is dropped.
    pub(super) fn take(&self, lane: &Lane) -> Slot {
        let used = self.lanes.iter().find(|slots| slots.lane == *lane).map(|slots| Arc::clone(&slots.used));
        if let Some(used) = &used {
            used.fetch_add(1, Ordering::Relaxed);
        }
        Slot { used }
    }
}

/// A slot of a lane.
#[derive(Debug)]
pub(super) struct Slot {
    used: Option<Arc<AtomicUsize>>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(used) = &self.used {
            used.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// How many jobs of a worker each server takes up.
#[derive(Debug)]
pub(super) struct Seats {
    max: usize,
    used: Mutex<BTreeMap<ServerName, usize>>,
}

impl Seats {
    /// At most `max` jobs a server.
    pub(super) fn new(max: usize) -> Self {
        Self { max: max.max(1), used: Mutex::default() }
    }

    /// A seat at the server until the answer is dropped; `None` when it has no more.
    pub(super) fn take(self: &Arc<Self>, server: &ServerName) -> Option<Seat> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = used.entry(server.clone()).or_default();
        if *taken >= self.max {
            return None;
        }
        *taken += 1;
        Some(Seat { seats: Arc::clone(self), server: server.clone() })
    }

    /// Whether the server has a seat left.
    pub(super) fn has_room(&self, server: &ServerName) -> bool {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.get(server).is_none_or(|taken| *taken < self.max)
    }
}

/// A seat at a server.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    server: ServerName,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut used = self.seats.used.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = used.get_mut(&self.server) {
            *taken -= 1;
            if *taken == 0 {
                used.remove(&self.server);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_take_turns_and_a_narrow_lane_never_gets_more_than_its_slots() {
        let lanes = [Lane::light(), Lane::heavy()];
        let mut slots = Slots::new(8, &lanes, &BTreeMap::from([(Lane::heavy(), 2)]));
        let light = slots.wish().unwrap();
        assert_eq!(light, Wish { lanes: vec![Lane::light()], max: 8, all: false });
        let heavy = slots.wish().unwrap();
        assert_eq!(heavy, Wish { lanes: vec![Lane::heavy(), Lane::light()], max: 2, all: true });
        let taken: Vec<Slot> = (0..2).map(|_| slots.take(&Lane::heavy())).collect();
        for _ in 0..4 {
            assert_eq!(slots.wish().unwrap(), Wish { lanes: vec![Lane::light()], max: 6, all: true });
        }
        let rest: Vec<Slot> = (0..6).map(|_| slots.take(&Lane::light())).collect();
        assert_eq!(slots.wish(), None);
        drop(taken);
        assert_eq!(slots.wish().unwrap().max, 2);
        drop(rest);
    }

    #[test]
    fn a_server_takes_up_no_more_than_its_seats_and_gives_them_back() {
        let seats = Arc::new(Seats::new(2));
        let (slow, other) = (ServerName::new("slow").unwrap(), ServerName::new("other").unwrap());
        let first = seats.take(&slow).unwrap();
        let _second = seats.take(&slow).unwrap();
        assert!(seats.take(&slow).is_none());
        assert!(seats.take(&other).is_some(), "other servers have seats of their own");
        drop(first);
        assert!(seats.take(&slow).is_some());
    }
}
