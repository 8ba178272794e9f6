//! `metamcp worker` as a process: how it tells whether it lives and is ready.

mod support;

use std::{
    io::{BufRead as _, BufReader},
    time::Duration,
};

use metamcp_mcp_adapters::testing::{RedisServer, RedisSetup};
use reqwest::StatusCode;
use support::{Home, WAIT_S_MAX, eventually, signal, spawn};

/// Pause between two looks, in milliseconds.
const LOOK_MS: u64 = 50;

/// Looks until something holds that is sure to come.
async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let looks = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(WAIT_S_MAX), looks).await.expect("it holds in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_answers_probes_and_nothing_else_and_is_ready_while_its_store_is() {
    let mut redis = RedisServer::start(RedisSetup::default()).await.expect("a Redis starts");
    let home = Home::new();
    let mut child = spawn(&mut home.command(["worker", "--store", &redis.url(), "--health", "0", "--log", "off"]));
    let said = BufReader::new(child.stderr.take().expect("piped")).lines().next().expect("a line").expect("text");
    let url = said.split_once("health: ").expect("where it answers").1.trim_end_matches(')').to_owned();
    assert!(url.starts_with("http://127.0.0.1:"), "{said}");
    let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().expect("an HTTP client");
    let status = async |path: &str| http.get(format!("{url}{path}")).send().await.expect("an answer").status();
    assert_eq!(status("/livez").await, StatusCode::OK);
    assert_eq!(status("/readyz").await, StatusCode::OK);
    for path in ["/", "/api/tasks", "/openapi.json"] {
        assert_eq!(status(path).await, StatusCode::NOT_FOUND, "{path}");
    }
    let foreign = http.get(format!("{url}/readyz")).header("host", "evil.example").send().await.expect("an answer");
    assert_eq!(foreign.status(), StatusCode::FORBIDDEN);

    redis.kill().await.expect("it was there");
    until(async || status("/readyz").await == StatusCode::SERVICE_UNAVAILABLE).await;
    assert_eq!(status("/livez").await, StatusCode::OK, "it lives, whatever its store does");
    redis.restart().await.expect("it comes back");
    until(async || status("/readyz").await == StatusCode::OK).await;

    signal(child.id(), "TERM");
    let ended = eventually("the end", || child.try_wait().expect("it is our child"));
    assert!(ended.success(), "{ended}");
}

#[test]
fn an_address_that_is_none_or_is_taken_is_told() {
    let home = Home::new();
    let wrong = home.run(["worker", "--store", "redis://127.0.0.1:1", "--health", "here"]).exits(2);
    assert!(wrong.stderr.contains("PORT or ADDR:PORT"), "{wrong:#?}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let told = home.run(["worker", "--store", "redis://127.0.0.1:1", "--health", &address]).exits(1);
    assert!(told.stderr.contains("another process listens there") && told.stderr.contains("--health"), "{told:#?}");
}
