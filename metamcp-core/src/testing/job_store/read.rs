//! Reading and waiting: pages, filters, counts, wake-ups.

use std::{sync::Arc, time::Duration};

use super::fixture::{JobStoreFixture, bounded, done, lane, new_job, of_tenant};
use crate::{
    id::{JobId, Lane},
    queue::{JobBody, JobPage, JobQuery, JobState, LIST_PAGE_MAX, LaneCounts, NewJob},
};

/// Pages that must be enough to read everything a behaviour makes.
const PAGES_MAX: usize = 1_000;

async fn page(fx: &JobStoreFixture, query: &JobQuery) -> JobPage {
    fx.store.list(query).await.expect("the store answers")
}

/// All jobs of a query, page by page.
async fn all(fx: &JobStoreFixture, mut query: JobQuery) -> Vec<JobId> {
    let mut ids = Vec::new();
    for _ in 0..PAGES_MAX {
        let page = page(fx, &query).await;
        assert!(page.jobs.len() <= query.page_size(), "a page is bounded");
        ids.extend(page.jobs.iter().map(|job| job.head.id));
        match page.next {
            Some(next) => query.before = Some(next),
            None => return ids,
        }
    }
    panic!("the list does not end");
}

/// The other way round.
fn newest_first(mut ids: Vec<JobId>) -> Vec<JobId> {
    ids.reverse();
    ids
}

pub async fn a_list_is_newest_first(fx: JobStoreFixture) {
    let ids = fx.add_many(5).await;
    assert_eq!(all(&fx, JobQuery::default()).await, newest_first(ids));
}

pub async fn an_empty_store_lists_nothing(fx: JobStoreFixture) {
    let page = page(&fx, &JobQuery::default()).await;
    assert!(page.jobs.is_empty() && page.next.is_none());
}

pub async fn pages_follow_each_other_without_gap_or_double(fx: JobStoreFixture) {
    let ids = fx.add_many(23).await;
    for limit in [1, 5, 23, 24] {
        let query = JobQuery { limit, ..JobQuery::default() };
        assert_eq!(all(&fx, query).await, newest_first(ids.clone()), "in pages of {limit}");
    }
}

pub async fn a_page_is_bounded(fx: JobStoreFixture) {
    fx.add_many(usize::from(LIST_PAGE_MAX) + 5).await;
    for limit in [0, u16::MAX] {
        let page = page(&fx, &JobQuery { limit, ..JobQuery::default() }).await;
        assert!(page.jobs.len() <= usize::from(LIST_PAGE_MAX) && page.next.is_some());
    }
}

pub async fn new_jobs_do_not_shift_the_pages(fx: JobStoreFixture) {
    let ids = fx.add_many(10).await;
    let first = page(&fx, &JobQuery { limit: 4, ..JobQuery::default() }).await;
    fx.add_many(7).await;
    let rest = all(&fx, JobQuery { limit: 4, before: first.next, ..JobQuery::default() }).await;
    let read: Vec<JobId> = first.jobs.iter().map(|job| job.head.id).chain(rest).collect();
    assert_eq!(read, newest_first(ids));
}

pub async fn a_list_keeps_to_its_filters(fx: JobStoreFixture) {
    let mut labelled = new_job();
    let mut body = JobBody::clone(&labelled.body);
    body.task.labels.insert("team".to_owned(), "blue".to_owned());
    labelled.body = Arc::new(body);
    let labelled = fx.add(labelled).await;
    let others = fx.add(NewJob { owner: of_tenant("other"), ..new_job() }).await;
    let heavy = fx.add(NewJob { lane: Lane::heavy(), ..new_job() }).await;
    let dead = fx.add(NewJob { delay: Duration::from_secs(1), ..new_job() }).await;
    fx.store.cancel(dead, "no").await.expect("the store answers");

    let label = |value: &str| Some(("team".to_owned(), value.to_owned()));
    let cases = [
        (JobQuery { owner: Some(of_tenant("other")), ..JobQuery::default() }, vec![others]),
        (JobQuery { lane: Some(Lane::heavy()), ..JobQuery::default() }, vec![heavy]),
        (JobQuery { states: vec![JobState::Cancelled], ..JobQuery::default() }, vec![dead]),
        (
            JobQuery { states: vec![JobState::Cancelled, JobState::Ready], ..JobQuery::default() },
            vec![dead, heavy, others, labelled],
        ),
        (JobQuery { label: label("blue"), ..JobQuery::default() }, vec![labelled]),
        (JobQuery { label: label("red"), ..JobQuery::default() }, vec![]),
        (JobQuery { lane: Some(Lane::heavy()), owner: Some(of_tenant("other")), ..JobQuery::default() }, vec![]),
        (
            JobQuery { limit: 1, lane: Some(Lane::light()), states: vec![JobState::Ready], ..JobQuery::default() },
            vec![others, labelled],
        ),
    ];
    for (query, expected) in cases {
        assert_eq!(all(&fx, query.clone()).await, expected, "{query:?}");
    }
}

pub async fn a_list_shows_ended_jobs_as_get_does(fx: JobStoreFixture) {
    let key = fx.add_and_take(new_job()).await;
    fx.finish(key, done(key)).await;
    let page = page(&fx, &JobQuery { states: vec![JobState::Done], ..JobQuery::default() }).await;
    assert_eq!(page.jobs, [fx.job(key.job).await]);
}

pub async fn counts_tell_where_jobs_stand(fx: JobStoreFixture) {
    fx.add_parked().await;
    fx.add_dead().await;
    let ended = fx.add_and_take(new_job()).await;
    fx.finish(ended, done(ended)).await;
    fx.add_and_take(new_job()).await;
    fx.add(NewJob { delay: Duration::from_secs(60), ..new_job() }).await;
    fx.add_many(2).await;
    fx.add(NewJob { lane: Lane::heavy(), ..new_job() }).await;
    let counts = fx.counts().await;
    assert_eq!((counts.ready, counts.delayed, counts.leased, counts.input, counts.dead), (2, 1, 1, 1, 1));
    let heavy = fx.store.counts(&Lane::heavy()).await.expect("the store answers");
    assert_eq!((heavy.ready, heavy.delayed, heavy.leased, heavy.input, heavy.dead), (1, 0, 0, 0, 0));
}

pub async fn counts_tell_how_long_the_oldest_ready_job_has_been_due(fx: JobStoreFixture) {
    assert_eq!(fx.counts().await.oldest_ready_ms, 0);
    fx.add_plain().await;
    fx.advance(Duration::from_secs(10)).await;
    fx.add(NewJob { priority: 9, ..new_job() }).await;
    let age = fx.counts().await.oldest_ready_ms;
    assert!((10_000..20_000).contains(&age), "{age} ms");
}

pub async fn counts_tell_that_a_lane_is_paused(fx: JobStoreFixture) {
    assert!(!fx.counts().await.paused);
    fx.store.pause(&Lane::light(), true).await.expect("the store answers");
    assert_eq!(fx.counts().await, LaneCounts { paused: true, ..LaneCounts::default() });
    let heavy = fx.store.counts(&Lane::heavy()).await.expect("the store answers");
    assert!(!heavy.paused);
    fx.add_plain().await;
    fx.store.pause(&Lane::light(), false).await.expect("the store answers");
    assert_eq!(fx.counts().await, LaneCounts { ready: 1, ..LaneCounts::default() });
}

pub async fn lanes_that_hold_something_are_told_a_to_z(fx: JobStoreFixture) {
    let lanes = async || {
        let lanes = fx.store.lanes().await.expect("the store answers");
        lanes.iter().map(|lane| lane.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert!(lanes().await.is_empty());
    let key = fx.add_and_take(new_job()).await;
    for (name, delay_s) in [("z", 0), ("a.b", 60), ("a-b", 0), ("a", 60)] {
        let delay = Duration::from_secs(delay_s);
        fx.add(NewJob { lane: lane(name), delay, ..new_job() }).await;
    }
    let child = fx.add(NewJob { lane: lane("waits"), after: vec![key.job], ..new_job() }).await;
    fx.store.pause(&lane("paused"), true).await.expect("the store answers");
    assert_eq!(lanes().await, ["a", "a-b", "a.b", "light", "paused", "waits", "z"]);
    fx.finish(key, done(key)).await;
    fx.cancel(child).await;
    fx.store.pause(&lane("paused"), false).await.expect("the store answers");
    assert_eq!(lanes().await, ["a", "a-b", "a.b", "z"], "what has ended with a result, or as wished, is no work");
    let dead = fx.add_dead().await.job;
    assert_eq!(lanes().await, ["a", "a-b", "a.b", "light", "z"], "a dead letter is");
    fx.redrive(dead).await;
    let key = fx.take().await.key;
    fx.finish(key, done(key)).await;
    assert_eq!(lanes().await, ["a", "a-b", "a.b", "z"]);
}

pub async fn waiting_ends_when_a_job_comes(fx: JobStoreFixture) {
    let store = Arc::clone(&fx.store);
    let waits = tokio::spawn(async move { store.wait_ready(&[Lane::light()], Duration::from_secs(3_600)).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waits.is_finished(), "nothing is ready");
    fx.add_plain().await;
    bounded("the wake-up", waits).await.expect("the wait does not panic");
}

pub async fn waiting_ends_at_once_when_a_job_is_there(fx: JobStoreFixture) {
    fx.add_plain().await;
    let lanes = [lane("nobody"), Lane::light()];
    bounded("the wait", fx.store.wait_ready(&lanes, Duration::from_secs(3_600))).await;
}

pub async fn waiting_ends_when_its_time_is_over(fx: JobStoreFixture) {
    bounded("the wait", fx.store.wait_ready(&[Lane::light()], Duration::from_millis(20))).await;
    assert!(fx.try_take().await.is_none());
}

pub async fn waiting_ends_when_a_lane_is_resumed(fx: JobStoreFixture) {
    fx.add_plain().await;
    fx.store.pause(&Lane::light(), true).await.expect("the store answers");
    let store = Arc::clone(&fx.store);
    let waits = tokio::spawn(async move { store.wait_ready(&[Lane::light()], Duration::from_secs(3_600)).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    fx.store.pause(&Lane::light(), false).await.expect("the store answers");
    bounded("the wake-up", waits).await.expect("the wait does not panic");
}

pub async fn waiting_ends_in_time_for_a_job_that_is_due_before_all_others(fx: JobStoreFixture) {
    let hour = Duration::from_secs(3_600);
    fx.add(NewJob { delay: hour, ..new_job() }).await;
    assert!(fx.try_take().await.is_none(), "it is not due");
    let store = Arc::clone(&fx.store);
    let waits = tokio::spawn(async move { store.wait_ready(&[Lane::light()], hour).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waits.is_finished(), "nothing is due");
    let soon = Duration::from_millis(200);
    let id = fx.add(NewJob { delay: soon, ..new_job() }).await;
    fx.advance(soon).await;
    bounded("the wake-up", waits).await.expect("the wait does not panic");
    assert_eq!(fx.take().await.key.job, id);
}

pub async fn a_dropped_wait_takes_nothing_with_it(fx: JobStoreFixture) {
    let store = Arc::clone(&fx.store);
    let waits = tokio::spawn(async move { store.wait_ready(&[Lane::light()], Duration::from_secs(3_600)).await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    waits.abort();
    let id = fx.add_plain().await;
    bounded("the wait", fx.store.wait_ready(&[Lane::light()], Duration::from_secs(3_600))).await;
    assert_eq!(fx.take().await.key.job, id);
}
