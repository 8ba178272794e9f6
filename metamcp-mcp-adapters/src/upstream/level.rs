//! Log levels of legacy servers: one for the whole session, so the lowest that anybody wants is set, and each caller gets its own part.

use std::sync::{Mutex, PoisonError};

use metamcp_core::transport::RelaySide;
use serde::Deserialize;
use serde_json::value::RawValue;

/// From the least to the most severe.
const LEVELS: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];
/// No level was set yet.
const UNSET: u8 = u8::MAX;

/// What the session's level is set to, and in which session that was: after how many renewals.
#[derive(Debug)]
pub(super) struct SessionLevel(Mutex<(u64, u8)>);

impl Default for SessionLevel {
    fn default() -> Self {
        Self(Mutex::new((0, UNSET)))
    }
}

impl SessionLevel {
    /// Whether the level is to be lowered for somebody who wants this one, in the session after so many renewals; counts as done from then on.
    pub(super) fn lowers(&self, wanted: Option<u8>, renewals: u64) -> bool {
        let Some(wanted) = wanted else { return false };
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (set_in, set) = *state;
        let lowers = set_in != renewals || wanted < set;
        if lowers {
            *state = (renewals, wanted);
        }
        lowers
    }
}

/// The rank of a level, a JSON string; `None` for none that is known.
pub(super) fn rank(level: Option<&RawValue>) -> Option<u8> {
    let level = serde_json::from_str::<String>(level?.get()).ok()?;
    let at = LEVELS.iter().position(|known| *known == level)?;
    u8::try_from(at).ok()
}

/// Lets through only the log messages that a caller wants.
pub(super) struct Wanted<'a> {
    pub(super) side: &'a dyn RelaySide,
    pub(super) rank: Option<u8>,
}

impl RelaySide for Wanted<'_> {
    fn notify(&self, method: &str, params: Option<&RawValue>) {
        if method != "notifications/message" || self.rank.is_some_and(|wanted| severity(params) >= wanted) {
            self.side.notify(method, params);
        }
    }
}

/// A level we do not know is better shown than lost.
fn severity(params: Option<&RawValue>) -> u8 {
    #[derive(Deserialize)]
    struct Message<'a> {
        #[serde(borrow)]
        level: &'a RawValue,
    }
    let message = params.and_then(|params| serde_json::from_str::<Message<'_>>(params.get()).ok());
    message.and_then(|message| rank(Some(message.level))).unwrap_or(UNSET)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl RelaySide for Heard {
        fn notify(&self, method: &str, params: Option<&RawValue>) {
            self.0.lock().unwrap().push(params.map_or(method, RawValue::get).to_owned());
        }
    }

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn each_caller_gets_what_it_wants() {
        let heard = Heard::default();
        for wanted in [None, rank(Some(&raw("\"warning\"")))] {
            let side = Wanted { side: &heard, rank: wanted };
            for message in [r#"{"level":"info"}"#, r#"{"level":"error"}"#, r#"{"level":"odd"}"#] {
                side.notify("notifications/message", Some(&raw(message)));
            }
            side.notify("notifications/progress", None);
        }
        let expected =
            ["notifications/progress", r#"{"level":"error"}"#, r#"{"level":"odd"}"#, "notifications/progress"];
        assert_eq!(*heard.0.lock().unwrap(), expected);
    }

    #[test]
    fn the_level_is_only_ever_lowered() {
        let level = SessionLevel::default();
        let lowers: Vec<bool> = [None, Some(3), Some(4), Some(3), Some(0), Some(1)].map(|w| level.lowers(w, 0)).into();
        assert_eq!(lowers, [false, true, false, false, true, false]);
        assert!(level.lowers(Some(4), 1), "another session knows nothing of it");
        assert!(!level.lowers(Some(4), 1));
    }
}
