//! Whether a tool can be shown and called as its server defined it.

use metamcp_core::json::RawJson;
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tool<'a> {
    #[serde(borrow, default)]
    input_schema: Option<&'a RawValue>,
    #[serde(borrow, default)]
    execution: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Execution {
    task_support: Option<String>,
}

/// Checks what clients rely on in every tool.
///
/// # Errors
/// Why the tool is to be left out.
pub(crate) fn tool(definition: &RawJson) -> Result<(), String> {
    let tool: Tool<'_> = serde_json::from_str(definition.get()).map_err(|error| error.to_string())?;
    match tool.input_schema {
        None => return Err("has no `inputSchema`".to_owned()),
        Some(schema) if !schema.get().starts_with('{') => {
            return Err("has an `inputSchema` that is not an object".to_owned());
        }
        Some(_) => {}
    }
    let execution = tool.execution.and_then(|execution| serde_json::from_str::<Execution>(execution.get()).ok());
    if execution.and_then(|execution| execution.task_support).as_deref() == Some("required") {
        return Err("can only be called as a task of revision 2025-11-25, which is not spoken here".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_usable(text: &str) -> bool {
        tool(&RawJson::parse(text).unwrap()).is_ok()
    }

    #[test]
    fn a_tool_has_a_schema_of_its_arguments() {
        assert!(is_usable(r#"{"inputSchema":{}}"#));
        for text in ["{}", r#"{"inputSchema":null}"#, r#"{"inputSchema":[]}"#, r#"{"inputSchema":"{}"}"#, "[1]"] {
            assert!(!is_usable(text), "{text}");
        }
    }

    #[test]
    fn a_tool_that_must_be_called_as_a_legacy_task_is_of_no_use() {
        let with = |execution: &str| is_usable(&format!(r#"{{"inputSchema":{{}},"execution":{execution}}}"#));
        assert!(!with(r#"{"taskSupport":"required"}"#));
        for execution in [r#"{"taskSupport":"optional"}"#, r#"{"taskSupport":"forbidden"}"#, "{}", "null", "1"] {
            assert!(with(execution), "{execution}");
        }
    }
}
