//! `find_tools`: the tools of an endpoint ranked for a need in words.

use metamcp_core::{json::RawJson, matching::Reason};
use serde::{Deserialize, Serialize};

use super::arguments;
use crate::gateway::{Caller, Gateway, Request, RpcFault, tasks, tool_result::structured};

/// Most tools that are told, and how many when the caller does not say.
pub(super) const FOUND_MAX: usize = 10;
pub(super) const FOUND_DEFAULT: usize = 5;
/// Longest description that is told, in bytes.
const DESCRIPTION_BYTES_MAX: usize = 1_024;
/// Largest schema that is told, in bytes; a larger one is left out.
const SCHEMA_BYTES_MAX: usize = 8 << 10;
/// Most reasons told of a tool.
const REASONS_MAX: usize = 4;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    need: String,
    #[serde(default)]
    max: Option<usize>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    name: &'a str,
    description: &'a str,
    score: f32,
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_schema: Option<&'a RawJson>,
}

#[derive(Serialize)]
struct Answer<'a> {
    tools: Vec<Told<'a>>,
}

pub(super) async fn find_tools(gateway: &Gateway, caller: &Caller, request: &Request<'_>) -> Result<RawJson, RpcFault> {
    let Wanted { need, max } = match arguments::read(request, "find_tools") {
        Ok(wanted) => wanted,
        Err(refused) => return Ok(refused),
    };
    let Some(snapshot) = gateway.snapshot(caller).map(arc_swap::Guard::into_inner) else {
        return Ok(arguments::refused("find_tools: there is no such endpoint"));
    };
    let findable = snapshot.findable();
    let route = match gateway.engine().find(&caller.principal, &need, None, &findable.catalog).await {
        Ok(route) => route,
        Err(error) => return Ok(tasks::refusal(&error)),
    };
    let best = route.candidates.iter().take(max.unwrap_or(FOUND_DEFAULT).clamp(1, FOUND_MAX));
    let found: Vec<_> = best.filter_map(|candidate| Some((candidate, findable.tool(&candidate.capability)?))).collect();
    let tools: Vec<Told<'_>> = found
        .iter()
        .map(|(candidate, tool)| {
            let capability = &tool.capability;
            let description = &capability.description;
            Told {
                name: &tool.name,
                description: &description[..description.floor_char_boundary(DESCRIPTION_BYTES_MAX)],
                score: candidate.score,
                reason: reason(&candidate.reasons),
                input_schema: Some(&capability.input_schema).filter(|s| s.get().len() <= SCHEMA_BYTES_MAX),
            }
        })
        .collect();
    let text = if tools.is_empty() {
        format!("None of {} tools fits; say it in other words.", findable.catalog.capabilities().len())
    } else {
        let lines: Vec<String> = tools
            .iter()
            .map(|t| format!("{} (score {:.2}; {}): {}", t.name, t.score, t.reason, t.description))
            .collect();
        lines.join("\n")
    };
    let structure = RawJson::from_value(&Answer { tools }).expect("names and texts are JSON");
    Ok(structured(&text, &structure))
}

/// Why a tool was found, in words.
fn reason(reasons: &[Reason]) -> String {
    let told: Vec<String> = reasons
        .iter()
        .take(REASONS_MAX)
        .map(|reason| match reason {
            Reason::Named => "named".to_owned(),
            Reason::Term { field, term, .. } => format!("`{term}` in its {field}"),
            Reason::Similarity { .. } => "near in meaning".to_owned(),
            Reason::Other { text, .. } => text.clone(),
            other => other.to_string(),
        })
        .collect();
    told.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_words() {
        let term =
            |field: &str, term: &str| Reason::Term { field: field.to_owned().into(), term: term.into(), score: 1.0 };
        assert_eq!(
            reason(&[term("name", "pdf"), term("description", "text")]),
            "`pdf` in its name, `text` in its description"
        );
    }
}
