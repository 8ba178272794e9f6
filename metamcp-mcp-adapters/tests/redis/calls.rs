//! Scripts and their servers: forgotten scripts, a full server, many callers at once.

use metamcp_core::error::StoreErrorKind;
use metamcp_mcp_adapters::{
    store::redis::{Script, WhenFull},
    testing::RedisSetup,
};

use crate::fixture::{add, bounded, count, open, ping, server, with};

#[tokio::test]
async fn a_script_is_put_together_of_parts_and_gets_its_keys_and_arguments() {
    let server = server(RedisSetup::default()).await;
    let pool = open(&server.url()).await;
    let prelude = "local function joined(of) return table.concat(of, ',') end";
    let script = Script::new("told", WhenFull::Refuse, &[prelude, "return {joined(KEYS), joined(ARGV), #ARGV}"]);
    let tag = pool.options().tag();
    let call = script.call(&[&tag, "{metamcp}:b"]).arg("x").arg(&["y", "z"]).arg(7).arg(b"\xff\r\n".as_slice());
    let told: (String, Vec<u8>, u32) = pool.run(&call).await.unwrap();
    assert_eq!(told, ("{metamcp},{metamcp}:b".to_owned(), b"x,y,z,7,\xff\r\n".to_vec(), 5));
}

#[tokio::test]
async fn a_server_that_has_forgotten_a_script_gets_it_again_once() {
    let server = server(RedisSetup::default()).await;
    let pool = open(&server.url()).await;
    let script = count();
    for round in 1..=3 {
        assert_eq!(add(&pool, &script, 1).await.unwrap(), round * 2 - 1);
        assert_eq!(add(&pool, &script, 1).await.unwrap(), round * 2);
        server.cli(&["SCRIPT", "FLUSH"]).await.unwrap();
    }
    let stats = server.cli(&["INFO", "commandstats"]).await.unwrap();
    assert!(stats.contains("cmdstat_evalsha:calls=6") && stats.contains("cmdstat_eval:calls=3"), "{stats}");
}

#[tokio::test]
async fn a_fault_of_a_script_names_it() {
    let server = server(RedisSetup::default()).await;
    let pool = open(&server.url()).await;
    let tag = pool.options().tag();
    let faulty = Script::new("faulty", WhenFull::Refuse, &["return nothing.here"]);
    let error = pool.run::<()>(&faulty.call(&[&tag])).await.expect_err("it fails");
    assert!(error.kind() == StoreErrorKind::Invalid && error.to_string().contains("script faulty: "), "{error}");

    let error = pool.run::<Vec<u8>>(&count().call(&[&tag]).arg(1)).await.expect_err("a number is no list");
    assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");

    server.cli(&["SET", "{metamcp}:count", "not a number"]).await.unwrap();
    server.cli(&["LPUSH", "{metamcp}:other", "1"]).await.unwrap();
    let wrong = Script::new("wrong", WhenFull::Refuse, &["return redis.call('GET', KEYS[1] .. ':other')"]);
    let error = pool.run::<()>(&wrong.call(&[&tag])).await.expect_err("another type");
    assert!(error.kind() == StoreErrorKind::Corrupt && error.to_string().contains("?namespace=NAME"), "{error}");
    assert_eq!(ping(&pool).await.unwrap(), "PONG");
}

#[tokio::test]
async fn a_full_server_refuses_what_is_new_and_lets_work_end() {
    let setup = RedisSetup { maxmemory_bytes: Some(3 << 20), ..RedisSetup::default() };
    let server = server(setup).await;
    let pool = open(&server.url()).await;
    let tag = pool.options().tag();
    let add_new = Script::new("enqueue", WhenFull::Refuse, &["redis.call('SET', KEYS[1] .. ':' .. ARGV[1], ARGV[2])"]);
    let end =
        Script::new("finish", WhenFull::Run, &["redis.call('HSET', KEYS[1] .. ':done', 'a', 'b')", "return 'ok'"]);
    let body = "x".repeat(100_000);
    let mut full = None;
    for number in 0..100 {
        if let Err(error) = pool.run::<()>(&add_new.call(&[&tag]).arg(number).arg(&body)).await {
            full = Some(error);
            break;
        }
    }
    let error = full.expect("3 MiB do not hold 10 MB");
    assert!(error.is_retryable() && error.to_string().contains("raise maxmemory"), "{error}");
    assert_eq!(pool.run::<String>(&end.call(&[&tag])).await.unwrap(), "ok");
    let error = pool.query::<()>(redis::cmd("SET").arg("{metamcp}:x").arg(&body)).await.expect_err("full");
    assert!(error.is_retryable() && error.to_string().contains("raise maxmemory"), "{error}");
}

#[tokio::test]
async fn many_callers_share_one_connection() {
    let server = server(RedisSetup::default()).await;
    let pool = open(&with(&server.url(), "pool=1")).await;
    let calls = (0..500).map(|_| {
        let pool = pool.clone();
        tokio::spawn(async move { add(&pool, &count(), 1).await })
    });
    for call in calls.collect::<Vec<_>>() {
        bounded("the call", call).await.unwrap().unwrap();
    }
    assert_eq!(add(&pool, &count(), 0).await.unwrap(), 500);
    let clients = server.cli(&["CLIENT", "LIST"]).await.unwrap();
    assert_eq!(clients.lines().count(), 2, "one of the pool, one of redis-cli: {clients}");
}

#[tokio::test]
async fn a_dropped_call_leaves_its_connection_to_the_others() {
    let server = server(RedisSetup::default()).await;
    let pool = open(&with(&server.url(), "pool=1")).await;
    let id: u64 = pool.query(redis::cmd("CLIENT").arg("ID")).await.unwrap();
    let (held, waits) = (pool.clone(), redis::cmd("BLPOP").arg("{metamcp}:never").arg(1).to_owned());
    let call = tokio::spawn(async move { held.query::<()>(&waits).await });
    crate::fixture::holds("the call", async || server.cli(&["CLIENT", "LIST"]).await.unwrap().contains("cmd=blpop"))
        .await;
    call.abort();
    assert_eq!(ping(&pool).await.unwrap(), "PONG");
    assert_eq!(pool.query::<u64>(redis::cmd("CLIENT").arg("ID")).await.unwrap(), id);
}
