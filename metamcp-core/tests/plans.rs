//! Plans of several steps: proposed without a call, run when accepted, each step's result handed to the next.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so at once")]

use std::{sync::Arc, time::Duration};

use metamcp_core::{
    auth::Principal,
    engine::{EngineError, Orchestrator, PLAN_STEPS_MAX, Plan, Worker},
    id::ServerName,
    json::RawJson,
    queue::{CoreLimits, JobQuery, JobState, MemoryJobStore},
    task::{Need, Task},
    testing::scripted::{ScriptedTransport, Seen, Step},
    time::SystemClock,
};
use serde_json::{Value, json};

/// Longest wait for what is sure to happen.
const LONG: Duration = Duration::from_secs(60);

/// Two servers, one of people and one of accounts and letters, each with its own tools.
struct World {
    orchestrator: Orchestrator,
    people: ScriptedTransport,
    office: ScriptedTransport,
    who: Principal,
}

#[expect(clippy::needless_pass_by_value, reason = "it reads better where it is called")]
fn tool(name: &str, about: &str, takes: Value, gives: Option<Value>, only_reads: bool) -> Value {
    let object = |properties: &Value| {
        let required: Vec<&String> = properties.as_object().unwrap().keys().collect();
        json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
    };
    let mut definition = json!({
        "name": name, "description": about, "inputSchema": object(&takes), "annotations": { "readOnlyHint": only_reads },
    });
    if let Some(gives) = &gives {
        definition["outputSchema"] = object(gives);
    }
    definition
}

impl World {
    fn new() -> Self {
        let text = json!({ "type": "string" });
        let number = json!({ "type": "integer" });
        let name = |name| ServerName::new(name).unwrap();
        let people = ScriptedTransport::new(name("people"))
            .tool(tool(
                "find_person",
                "Looks up a person in the directory",
                json!({ "surname": text }),
                Some(json!({ "person_id": number, "email": text })),
                true,
            ))
            .tool(tool("read_page", "Downloads the text of a web page", json!({ "url": text }), None, true));
        let office = ScriptedTransport::new(name("office"))
            .tool(tool("close_account", "Closes an account for good", json!({ "person_id": number }), None, false))
            .tool(tool("translate", "Translates words to French", json!({ "text": text }), None, true))
            .tool(tool("send_letter", "Sends a letter by post", json!({ "address": text, "body": text }), None, false));
        let found = r#"{"content":[{"type":"text","text":"7"}],"structuredContent":{"person_id":7,"email":"a@b.c"}}"#;
        people.script("find_person", [Step::Raw(RawJson::parse(found).unwrap())]);
        people.script("read_page", [Step::Done("good day".to_owned())]);
        let orchestrator = Orchestrator::builder()
            .server(name("people"), Arc::new(people.clone()))
            .server(name("office"), Arc::new(office.clone()))
            .build();
        Self { orchestrator, people, office, who: Principal::local() }
    }

    fn worker(&self) -> Worker {
        self.orchestrator.worker(Default::default())
    }

    async fn plan(&self, words: &str, input: Value) -> Plan {
        let need = Need { input: input.into(), ..Need::new(words) };
        self.orchestrator.plan(&self.who, need).await.unwrap()
    }

    /// The calls of both servers, as `tool arguments`.
    fn calls(&self) -> Vec<String> {
        let seen = [self.people.seen(), self.office.seen()].concat();
        let call = |seen: &Seen| match seen {
            Seen::Call(call) => Some(format!("{} {}", call.tool, call.arguments.get())),
            _ => None,
        };
        seen.iter().filter_map(call).collect()
    }

    async fn jobs(&self) -> usize {
        self.orchestrator.list(&self.who, JobQuery::default()).await.unwrap().jobs.len()
    }
}

fn tools(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(|step| step.capability.to_string()).collect()
}

#[tokio::test]
async fn a_result_is_handed_over_where_schemas_fit() {
    let world = World::new();
    let words = "look up this person in the directory, then close the account for good";
    let plan = world.plan(words, json!({ "surname": "Abel" })).await;
    assert_eq!(tools(&plan), ["people/find_person", "office/close_account"], "{plan:#?}");
    assert!(plan.is_complete() && plan.unused.is_empty() && plan.score > 0.99, "{plan:#?}");
    let handed = plan.steps[1].input["person_id"].get();
    assert_eq!(handed, r#"{"$ref":"step://1#/structuredContent/person_id"}"#);
    // A proposal runs nothing.
    assert!(world.calls().is_empty() && world.jobs().await == 0);
    let worker = world.worker();
    let batch = world.orchestrator.run_plan(&world.who, &plan, None).await.unwrap();
    let state = world.orchestrator.wait_batch(&world.who, &batch.id, LONG).await.unwrap();
    assert_eq!(state.states.get(&JobState::Done), Some(&2), "{state:?}");
    assert_eq!(world.calls(), [r#"find_person {"surname":"Abel"}"#, r#"close_account {"person_id":7}"#]);
    worker.drain(LONG).await;
}

#[tokio::test]
async fn a_text_is_handed_over_when_it_can_mean_one_argument_only() {
    let world = World::new();
    let plan = world.plan("download the web page and then translate it to French", json!({ "url": "u" })).await;
    assert_eq!(tools(&plan), ["people/read_page", "office/translate"], "{plan:#?}");
    assert!(plan.is_complete());
    let worker = world.worker();
    let batch = world.orchestrator.run_plan(&world.who, &plan, None).await.unwrap();
    world.orchestrator.wait_batch(&world.who, &batch.id, LONG).await.unwrap();
    assert_eq!(world.calls(), [r#"read_page {"url":"u"}"#, r#"translate {"text":"good day"}"#]);
    worker.drain(LONG).await;
    // Of a letter it is either the address or the body: that is for the caller to say.
    let plan = world.plan("download the web page, then send a letter by post", json!({ "url": "u" })).await;
    assert_eq!(tools(&plan), ["people/read_page", "office/send_letter"], "{plan:#?}");
    let missing: Vec<_> = plan.missing.iter().map(|missing| (missing.step, missing.property.as_str())).collect();
    assert_eq!(missing, [(2, "address"), (2, "body")]);
    let with =
        world.plan("download the web page, then send a letter by post", json!({ "url": "u", "address": "a" })).await;
    assert!(with.is_complete() && with.steps[1].input["body"].get().contains("content/0/text"), "{with:#?}");
}

#[tokio::test]
async fn what_is_missing_is_fetched_by_a_tool_that_only_reads() {
    let world = World::new();
    // No word asks for the look-up, yet its tool gives what the other one needs.
    let plan = world.plan("close the account of this person for good", json!({ "surname": "Abel" })).await;
    assert_eq!(tools(&plan), ["people/find_person", "office/close_account"], "{plan:#?}");
    assert!(plan.is_complete() && plan.steps[0].reasons[0].contains("person_id"), "{plan:#?}");
    // Without what the look-up itself takes, it helps nobody.
    let plan = world.plan("close the account of this person for good", json!({})).await;
    assert_eq!(tools(&plan), ["office/close_account"]);
    assert_eq!(plan.missing[0].property, "person_id");
    assert_eq!(plan.missing[0].kind.as_deref(), Some("integer"));
}

#[tokio::test]
async fn one_tool_that_covers_the_need_is_one_step() {
    let world = World::new();
    let plan = world.plan("send a letter, and send it by post", json!({ "address": "a", "body": "b", "odd": 1 })).await;
    assert_eq!(tools(&plan), ["office/send_letter"]);
    assert_eq!((plan.is_complete(), plan.unused.as_slice()), (true, ["odd".to_owned()].as_slice()));
    // A comma alone makes no step of a word that says little.
    let plan = world.plan("send a letter by post, words, account", json!({ "address": "a", "body": "b" })).await;
    assert_eq!(tools(&plan), ["office/send_letter"], "{plan:#?}");
    let two =
        world.plan("look up a person in the directory and close the account for good", json!({ "surname": "A" })).await;
    assert_eq!(two.steps.len(), 2, "{two:#?}");
    for words in ["zzz", "zzz, and then qqq", "。，"] {
        let plan = world.plan(words, json!({})).await;
        assert!(plan.steps.is_empty() && !plan.is_complete(), "{plan:#?}");
    }
    let long =
        ["find a person", "close an account", "translate words", "send a letter", "download a page"].join(", then ");
    let error = world.orchestrator.plan(&world.who, Need::new(long)).await.unwrap_err();
    assert!(error.to_string().contains("over the bound of 4"), "{error}");
}

/// Whoever sends a plan back may have changed it: each step is looked at anew, and nothing runs when one is refused.
#[tokio::test]
async fn a_plan_that_was_changed_is_checked_as_if_it_were_new() {
    let world = World::new();
    let words = "look up this person in the directory, then close the account for good";
    let plan = world.plan(words, json!({ "surname": "Abel" })).await;
    let raw = |text: &str| RawJson::parse(text).unwrap();
    let other = world.plan("translate to French", json!({ "text": "x" })).await.steps[0].definition;
    type Change<'a> = (&'a str, &'a dyn Fn(&mut Plan));
    let changes: [Change<'_>; 9] = [
        ("has 1 to 4 steps", &|plan| plan.steps.clear()),
        ("has 1 to 4 steps", &|plan| plan.steps = vec![plan.steps[0].clone(); PLAN_STEPS_MAX + 1]),
        ("must name an earlier step", &|plan| plan.steps.swap(0, 1)),
        ("number of an earlier step", &|plan| {
            plan.steps[1].input.insert("person_id".to_owned(), raw(r#"{"$ref":"step://x"}"#));
        }),
        ("JSON pointer", &|plan| {
            plan.steps[1].input.insert("person_id".to_owned(), raw(r#"{"$ref":"step://1#x"}"#));
        }),
        ("must be of type string", &|plan| drop(plan.steps[0].input.insert("surname".to_owned(), raw("7")))),
        ("`person_id` is required", &|plan| plan.steps[1].input.clear()),
        ("has no tool", &|plan| plan.steps[1].capability = "office/nothing".parse().unwrap()),
        ("has changed", &|plan| plan.steps[1].definition = other),
    ];
    for (word, change) in changes {
        let mut changed = plan.clone();
        change(&mut changed);
        let error = world.orchestrator.run_plan(&world.who, &changed, None).await.unwrap_err();
        assert!(error.to_string().contains(word), "{word}: {error}");
    }
    let stranger = Principal::new("other".parse().unwrap(), "x");
    let mut taking = plan.clone();
    let theirs = world.orchestrator.run_plan(&stranger, &plan, None).await.unwrap().jobs().next().unwrap();
    taking.steps[0].input.insert("surname".to_owned(), raw(&format!(r#"{{"$ref":"task://{theirs}#/x"}}"#)));
    let error = world.orchestrator.run_plan(&world.who, &taking, None).await.unwrap_err();
    assert!(error.to_string().contains("name tasks of your own"), "{error}");
    assert!(world.calls().is_empty() && world.jobs().await == 0);
}

#[tokio::test]
async fn the_same_plan_with_the_same_key_is_one_batch() {
    let world = World::new();
    let words = "look up this person in the directory, then close the account for good";
    let plan = world.plan(words, json!({ "surname": "Abel" })).await;
    let first = world.orchestrator.run_plan(&world.who, &plan, Some("k")).await.unwrap();
    let again = world.orchestrator.run_plan(&world.who, &plan, Some("k")).await.unwrap();
    assert_eq!((first, world.jobs().await), (again, 2));
    let mut other = plan.clone();
    other.steps.truncate(1);
    let error = world.orchestrator.run_plan(&world.who, &other, Some("k")).await.unwrap_err();
    assert!(matches!(error, EngineError::BatchConflict { .. }), "{error}");
}

#[tokio::test]
async fn a_plan_that_found_no_room_is_run_when_it_is_repeated_with_its_key() {
    let mut world = World::new();
    let mut limits = CoreLimits::default();
    limits.lane_jobs_max = 2;
    let jobs = MemoryJobStore::with_limits(Arc::new(SystemClock::default()), limits);
    let name = |name| ServerName::new(name).unwrap();
    world.orchestrator = Orchestrator::builder()
        .jobs(Arc::new(jobs))
        .server(name("people"), Arc::new(world.people.clone()))
        .server(name("office"), Arc::new(world.office.clone()))
        .build();
    let words = "look up this person in the directory, then close the account for good";
    let plan = world.plan(words, json!({ "surname": "Abel" })).await;
    let page = Task::new("").with_tool("people/read_page".parse().unwrap()).with_input(json!({ "url": "u" }));
    let in_the_way = world.orchestrator.submit(&world.who, page).await.unwrap().job.head.id;
    for _ in 0..2 {
        let error = world.orchestrator.run_plan(&world.who, &plan, Some("k")).await.unwrap_err();
        assert!(matches!(error, EngineError::Full { .. }), "{error}");
    }
    world.orchestrator.cancel(&world.who, in_the_way, "out of the way").await.unwrap();
    let batch = world.orchestrator.run_plan(&world.who, &plan, Some("k")).await.unwrap();
    let again = world.orchestrator.run_plan(&world.who, &plan, Some("k")).await.unwrap();
    assert_eq!(batch, again);
    let worker = world.worker();
    let state = world.orchestrator.wait_batch(&world.who, &batch.id, LONG).await.unwrap();
    assert_eq!(state.states.get(&JobState::Done), Some(&2), "{state:?}");
    assert_eq!(world.calls(), [r#"find_person {"surname":"Abel"}"#, r#"close_account {"person_id":7}"#]);
    worker.drain(LONG).await;
}

/// An error of a tool is no input for the next one.
#[tokio::test]
async fn a_step_whose_tool_fails_ends_the_plan() {
    let world = World::new();
    world.people.script("read_page", [Step::ToolFails("no such page".to_owned())]);
    let plan = world.plan("download the web page and then translate it to French", json!({ "url": "u" })).await;
    let worker = world.worker();
    for (wanted, states) in
        [("good day", vec![JobState::Done, JobState::Done]), ("", vec![JobState::Done, JobState::Dead])]
    {
        let batch = world.orchestrator.run_plan(&world.who, &plan, None).await.unwrap();
        world.orchestrator.wait_batch(&world.who, &batch.id, LONG).await.unwrap();
        let mut found = Vec::new();
        for job in batch.jobs() {
            found.push(world.orchestrator.get(&world.who, job).await.unwrap().head);
        }
        assert_eq!(found.iter().map(|head| head.state).collect::<Vec<_>>(), states, "{wanted}");
    }
    assert_eq!(world.calls().iter().filter(|call| call.starts_with("translate")).count(), 1);
    worker.drain(LONG).await;
}
