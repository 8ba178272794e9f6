//! The accept loop: protocols, places for connections, silent clients, and the drain.

use std::time::Duration;

use metamcp_core::testing::scripted::Step;
use metamcp_server::api::doc::TaskState;
use reqwest::{Client, Version};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::house::{House, PATIENCE, bounded};

#[tokio::test]
async fn both_versions_of_http_are_spoken() {
    let house = House::open().await;
    let first = house.get("/livez").send().await.unwrap();
    assert_eq!((first.version(), first.status().as_u16()), (Version::HTTP_11, 200));
    let client = Client::builder().http2_prior_knowledge().timeout(PATIENCE).no_proxy().build().unwrap();
    let second = client.get(house.url("/livez")).send().await.unwrap();
    assert_eq!((second.version(), second.status().as_u16()), (Version::HTTP_2, 200));
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_for_a_place() {
    let house = House::with(|plan| plan.serve.connections_max = 1).await;
    let request = format!("GET /livez HTTP/1.1\r\nhost: {}\r\n\r\n", house.address);
    let mut first = TcpStream::connect(house.address).await.unwrap();
    first.write_all(request.as_bytes()).await.unwrap();
    let mut byte = [0];
    bounded("the first answer", first.read_exact(&mut byte)).await.unwrap();

    let mut second = TcpStream::connect(house.address).await.unwrap();
    second.write_all(request.as_bytes()).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(100), second.read_exact(&mut byte)).await;
    assert!(early.is_err(), "the second is not served beside the first");
    drop(first);
    bounded("the second answer", second.read_exact(&mut byte)).await.unwrap();
}

#[tokio::test]
async fn clients_that_do_not_ask_in_time_are_closed() {
    let house = House::with(|plan| plan.serve.header_read = Duration::from_millis(80)).await;
    for silence in ["", "P", "PRI * HTTP/2.0\r\n", "GET /livez HTTP/1.1\r\nhost: local"] {
        let answer = house.raw(silence).await;
        assert!(!answer.contains(" 200 "), "{silence:?}: {answer}");
    }
    assert_eq!(house.get("/livez").send().await.unwrap().status(), 200, "others are served");
}

#[tokio::test]
async fn a_drain_answers_what_was_begun_and_accepts_nothing_new() {
    let house = House::open().await;
    // The head of a request is there, its body is not: the answer is owed.
    let body = json!({ "tool": "local/echo" }).to_string();
    let mut begun = TcpStream::connect(house.address).await.unwrap();
    let head = format!(
        "POST /api/tasks HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         expect: 100-continue\r\n\r\n",
        house.address,
        body.len()
    );
    begun.write_all(head.as_bytes()).await.unwrap();
    let mut told = [0; 25];
    bounded("the continue", begun.read_exact(&mut told)).await.unwrap();
    assert_eq!(std::str::from_utf8(&told).unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
    house.begin_stop();
    bounded("the drain", house.drain.cancelled()).await;
    assert!(TcpStream::connect(house.address).await.is_err(), "nothing new is accepted");

    begun.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    bounded("the answer", begun.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    assert_eq!(house.stop().await.cut, 0);
}

#[tokio::test]
async fn what_outlives_the_grace_is_cut() {
    let house = House::with(|plan| plan.serve.grace = Duration::from_millis(50)).await;
    house.desk.standing(Step::Hang);
    let job = house.submit(json!({ "tool": "desk/hold" })).await;
    house.task_when(&job, |now| now.state == TaskState::Working).await;
    let mut stuck = TcpStream::connect(house.address).await.unwrap();
    let head = format!(
        "POST /api/tasks HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\
         expect: 100-continue\r\n\r\n",
        house.address
    );
    stuck.write_all(head.as_bytes()).await.unwrap();
    let mut told = [0; 25];
    bounded("the continue", stuck.read_exact(&mut told)).await.unwrap();
    assert_eq!(house.stop().await.cut, 1);
    let mut rest = Vec::new();
    let _ = bounded("the end", stuck.read_to_end(&mut rest)).await;
    assert_eq!(rest, b"", "it was cut, not answered");
}
