//! Servers that die, hang, forget their part or lose an answer.

use std::time::Duration;

use metamcp_mcp_adapters::{
    store::redis::{Script, WhenFull},
    testing::{CutProxy, ProxyMode, RedisSetup, free_port},
};

use crate::fixture::{add, bounded, count, healed, holds, open, ping, server, with};

#[tokio::test]
async fn a_restart_is_healed_and_costs_no_call_when_nobody_was_calling() {
    let mut server = server(RedisSetup::default()).await;
    let pool = open(&server.url()).await;
    for total in 1..=3 {
        assert_eq!(add(&pool, &count(), 1).await.unwrap(), total);
        server.kill().await.unwrap();
        server.restart().await.unwrap();
    }
    assert_eq!(add(&pool, &count(), 0).await.unwrap(), 3);
}

#[tokio::test]
async fn a_server_that_is_down_is_told_and_a_call_waits_for_one_that_comes_back() {
    let mut server = server(RedisSetup::default()).await;
    let pool = open(&with(&server.url(), "connect_ms=300")).await;
    server.stop().await.unwrap();
    // Connections that still lie there may be tried first.
    holds("the refusal", async || {
        let error = ping(&pool).await.expect_err("it is down");
        assert!(error.is_retryable(), "{error}");
        error.to_string().contains("nothing listens")
    })
    .await;

    let patient = open_later(&mut server).await;
    assert_eq!(patient, "PONG");
    healed("the first pool", async || ping(&pool).await).await;
}

/// A call that begins while the server is down and is answered once it is back.
async fn open_later(server: &mut metamcp_mcp_adapters::testing::RedisServer) -> String {
    server.restart().await.unwrap();
    let pool = open(&with(&server.url(), "connect_ms=60000")).await;
    server.stop().await.unwrap();
    let call = tokio::spawn(async move { ping(&pool).await });
    tokio::task::yield_now().await;
    server.restart().await.unwrap();
    bounded("the answer", call).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_slow_answer_is_told_and_then_all_is_well() {
    let server = server(RedisSetup::default()).await;
    let pool = open(&with(&server.url(), "response_ms=150")).await;
    server.cli(&["CLIENT", "PAUSE", "600", "ALL"]).await.unwrap();
    let error = ping(&pool).await.expect_err("it is paused");
    assert!(error.is_retryable() && error.to_string().contains("did not answer in time"), "{error}");
    assert_eq!(healed("the answer", async || ping(&pool).await).await, "PONG");
}

#[tokio::test]
async fn a_frozen_server_is_told_and_then_all_is_well() {
    let server = server(RedisSetup::default()).await;
    let pool = open(&with(&server.url(), "response_ms=150&connect_ms=150")).await;
    server.pause().unwrap();
    for _ in 0..3 {
        let error = ping(&pool).await.expect_err("it is frozen");
        assert!(error.is_retryable() && error.to_string().contains("did not answer in time"), "{error}");
    }
    server.resume().unwrap();
    healed("the answer", async || ping(&pool).await).await;
}

#[tokio::test]
async fn a_partition_is_left_behind() {
    let server = server(RedisSetup::default()).await;
    let proxy = CutProxy::start(server.port()).await.unwrap();
    let pool = open(&format!("redis://127.0.0.1:{}?response_ms=150&connect_ms=150", proxy.port())).await;
    proxy.set_mode(ProxyMode::Blackhole);
    assert!(ping(&pool).await.expect_err("cut off").is_retryable());
    proxy.set_mode(ProxyMode::Pass);
    healed("the answer", async || ping(&pool).await).await;
    proxy.set_mode(ProxyMode::Refuse);
    proxy.cut_all();
    assert!(ping(&pool).await.expect_err("cut and refused").is_retryable());
    proxy.set_mode(ProxyMode::Pass);
    healed("the answer", async || ping(&pool).await).await;
}

#[tokio::test]
async fn a_lost_answer_is_told_as_perhaps_done_and_its_call_was_done_once() {
    let server = server(RedisSetup::default()).await;
    let proxy = CutProxy::start(server.port()).await.unwrap();
    let pool = open(&format!("redis://127.0.0.1:{}?pool=1", proxy.port())).await;
    assert_eq!(add(&pool, &count(), 1).await.unwrap(), 1);
    proxy.cut_after_request_before_reply();
    let error = add(&pool, &count(), 1).await.expect_err("its answer is lost");
    assert!(error.is_retryable() && error.to_string().contains("may have been done"), "{error}");
    assert_eq!(proxy.replies_lost(), 1);
    assert_eq!(add(&pool, &count(), 0).await.unwrap(), 2, "nothing is repeated behind the caller's back");
}

#[tokio::test]
async fn a_delay_below_the_bound_is_no_failure() {
    let server = server(RedisSetup::default()).await;
    let proxy = CutProxy::start(server.port()).await.unwrap();
    let pool = open(&format!("redis://127.0.0.1:{}?response_ms=30000&connect_ms=30000", proxy.port())).await;
    proxy.set_mode(ProxyMode::Delay(Duration::from_millis(30)));
    assert_eq!(add(&pool, &count(), 1).await.unwrap(), 1);
}

#[tokio::test]
async fn a_master_that_became_a_replica_is_left_and_told() {
    let server = server(RedisSetup::default()).await;
    let proxy = CutProxy::start(server.port()).await.unwrap();
    let pool = open(&format!("redis://127.0.0.1:{}?pool=1", proxy.port())).await;
    assert_eq!(add(&pool, &count(), 1).await.unwrap(), 1);
    let before: u64 = pool.query(redis::cmd("CLIENT").arg("ID")).await.unwrap();
    server.cli(&["REPLICAOF", "127.0.0.1", &free_port().unwrap().to_string()]).await.unwrap();
    let error = add(&pool, &count(), 1).await.expect_err("a replica does not write");
    assert!(error.is_retryable() && error.to_string().contains("is a replica now"), "{error}");
    let after: u64 = pool.query(redis::cmd("CLIENT").arg("ID")).await.unwrap();
    assert_ne!(before, after, "its connection is left: the address may lead to another server now");
    server.cli(&["CONFIG", "SET", "replica-serve-stale-data", "no"]).await.unwrap();
    let error = pool.query::<()>(redis::cmd("GET").arg("{metamcp}:count")).await.expect_err("it is cut off");
    assert!(error.is_retryable() && error.to_string().contains("lost its master"), "{error}");
    server.cli(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
    assert_eq!(healed("the write", async || add(&pool, &count(), 1).await).await, 2);
}

#[tokio::test]
async fn a_server_held_up_by_a_script_is_told() {
    let server =
        server(RedisSetup { lines: vec!["busy-reply-threshold 50".to_owned()], ..RedisSetup::default() }).await;
    let pool = open(&with(&server.url(), "response_ms=500")).await;
    let slow = Script::new("slow", WhenFull::Refuse, &["while true do end"]);
    let (held, tag) = (pool.clone(), pool.options().tag());
    let call = tokio::spawn(async move { held.run::<()>(&slow.call(&[&tag])).await });
    let mut told = String::new();
    holds("the refusal", async || {
        told = ping(&pool).await.err().map(|error| error.to_string()).unwrap_or_default();
        told.contains("held up by a slow script")
    })
    .await;
    server.cli(&["SCRIPT", "KILL"]).await.unwrap();
    assert!(bounded("the end", call).await.unwrap().is_err());
    assert_eq!(healed("the answer", async || ping(&pool).await).await, "PONG");
}

#[tokio::test]
async fn a_server_that_reads_its_data_is_told() {
    let lines = ["enable-debug-command yes", "loading-process-events-interval-bytes 1024", "aof-use-rdb-preamble yes"];
    let lines = lines.map(str::to_owned).to_vec();
    let server = server(RedisSetup { lines, ..RedisSetup::default() }).await;
    let pool = open(&server.url()).await;
    assert_eq!(add(&pool, &count(), 1).await.unwrap(), 1);
    server.cli(&["DEBUG", "POPULATE", "2000", "key", "100"]).await.unwrap();
    server.cli(&["BGREWRITEAOF"]).await.unwrap();
    holds("the snapshot", async || {
        let told = server.cli(&["INFO", "persistence"]).await.unwrap();
        told.contains("aof_rewrite_in_progress:0") && told.contains("aof_rewrite_scheduled:0")
    })
    .await;
    // Microseconds a key: reading takes as long as a test needs to look at it.
    server.cli(&["CONFIG", "SET", "key-load-delay", "500"]).await.unwrap();
    let mut told = String::new();
    let reads = server.cli(&["DEBUG", "LOADAOF"]);
    let looks = holds("the refusal", async || {
        told = add(&pool, &count(), 0).await.err().map(|error| error.to_string()).unwrap_or_default();
        told.contains("reading its data after a start")
    });
    let (read, ()) = tokio::join!(reads, looks);
    read.unwrap();
    assert_eq!(healed("the answer", async || add(&pool, &count(), 1).await).await, 2);
}

#[tokio::test]
async fn a_master_without_the_replicas_it_needs_is_told() {
    let server =
        server(RedisSetup { lines: vec!["min-replicas-to-write 1".to_owned()], ..RedisSetup::default() }).await;
    let pool = open(&server.url()).await;
    let error = add(&pool, &count(), 1).await.expect_err("no replica");
    assert!(error.is_retryable() && error.to_string().contains("min-replicas-to-write"), "{error}");
    server.cli(&["CONFIG", "SET", "min-replicas-to-write", "0"]).await.unwrap();
    assert_eq!(add(&pool, &count(), 1).await.unwrap(), 1);
}
