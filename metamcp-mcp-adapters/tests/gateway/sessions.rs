//! Legacy clients by the thousand: idle ones cost little, and those that come and go leave nothing behind.

use http::Method;
use metamcp_mcp_adapters::gateway::{GatewayService, HttpOptions};
use serde_json::{Value, json};

use super::raw::{Events, Legacy, gateway, records};

/// Most that one idle client may cost, in bytes.
const CLIENT_BYTES_MAX: usize = 20_000;
/// What allocators keep for themselves, in bytes.
const SLACK_BYTES: usize = 8 << 20;

/// Memory of this process that is in RAM, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4_096
}

async fn service() -> GatewayService {
    let mut options = HttpOptions::default();
    options.sessions_max = 20_000;
    GatewayService::new(gateway(&records()).await, options)
}

/// One client from its beginning to its end.
async fn visit(service: &GatewayService) {
    let client = Legacy::begin(service, "2025-11-25").await;
    let _stream = Events::of(client.get().send(service).await);
    client.request(1, "tools/call", &json!({ "name": "modern__echo", "arguments": {} })).send(service).await;
    assert!(client.raw(&Value::Null).method(Method::DELETE).send(service).await.status().is_success());
}

async fn come_and_go(times: usize) {
    let service = service().await;
    for _ in 0..times / 10 {
        visit(&service).await;
    }
    let before = resident();
    for _ in 0..times {
        visit(&service).await;
    }
    assert_eq!(service.sessions(), 0);
    let grown = resident().saturating_sub(before);
    // The end of each is told to the other replicas by a record of its own.
    let records = times * 512;
    assert!(grown < SLACK_BYTES + records, "{times} sessions left {grown} bytes behind");
}

async fn stay(clients: usize) {
    let service = service().await;
    visit(&service).await;
    let before = resident();
    let mut idle = Vec::with_capacity(clients);
    for _ in 0..clients {
        let client = Legacy::begin(&service, "2025-11-25").await;
        let mut stream = Events::of(client.get().send(&service).await);
        // The first event has come: the stream is as it will be for hours.
        assert!(stream.next().await.is_some());
        idle.push((client, stream));
    }
    let each = resident().saturating_sub(before).saturating_sub(SLACK_BYTES.min(clients * 1_000)) / clients;
    assert!(each <= CLIENT_BYTES_MAX, "an idle client costs {each} bytes");
    assert_eq!(service.sessions(), clients);
}

#[tokio::test]
async fn sessions_that_come_and_go_leave_nothing_behind() {
    come_and_go(200).await;
}

#[tokio::test]
async fn idle_clients_cost_little() {
    stay(200).await;
}

#[tokio::test]
#[ignore = "takes a minute"]
async fn ten_thousand_sessions_that_come_and_go_leave_nothing_behind() {
    come_and_go(10_000).await;
}

#[tokio::test]
#[ignore = "takes a minute"]
async fn a_thousand_idle_clients_cost_little() {
    stay(1_000).await;
}
