//! Several servers: replicas that must confirm, Sentinels that change the master, a cluster whose nodes die.

use metamcp_mcp_adapters::{
    store::redis::RedisPool,
    testing::{RedisCluster, RedisServer, RedisSetup, Sentinels},
};

use crate::fixture::{add, bounded, count, healed, holds, open, refused, server, with};

/// A master with a replica that follows it.
async fn pair() -> (RedisServer, RedisServer) {
    let master = server(RedisSetup::default()).await;
    let lines = vec![format!("replicaof 127.0.0.1 {}", master.port())];
    let replica = server(RedisSetup { lines, ..RedisSetup::default() }).await;
    holds("the replica", async || master.cli(&["INFO", "replication"]).await.unwrap().contains("state=online")).await;
    (master, replica)
}

#[tokio::test]
async fn others_do_not_stand_behind_a_write_that_waits_for_replicas() {
    let (master, replica) = pair().await;
    let pool = open(&with(&master.url(), "pool=1&wait_replicas=1&wait_ms=20000&response_ms=30000")).await;
    let tag = pool.options().tag();
    assert_eq!(pool.run_replicated::<i64>(&count().call(&[&tag]).arg(1)).await.unwrap(), 1);
    replica.pause().unwrap();
    let waits = pool.clone();
    let write = tokio::spawn(async move { waits.run_replicated::<i64>(&count().call(&[&tag]).arg(1)).await });
    holds("the write", async || add(&pool, &count(), 0).await.unwrap() == 2).await;
    assert_eq!(add(&pool, &count(), 1).await.unwrap(), 3);
    replica.resume().unwrap();
    assert_eq!(bounded("the confirmation", write).await.unwrap().unwrap(), 2, "it was confirmed in time");
}

#[tokio::test]
async fn a_write_waits_for_replicas_and_says_when_they_do_not_confirm() {
    let (master, replica) = pair().await;
    let patient = open(&with(&master.url(), "wait_replicas=1&wait_ms=20000&response_ms=30000")).await;
    let hasty = open(&with(&master.url(), "wait_replicas=1&wait_ms=300")).await;
    let (script, tag) = (count(), hasty.options().tag());
    let write = async |pool: &RedisPool, by: i64| pool.run_replicated::<i64>(&script.call(&[&tag]).arg(by)).await;
    assert_eq!(write(&patient, 1).await.unwrap(), 1);
    assert_eq!(replica.cli(&["GET", "{metamcp}:count"]).await.unwrap().trim(), "1", "it was there before the answer");

    master.cli(&["SCRIPT", "FLUSH"]).await.unwrap();
    assert_eq!(write(&patient, 1).await.unwrap(), 2, "the forgotten script is sent again");

    replica.pause().unwrap();
    let error = write(&hasty, 1).await.expect_err("nobody confirms");
    assert!(error.is_retryable() && error.to_string().contains("only 0 of 1 replicas"), "{error}");
    let error = write(&hasty, 0).await.expect_err("what is repeated waits again");
    assert!(error.is_retryable(), "{error}");
    replica.resume().unwrap();
    assert_eq!(write(&patient, 0).await.unwrap(), 3);
}

/// The Sentinels may promote either replica, and which of them is behind they learn only now and then: what is to be there after the
/// change, all that may be promoted must have confirmed.
#[tokio::test]
async fn a_change_of_the_master_is_followed() {
    let mut trio =
        Sentinels::start(RedisSetup { password: Some("pw".to_owned()), ..RedisSetup::default() }).await.unwrap();
    let pool = open(&with(&trio.url(), "wait_replicas=2")).await;
    let (script, tag) = (count(), pool.options().tag());
    let write = async |pool: &RedisPool| pool.run_replicated::<i64>(&script.call(&[&tag]).arg(1)).await;
    let first = healed("the first", async || write(&pool).await).await;
    assert!(pool.check().await.unwrap().detail.contains("2 replicas"));

    let successor = trio.failover().await.unwrap();
    let second = healed("the write after a planned change", async || write(&pool).await).await;
    assert!(second > first, "what both replicas had confirmed is there: {second}");

    let dead = trio.kill_master().await.unwrap();
    assert_eq!(dead, successor);
    trio.successor(dead).await.unwrap();
    // One server less: one replica is all that may be promoted next.
    let pool = open(&with(&trio.url(), "wait_replicas=1")).await;
    let third = healed("the write after a death", async || write(&pool).await).await;
    assert!(third > second, "what both replicas had confirmed is there: {third}");
}

#[tokio::test]
async fn an_unknown_master_is_told() {
    let trio = Sentinels::start(RedisSetup::default()).await.unwrap();
    let error = refused(&trio.url().replace("master=metamcp", "master=other")).await;
    assert!(error.to_string().contains("correct `master`"), "{error}");
}

#[tokio::test]
async fn a_wrong_login_is_told_where_there_are_many_servers_too() {
    let setup = RedisSetup { password: Some("right".to_owned()), ..RedisSetup::default() };
    let cluster = RedisCluster::start(setup.clone()).await.unwrap();
    let trio = Sentinels::start(setup).await.unwrap();
    for url in [cluster.url(), trio.url()] {
        open(&url).await;
        let error = refused(&url.replace("right@", "s3cret@")).await;
        let told = format!("{error} {error:?}");
        assert!(told.contains("does not know this user and password") && !told.contains("s3cret"), "{told}");
        assert!(!error.is_retryable(), "{error}");
    }
}

#[tokio::test]
async fn keys_of_a_namespace_are_found_in_a_cluster_whoever_holds_them() {
    let mut cluster = RedisCluster::start(RedisSetup::default()).await.unwrap();
    let mut holders = std::collections::BTreeSet::new();
    for namespace in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        let pool = open(&with(&cluster.url(), &format!("namespace={namespace}"))).await;
        assert_eq!(add(&pool, &count(), 1).await.unwrap(), 1);
        assert_eq!(add(&pool, &count(), 1).await.unwrap(), 2);
        let key = format!("{{{namespace}}}:count");
        for (i, node) in cluster.nodes()[..3].iter().enumerate() {
            // The others answer MOVED.
            if node.cli(&["GET", &key]).await.is_ok_and(|told| told.trim() == "2") {
                holders.insert(i);
            }
        }
    }
    assert_eq!(holders.len(), 3, "the namespaces are spread over the masters");
}

/// The node that has the count.
async fn holder(cluster: &mut RedisCluster) -> usize {
    for (i, node) in cluster.nodes()[..3].iter().enumerate() {
        if node.cli(&["GET", "{metamcp}:count"]).await.is_ok_and(|told| told.trim().parse::<i64>().is_ok()) {
            return i;
        }
    }
    panic!("a master has the key")
}

#[tokio::test]
async fn the_death_of_a_node_of_a_cluster_is_healed() {
    let mut cluster = RedisCluster::start(RedisSetup::default()).await.unwrap();
    let url = with(&cluster.url(), "wait_replicas=1&response_ms=1000");
    let pool = open(&url).await;
    let (script, tag) = (count(), pool.options().tag());
    let write = async |by: i64| pool.run_replicated::<i64>(&script.call(&[&tag]).arg(by)).await;
    let before = healed("the first", async || write(1).await).await;
    assert!(before >= 1);
    let holder = holder(&mut cluster).await;
    cluster.kill_node(holder).await.unwrap();
    cluster.promoted(holder + 3).await.unwrap();
    // One replica less: nobody is left to confirm.
    let total = healed("the write after a death", async || add(&pool, &script, 1).await).await;
    assert!(total > before, "what the replica had confirmed is there: {total}");
}

#[tokio::test]
async fn a_cluster_is_found_again_when_no_node_of_the_address_is_left() {
    let mut cluster = RedisCluster::start(RedisSetup::default()).await.unwrap();
    let before = open(&cluster.url()).await;
    assert_eq!(add(&before, &count(), 1).await.unwrap(), 1);
    let holder = holder(&mut cluster).await;
    let pool = open(&format!("redis-cluster://127.0.0.1:{}", cluster.nodes()[holder].port())).await;
    assert_eq!(add(&pool, &count(), 1).await.unwrap(), 2);
    cluster.kill_node(holder).await.unwrap();
    // The pool notices while nobody has taken the place of the dead one.
    assert!(add(&pool, &count(), 1).await.is_err());
    cluster.promoted(holder + 3).await.unwrap();
    // What was counted may be lost with the master: that it counts at all is what is asked.
    assert!(healed("a count after the change", async || add(&pool, &count(), 1).await).await >= 1);
}
