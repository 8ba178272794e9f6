//! The description of the API is kept as a golden file: every change to the outside shape shows in review.

use std::{fs, path::Path};

use metamcp_server::api::openapi_json;
use serde_json::Value;

const UPDATE: &str = "METAMCP_UPDATE_GOLDEN";

#[test]
fn the_description_is_the_golden_one() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    let made = openapi_json();
    if std::env::var_os(UPDATE).is_some() {
        fs::write(&golden, &made).unwrap();
    }
    let kept = fs::read_to_string(&golden).unwrap_or_default();
    assert!(
        kept == made,
        "the API has changed: look at the difference after {UPDATE}=1 cargo test -p metamcp-server --test openapi"
    );
}

#[test]
fn every_reference_leads_somewhere_and_every_operation_has_its_own_name() {
    let description: Value = serde_json::from_str(&openapi_json()).unwrap();
    assert_eq!(description["openapi"], "3.1.0");
    let mut open = vec![&description];
    let mut references = 0;
    while let Some(value) = open.pop() {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(reference)) = map.get("$ref") {
                    references += 1;
                    let pointer = reference.strip_prefix('#').unwrap();
                    assert!(description.pointer(pointer).is_some(), "{reference} leads nowhere");
                }
                open.extend(map.values());
            }
            Value::Array(items) => open.extend(items),
            _ => (),
        }
    }
    assert!(references > 20);
    let paths = description["paths"].as_object().unwrap();
    let operations: Vec<_> = paths.values().flat_map(|item| item.as_object().unwrap().values()).collect();
    let mut names: Vec<_> = operations.iter().map(|operation| operation["operationId"].as_str().unwrap()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), operations.len());
    assert!(operations.iter().all(|operation| operation["summary"].is_string()));
    for path in [
        "/",
        "/livez",
        "/readyz",
        "/api/tasks",
        "/api/tasks/create",
        "/api/plans",
        "/api/plans/run",
        "/api/tasks/{id}",
        "/api/tasks/{id}/cancel",
        "/api/tasks/{id}/retry",
        "/api/tasks/{id}/answer",
        "/api/tasks/{id}/explain",
        "/api/batches/create",
        "/api/batches/{id}",
        "/api/batches/{id}/cancel",
        "/api/schedules",
        "/api/schedules/{name}",
        "/api/schedules/{name}/pause",
        "/api/schedules/{name}/resume",
        "/api/schedules/{name}/fire",
        "/api/queues",
        "/api/queues/{lane}/pause",
        "/api/queues/{lane}/resume",
        "/api/results/{pointer}",
        "/api/servers",
        "/api/tools",
        "/api/route",
        "/api/history",
        "/api/events",
        "/api/events/ws",
    ] {
        assert!(paths.contains_key(path), "{path}");
    }
    assert_eq!(paths.len(), 30);
}
