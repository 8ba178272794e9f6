//! What the server really gives, told as it is.

use metamcp_core::{error::StoreErrorKind, queue::Durability};
use metamcp_mcp_adapters::{
    store::postgres::{PostgresHealth, PostgresOptions, PostgresStore},
    testing::{PostgresPair, PostgresServer, PostgresSetup},
};

use crate::fixture::{listens, open, server, server_with, until, with};

#[tokio::test]
async fn a_server_without_fsync_is_refused_unless_that_is_meant() {
    let server = server().await;
    let strict = PostgresOptions::parse(&server.url()).unwrap();
    let error = PostgresStore::open(&strict).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Invalid);
    assert!(error.to_string().contains("fsync=off") && error.to_string().contains("allow_lossy"), "{error}");
    let meant = PostgresOptions::parse(&with(&server.url(), "allow_lossy=true")).unwrap();
    let health = PostgresStore::open(&meant).await.unwrap().health().await.unwrap();
    assert_eq!(health.durability, Durability::OsBuffered);
    assert!(health.detail.contains("fsync=off: a crash of the machine may lose every job"), "{}", health.detail);
}

#[tokio::test]
async fn a_server_that_acknowledges_early_is_used_so_that_it_does_not() {
    let settings = vec![("synchronous_commit".to_owned(), "off".to_owned())];
    let setup = PostgresSetup { fsync: true, settings, ..PostgresSetup::default() };
    let server = PostgresServer::start(setup).await.unwrap();
    let store = PostgresStore::open(&PostgresOptions::parse(&server.url()).unwrap()).await.unwrap();
    listens(&store).await;
    let health = store.health().await.unwrap();
    assert_eq!(health.durability, Durability::LocalFsync);
    for fact in ["fsync=on", "synchronous_commit=on", "notifications on", "0 standby(s)"] {
        assert!(health.detail.contains(fact), "{}", health.detail);
    }
    let lossy = open(&server.url()).await.health().await.unwrap();
    assert_eq!(lossy.durability, Durability::OsBuffered);
}

#[tokio::test]
async fn an_open_transaction_is_seen() {
    let server = server_with(&[("max_prepared_transactions", "1")]).await;
    let store = open(&server.url()).await;
    let before = PostgresHealth::of(store.pools().write()).await.unwrap();
    assert_eq!(before.transaction_age_s, 0);
    server.psql("create table metamcp.thing (id int)").await.unwrap();
    server.psql("begin; insert into metamcp.thing values (1); prepare transaction 'forgotten'").await.unwrap();
    for n in 0..5 {
        server.psql(&format!("insert into metamcp.thing values ({n})")).await.unwrap();
    }
    let after = PostgresHealth::of(store.pools().write()).await.unwrap();
    assert!(after.xmin_age >= 5 && before.xmin_age < 5, "{before:?} {after:?}");
    assert!(after.sees_all && !after.in_recovery && after.full_page_writes);
}

#[tokio::test]
async fn standbys_are_told_and_whether_a_commit_waits_for_them() {
    let setup = PostgresSetup { fsync: true, ..PostgresSetup::default() };
    let pair = PostgresPair::start(setup).await.unwrap();
    let store = open(&pair.url()).await;
    let health = PostgresHealth::of(store.pools().write()).await.unwrap();
    assert_eq!((health.replicas, health.durability()), (1, Durability::LocalFsync));
    assert!(health.warnings().iter().any(|words| words.contains("a failover loses")), "{:?}", health.warnings());
    pair.primary.psql("alter system set synchronous_standby_names = '*'").await.unwrap();
    pair.primary.psql("select pg_reload_conf()").await.unwrap();
    until("the new setting", async || store.health().await.unwrap().durability == Durability::Replicated).await;
}
