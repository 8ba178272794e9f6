//! Servers that can do the same, and tenants that may not use all of them: through the whole engine.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so at once")]

use std::{sync::Arc, time::Duration};

use metamcp_core::{
    auth::Principal,
    engine::{EngineError, Orchestrator, Policy, ServerEntry, WorkerOptions},
    id::{ServerName, TenantId},
    json::RawJson,
    matching::{GroupTool, Reason, ServerTerms},
    queue::JobState,
    task::{Need, Task},
    testing::scripted::{ScriptedTransport, Seen},
};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Longest anything here may take.
const PATIENCE: Duration = Duration::from_secs(30);

fn name(name: &str) -> ServerName {
    ServerName::new(name).unwrap()
}

fn of_tenant(tenant: &str) -> Principal {
    Principal::new(TenantId::new(tenant).unwrap(), "somebody")
}

fn engine(servers: impl IntoIterator<Item = (ScriptedTransport, &'static str, ServerTerms)>) -> Orchestrator {
    let mut policy = Policy::default();
    policy.backoff_base = Duration::from_millis(5);
    let entries = servers.into_iter().map(|(server, called, terms)| ServerEntry {
        name: name(called),
        terms,
        connector: Arc::new(server),
    });
    Orchestrator::builder().policy(policy).servers(entries).build()
}

/// Two servers that do the same by tools of other names and words.
fn twins() -> (ScriptedTransport, ScriptedTransport, Orchestrator) {
    let one = ScriptedTransport::new(name("one")).simple_tool("weather", "forecast of the weather", true);
    let other = ScriptedTransport::new(name("other")).simple_tool("sky", "meteorology service", true);
    let group = ServerTerms { equivalent: Some("sky".to_owned()), ..ServerTerms::default() };
    let aliased =
        ServerTerms { equivalent_tools: [("sky".to_owned(), GroupTool::named("weather"))].into(), ..group.clone() };
    let engine = engine([(one.clone(), "one", group), (other.clone(), "other", aliased)]);
    (one, other, engine)
}

#[tokio::test]
async fn a_declared_equivalent_is_in_the_route_though_no_word_names_it_and_serves_when_the_first_is_down() {
    let (one, other, engine) = twins();
    let who = Principal::local();
    let route = engine.route(&who, Need::new("weather forecast")).await.unwrap();
    let mut tools: Vec<String> = route.candidates.iter().map(|c| c.capability.to_string()).collect();
    tools.sort_unstable();
    assert_eq!(tools, ["one/weather", "other/sky"]);
    for candidate in &route.candidates {
        assert_eq!(candidate.group.as_deref(), Some("sky/weather"));
        assert!(candidate.reasons.iter().any(|reason| matches!(reason, Reason::Health { .. })), "{candidate:?}");
    }
    // The one that every task is sent to first is lost: it answers nothing more and cannot be connected to.
    one.refuse_connects(u32::MAX);
    let connected = engine.transport(&name("one")).await.unwrap();
    connected.close().await;
    let worker = engine.worker(WorkerOptions::default());
    for _ in 0..8 {
        let job = engine.submit(&who, Task::new("weather forecast")).await.unwrap().job;
        let job = engine.wait(&who, job.head.id, PATIENCE).await.unwrap();
        assert_eq!(job.head.state, JobState::Done, "{job:?}");
    }
    assert_eq!((one.calls("weather"), other.calls("sky")), (0, 8));
    let route = engine.route(&who, Need::new("weather forecast")).await.unwrap();
    assert_eq!(route.candidates[0].capability.to_string(), "other/sky");
    let up = |at: usize| route.candidates[at].reasons.iter().any(|r| matches!(r, Reason::Health { up: true, .. }));
    assert!(up(0) && !up(1), "{route:?}");
    worker.drain(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_declared_equivalent_with_other_arguments_is_called_with_its_own() {
    let schema = |name: &str, more: Value| {
        let properties = json!({ name: { "type": "string" }, "days": more });
        json!({ "type": "object", "properties": properties, "required": [name], "additionalProperties": false })
    };
    let one =
        json!({ "name": "weather", "description": "weather forecast", "inputSchema": schema("city", json!(true)) });
    let sky = json!({ "name": "sky", "description": "meteorology", "inputSchema": schema("place", json!(false)) });
    let one = ScriptedTransport::new(name("one")).tool(one);
    let other = ScriptedTransport::new(name("other")).tool(sky);
    let group = ServerTerms { equivalent: Some("sky".to_owned()), ..ServerTerms::default() };
    let declared = GroupTool::named("weather").with_arguments([("place".to_owned(), json!("city {city}"))]).unwrap();
    let aliased = ServerTerms { equivalent_tools: [("sky".to_owned(), declared)].into(), ..group.clone() };
    let engine = engine([(one.clone(), "one", group), (other.clone(), "other", aliased)]);
    let who = Principal::local();
    let route = async |input: Value| {
        let need = Need { input: input.into(), ..Need::new("weather forecast") };
        let route = engine.route(&who, need).await.unwrap();
        let mut tools: Vec<String> = route.candidates.iter().map(|c| c.capability.to_string()).collect();
        tools.sort_unstable();
        (tools, route.rejected)
    };
    assert_eq!(route(json!({ "city": "Rome" })).await.0, ["one/weather", "other/sky"]);
    let (tools, rejected) = route(json!({ "city": "Rome", "days": 3 })).await;
    assert_eq!((tools, rejected.len()), (vec!["one/weather".to_owned()], 1), "{rejected:?}");
    assert!(rejected[0].reason.contains("`days` has no place"), "{rejected:?}");

    one.refuse_connects(u32::MAX);
    engine.transport(&name("one")).await.unwrap().close().await;
    let worker = engine.worker(WorkerOptions::default());
    let done = async |task: Task| {
        let job = engine.submit(&who, task).await.unwrap().job;
        let job = engine.wait(&who, job.head.id, PATIENCE).await.unwrap();
        assert_eq!(job.head.state, JobState::Done, "{job:?}");
        job.head.id
    };
    let first = done(Task::new("weather forecast").with_input(json!({ "city": "Rome" }))).await;
    let taken = json!({ "city": { "$ref": format!("task://{first}#/content/0/text") } });
    done(Task::new("weather forecast").with_input(taken)).await;
    let named = Task::default().with_tool("other/sky".parse().unwrap());
    done(named.with_input(json!({ "place": "here" }))).await;
    let sent: Vec<Value> = other
        .seen()
        .into_iter()
        .filter_map(|seen| if let Seen::Call(call) = seen { call.arguments.view().ok() } else { None })
        .collect();
    assert_eq!(sent.len(), 3, "{sent:?}");
    assert_eq!(sent[0], json!({ "place": "city Rome" }));
    assert!(sent[1]["place"].as_str().unwrap().starts_with("city "), "{sent:?}");
    assert_eq!(sent[2], json!({ "place": "here" }));
    worker.drain(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_task_that_names_its_tool_keeps_to_it() {
    let (_one, _other, engine) = twins();
    let need = Need { tool: Some("one/weather".parse().unwrap()), ..Need::default() };
    let route = engine.route(&Principal::local(), need).await.unwrap();
    assert_eq!(route.candidates.len(), 1);
}

/// Servers with a tool each, all found by the same word; the names of those that are not for all say for whom they are.
fn of_tenants(terms: &[Option<Vec<u8>>], grouped: bool) -> Orchestrator {
    let mut builder = Orchestrator::builder();
    for (n, tenants) in terms.iter().enumerate() {
        let called = name(&format!("server{n}"));
        let server =
            ScriptedTransport::new(called.clone()).simple_tool(&format!("weather{n}"), "weather forecast", true);
        let tenants =
            tenants.as_ref().map(|t| t.iter().map(|t| TenantId::new(format!("tenant{t}")).unwrap()).collect());
        let terms = ServerTerms {
            tenants,
            equivalent: grouped.then(|| "sky".to_owned()),
            equivalent_tools: [(format!("weather{n}"), GroupTool::named("weather"))].into(),
            ..ServerTerms::default()
        };
        builder = builder.servers([ServerEntry { name: called, terms, connector: Arc::new(server) }]);
    }
    builder.build()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_a_tenant_may_not_use_is_in_no_route_no_reason_and_no_count(
        terms in prop::collection::vec(prop::option::of(prop::collection::vec(0..3_u8, 0..3)), 1..6),
        grouped: bool,
        me in 0..4_u8,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let engine = of_tenants(&terms, grouped);
            let who = of_tenant(&format!("tenant{me}"));
            let admitted = |n: usize| terms[n].as_ref().is_none_or(|tenants| tenants.contains(&me));
            let count = (0..terms.len()).filter(|n| admitted(*n)).count();
            let tools = engine.tools_for(&who).await;
            assert_eq!((tools.capabilities().len(), engine.servers_for(&who).len()), (count, count));
            let route = engine.route(&who, Need::new("weather forecast")).await.unwrap();
            assert_eq!(route.candidates.len(), count);
            let unfit = Need { lane: Some(metamcp_core::id::Lane::heavy()), ..Need::new("weather forecast") };
            let unfit = engine.route(&who, unfit).await.unwrap();
            assert_eq!((unfit.candidates.len(), unfit.rejected.len()), (0, count));
            let refused = |result: Result<_, EngineError>| match result { Ok(_) => String::new(), Err(e) => e.to_string() };
            let nothing = refused(engine.submit(&who, Task::new("zzz qqq")).await.map(|_| ()));
            for n in (0..terms.len()).filter(|n| !admitted(*n)) {
                let hidden = format!("server{n}");
                let said = format!("{route:?}{unfit:?}{nothing}{:?}", engine.servers_for(&who));
                assert!(!said.contains(&hidden), "{hidden} in {said}");
                // Named, it answers as one that is not there at all does.
                let named = |server: &str| Task::default().with_tool(format!("{server}/weather{n}").parse().unwrap());
                let hidden_says = refused(engine.submit(&who, named(&hidden)).await.map(|_| ()));
                let absent_says = refused(engine.submit(&who, named("nobody")).await.map(|_| ()));
                assert_eq!(hidden_says.replace(&hidden, "nobody"), absent_says);
                let id = format!("{hidden}/weather{n}").parse().unwrap();
                let adopted = engine.adopt(&who, &id, RawJson::empty_object()).await;
                assert!(matches!(adopted, Err(EngineError::NotFound { .. })));
            }
        });
    }
}
