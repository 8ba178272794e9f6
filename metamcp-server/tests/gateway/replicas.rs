//! One call is one execution, whichever replica its client meets, in both eras: plain calls, calls with a key, calls that become tasks.

use std::collections::BTreeSet;

use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use crate::{
    client::{Client, text},
    fleet::{Fleet, REPLICAS},
    until, upstream,
};

/// Plain calls of the test.
const CALLS: usize = 60;
/// So many at a time.
const AT_A_TIME: usize = 8;

/// The key of a client that makes calls with the same one be one call.
fn keyed(tool: &str, arguments: &Value, key: &str) -> Value {
    json!({ "name": tool, "arguments": arguments, "_meta": { "io.github.metamcp/idempotencyKey": key } })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_call_is_made_once_on_whatever_replica() {
    let fleet = Fleet::start().await;
    let clients = [Client::modern(fleet.url()), Client::legacy(fleet.url()).await];
    let calls = (0..CALLS).map(async |number| {
        let (client, server) = (&clients[number % 2], if number % 4 < 2 { "old" } else { "new" });
        let key = format!("plain{number}");
        let result = client.call(&format!("{server}__note"), json!({ "key": key })).await;
        assert_eq!(text(&result), format!("note {key}"));
    });
    stream::iter(calls).buffer_unordered(AT_A_TIME).collect::<Vec<()>>().await;
    let mut replicas = BTreeSet::new();
    for number in 0..CALLS {
        let done = upstream::who(&fleet.home, "note", &format!("plain{number}"));
        assert_eq!(done.len(), 1, "call {number}: {done:?}");
        replicas.extend(done);
    }
    assert_eq!(replicas.len(), 2 * REPLICAS, "every replica's servers were called");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_with_one_key_are_one_call_on_whatever_replica() {
    let fleet = Fleet::start().await;
    let clients = [Client::modern(fleet.url()), Client::legacy(fleet.url()).await, Client::with_tasks(fleet.url())];
    // Side by side, as by clients that try again too early, and once more when all is over.
    for round in 0..2 {
        let calls = (0..9).map(async |number: usize| {
            let call = keyed("old__note", &json!({ "key": "keyed" }), "k");
            let result = clients[number % clients.len()].result("tools/call", call).await;
            assert_eq!(text(&result), "note keyed", "round {round}");
        });
        stream::iter(calls).buffer_unordered(9).collect::<Vec<()>>().await;
    }
    assert_eq!(fleet.count("note", "keyed"), 1);
    let other = clients[0].result("tools/call", keyed("old__note", &json!({ "key": "keyed" }), "another")).await;
    assert_eq!((text(&other), fleet.count("note", "keyed")), ("note keyed", 2));
    // The key is of one call: another call under it is refused and not made.
    let strange = clients[1].result("tools/call", keyed("old__note", &json!({ "key": "strange" }), "k")).await;
    assert_eq!((&strange["isError"], fleet.count("note", "strange")), (&true.into(), 0), "{strange}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_became_a_task_is_told_by_every_replica() {
    let fleet = Fleet::start().await;
    let client = Client::with_tasks(fleet.url());
    let gate = fleet.home.path().join("gate");
    for server in ["old", "new"] {
        let arguments = json!({ "key": server, "until": gate });
        let handle = client.call(&format!("{server}__note"), arguments).await;
        assert_eq!((&handle["resultType"], &handle["status"]), (&"task".into(), &"working".into()), "{handle}");
        let asks = json!({ "taskId": handle["taskId"] });
        for number in 0..REPLICAS {
            let told = client.at(fleet.replica(number)).result("tasks/get", asks.clone()).await;
            assert_eq!(told["status"], "working", "replica {number}: {told}");
        }
        fleet.home.file("gate", "");
        until("the task ends", async || {
            (client.result("tasks/get", asks.clone()).await["status"] == "completed").then_some(())
        })
        .await;
        for number in 0..REPLICAS {
            let told = client.at(fleet.replica(number)).result("tasks/get", asks.clone()).await;
            assert_eq!(text(&told["result"]), format!("note {server}"), "replica {number}: {told}");
        }
        assert_eq!(fleet.count("note", server), 1);
        std::fs::remove_file(&gate).expect("it is there");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_follows_its_task_on_another_replica_is_told_until_it_ends() {
    let fleet = Fleet::start().await;
    let client = Client::with_tasks(fleet.replica(0));
    let gate = fleet.home.path().join("gate");
    let handle = client.call("old__note", json!({ "key": "followed", "until": gate })).await;
    let (task, strange) = (&handle["taskId"], "01890000-0000-7000-8000-000000000000");
    let filter = json!({ "notifications": { "taskIds": [task, strange, "no id"] } });
    let mut news = client.at(fleet.replica(1)).begin("subscriptions/listen", filter).await;
    let first = news.next().await.expect("an acknowledgement");
    assert_eq!(first["params"]["notifications"]["taskIds"], json!([task]), "{first}");
    let told = news.next().await.expect("the task as it stands");
    assert_eq!((&told["method"], &told["params"]["taskId"]), (&"notifications/tasks".into(), task), "{told}");
    assert_eq!(told["params"]["status"], "working");
    fleet.home.file("gate", "");
    let last = loop {
        let told = news.next().await.expect("the end of the task");
        if told["params"]["status"] != "working" {
            break told;
        }
    };
    assert_eq!((&last["params"]["status"], text(&last["params"]["result"])), (&"completed".into(), "note followed"));
    assert!(last["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"].is_number(), "{last}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_is_cancelled_through_another_replica_than_runs_it() {
    let fleet = Fleet::start().await;
    let client = Client::with_tasks(fleet.replica(0));
    let never = fleet.home.path().join("never");
    let handle = client.call("old__note", json!({ "key": "unwanted", "until": never })).await;
    let asks = json!({ "taskId": handle["taskId"] });
    client.at(fleet.replica(1)).result("tasks/cancel", asks.clone()).await;
    until("the server is told", async || (fleet.count("cancelled", "unwanted") == 1).then_some(())).await;
    let third = client.at(fleet.replica(2));
    until("the task is cancelled", async || {
        (third.result("tasks/get", asks.clone()).await["status"] == "cancelled").then_some(())
    })
    .await;
    assert_eq!(fleet.count("note", "unwanted"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_legacy_clients_task_is_told_by_every_replica() {
    let fleet = Fleet::start().await;
    let client = Client::legacy(fleet.url()).await;
    let gate = fleet.home.path().join("gate");
    let new = json!({ "tool": "new__note", "arguments": { "key": "submitted", "until": gate } });
    let submitted = client.call("task_submit", new).await;
    let id = &submitted["structuredContent"]["task_id"];
    assert!(id.is_string(), "{submitted}");
    fleet.begun("note", "submitted").await;
    for number in 0..REPLICAS {
        let told = client.at(fleet.replica(number)).call("task_status", json!({ "task_id": id })).await;
        assert_eq!(told["structuredContent"]["status"], "working", "replica {number}: {told}");
    }
    fleet.home.file("gate", "");
    until("the task ends", async || {
        let told = client.call("task_result", json!({ "task_id": id, "wait_s": 1 })).await;
        (text(&told) == "note submitted").then_some(())
    })
    .await;
    assert_eq!(fleet.count("note", "submitted"), 1);
}

/// Answers the one question of an `input_required` result.
fn answered(asked: &Value, tool: &str, arguments: &Value) -> Value {
    assert_eq!(asked["resultType"], "input_required", "{asked}");
    let (question, _) = asked["inputRequests"].as_object().expect("questions").iter().next().expect("a question");
    let answers = json!({ question: { "action": "accept", "content": { "colour": "green" } } });
    json!({ "name": tool, "arguments": arguments, "inputResponses": answers, "requestState": asked["requestState"] })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_to_a_modern_servers_question_lands_on_another_replica() {
    let fleet = Fleet::start().await;
    let modern = Client::modern(fleet.replica(0));
    let arguments = json!({ "key": "both-modern" });
    let asked = modern.call("new__ask", arguments.clone()).await;
    let retry = answered(&asked, "new__ask", &arguments);
    let result = modern.at(fleet.replica(1)).result("tools/call", retry).await;
    assert_eq!(text(&result), "both-modern green");
    assert_eq!(fleet.count("ask", "both-modern"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_to_a_parked_question_goes_on_where_it_waits() {
    let fleet = Fleet::start().await;
    let modern = Client::modern(fleet.replica(0));
    let arguments = json!({ "key": "parked" });
    let asked = modern.call("old__ask", arguments.clone()).await;
    let retry = answered(&asked, "old__ask", &arguments);
    let result = modern.at(fleet.replica(0)).result("tools/call", retry.clone()).await;
    assert_eq!(text(&result), "parked green");
    // Where nothing waits any more, nothing is done, and that is said.
    let strange = modern.at(fleet.replica(1)).result("tools/call", retry).await;
    assert!(strange["isError"] == true && text(&strange).contains("gone"), "{strange}");
    assert_eq!(fleet.count("ask", "parked"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_to_a_parked_question_that_lands_elsewhere_is_handed_to_where_it_waits() {
    let fleet = Fleet::start().await;
    let modern = Client::modern(fleet.replica(0));
    for (number, other) in [1, 2, 1].into_iter().enumerate() {
        let arguments = json!({ "key": format!("handed{number}") });
        let asked = modern.call("old__ask", arguments.clone()).await;
        let retry = answered(&asked, "old__ask", &arguments);
        let result = modern.at(fleet.replica(other)).result("tools/call", retry.clone()).await;
        assert_eq!(text(&result), format!("handed{number} green"));
        let again = modern.at(fleet.replica(other)).result("tools/call", retry).await;
        assert!(again["isError"] == true && text(&again).contains("gone"), "{again}");
        assert_eq!(fleet.count("ask", &format!("handed{number}")), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_whose_question_died_with_its_replica_is_told_and_nothing_is_done() {
    let mut fleet = Fleet::start().await;
    let modern = Client::modern(fleet.replica(0));
    let arguments = json!({ "key": "orphan" });
    let asked = modern.call("old__ask", arguments.clone()).await;
    let retry = answered(&asked, "old__ask", &arguments);
    let other = modern.at(fleet.replica(1));
    fleet.replicas.remove(0).kill();
    let told = other.result("tools/call", retry).await;
    assert!(told["isError"] == true && text(&told).contains("gone"), "{told}");
    assert_eq!(fleet.count("ask", "orphan"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_asks_goes_on_whichever_worker_has_the_answer() {
    let fleet = Fleet::start().await;
    let client = Client::with_tasks(fleet.url());
    // Any of three workers may lease each of them before and after the answer: that all meet the same process twice is unlikely. One after
    // the other: what a legacy server asks while several calls are under way is for none of them.
    for number in 0..4 {
        let new = json!({ "tool": "old__ask", "arguments": { "key": format!("task{number}") } });
        let id = &client.call("task_submit", new).await["structuredContent"]["task_id"];
        let asks = json!({ "taskId": id });
        let asked = until("the task asks", async || {
            let told = client.result("tasks/get", asks.clone()).await;
            (told["status"] == "input_required").then_some(told)
        })
        .await;
        let (question, _) = asked["inputRequests"].as_object().expect("questions").iter().next().expect("a question");
        let answers = json!({ question: { "action": "accept", "content": { "colour": "green" } } });
        client.result("tasks/update", json!({ "taskId": id, "inputResponses": answers })).await;
        let told = until("the task ends", async || {
            let told = client.result("tasks/get", asks.clone()).await;
            (told["status"] != "working").then_some(told)
        })
        .await;
        assert_eq!(text(&told["result"]), format!("task{number} green"), "{told}");
        assert_eq!(fleet.count("ask", &format!("task{number}")), 1);
    }
}
