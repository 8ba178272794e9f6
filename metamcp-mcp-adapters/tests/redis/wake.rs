//! Wake tokens: who is woken, who is not, and that nothing sleeps on after a failure.

use std::{sync::Arc, time::Duration};

use metamcp_core::id::Lane;
use metamcp_mcp_adapters::{
    store::redis::{RedisPool, RedisWake, wake_key},
    testing::{RedisCluster, RedisServer, RedisSetup, Sentinels},
};
use tokio::task::JoinHandle;

use crate::fixture::{bounded, healed, holds, open, server};

const LONG: Duration = Duration::from_secs(3_600);

fn lane(name: &str) -> Lane {
    Lane::new(name).unwrap()
}

fn wait(wake: &Arc<RedisWake>, lanes: &[&str]) -> JoinHandle<()> {
    let (wake, lanes) = (Arc::clone(wake), lanes.iter().map(|name| lane(name)).collect::<Vec<_>>());
    tokio::spawn(async move { wake.wait(&lanes, LONG).await })
}

async fn push(pool: &RedisPool, name: &str) {
    let key = wake_key(&pool.options().tag(), name);
    healed("the token", async || pool.query::<()>(redis::cmd("LPUSH").arg(&key).arg(1)).await).await;
}

/// Waits until so many processes block on the list of a lane, which only happens once its waiters are known.
async fn blocked(server: &RedisServer, count: usize) {
    holds("the blocking call", async || {
        server.cli(&["CLIENT", "LIST"]).await.unwrap().matches("cmd=blpop").count() == count
    })
    .await;
}

#[tokio::test]
async fn a_token_wakes_one_who_waits_for_its_lane() {
    let server = server(RedisSetup::default()).await;
    let pool = open(&server.url()).await;
    let wake = Arc::new(RedisWake::start(&pool));
    let (first, second, other) = (wait(&wake, &["a"]), wait(&wake, &["b", "a"]), wait(&wake, &["c"]));
    blocked(&server, 1).await;
    push(&pool, "a").await;
    bounded("the first wake-up", first).await.unwrap();
    assert!(!second.is_finished() && !other.is_finished(), "one token wakes one");
    push(&pool, "b").await;
    bounded("the second wake-up", second).await.unwrap();
    push(&pool, "c").await;
    bounded("the third wake-up", other).await.unwrap();
}

#[tokio::test]
async fn a_token_that_lies_there_ends_the_wait_at_once_and_time_ends_it_else() {
    let server = server(RedisSetup::default()).await;
    let pool = open(&server.url()).await;
    push(&pool, "a").await;
    let wake = RedisWake::start(&pool);
    bounded("the wake-up", wake.wait(&[lane("b"), lane("a")], LONG)).await;
    bounded("the end of time", wake.wait(&[lane("a")], Duration::from_millis(20))).await;
}

#[tokio::test]
async fn a_lane_that_comes_later_is_watched_too() {
    let server = server(RedisSetup::default()).await;
    let pool = open(&server.url()).await;
    let wake = Arc::new(RedisWake::start(&pool));
    let first = wait(&wake, &["a"]);
    blocked(&server, 1).await;
    // Without a nudge each of these would wait for the end of the blocking call, which together is longer than our patience.
    let all_lanes = async {
        for turn in 0..20 {
            let name = format!("later-{turn}");
            let later = wait(&wake, &[&name]);
            push(&pool, &name).await;
            later.await.unwrap();
        }
    };
    bounded("the wake-up in each lane", all_lanes).await;
    assert!(!first.is_finished());
    push(&pool, "a").await;
    bounded("the wake-up", first).await.unwrap();
}

#[tokio::test]
async fn a_token_that_nobody_here_wants_any_more_goes_to_another_process() {
    let server = server(RedisSetup::default()).await;
    let pool = open(&server.url()).await;
    let (here, there) = (Arc::new(RedisWake::start(&pool)), Arc::new(RedisWake::start(&pool)));
    let leaves = wait(&here, &["a"]);
    blocked(&server, 1).await;
    leaves.abort();
    let stays = wait(&there, &["a"]);
    blocked(&server, 2).await;
    // The first process blocked first, so it gets the token.
    push(&pool, "a").await;
    bounded("the wake-up", stays).await.unwrap();
}

#[tokio::test]
async fn each_token_wakes_somebody_under_many_waiters_of_two_processes() {
    const TOKENS: usize = 200;
    let server = server(RedisSetup::default()).await;
    let pool = open(&server.url()).await;
    let wakes = [Arc::new(RedisWake::start(&pool)), Arc::new(RedisWake::start(&pool))];
    let waits: Vec<_> = (0..TOKENS).map(|i| wait(&wakes[i % 2], &[["a", "b", "c"][i % 3]])).collect();
    for i in 0..TOKENS {
        push(&pool, ["a", "b", "c"][i % 3]).await;
    }
    for wait in waits {
        bounded("the wake-up", wait).await.unwrap();
    }
    for name in ["a", "b", "c"] {
        let left: usize = pool.query(redis::cmd("LLEN").arg(wake_key("{metamcp}", name))).await.unwrap();
        assert_eq!(left, 0, "each token woke one");
    }
}

#[tokio::test]
async fn waiting_goes_on_after_a_restart() {
    let mut server = server(RedisSetup::default()).await;
    let pool = open(&server.url()).await;
    let wake = Arc::new(RedisWake::start(&pool));
    let waits = wait(&wake, &["a"]);
    blocked(&server, 1).await;
    server.kill().await.unwrap();
    server.restart().await.unwrap();
    push(&pool, "a").await;
    bounded("the wake-up", waits).await.unwrap();
}

#[tokio::test]
async fn its_connection_ends_with_it() {
    let server = server(RedisSetup::default()).await;
    let pool = open(&server.url()).await;
    let wake = Arc::new(RedisWake::start(&pool));
    let waits = wait(&wake, &["a"]);
    blocked(&server, 1).await;
    waits.abort();
    assert!(waits.await.is_err_and(|end| end.is_cancelled()));
    drop(wake);
    blocked(&server, 0).await;
}

#[tokio::test]
async fn tokens_are_found_in_a_cluster_and_after_the_death_of_their_node() {
    let mut cluster = RedisCluster::start(RedisSetup::default()).await.unwrap();
    let pool = open(&cluster.url()).await;
    let wake = Arc::new(RedisWake::start(&pool));
    let waits = wait(&wake, &["a", "b"]);
    push(&pool, "b").await;
    bounded("the wake-up", waits).await.unwrap();

    let waits = wait(&wake, &["a"]);
    let mut holder = None;
    holds("the blocking call", async || {
        for (i, node) in cluster.nodes()[..3].iter().enumerate() {
            if node.cli(&["CLIENT", "LIST"]).await.unwrap().contains("cmd=blpop") {
                holder = Some(i);
            }
        }
        holder.is_some()
    })
    .await;
    let holder = holder.unwrap();
    cluster.kill_node(holder).await.unwrap();
    cluster.promoted(holder + 3).await.unwrap();
    push(&pool, "a").await;
    bounded("the wake-up", waits).await.unwrap();
}

#[tokio::test]
async fn waiting_goes_on_with_the_next_master() {
    let mut trio = Sentinels::start(RedisSetup::default()).await.unwrap();
    let pool = open(&trio.url()).await;
    let wake = Arc::new(RedisWake::start(&pool));
    let waits = wait(&wake, &["a"]);
    let master = trio.master_port().await.unwrap();
    let server = trio.servers().iter().find(|server| server.port() == master).unwrap();
    blocked(server, 1).await;
    trio.failover().await.unwrap();
    push(&pool, "a").await;
    bounded("the wake-up", waits).await.unwrap();
}
