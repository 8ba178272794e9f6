//! A legacy session whose requests land on different replicas.

use serde_json::{Value, json};

use crate::{
    client::{Client, text},
    fleet::{Fleet, REPLICAS},
    until,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_one_wherever_its_requests_land() {
    let fleet = Fleet::start().await;
    let [one, two, three] = [0, 1, 2].map(|number| fleet.replica(number));
    let client = Client::legacy(one).await;
    assert!(client.at(two).tools().await.contains(&"old__note".to_owned()));
    client.at(three).result("logging/setLevel", json!({ "level": "error" })).await;
    let mut news = client.at(two).listen().await;
    let called = client.at(three).call("new__note", json!({ "key": "third" })).await;
    assert_eq!((text(&called), fleet.count("note", "third")), ("note third", 1));

    client.at(three).end().await;
    // Who has not seen the end learns of it within seconds, and ends the stream as well.
    for number in 0..REPLICAS {
        let here = client.at(fleet.replica(number));
        until("the session is over", async || (here.ping().await == 404).then_some(())).await;
    }
    assert_eq!(news.next().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_is_answered_through_another_replica() {
    let fleet = Fleet::start().await;
    for server in ["old", "new"] {
        let client = Client::legacy(fleet.url()).await;
        let call = json!({ "name": format!("{server}__ask"), "arguments": { "key": server } });
        let mut told = client.at(fleet.replica(0)).begin("tools/call", call).await;
        let question = told.next_with_id().await;
        assert_eq!(question["method"], "elicitation/create", "{question}");
        assert_eq!(question["params"]["message"], format!("[{server}] which?"));
        let answer = json!({ "action": "accept", "content": { "colour": "blue" } });
        client.at(fleet.replica(1)).send(json!({ "jsonrpc": "2.0", "id": question["id"], "result": answer })).await;
        let result = told.answer().await;
        assert_eq!(text(&result["result"]), format!("{server} blue"));
        assert_eq!(fleet.count("ask", server), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_taken_back_through_another_replica() {
    let fleet = Fleet::start().await;
    let client = Client::legacy(fleet.url()).await;
    let never = fleet.home.path().join("never");
    let id = client.next_id();
    let call = json!({ "name": "old__note", "arguments": { "key": "taken-back", "until": never } });
    let here = client.at(fleet.replica(0));
    let calling = tokio::spawn(async move { here.begin_as(id, "tools/call", call).await.next().await });
    fleet.begun("note", "taken-back").await;
    let cancelled = json!({ "requestId": id, "reason": "enough" });
    let notification = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": cancelled });
    client.at(fleet.replica(1)).send(notification).await;
    until("the server is told", async || (fleet.count("cancelled", "taken-back") == 1).then_some(())).await;
    let told = calling.await.expect("no panic");
    assert!(told.is_none_or(|told: Value| told.get("result").is_none()), "nothing came of it");
}
