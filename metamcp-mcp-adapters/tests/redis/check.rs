//! What the look at the start says of real servers.

use metamcp_core::{error::StoreErrorKind, queue::Durability};
use metamcp_mcp_adapters::testing::{Append, RedisAccount, RedisCluster, RedisSetup};

use crate::fixture::{open, server, with};

#[tokio::test]
async fn a_durable_server_passes_and_says_what_it_may_lose() {
    let setup = RedisSetup { maxmemory_bytes: Some(100 << 20), ..RedisSetup::default() };
    let every_second = server(setup.clone()).await;
    let report = open(&every_second.url()).await.check().await.unwrap();
    assert_eq!(report.durability, Durability::OsBuffered);
    assert!(report.detail.contains("a power loss about 1 s of writes") && report.warnings.is_empty(), "{report:?}");

    let always = server(RedisSetup { append: Append::Always, ..setup }).await;
    let report = open(&always.url()).await.check().await.unwrap();
    assert_eq!(report.durability, Durability::LocalFsync);
    always.cli(&["CONFIG", "SET", "maxmemory", "0", "appendfsync", "no"]).await.unwrap();
    let report = open(&always.url()).await.check().await.unwrap();
    assert_eq!(report.durability, Durability::OsBuffered);
    assert!(
        report.warnings[0].contains("appendfsync everysec") && report.warnings[1].contains("set maxmemory"),
        "{report:?}"
    );
}

#[tokio::test]
async fn a_server_set_up_to_lose_jobs_is_refused_unless_that_is_allowed() {
    let evicts = RedisSetup {
        maxmemory_bytes: Some(100 << 20),
        maxmemory_policy: Some("allkeys-lru".to_owned()),
        ..RedisSetup::default()
    };
    let forgets = RedisSetup { append: Append::Off, ..RedisSetup::default() };
    for (setup, words, durability) in [
        (evicts, "set maxmemory-policy noeviction", Durability::OsBuffered),
        (forgets, "set appendonly yes", Durability::Memory),
    ] {
        let server = server(setup).await;
        let error = open(&server.url()).await.check().await.expect_err("it loses jobs");
        assert!(error.kind() == StoreErrorKind::Invalid && error.to_string().contains(words), "{error}");
        assert!(error.to_string().contains("allow_lossy=true"), "{error}");
        let report = open(&with(&server.url(), "allow_lossy=true")).await.check().await.unwrap();
        assert!(report.durability == durability && report.warnings[0].contains(words), "{report:?}");
    }
}

#[tokio::test]
async fn a_server_that_may_not_tell_is_used_and_warned_of() {
    let account =
        |rules: &str| RedisAccount { name: "app".to_owned(), password: "pw".to_owned(), rules: rules.to_owned() };
    let mute = server(RedisSetup { account: Some(account("~* +@all -info -config")), ..RedisSetup::default() }).await;
    let report = open(&mute.url()).await.check().await.unwrap();
    assert!(report.warnings[0].contains("+info") && report.warnings[1].contains("+config|get"), "{report:?}");
    let half = server(RedisSetup { account: Some(account("~* +@all -config")), ..RedisSetup::default() }).await;
    let report = open(&half.url()).await.check().await.unwrap();
    assert_eq!((report.durability, report.warnings.len()), (Durability::OsBuffered, 2), "{report:?}");
}

#[tokio::test]
async fn a_replica_and_a_missing_replica_are_told() {
    let master = server(RedisSetup::default()).await;
    let lines = vec![format!("replicaof 127.0.0.1 {}", master.port())];
    let replica = server(RedisSetup { lines, ..RedisSetup::default() }).await;
    let error = open(&replica.url()).await.check().await.expect_err("a replica");
    assert!(error.is_retryable() && error.to_string().contains("give the master's address"), "{error}");

    let error = open(&with(&master.url(), "wait_replicas=2")).await.check().await.expect_err("too few");
    assert!(error.is_retryable() && error.to_string().contains("start the replicas"), "{error}");
}

#[tokio::test]
async fn all_masters_of_a_cluster_are_looked_at() {
    let mut cluster = RedisCluster::start(RedisSetup::default()).await.unwrap();
    let pool = open(&cluster.url()).await;
    let report = pool.check().await.unwrap();
    assert_eq!(report.detail.matches("about 1 s of writes").count(), 3, "{report:?}");
    let alone = open(&cluster.nodes()[0].url()).await.check().await.expect_err("one node of it");
    assert!(alone.to_string().contains("redis-cluster://"), "{alone}");

    cluster.nodes()[1].cli(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await.unwrap();
    let error = pool.check().await.expect_err("one of three loses jobs");
    let port = cluster.nodes()[1].port().to_string();
    assert!(error.to_string().contains(&port) && error.to_string().contains("noeviction"), "{error}");
}
