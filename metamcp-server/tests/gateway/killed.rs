//! `kill -9` of a server while direct calls run in it that become tasks meanwhile, over and over on one data folder, and then the reckoning:
//! every task whose handle was told is there and ends, once, as its tool allows; what may have happened is not done again.
//!
//! `METAMCP_SEED` says at which moments.

use std::{collections::BTreeSet, time::Duration};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};

use crate::{
    client::{Client, text},
    fleet::ready,
    support::{Home, own},
    until,
    upstream::{self, Era},
};

/// Lives of the server before the last.
const KILLS: usize = 4;
/// Short leases, and none of them too many.
const SETTINGS: &str =
    "[jobs]\nlease_s = 3\nlost_max = 20\nbackoff_base_ms = 50\nbackoff_max_s = 1\n[gateway]\nupgrade_after_s = 1\n";
/// When the kill comes after the calls began, in milliseconds: around the moment when they become tasks.
const KILL_AFTER_MS: std::ops::Range<u64> = 900..1_200;
/// The tools of each life, each called once. `note` must not be repeated, `look` only reads.
const TOOLS: [&str; 4] = ["old__note", "old__look", "new__note", "new__look"];

/// One call that was made, and what was told of it.
struct Made {
    tool: &'static str,
    key: String,
    handle: Option<Value>,
}

/// Every task that the server has, by id.
async fn listed(url: &str) -> Vec<Value> {
    let page: Value =
        reqwest::get(format!("{url}/api/tasks?limit=200")).await.expect("it is there").json().await.expect("JSON");
    page["tasks"].as_array().expect("tasks").clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_became_tasks_survive_the_kill_of_their_server_and_happen_no_more_than_they_may() {
    let seed =
        std::env::var("METAMCP_SEED").map_or_else(|_| rand::rng().random(), |seed| seed.parse().expect("a number"));
    eprintln!("METAMCP_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let home = Home::new();
    upstream::config(&home, SETTINGS, &own("killed"), &[("old", Era::Legacy), ("new", Era::Modern)]);
    let gate = home.path().join("gate");
    let mut made: Vec<Made> = Vec::new();
    for life in 0..KILLS {
        let serve = upstream::serve(&home);
        ready(&serve.url, &["old__note", "new__note"]).await;
        let calls: Vec<_> = TOOLS
            .iter()
            .map(|tool| {
                let (client, key) = (Client::with_tasks(&serve.url), format!("{tool}-{life}"));
                let arguments = json!({ "key": key, "until": gate });
                tokio::spawn(async move { Made { tool, key, handle: client.try_call(tool, arguments).await } })
            })
            .collect();
        if life == 0 {
            // At least these are known to be tasks.
            for call in calls {
                made.push(call.await.expect("no panic"));
            }
            assert!(made.iter().all(|call| call.handle.is_some()));
            serve.kill();
        } else {
            tokio::time::sleep(Duration::from_millis(rng.random_range(KILL_AFTER_MS))).await;
            serve.kill();
            for call in calls {
                made.push(call.await.expect("no panic"));
            }
        }
    }
    home.file("gate", "");
    let serve = upstream::serve(&home);
    until("every task ends", async || {
        let is_over = |task: &Value| matches!(task["state"].as_str(), Some("completed" | "failed"));
        listed(&serve.url).await.iter().all(is_over).then_some(())
    })
    .await;
    let tasks = listed(&serve.url).await;
    assert!(tasks.len() <= made.len(), "{} calls made {} tasks", made.len(), tasks.len());
    let ids: BTreeSet<&str> = tasks.iter().filter_map(|task| task["id"].as_str()).collect();
    let client = Client::with_tasks(&serve.url);
    for Made { tool, key, handle } in &made {
        let own = tool.split("__").last().expect("a name");
        let count = upstream::count(&home, own, key);
        assert!(own == "look" || count <= 1, "{key} happened {count} times");
        let Some(handle) = handle else { continue };
        assert_eq!(handle["resultType"], "task", "{handle}");
        assert!(ids.contains(handle["taskId"].as_str().expect("an id")), "{key} is lost");
        let told = client.result("tasks/get", json!({ "taskId": handle["taskId"] })).await;
        if own == "note" {
            let end = (&told["status"], &told["error"]["data"]["code"], count);
            assert_eq!(end, (&json!("failed"), &json!("outcome_unknown"), 1), "{told}");
        } else {
            assert_eq!(
                (&told["status"], text(&told["result"])),
                (&json!("completed"), &*format!("look {key}")),
                "{told}"
            );
            assert!((2..=1 + KILLS).contains(&count), "{key} was looked up {count} times");
        }
    }
    let handles = made.iter().filter(|call| call.handle.is_some()).count();
    eprintln!("{} calls, {handles} handles told, {} tasks kept", made.len(), tasks.len());
}
