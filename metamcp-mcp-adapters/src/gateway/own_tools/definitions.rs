//! The definitions of our own tools, as lists show them.

use metamcp_core::{json::RawJson, task::Limits};
use serde_json::{Value, json};

use super::OwnTool;
use crate::gateway::options::ListMode;

/// Those that a list of this mode shows. An agent that searches sees three; what it is told names the others, which `call_tool` calls.
pub(crate) fn definitions(mode: ListMode) -> Vec<RawJson> {
    let find = [OwnTool::FindTools, OwnTool::CallTool, OwnTool::RunTask];
    let tasks = [OwnTool::TaskSubmit, OwnTool::TaskStatus, OwnTool::TaskResult, OwnTool::TaskCancel];
    let shown: Vec<OwnTool> = match mode {
        ListMode::Full => tasks.to_vec(),
        ListMode::Search => find.to_vec(),
        ListMode::Both => [find.as_slice(), &tasks].concat(),
    };
    shown.into_iter().map(|own| definition(own).into()).collect()
}

fn definition(own: OwnTool) -> Value {
    let (title, description, input, output, reads) = match own {
        OwnTool::FindTools => (
            "Find tools",
            "Finds the tools that fit a need, best first, each with its score, the reason and its input schema. Call one with call_tool.",
            object(
                json!({
                    "need": { "type": "string", "description": "What is to be done, in words", "minLength": 1 },
                    "max": { "type": "integer", "minimum": 1, "maximum": super::find::FOUND_MAX, "default": super::find::FOUND_DEFAULT }
                }),
                &["need"],
            ),
            Some(object(
                json!({ "tools": { "type": "array", "items": object(
                    json!({
                        "name": { "type": "string" },
                        "description": { "type": "string" },
                        "score": { "type": "number" },
                        "reason": { "type": "string" },
                        "inputSchema": { "type": "object" }
                    }),
                    &["name", "description", "score", "reason"],
                ) } }),
                &["tools"],
            )),
            true,
        ),
        OwnTool::CallTool => (
            "Call a tool",
            "Calls a tool by its name, such as find_tools tells it. The result is that tool's own.",
            object(
                json!({
                    "name": { "type": "string", "description": "The tool's name" },
                    "arguments": { "type": "object", "description": "Its arguments, by its input schema. {\"$ref\": \"res://…\"} stands for a kept result" }
                }),
                &["name"],
            ),
            None,
            false,
        ),
        OwnTool::RunTask => (
            "Run a task",
            "Serves a need stated in words with the tool that fits it best. Waits for the result; a task that takes longer goes on, and task_result brings its result (by call_tool, where it is not listed).",
            object(
                json!({
                    "need": { "type": "string", "description": "What is to be done, in words", "minLength": 1 },
                    "input": { "type": "object", "description": "The arguments, as far as they are known" },
                    "wait_s": wait()
                }),
                &["need"],
            ),
            None,
            false,
        ),
        OwnTool::TaskSubmit => (
            "Submit a task",
            "Starts a tool, or serves a need in words, as a durable task and answers at once with its id. task_result brings the result.",
            object(
                json!({
                    "tool": { "type": "string", "description": "The tool's name; leave it out to have one chosen for `need`" },
                    "need": { "type": "string", "description": "What is to be done, in words" },
                    "arguments": { "type": "object", "description": "The tool's arguments. {\"$ref\": \"task://<task_id>\"} stands for another task's result" },
                    "idempotency_key": { "type": "string", "description": "The same key with the same request is the same task", "minLength": 1, "maxLength": Limits::default().idempotency_key_bytes_max },
                    "deadline_s": { "type": "integer", "minimum": 1, "description": "Give up after this many seconds" }
                }),
                &[],
            ),
            Some(task_form()),
            false,
        ),
        OwnTool::TaskStatus => (
            "Status of a task",
            "Tells how a task stands.",
            object(json!({ "task_id": task_id() }), &["task_id"]),
            Some(task_form()),
            true,
        ),
        OwnTool::TaskResult => (
            "Result of a task",
            "Waits for a task and answers with its result, or with a part of it: lines, bytes, or the value at a JSON pointer.",
            object(
                json!({
                    "task_id": task_id(),
                    "wait_s": wait(),
                    "pointer": { "type": "string", "description": "A JSON pointer into the result, such as /content/0/text" },
                    "lines": { "type": "string", "description": "Such as 1-50, both ends counted" },
                    "bytes": { "type": "string", "description": "Such as 0-1023, both ends counted" }
                }),
                &["task_id"],
            ),
            None,
            true,
        ),
        OwnTool::TaskCancel => (
            "Cancel a task",
            "Asks a task to stop. What it has done already is not undone.",
            object(json!({ "task_id": task_id(), "reason": { "type": "string" } }), &["task_id"]),
            Some(task_form()),
            false,
        ),
    };
    // What a tool does that another one is called by is not known; asking after a task changes nothing.
    let annotations = match own {
        OwnTool::TaskCancel => {
            json!({ "readOnlyHint": false, "destructiveHint": true, "idempotentHint": true, "openWorldHint": false })
        }
        _ if reads => json!({ "readOnlyHint": true, "openWorldHint": false }),
        _ => json!({ "readOnlyHint": false, "destructiveHint": true, "openWorldHint": true }),
    };
    let mut definition = json!({
        "name": own.name(), "title": title, "description": description, "inputSchema": input, "annotations": annotations,
    });
    if let Some(output) = output {
        definition["outputSchema"] = output;
    }
    definition
}

fn object(properties: Value, required: &[&str]) -> Value {
    let mut object = json!({ "type": "object", "required": required });
    object["properties"] = properties;
    object
}

fn task_id() -> Value {
    json!({ "type": "string", "description": "The id of the task" })
}

fn wait() -> Value {
    json!({ "type": "integer", "minimum": 0, "maximum": super::run::WAIT_S_MAX, "description": "Seconds to wait for the result" })
}

fn task_form() -> Value {
    object(
        json!({
            "task_id": { "type": "string" },
            "status": { "enum": ["working", "input_required", "completed", "failed", "cancelled"] },
            "message": { "type": "string" },
            "created_at": { "type": "string" },
            "updated_at": { "type": "string" }
        }),
        &["task_id", "status"],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_searches_sees_three_tools() {
        let names = |mode| {
            let names: Vec<String> = definitions(mode)
                .iter()
                .map(|d| d.view::<Value>().unwrap()["name"].as_str().unwrap().to_owned())
                .collect();
            names.join(" ")
        };
        assert_eq!(names(ListMode::Search), "find_tools call_tool run_task");
        assert_eq!(names(ListMode::Full), "task_submit task_status task_result task_cancel");
        assert_eq!(definitions(ListMode::Both).len(), OwnTool::ALL.len());
    }

    #[test]
    fn a_key_may_be_as_long_as_a_task_takes() {
        let submit = definition(OwnTool::TaskSubmit);
        let schema = jsonschema::validator_for(&submit["inputSchema"]).unwrap();
        let takes = |bytes: usize| schema.is_valid(&json!({ "tool": "a", "idempotency_key": "x".repeat(bytes) }));
        assert!(!takes(0) && takes(1) && takes(256) && !takes(257));
    }

    #[test]
    fn schemas_are_schemas() {
        for definition in definitions(ListMode::Both) {
            let definition: Value = definition.view().unwrap();
            for schema in ["inputSchema", "outputSchema"] {
                let Some(schema) = definition.get(schema) else { continue };
                assert!(jsonschema::validator_for(schema).is_ok(), "{definition}");
            }
        }
    }
}
