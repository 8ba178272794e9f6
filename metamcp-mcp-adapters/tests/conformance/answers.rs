//! Who answers the questions that come through the gateway: a person who takes every default, and a model of few words.
#![expect(deprecated, reason = "sampling is part of the revisions the suite asks for")]

use rmcp::{
    ClientHandler, ErrorData, RoleClient,
    model::{
        ClientConfig, CreateMessageRequestParams, CreateMessageResult, ElicitRequestParams, ElicitResult,
        Implementation, JsonObject,
    },
    service::RequestContext,
};
use serde_json::{Value, json};

/// Answers everything.
pub(crate) struct Answers;

impl ClientHandler for Answers {
    fn get_info(&self) -> ClientConfig {
        let capabilities = serde_json::from_value(json!({ "elicitation": { "form": {} }, "sampling": {} }));
        let capabilities = capabilities.expect("these are client capabilities");
        ClientConfig::new(capabilities, Implementation::new("conformance-client", env!("CARGO_PKG_VERSION")))
    }

    async fn create_elicitation(
        &self,
        request: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        let request = serde_json::to_value(request).expect("a question is JSON");
        let content = sample(request["requestedSchema"].as_object().unwrap_or(&JsonObject::new()));
        Ok(serde_json::from_value(json!({ "action": "accept", "content": content })).expect("this is an answer"))
    }

    async fn create_message(
        &self,
        _: CreateMessageRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        let content = json!({ "type": "text", "text": "yes" });
        let result = json!({ "role": "assistant", "content": content, "model": "none", "stopReason": "endTurn" });
        Ok(serde_json::from_value(result).expect("this is a message"))
    }
}

/// An object of this schema: its defaults, and something of the right type for what is required and has none.
pub(crate) fn sample(schema: &JsonObject) -> JsonObject {
    let required = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let properties = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    let value = |(name, property): (String, Value)| match property.get("default") {
        Some(default) => Some((name, default.clone())),
        None if required.contains(&json!(name)) => Some((name, of_type(&property))),
        None => None,
    };
    properties.into_iter().filter_map(value).collect()
}

fn of_type(property: &Value) -> Value {
    match property["type"].as_str() {
        Some("boolean") => json!(true),
        Some("integer") => json!(1),
        Some("number") => json!(1.5),
        Some("string") => json!("test"),
        Some("array") => json!([]),
        Some("object") => json!({}),
        _ => Value::Null,
    }
}
