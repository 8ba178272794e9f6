//! Requests that are taken back through another replica: one task looks for those of a session while it has any that last, and none runs for
//! a session that is quiet. A call that is soon answered pays for no look.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use metamcp_core::record::RecordStore;
use tokio::time::sleep;

use super::{Session, Sessions, shared};

/// Pause between two looks, in milliseconds. A request is looked for from the second look of its life on.
const LOOK_MS: u64 = 1_000;

impl Sessions {
    /// Stops requests of this session, of which one was just listed, when their client takes them back through another replica.
    pub(crate) fn look_after(&self, session: &Arc<Session>) {
        if !session.looked_after.swap(true, Ordering::SeqCst) {
            tokio::spawn(look(Arc::clone(&self.records), Arc::clone(session)));
        }
    }
}

async fn look(records: Arc<dyn RecordStore>, session: Arc<Session>) {
    loop {
        sleep(Duration::from_millis(LOOK_MS)).await;
        for id in session.running.lasting() {
            match shared::is_taken_back(&*records, session.nonce, &id).await {
                Ok(true) => {
                    if let Some(running) = session.running.take(&id) {
                        running.stop();
                    }
                }
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "what was taken back through other replicas is not read"),
            }
        }
        // In this order: who lists a request after the look at them begins a task of its own.
        session.looked_after.store(false, Ordering::SeqCst);
        if session.running.len() == 0 || session.looked_after.swap(true, Ordering::SeqCst) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use metamcp_core::{auth::Principal, json::RawJson, record::MemoryRecordStore, time::SystemClock};

    use super::*;
    use crate::{
        gateway::{
            lifecycle::Hello,
            seal::{SEAL_KEY_BYTES, Seal},
            session::{SESSION_IDLE_S, SessionBounds, Stop},
        },
        wire::era::LEGACY_LATEST,
    };

    #[derive(Default)]
    struct Stopped(AtomicBool);

    impl Stop for Stopped {
        fn stop(&self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_taken_back_elsewhere_stops_here_and_a_quiet_session_is_left_alone() {
        let records: Arc<dyn RecordStore> = Arc::new(MemoryRecordStore::new(Arc::new(SystemClock::default())));
        let week = Duration::from_secs(7 * 24 * 3_600);
        let bounds = SessionBounds { sessions_max: 9, idle: Duration::from_secs(SESSION_IDLE_S), lifetime: week };
        let sessions = Sessions::new(Seal::new(&[5; SEAL_KEY_BYTES]), records, bounds);
        let hello = Hello { revision: LEGACY_LATEST, capabilities: RawJson::empty_object(), client_info: None };
        let session = sessions.begin(&Principal::local(), None, &hello).unwrap();
        let (kept, taken) = (Arc::new(Stopped::default()), Arc::new(Stopped::default()));
        let first = session.running.list("1", Arc::clone(&kept) as Arc<dyn Stop>);
        let second = session.running.list("2", Arc::clone(&taken) as Arc<dyn Stop>);
        sessions.look_after(&session);
        sessions.look_after(&session);
        sessions.take_back(&session, "2").await.unwrap();
        sleep(Duration::from_millis(3 * LOOK_MS)).await;
        assert!(taken.0.load(Ordering::SeqCst) && !kept.0.load(Ordering::SeqCst));
        drop((first, second));
        sleep(Duration::from_millis(2 * LOOK_MS)).await;
        assert!(!session.looked_after.load(Ordering::SeqCst));
        // The sessions and this test hold it, no task does.
        assert_eq!(Arc::strong_count(&session), 2);
    }
}
