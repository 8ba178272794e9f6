//! A replica that dies while it runs a call: the rules of the engine decide what becomes of the task.

use serde_json::{Value, json};

use crate::{client::Client, client::text, fleet::Fleet, until};

/// Waits for the end of a task whose replica was killed.
async fn ended(client: &Client, handle: &Value) -> Value {
    let asks = json!({ "taskId": handle["taskId"] });
    until("the task ends", async || {
        let told = client.result("tasks/get", asks.clone()).await;
        matches!(told["status"].as_str(), Some("completed" | "failed")).then_some(told)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_have_happened_is_told_and_not_done_again() {
    let mut fleet = Fleet::start().await;
    let client = Client::with_tasks(fleet.url());
    let never = fleet.home.path().join("never");
    let runs = client.at(fleet.replica(0));
    let handle = runs.call("old__note", json!({ "key": "once", "until": never })).await;
    assert_eq!(handle["resultType"], "task", "{handle}");
    fleet.replicas.remove(0).kill();
    let told = ended(&client, &handle).await;
    assert_eq!(
        (&told["status"], &told["error"]["data"]["code"]),
        (&"failed".into(), &"outcome_unknown".into()),
        "{told}"
    );
    assert_eq!(fleet.count("note", "once"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_reads_is_done_by_another_replica() {
    let mut fleet = Fleet::start().await;
    let client = Client::with_tasks(fleet.url());
    let gate = fleet.home.path().join("gate");
    let runs = client.at(fleet.replica(0));
    let handle = runs.call("new__look", json!({ "key": "again", "until": gate })).await;
    assert_eq!((&handle["resultType"], fleet.count("look", "again")), (&"task".into(), 1), "{handle}");
    fleet.replicas.remove(0).kill();
    fleet.home.file("gate", "");
    let told = ended(&client, &handle).await;
    assert_eq!((&told["status"], text(&told["result"])), (&"completed".into(), "look again"), "{told}");
    assert_eq!(fleet.count("look", "again"), 2);
}
