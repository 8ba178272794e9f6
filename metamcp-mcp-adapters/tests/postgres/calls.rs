//! One call: bounded, begun again when only another transaction was in its way, and kind to the connection it leaves.

use std::time::Duration;

use metamcp_core::error::{StoreError, StoreErrorKind};
use metamcp_mcp_adapters::{
    store::postgres::{Pool, Session, Work},
    testing::{CutProxy, ProxyMode},
};
use tokio::sync::Barrier;
use tokio_postgres::Error;

use crate::fixture::{number, open, server, until, with};

/// Adds one to two rows, the second once the other transaction holds it.
struct Turn<'a> {
    rows: [i32; 2],
    both_hold_one: &'a Barrier,
    tries: u32,
}

impl Work for Turn<'_> {
    type Output = u32;

    async fn run(&mut self, session: &mut Session) -> Result<u32, Error> {
        self.tries += 1;
        let transaction = session.client().transaction().await?;
        let add = "update row set n = n + 1 where id = $1";
        transaction.execute(add, &[&self.rows[0]]).await?;
        if self.tries == 1 {
            self.both_hold_one.wait().await;
        }
        transaction.execute(add, &[&self.rows[1]]).await?;
        transaction.commit().await?;
        Ok(self.tries)
    }
}

#[tokio::test]
async fn of_two_transactions_in_each_others_way_both_are_done() {
    let server = server().await;
    let store = open(&server.url()).await;
    server
        .psql("create table metamcp.row (id int, n int); insert into metamcp.row values (1, 0), (2, 0)")
        .await
        .unwrap();
    let both_hold_one = &Barrier::new(2);
    let turn = |rows| store.pools().write().call(Turn { rows, both_hold_one, tries: 0 });
    let (one, two) = tokio::join!(turn([1, 2]), turn([2, 1]));
    assert_eq!(one.unwrap() + two.unwrap(), 3, "one of them was the victim of a deadlock and began again");
    assert_eq!(number(&store, "select min(n) * 10 + max(n) from row").await.unwrap(), 22);
}

/// Holds a connection and asks its pool for another.
struct Greedy(Pool);

impl Work for Greedy {
    type Output = StoreError;

    async fn run(&mut self, _: &mut Session) -> Result<StoreError, Error> {
        Ok(self.0.execute("select 1", &[]).await.expect_err("a pool of one that gives two"))
    }
}

#[tokio::test]
async fn a_pool_that_is_used_up_says_so() {
    let server = server().await;
    let store = open(&with(&server.url(), "pool=1&connect_ms=1000")).await;
    let pool = store.pools().write();
    // Also proves that a call may move between threads.
    let error = tokio::spawn({
        let pool = pool.clone();
        async move { pool.call(Greedy(pool.clone())).await }
    });
    let error = error.await.unwrap().unwrap();
    assert!(error.is_retryable() && error.to_string().contains("raise `pool`"), "{error}");
    assert_eq!(number(&store, "select 1").await.unwrap(), 1);
}

#[tokio::test]
async fn a_statement_whose_table_was_changed_is_prepared_anew() {
    let server = server().await;
    let store = open(&with(&server.url(), "pool=1")).await;
    server.psql("create table metamcp.thing (id int); insert into metamcp.thing values (1)").await.unwrap();
    let all = "select * from thing";
    assert_eq!(store.pools().write().query(all, &[]).await.unwrap()[0].len(), 1);
    server.psql("alter table metamcp.thing add column name text").await.unwrap();
    assert_eq!(store.pools().write().query(all, &[]).await.unwrap()[0].len(), 2);
    store.pools().write().execute("deallocate all", &[]).await.unwrap();
    assert_eq!(store.pools().write().query(all, &[]).await.unwrap()[0].len(), 2);
}

#[tokio::test]
async fn errors_of_statements_say_what_to_change() {
    let server = server().await;
    let store = open(&with(&server.url(), "statement_ms=200")).await;
    server.psql("create table metamcp.locked (id int)").await.unwrap();
    for (sql, kind, words) in [
        ("select pg_sleep(30)", StoreErrorKind::Unavailable, "raise statement_ms"),
        ("select * from gone", StoreErrorKind::Corrupt, "not that of this version"),
        ("select 1/0", StoreErrorKind::Invalid, "division by zero (22012)"),
        (
            "do $$ begin raise exception using errcode = '53100', message = 'no space'; end $$",
            StoreErrorKind::Unavailable,
            "make room",
        ),
        (
            "do $$ begin raise exception using errcode = 'XX002', message = 'bad index'; end $$",
            StoreErrorKind::Corrupt,
            "server's log",
        ),
    ] {
        let error = store.pools().write().execute(sql, &[]).await.unwrap_err();
        assert!(error.kind() == kind && error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_dropped_call_leaves_its_connection_usable() {
    let server = server().await;
    let store = open(&with(&server.url(), "pool=1")).await;
    let pid = "select pg_backend_pid()";
    let before = number(&store, pid).await.unwrap();
    let dropped = tokio::time::timeout(Duration::from_millis(20), number(&store, "select 1 from pg_sleep(1)")).await;
    assert!(dropped.is_err());
    assert_eq!(number(&store, pid).await.unwrap(), before);
}

#[tokio::test]
async fn a_network_that_swallows_everything_ends_a_call_in_time_and_its_connection() {
    let server = server().await;
    let proxy = CutProxy::start(server.port()).await.unwrap();
    let url = format!("postgres://metamcp@127.0.0.1:{}/postgres?statement_ms=100&connect_ms=1000", proxy.port());
    let store = open(&url).await;
    let pid = "select pg_backend_pid()";
    let before = number(&store, pid).await.unwrap();
    proxy.set_mode(ProxyMode::Blackhole);
    let error = number(&store, pid).await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("may have happened"), "{error}");
    // No connection is left, and a new one gets no answer either.
    let error = number(&store, pid).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    proxy.set_mode(ProxyMode::Pass);
    until("the pool", async || number(&store, pid).await.is_ok_and(|now| now != before)).await;
}

#[tokio::test]
async fn a_lost_reply_is_told_as_one_that_may_have_happened() {
    let server = server().await;
    let proxy = CutProxy::start(server.port()).await.unwrap();
    let store = open(&format!("postgres://metamcp@127.0.0.1:{}/postgres?pool=1", proxy.port())).await;
    crate::fixture::listens(&store).await;
    server.psql("create table metamcp.thing (id int)").await.unwrap();
    let insert = "insert into thing values ($1)";
    store.pools().write().execute(insert, &[&1]).await.unwrap();
    proxy.cut_after_request_before_reply();
    let error = store.pools().write().execute(insert, &[&2]).await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("may have happened"), "{error}");
    assert_eq!(number(&store, "select count(*)::int from thing").await.unwrap(), 2, "and it did");
}
