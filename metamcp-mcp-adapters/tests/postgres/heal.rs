//! What is cut comes back by itself, and what is dropped is gone.

use crate::fixture::{bounded, lane, listens, number, open, server, until, with};

/// The sessions of stores on the server; the listener is told apart by what it ran last.
const SESSIONS: &str = "select count(*) from pg_stat_activity where application_name = 'metamcp'";
const LISTENERS: &str =
    "from pg_stat_activity where application_name = 'metamcp' and (query like 'listen %' or query like '%pg_notify(%')";

#[tokio::test]
async fn a_server_that_was_killed_and_started_again_is_used_again() {
    let mut server = server().await;
    let url = with(&server.url(), "connect_ms=1000");
    let (one, two) = (open(&url).await, open(&url).await);
    listens(&one).await;
    listens(&two).await;
    server.kill().await.unwrap();
    let mut down = two.notifier().listening();
    bounded("the loss", down.wait_for(|up| !*up)).await.unwrap();
    let error = number(&one, "select 1").await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    server.restart().await.unwrap();
    // The first call waits for a connection instead of failing for the loss of the old ones.
    assert_eq!(number(&one, "select 1").await.unwrap(), 1);
    listens(&one).await;
    listens(&two).await;
    let mut waiter = two.notifier().waiter(&[lane("light")]);
    one.notifier().ready(&[lane("light")]);
    bounded("the wake-up", waiter.woken()).await;
}

#[tokio::test]
async fn a_listener_whose_backend_was_ended_listens_again_and_wakes_who_waited() {
    let server = server().await;
    let store = open(&server.url()).await;
    listens(&store).await;
    let mut waiter = store.notifier().waiter(&[lane("light")]);
    let mut events = store.notifier().events();
    events.mark_unchanged();
    let mut down = store.notifier().listening();
    assert_eq!(server.psql(&format!("select pg_terminate_backend(pid) {LISTENERS}")).await.unwrap(), "t");
    bounded("the loss", down.wait_for(|up| !*up)).await.unwrap();
    listens(&store).await;
    // Nobody knows what was missed meanwhile.
    bounded("the waiter", waiter.woken()).await;
    bounded("the reader of events", events.changed()).await.unwrap();
    assert_eq!(server.psql(&format!("select count(*) {LISTENERS}")).await.unwrap(), "1");
}

#[tokio::test]
async fn idle_connections_that_the_server_closed_are_not_given_out() {
    let server = server().await;
    let store = open(&with(&server.url(), "pool=4")).await;
    listens(&store).await;
    for _ in 0..3 {
        let pid = number(&store, "select pg_backend_pid()").await.unwrap();
        let ended = format!("select pg_terminate_backend({pid}, 10000)");
        assert_eq!(server.psql(&ended).await.unwrap(), "t");
        assert_ne!(number(&store, "select pg_backend_pid()").await.unwrap(), pid);
    }
}

#[tokio::test]
async fn a_dropped_store_leaves_no_session_behind() {
    let server = server().await;
    let store = open(&server.url()).await;
    listens(&store).await;
    let copy = store.clone();
    drop(store);
    assert_eq!(number(&copy, "select 1").await.unwrap(), 1);
    drop(copy);
    until("the sessions", async || server.psql(SESSIONS).await.unwrap() == "0").await;
}
