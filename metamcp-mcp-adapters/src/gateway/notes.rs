//! What a server tells beside a call, from when it comes to when the call is polled: the call may have lost its client by then.
//!
//! A call may be made more than once and is one to its client: its progress never falls back behind what an earlier attempt told.

use std::sync::{Mutex, MutexGuard, PoisonError};

use metamcp_core::{json::RawJson, queue::Progress, transport::RelaySide};
use serde::Deserialize;
use serde_json::value::RawValue;

/// How progress is told.
pub(super) const PROGRESS: &str = "notifications/progress";
/// Notifications of one call that wait for its client; further ones are dropped.
const NOTES_MAX: usize = 256;

type Note = (String, Option<Box<RawValue>>);

/// The notifications of a call.
#[derive(Default)]
pub(super) struct Notes(Mutex<Noted>);

#[derive(Default)]
struct Noted {
    waiting: Vec<Note>,
    /// The furthest progress of all attempts, and of those before this one.
    reached: Option<f64>,
    reached_before: Option<f64>,
}

impl Notes {
    /// Another attempt begins.
    pub(super) fn begin(&self) {
        let mut noted = self.lock();
        noted.reached_before = noted.reached;
    }

    /// Those that wait.
    pub(super) fn take(&self) -> Vec<Note> {
        std::mem::take(&mut self.lock().waiting)
    }

    /// Takes progress that did not come as a notification.
    pub(super) fn progress(&self, progress: &Progress) {
        let report = serde_json::json!({
            "progressToken": 0, "progress": progress.value, "total": progress.total, "message": progress.message,
        });
        self.notify(PROGRESS, Some(RawJson::from(report).raw()));
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RelaySide for Notes {
    fn notify(&self, method: &str, params: Option<&RawValue>) {
        let progress = params.filter(|_| method == PROGRESS).and_then(progress_of).map(|progress| progress.value);
        let mut noted = self.lock();
        // Within one attempt progress is told as its server tells it.
        if progress.is_some() && progress <= noted.reached_before {
            return;
        }
        if progress > noted.reached {
            noted.reached = progress;
        }
        if noted.waiting.len() < NOTES_MAX {
            noted.waiting.push((method.to_owned(), params.map(ToOwned::to_owned)));
        }
    }
}

/// The progress that a notification tells.
pub(super) fn progress_of(params: &RawValue) -> Option<Progress> {
    #[derive(Deserialize)]
    struct Report {
        progress: f64,
        #[serde(default)]
        total: Option<f64>,
        #[serde(default)]
        message: Option<String>,
    }
    let Report { progress: value, total, message } = serde_json::from_str(params.get()).ok()?;
    Some(Progress { value, total, message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_bounded() {
        let notes = Notes::default();
        (0..NOTES_MAX + 10).for_each(|_| notes.notify("a", None));
        assert_eq!(notes.take().len(), NOTES_MAX);
        assert!(notes.take().is_empty());
    }

    #[test]
    fn an_attempt_tells_only_progress_beyond_those_before_it() {
        let notes = Notes::default();
        let told = |values: &[f64]| {
            notes.begin();
            values.iter().for_each(|&value| notes.progress(&Progress { value, total: None, message: None }));
            let taken = notes.take().into_iter();
            taken.map(|(_, params)| progress_of(&params.unwrap()).unwrap().value).collect::<Vec<_>>()
        };
        assert_eq!(told(&[0.0, 0.0, 2.0]), [0.0, 0.0, 2.0], "as its server tells it");
        assert_eq!(told(&[0.0, 1.0, 2.0, 3.0, 3.0]), [3.0, 3.0]);
        assert_eq!(told(&[1.0]), [0.0; 0]);
        assert_eq!(told(&[3.0, 3.5]), [3.5]);
        notes.notify(PROGRESS, None);
        notes.notify("notifications/message", Some(RawJson::parse(r#"{"progress":0}"#).unwrap().raw()));
        assert_eq!(notes.take().len(), 2, "what tells no progress is left to its reader");
    }
}
