//! Jobs that wait for other jobs: who is named as a parent is kept, and what comes of it moves those that wait.
//!
//! A parent that is done lets its first few children go on at once; everything else is the work of maintenance, one move a child, so that no
//! single end costs more than [`SETTLE_AT_ONCE_MAX`] moves however many wait for it.

use super::Core;
use crate::{
    id::JobId,
    queue::{
        job::{JobHead, JobState},
        moves,
    },
    time::Timestamp,
};

/// Most waiting jobs that the end of the job they wait for moves by itself.
const SETTLE_AT_ONCE_MAX: usize = 32;

impl Core {
    /// Those of the parents that are not done.
    pub(super) fn undone(&self, parents: &[JobId]) -> Vec<JobId> {
        let undone = |parent: &&JobId| self.head(**parent).is_none_or(|parent| parent.state != JobState::Done);
        parents.iter().filter(undone).copied().collect()
    }

    /// Keeps the parents of a new or redriven job until that job ends.
    pub(super) fn keep_parents(&mut self, parents: &[JobId]) {
        for parent in parents {
            self.count_user(*parent, true);
            if self.head(*parent).is_some_and(|parent| parent.state.is_final()) {
                self.unsettled.insert(*parent);
            }
        }
    }

    /// A job has ended: its parents have one user less, and those that wait for it move.
    pub(super) fn ended(&mut self, id: JobId, now: Timestamp) {
        let Some(head) = self.head(id) else { return };
        let done = head.state == JobState::Done;
        for parent in head.after.clone() {
            self.count_user(parent, false);
        }
        if self.index.waiters(id).next().is_none() {
            return;
        }
        self.unsettled.insert(id);
        let at_once = if done { SETTLE_AT_ONCE_MAX } else { 0 };
        let children: Vec<JobId> = self.index.waiters(id).take(at_once).collect();
        for child in children {
            self.settle(child, id, now);
        }
    }

    /// The next job to be moved because a job that it waits for has ended, with that job. Forgets parents that nobody waits for any more.
    pub(super) fn next_unsettled(&mut self) -> Option<(JobId, JobId)> {
        while let Some(parent) = self.unsettled.first().copied() {
            let ended = self.head(parent).is_some_and(|head| head.state.is_final());
            let child = self.index.waiters(parent).next().filter(|_| ended);
            if let Some(child) = child {
                return Some((parent, child));
            }
            self.unsettled.remove(&parent);
        }
        None
    }

    /// How many jobs there are to be moved, counted up to `max`.
    pub(super) fn unsettled_moves(&self, max: usize) -> usize {
        let ended = |parent: &&JobId| self.head(**parent).is_some_and(|head| head.state.is_final());
        self.unsettled.iter().filter(ended).flat_map(|parent| self.index.waiters(*parent)).take(max).count()
    }

    /// Moves a waiting job whose parent has ended.
    pub(super) fn settle(&mut self, child: JobId, parent: JobId, now: Timestamp) -> Option<JobState> {
        let came = self.head(parent).map(|head| head.state)?;
        self.change(child, now, |head| moves::settle(head, now, parent, came))
    }

    fn count_user(&mut self, parent: JobId, more: bool) {
        let Some(head) = self.jobs.get_mut(&parent) else { return };
        self.index.remove(head);
        head.users = if more { head.users.saturating_add(1) } else { head.users.saturating_sub(1) };
        self.index.add(head);
        self.touched.insert(parent);
    }

    /// Compares the users of every head, and what is to be moved, with the heads.
    pub(super) fn check_dependencies(&self) -> Result<(), String> {
        for head in self.heads() {
            let uses = |other: &&JobHead| !other.state.is_final() && other.after.contains(&head.id);
            let users = self.heads().filter(uses).count();
            if users != head.users as usize {
                return Err(format!("job {} is used by {users} jobs, and counts {}", head.id, head.users));
            }
            let waits = self.index.waiters(head.id).next().is_some();
            if head.state.is_final() && waits && !self.unsettled.contains(&head.id) {
                return Err(format!("job {} has ended, and what waits for it would never move", head.id));
            }
        }
        Ok(())
    }
}
