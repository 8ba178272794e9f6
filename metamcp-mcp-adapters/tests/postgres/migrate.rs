//! Migrations: many at once, in order, whole or not at all; what does not fit is refused and not touched.

use std::sync::Arc;

use metamcp_core::error::StoreErrorKind;
use metamcp_mcp_adapters::store::postgres::{MIGRATIONS, Migration, migrate};
use tokio::{sync::Barrier, task::JoinSet};

use crate::fixture::{number, open, refused, server, with};

/// Processes that start at once.
const STARTS: usize = 8;

/// The files of a later program: those of this one, and two more.
fn later() -> Vec<Migration> {
    let more = [
        ("thing", "create table thing (id integer)"),
        ("filled", "insert into thing values (1); alter table thing add column name text"),
    ];
    let known = MIGRATIONS.iter().copied();
    let more = more.iter().zip(MIGRATIONS.len() as i32 + 1..);
    known.chain(more.map(|((name, sql), version)| Migration { version, name, sql })).collect()
}

#[tokio::test]
async fn processes_that_start_at_once_migrate_once() {
    let server = server().await;
    // Who starts late would find a schema that is newer than this program.
    let all_open = Arc::new(Barrier::new(STARTS));
    let mut starts = JoinSet::new();
    for _ in 0..STARTS {
        let (url, all_open) = (with(&server.url(), "schema=fleet"), Arc::clone(&all_open));
        starts.spawn(async move {
            let store = open(&url).await;
            all_open.wait().await;
            migrate(store.pools().write(), &later()).await.unwrap()
        });
    }
    let applied: usize = starts.join_all().await.into_iter().sum();
    assert_eq!(applied, 2, "each file once, by whoever was first");
    let told = server.psql("select string_agg(name, ' ' order by version) from fleet.migration").await.unwrap();
    let names: Vec<&str> = later().iter().map(|migration| migration.name).collect();
    assert_eq!(told, names.join(" "));
}

#[tokio::test]
async fn files_are_applied_in_order_and_one_that_fails_leaves_nothing() {
    let server = server().await;
    let store = open(&server.url()).await;
    let pool = store.pools().write();
    let mut broken = later();
    let last = broken.last_mut().unwrap();
    last.sql = "insert into thing values (7); select no_such_function()";
    let words = format!("migration {} `filled` failed and was rolled back: postgres", last.version);
    let error = migrate(pool, &broken).await.unwrap_err();
    assert!(error.kind() == StoreErrorKind::Invalid && error.to_string().contains(&words), "{error}");
    let left = "select (count(*) * 10 + (select count(*) from thing))::int from migration";
    let before = i32::try_from(MIGRATIONS.len()).unwrap() * 10;
    assert_eq!(number(&store, left).await.unwrap(), before + 10, "the first file stays, the second left nothing");
    assert_eq!(migrate(pool, &later()).await.unwrap(), 1);
    assert_eq!(number(&store, left).await.unwrap(), before + 21);
    assert_eq!(migrate(pool, &later()).await.unwrap(), 0);
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_not_touched() {
    let server = server().await;
    drop(open(&server.url()).await);
    let digest = server.psql("select digest from metamcp.migration where version = 1").await.unwrap();
    for (harm, words, heal) in [
        (
            "update metamcp.migration set digest = '\\x00' where version = 1",
            "with another text (00 there",
            format!("update metamcp.migration set digest = '{digest}' where version = 1"),
        ),
        (
            "insert into metamcp.migration (version, name, digest) values (9999, 'tomorrow', '')",
            "start a newer program",
            "delete from metamcp.migration where version = 9999".to_owned(),
        ),
        (
            "delete from metamcp.migration where version = 1",
            "where 1 belongs",
            format!("insert into metamcp.migration (version, name, digest) values (1, 'migration', '{digest}')"),
        ),
    ] {
        server.psql(harm).await.unwrap();
        let error = refused(&server.url()).await;
        assert!(error.kind() == StoreErrorKind::Invalid && error.to_string().contains(words), "{error}");
        server.psql(&heal).await.unwrap();
        drop(open(&server.url()).await);
    }
}

#[tokio::test]
async fn schemas_of_one_database_do_not_meet() {
    let server = server().await;
    let (one, two) = (open(&with(&server.url(), "schema=one")).await, open(&with(&server.url(), "schema=two")).await);
    assert_eq!(migrate(one.pools().write(), &later()).await.unwrap(), 2);
    assert!(number(&two, "select count(*)::int from thing").await.is_err());
}
