//! What holds of a kept history over every record store, and the macro that makes a named test of each.

use std::{sync::Arc, time::Duration};

use super::record_store::RecordStoreFixture;
use crate::{
    engine::HistoryKeeper,
    id::{CapabilityId, JobId, TenantId},
    matching::{Lesson, LessonFilter, Verdict},
    record::{Expect, RecordKind},
    time::Timestamp,
};

/// Makes one test of each behaviour of a history that is kept. `$make` is as for [`record_store_suite!`](crate::record_store_suite).
#[macro_export]
macro_rules! history_suite {
    ($make:path) => {
        $crate::behaviours!(@flat history, $make;
            what_one_process_learned_another_reads
            writers_at_the_same_time_lose_nothing
            what_is_removed_is_gone_everywhere
            a_damaged_line_is_passed_over
        );
    };
}

/// Processes that write at the same time.
const PROCESSES: usize = 4;
/// Lessons of each of them.
const LESSONS: usize = 30;

fn keeper(fixture: &RecordStoreFixture) -> HistoryKeeper {
    HistoryKeeper::new(Arc::clone(&fixture.store))
}

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).expect("it is a valid tenant")
}

/// A lesson whose need is its own, `n` seconds after a fixed instant.
fn lesson(n: usize) -> Lesson {
    let at = Timestamp::from_millis(1_700_000_000_000) + Duration::from_secs(n as u64);
    let capability: CapabilityId = if n.is_multiple_of(2) { "s/even" } else { "s/odd" }.parse().expect("it is valid");
    let (verdict, subject) = (Verdict::Served, "somebody".to_owned());
    Lesson { need: format!("word{n} for everybody"), capability, verdict, at, job: JobId::new(at), subject }
}

/// What one process wrote another one reads, tenant by tenant, and reads again when there is more.
pub async fn what_one_process_learned_another_reads(fixture: RecordStoreFixture) {
    let (one, other) = (keeper(&fixture), keeper(&fixture));
    other.refresh().await.expect("an empty store is read");
    let (first, second) = (lesson(1), lesson(2));
    assert!(one.history().learn(&tenant("acme"), first.clone()));
    assert!(!one.history().learn(&tenant("acme"), first.clone()), "a lesson is learned once");
    one.history().learn(&tenant("acme-x"), second.clone());
    one.flush().await.expect("the store takes them");
    other.refresh().await.expect("the store is read");
    assert_eq!(other.history().lessons(&tenant("acme")), std::slice::from_ref(&first));
    assert_eq!(other.history().lessons(&tenant("acme-x")), std::slice::from_ref(&second));
    other.history().learn(&tenant("acme"), second.clone());
    other.flush().await.expect("the store takes it");
    one.refresh().await.expect("the store is read");
    assert_eq!(one.history().lessons(&tenant("acme")), [second, first]);
}

/// Each of several processes writes in small batches while the others do; all of it is there in the end.
pub async fn writers_at_the_same_time_lose_nothing(fixture: RecordStoreFixture) {
    let fixture = Arc::new(fixture);
    let write = |process: usize| {
        let fixture = Arc::clone(&fixture);
        tokio::spawn(async move {
            let keeper = keeper(&fixture);
            for n in 0..LESSONS {
                keeper.history().learn(&tenant("acme"), lesson(n * PROCESSES + process));
                // A writer that others got in the way of keeps its lessons and tries again.
                while n % 3 == 0 && keeper.flush().await.is_err() {}
            }
            while keeper.flush().await.is_err() {}
        })
    };
    let writers: Vec<_> = (0..PROCESSES).map(write).collect();
    for writer in writers {
        writer.await.expect("no writer panics");
    }
    let reader = keeper(&fixture);
    reader.refresh().await.expect("the store is read");
    let needs: Vec<String> = reader.history().lessons(&tenant("acme")).into_iter().map(|l| l.need).collect();
    let all: Vec<String> = (0..LESSONS * PROCESSES).rev().map(|n| lesson(n).need).collect();
    assert_eq!(needs, all);
}

/// What is removed is gone in the store, here, and where it was known; other tenants and other lessons stay.
pub async fn what_is_removed_is_gone_everywhere(fixture: RecordStoreFixture) {
    let (one, other) = (keeper(&fixture), keeper(&fixture));
    for n in 0..10 {
        one.history().learn(&tenant("acme"), lesson(n));
    }
    one.history().learn(&tenant("other"), lesson(1));
    one.flush().await.expect("the store takes them");
    other.refresh().await.expect("the store is read");
    let odd = LessonFilter { capability: "s/odd".parse().ok(), ..LessonFilter::default() };
    assert_eq!(other.remove(&tenant("acme"), &odd).await.expect("the store removes them"), 5);
    assert_eq!(other.history().lessons(&tenant("acme")).len(), 5);
    // Writes on what it last saw, which is no longer what stands.
    one.history().learn(&tenant("acme"), lesson(20));
    one.flush().await.expect("the store takes it");
    for keeper in [&one, &other] {
        keeper.refresh().await.expect("the store is read");
        let lessons = keeper.history().lessons(&tenant("acme"));
        assert_eq!(lessons.len(), 6);
        assert!(!lessons.iter().any(|lesson| odd.admits(lesson)));
        assert_eq!(keeper.history().lessons(&tenant("other")).len(), 1);
    }
    assert_eq!(one.remove(&tenant("acme"), &LessonFilter::default()).await.expect("the store removes them"), 6);
    other.refresh().await.expect("the store is read");
    assert!(other.history().lessons(&tenant("acme")).is_empty());
}

/// A segment that holds something else than lessons gives those it has.
pub async fn a_damaged_line_is_passed_over(fixture: RecordStoreFixture) {
    let good = serde_json::to_string(&lesson(1)).expect("a lesson is JSON");
    let value = format!("{{\n{good}\n\u{0}{{\"need\":1}}").into();
    let put = fixture.store.put(RecordKind::History, "acme/0", value, Expect::Absent, None);
    put.await.expect("the store takes any bytes");
    let keeper = keeper(&fixture);
    keeper.refresh().await.expect("the store is read");
    assert_eq!(keeper.history().lessons(&tenant("acme")).len(), 1);
}
