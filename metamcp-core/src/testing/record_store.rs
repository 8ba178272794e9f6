//! The behaviours every [`RecordStore`] has, and the macro that makes a named test of each.

use std::{any::Any, fmt, sync::Arc, time::Duration};

use bytes::Bytes;

use super::StoreTime;
use crate::{
    error::{StoreErrorKind, StoreResult},
    record::{
        Expect, RECORD_BYTES_MAX, RECORD_NAME_BYTES_MAX, RECORD_PAGE_MAX, Record, RecordKind, RecordStore, Written,
    },
};

/// Makes one test of each behaviour of a record store. `$make` is the path of an async function that makes a fresh
/// [`RecordStoreFixture`]. The crate that calls it needs tokio with `macros` and `rt-multi-thread`.
#[macro_export]
macro_rules! record_store_suite {
    ($make:path) => {
        $crate::record_store_suite!($make, behaviours);
    };
    ($make:path, $as:ident) => {
        $crate::$as!(@flat record_store, $make;
            a_record_reads_as_it_was_written
            an_unknown_record_is_none
            any_bytes_are_a_value
            any_text_is_a_name
            names_and_values_out_of_bounds_are_invalid
            the_store_tells_its_time
            each_write_counts_the_version_up
            a_write_that_expects_absence_makes_a_record_once
            a_write_that_expects_a_version_finds_that_one_only
            a_refused_write_changes_nothing
            deleting_tells_whether_there_was_a_record
            a_deleted_record_begins_anew
            a_record_past_its_time_is_not_there
            a_record_past_its_time_begins_anew
            each_write_sets_the_time_anew
            records_with_a_time_outlive_none_without
            kinds_are_apart
            a_list_is_in_order_of_the_names_bytes
            pages_follow_each_other_without_gap_or_double
            a_page_is_bounded
            a_page_is_not_shortened_by_records_past_their_time
            of_writers_that_expect_one_version_one_wins
            of_writers_that_expect_absence_one_wins
            writers_that_expect_nothing_all_count
            changes_by_version_are_never_lost
        );
    };
}

/// Tasks that write at the same time.
const TASKS: u8 = 8;
/// What most of these behaviours write.
const KIND: RecordKind = RecordKind::Schedule;

/// A fresh, empty store for one behaviour.
pub struct RecordStoreFixture {
    /// The store.
    pub store: Arc<dyn RecordStore>,
    /// Moves the store's time, and nothing else.
    pub time: Arc<dyn StoreTime>,
    /// Dropped last: a directory, a connection, a process.
    pub guard: Box<dyn Any + Send + Sync>,
}

impl fmt::Debug for RecordStoreFixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordStoreFixture").field("store", &self.store).finish_non_exhaustive()
    }
}

impl RecordStoreFixture {
    /// A store, what moves its time, and what is to be dropped after it.
    pub fn new(store: Arc<dyn RecordStore>, time: Arc<dyn StoreTime>, guard: impl Any + Send + Sync) -> Self {
        Self { store, time, guard: Box::new(guard) }
    }

    async fn get(&self, name: &str) -> Option<Record> {
        self.store.get(KIND, name).await.expect("the store answers")
    }

    async fn put(&self, name: &str, value: &str, expect: Expect) -> Written {
        self.try_put(name, value.to_owned().into(), expect, None).await.expect("the store answers")
    }

    async fn put_for(&self, name: &str, secs: u64, expect: Expect) -> Written {
        let ttl = Some(Duration::from_secs(secs));
        self.try_put(name, Bytes::from_static(b"short"), expect, ttl).await.expect("the store answers")
    }

    async fn try_put(&self, name: &str, value: Bytes, expect: Expect, ttl: Option<Duration>) -> StoreResult<Written> {
        self.store.put(KIND, name, value, expect, ttl).await
    }

    async fn delete(&self, name: &str) -> bool {
        self.store.delete(KIND, name).await.expect("the store answers")
    }

    async fn list(&self, after: Option<&str>, max: u16) -> Vec<Record> {
        self.store.list(KIND, after, max).await.expect("the store answers")
    }

    async fn names(&self) -> Vec<String> {
        names(&self.list(None, RECORD_PAGE_MAX).await)
    }

    async fn pass(&self, secs: u64) {
        self.time.advance(Duration::from_secs(secs)).await;
    }

    /// Makes one write from each of many tasks at the same time; answers what became of each.
    async fn together(&self, expect: Expect) -> Vec<Written> {
        let puts: Vec<_> = (0..TASKS)
            .map(|n| {
                let store = Arc::clone(&self.store);
                tokio::spawn(async move { store.put(KIND, "a", Bytes::from(vec![n]), expect, None).await })
            })
            .collect();
        let mut answers = Vec::new();
        for put in puts {
            answers.push(put.await.expect("no put panics").expect("the store answers"));
        }
        answers
    }
}

fn names(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| record.name.clone()).collect()
}

/// The version that stands after a write that is well.
const fn stands(version: u64) -> Written {
    Written::Ok { version }
}

/// One of the writes won and made this version; the others are told of it.
fn one_won(answers: &[Written], version: u64) {
    let won = answers.iter().filter(|answer| **answer == stands(version)).count();
    let told = answers.iter().filter(|answer| **answer == Written::Conflict { version: Some(version) }).count();
    assert_eq!((won, told), (1, answers.len() - 1), "{answers:?}");
}

/// The behaviours. The name of each is what it says.
mod behaviours {
    #![expect(missing_docs, reason = "the name of each function is the behaviour")]

    use super::*;

    pub async fn a_record_reads_as_it_was_written(fx: RecordStoreFixture) {
        assert_eq!(fx.put("a", "one", Expect::Anything).await, stands(1));
        let record = Record { name: "a".to_owned(), version: 1, value: Bytes::from_static(b"one") };
        assert_eq!(fx.get("a").await, Some(record.clone()));
        assert_eq!(fx.list(None, 10).await, [record]);
    }

    pub async fn an_unknown_record_is_none(fx: RecordStoreFixture) {
        fx.put("ab", "one", Expect::Anything).await;
        for name in ["a", "abc", "AB", "ab "] {
            assert_eq!(fx.get(name).await, None, "{name:?}");
        }
        assert_eq!(fx.put("a", "x", Expect::Version(1)).await, Written::Conflict { version: None });
        assert_eq!(fx.names().await, ["ab"]);
    }

    pub async fn any_bytes_are_a_value(fx: RecordStoreFixture) {
        let all: Vec<u8> = (0..=255).collect();
        let large: Bytes = (0..RECORD_BYTES_MAX).map(|n| n.to_le_bytes()[0]).collect();
        for value in [Bytes::new(), all.into(), large] {
            fx.try_put("a", value.clone(), Expect::Anything, None).await.expect("the store answers");
            let read = fx.get("a").await.expect("it was written").value;
            assert!(read == value, "{} bytes read otherwise", value.len());
        }
    }

    pub async fn any_text_is_a_name(fx: RecordStoreFixture) {
        let long = "n".repeat(RECORD_NAME_BYTES_MAX);
        let all = [" ", "a:b", "{a}b", "a/../b", "%", "_", "'\"\\", "a\nb", "ä", "\u{1F980}", "schedule", &long];
        for name in all {
            assert_eq!(fx.put(name, name, Expect::Absent).await, stands(1), "{name:?}");
        }
        for name in all {
            let value = fx.get(name).await.map(|record| (record.name, record.value));
            assert_eq!(value, Some((name.to_owned(), Bytes::copy_from_slice(name.as_bytes()))));
        }
        assert_eq!(fx.names().await.len(), all.len());
    }

    pub async fn names_and_values_out_of_bounds_are_invalid(fx: RecordStoreFixture) {
        let second = Some(Duration::from_secs(1));
        let long = "ä".repeat(RECORD_NAME_BYTES_MAX / 2) + "n";
        let bad = [
            ("", Bytes::new(), second),
            (&long, Bytes::new(), second),
            ("a", vec![0; RECORD_BYTES_MAX + 1].into(), second),
            ("a", Bytes::new(), Some(Duration::ZERO)),
            ("a", Bytes::new(), Some(Duration::from_micros(999))),
        ];
        for (name, value, ttl) in bad {
            let refused = fx.try_put(name, value, Expect::Anything, ttl).await.expect_err("out of bounds");
            assert_eq!(refused.kind(), StoreErrorKind::Invalid);
        }
        assert!(fx.names().await.is_empty(), "nothing was written");
    }

    pub async fn the_store_tells_its_time(fx: RecordStoreFixture) {
        let before = fx.store.now().await.expect("the store answers");
        fx.pass(100).await;
        let after = fx.store.now().await.expect("the store answers");
        assert!(after.since(before) >= Duration::from_secs(100), "{before:?} {after:?}");
    }

    pub async fn each_write_counts_the_version_up(fx: RecordStoreFixture) {
        for version in 1..=4 {
            let value = format!("value {version}");
            assert_eq!(fx.put("a", &value, Expect::Anything).await, stands(version));
            let record = fx.get("a").await.expect("it was written");
            assert_eq!((record.version, &record.value[..]), (version, value.as_bytes()));
        }
        assert_eq!(fx.put("a", "value 4", Expect::Anything).await, stands(5), "the same value is a write too");
        assert_eq!(fx.put("b", "other", Expect::Anything).await, stands(1), "each record counts for itself");
    }

    pub async fn a_write_that_expects_absence_makes_a_record_once(fx: RecordStoreFixture) {
        assert_eq!(fx.put("a", "one", Expect::Absent).await, stands(1));
        assert_eq!(fx.put("a", "two", Expect::Absent).await, Written::Conflict { version: Some(1) });
        assert_eq!(fx.get("a").await.map(|record| record.value), Some(Bytes::from_static(b"one")));
    }

    pub async fn a_write_that_expects_a_version_finds_that_one_only(fx: RecordStoreFixture) {
        assert_eq!(
            fx.put("a", "one", Expect::Version(0)).await,
            Written::Conflict { version: None },
            "no version is 0"
        );
        fx.put("a", "one", Expect::Anything).await;
        assert_eq!(fx.put("a", "two", Expect::Version(1)).await, stands(2));
        for version in [0, 1, 3, u64::MAX] {
            assert_eq!(fx.put("a", "x", Expect::Version(version)).await, Written::Conflict { version: Some(2) });
        }
        assert_eq!(fx.put("a", "three", Expect::Version(2)).await, stands(3));
        assert_eq!(fx.get("a").await.map(|record| record.value), Some(Bytes::from_static(b"three")));
    }

    pub async fn a_refused_write_changes_nothing(fx: RecordStoreFixture) {
        fx.put_for("a", 100, Expect::Anything).await;
        fx.pass(90).await;
        let before = fx.get("a").await;
        assert_eq!(fx.put("a", "x", Expect::Absent).await, Written::Conflict { version: Some(1) });
        assert_eq!(fx.put_for("a", 1, Expect::Version(7)).await, Written::Conflict { version: Some(1) });
        fx.pass(2).await;
        assert_eq!(fx.get("a").await, before, "nor its time for the shorter");
        fx.pass(9).await;
        assert_eq!(fx.get("a").await, None, "nor for the longer");
    }

    pub async fn deleting_tells_whether_there_was_a_record(fx: RecordStoreFixture) {
        assert!(!fx.delete("a").await);
        fx.put("a", "one", Expect::Anything).await;
        fx.put("b", "two", Expect::Anything).await;
        assert!(fx.delete("a").await);
        assert!(!fx.delete("a").await);
        assert_eq!((fx.get("a").await, fx.names().await), (None, vec!["b".to_owned()]));
    }

    pub async fn a_deleted_record_begins_anew(fx: RecordStoreFixture) {
        for _ in 0..3 {
            fx.put_for("a", 10, Expect::Anything).await;
        }
        fx.delete("a").await;
        assert_eq!(fx.put("a", "x", Expect::Version(3)).await, Written::Conflict { version: None });
        assert_eq!(fx.put("a", "x", Expect::Absent).await, stands(1));
        fx.pass(11).await;
        assert!(fx.get("a").await.is_some(), "the time of the old one is no concern of the new one");
    }

    pub async fn a_record_past_its_time_is_not_there(fx: RecordStoreFixture) {
        fx.put_for("a", 10, Expect::Anything).await;
        fx.put("b", "for ever", Expect::Anything).await;
        fx.pass(8).await;
        assert_eq!(fx.names().await, ["a", "b"]);
        assert!(fx.get("a").await.is_some());
        fx.pass(3).await;
        assert_eq!((fx.get("a").await, fx.names().await), (None, vec!["b".to_owned()]));
        assert!(!fx.delete("a").await);
    }

    pub async fn a_record_past_its_time_begins_anew(fx: RecordStoreFixture) {
        fx.put_for("a", 10, Expect::Anything).await;
        fx.put_for("a", 10, Expect::Anything).await;
        fx.pass(11).await;
        assert_eq!(fx.put("a", "x", Expect::Version(2)).await, Written::Conflict { version: None });
        assert_eq!(fx.put("a", "x", Expect::Absent).await, stands(1));
    }

    pub async fn each_write_sets_the_time_anew(fx: RecordStoreFixture) {
        for name in ["longer", "shorter", "for ever"] {
            fx.put_for(name, 10, Expect::Anything).await;
        }
        fx.pass(5).await;
        fx.put_for("longer", 100, Expect::Version(1)).await;
        fx.put_for("shorter", 1, Expect::Version(1)).await;
        fx.put("for ever", "x", Expect::Version(1)).await;
        fx.pass(2).await;
        assert_eq!(fx.names().await, ["for ever", "longer"]);
        fx.pass(50).await;
        assert_eq!(fx.names().await, ["for ever", "longer"]);
        fx.pass(50).await;
        assert_eq!(fx.names().await, ["for ever"]);
    }

    pub async fn records_with_a_time_outlive_none_without(fx: RecordStoreFixture) {
        for n in 0..40 {
            fx.put_for(&format!("short {n}"), 10, Expect::Anything).await;
        }
        fx.put("long", "one", Expect::Anything).await;
        fx.pass(11).await;
        // Writes sweep what is past its time: nothing else may go with it.
        for n in 0..10 {
            fx.put_for("next", 10 + n, Expect::Anything).await;
            fx.delete("short 1").await;
        }
        assert_eq!(fx.names().await, ["long", "next"]);
        assert_eq!(fx.get("next").await.map(|record| record.version), Some(10));
    }

    pub async fn kinds_are_apart(fx: RecordStoreFixture) {
        let kinds = [RecordKind::Batch, RecordKind::Call, RecordKind::Schedule];
        for kind in kinds {
            let value = Bytes::from(kind.as_str());
            let written = fx.store.put(kind, "a", value, Expect::Absent, None).await.expect("the store answers");
            assert_eq!(written, stands(1));
        }
        assert!(fx.store.delete(RecordKind::Call, "a").await.expect("the store answers"));
        for kind in kinds {
            let there = kind != RecordKind::Call;
            let record = fx.store.get(kind, "a").await.expect("the store answers");
            assert_eq!(record.map(|record| record.value), there.then(|| Bytes::from(kind.as_str())));
            assert_eq!(fx.store.list(kind, None, 10).await.expect("the store answers").len(), usize::from(there));
        }
    }

    pub async fn a_list_is_in_order_of_the_names_bytes(fx: RecordStoreFixture) {
        let mut all = ["a", "B", "ab", "a b", "a-b", "a.b", "a_b", "aB", "b", "A", "Z", "z", "é", "e", "~", "10", "9"];
        for name in all {
            fx.put(name, "x", Expect::Anything).await;
        }
        all.sort_unstable();
        assert_eq!(fx.names().await, all);
    }

    pub async fn pages_follow_each_other_without_gap_or_double(fx: RecordStoreFixture) {
        let all: Vec<String> = (0..11).map(|n| format!("name {n:02}")).collect();
        for name in &all {
            fx.put(name, "x", Expect::Anything).await;
        }
        for max in [1, 4, 11, 12] {
            let (mut read, mut after) = (Vec::new(), None);
            loop {
                let page = fx.list(after.as_deref(), max).await;
                read.extend(names(&page));
                after = page.last().map(|record| record.name.clone());
                if page.len() < usize::from(max) {
                    break;
                }
            }
            assert_eq!(read, all, "in pages of {max}");
        }
        assert_eq!(names(&fx.list(Some("name 04x"), 2).await), all[5..7], "the cursor need not be a record");
        assert!(fx.list(Some("name 10"), 5).await.is_empty());
    }

    pub async fn a_page_is_bounded(fx: RecordStoreFixture) {
        for n in 0..RECORD_PAGE_MAX + 3 {
            fx.put(&format!("{n:04}"), "x", Expect::Anything).await;
        }
        let page = fx.list(None, u16::MAX).await;
        assert_eq!(page.len(), usize::from(RECORD_PAGE_MAX));
        assert_eq!(fx.list(Some(&page[page.len() - 1].name), u16::MAX).await.len(), 3);
    }

    pub async fn a_page_is_not_shortened_by_records_past_their_time(fx: RecordStoreFixture) {
        for (n, secs) in [10, 10, 100, 10, 100, 10, 100, 100].into_iter().enumerate() {
            fx.put_for(&n.to_string(), secs, Expect::Anything).await;
        }
        fx.pass(11).await;
        assert_eq!(names(&fx.list(None, 3).await), ["2", "4", "6"], "a short page would be the last");
        assert_eq!(names(&fx.list(Some("6"), 3).await), ["7"]);
    }

    pub async fn of_writers_that_expect_one_version_one_wins(fx: RecordStoreFixture) {
        fx.put("a", "one", Expect::Anything).await;
        for version in 1..=5 {
            one_won(&fx.together(Expect::Version(version)).await, version + 1);
        }
    }

    pub async fn of_writers_that_expect_absence_one_wins(fx: RecordStoreFixture) {
        for _ in 0..5 {
            one_won(&fx.together(Expect::Absent).await, 1);
            assert!(fx.delete("a").await);
        }
    }

    pub async fn writers_that_expect_nothing_all_count(fx: RecordStoreFixture) {
        let mut versions: Vec<u64> = Vec::new();
        for answer in fx.together(Expect::Anything).await {
            let Written::Ok { version } = answer else { panic!("nothing was expected: {answer:?}") };
            versions.push(version);
        }
        versions.sort_unstable();
        assert_eq!(versions, (1..=u64::from(TASKS)).collect::<Vec<_>>(), "each write is one version");
    }

    pub async fn changes_by_version_are_never_lost(fx: RecordStoreFixture) {
        const EACH: u8 = 5;
        fx.try_put("a", Bytes::from_static(&[0]), Expect::Absent, None).await.expect("the store answers");
        let adders: Vec<_> = (0..TASKS)
            .map(|_| {
                let store = Arc::clone(&fx.store);
                tokio::spawn(async move {
                    let mut added = 0;
                    while added < EACH {
                        let record = store.get(KIND, "a").await.expect("the store answers").expect("it stands");
                        let (next, expect) = (vec![record.value[0] + 1], Expect::Version(record.version));
                        let written = store.put(KIND, "a", next.into(), expect, None).await.expect("the store answers");
                        added += u8::from(matches!(written, Written::Ok { .. }));
                    }
                })
            })
            .collect();
        for adder in adders {
            adder.await.expect("no task panics");
        }
        let record = fx.get("a").await.expect("it stands");
        assert_eq!((record.value[0], record.version), (TASKS * EACH, u64::from(TASKS * EACH) + 1));
    }
}

pub use behaviours::*;
