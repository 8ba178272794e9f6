//! The resource `metamcp://tasks/{task}/route`: why a task went where it went, for the model. The right to it is the right to the task.

use metamcp_core::{
    engine::EngineError,
    id::JobId,
    json::RawJson,
    matching::{Candidate, Rejection},
};
use serde::Serialize;

use super::{Caller, Gateway, Reply, RpcFault};
use crate::{
    gateway::{tasks, tool_result::shown},
    wire::era::INVALID_PARAMS,
};

/// What its URI begins and ends with.
const BEGIN: &str = "metamcp://tasks/";
const END: &str = "/route";

/// Our entry in the list of resource templates.
pub(in crate::gateway) fn template() -> RawJson {
    serde_json::json!({
        "uriTemplate": format!("{BEGIN}{{task}}{END}"),
        "name": "route",
        "title": "Route of a task",
        "description": "Why a task went to its tool: the candidates, best first, with what each part adds, and those that were rejected, with the reason.",
        "mimeType": "application/json",
    })
    .into()
}

/// The task that a URI names; `None` when it is no URI of a route.
pub(super) fn job_of(uri: &str) -> Option<&str> {
    uri.strip_prefix(BEGIN)?.strip_suffix(END)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    task: JobId,
    need: &'a str,
    /// The tool that is, or was, called, and its place among the candidates, from 0.
    tool: Option<String>,
    candidate: u16,
    candidates: Vec<Told<'a>>,
    rejected: &'a [Rejection],
    /// Attempts that failed, and why the last one did.
    attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    tool: String,
    score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    reasons: Vec<Part>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    part: &'static str,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f32>,
}

impl<'a> From<&'a Candidate> for Told<'a> {
    fn from(candidate: &'a Candidate) -> Self {
        let part = |reason: &metamcp_core::matching::Reason| Part {
            part: reason.part(),
            text: reason.to_string(),
            score: reason.score(),
        };
        Self {
            tool: candidate.capability.to_string(),
            score: candidate.score,
            group: candidate.group.as_deref(),
            reasons: candidate.reasons.iter().map(part).collect(),
        }
    }
}

/// Reads it as it stands now.
pub(super) async fn read(gateway: &Gateway, caller: &Caller, uri: &str, job: &str) -> Result<Reply, RpcFault> {
    let missing = || RpcFault::new(INVALID_PARAMS, format!("`{}`: there is no such task of yours", shown(uri)));
    let id: JobId = job.parse().map_err(|_| missing())?;
    let job = gateway.engine().get(&caller.principal, id).await.map_err(|error| match error {
        EngineError::NotFound { .. } => missing(),
        other => tasks::fault(&other),
    })?;
    let (head, route) = (&job.head, &job.body.route);
    let report = Report {
        task: head.id,
        need: &job.body.task.need.text,
        tool: route.candidates.get(usize::from(head.candidate)).map(|c| c.capability.to_string()),
        candidate: head.candidate,
        candidates: route.candidates.iter().map(Into::into).collect(),
        rejected: &route.rejected,
        attempts: head.attempts,
        error: head.error.as_ref().map(|error| error.message.as_str()),
    };
    let text = serde_json::to_string_pretty(&report).expect("a report has string keys only");
    let result = serde_json::json!({
        "resultType": "complete",
        "contents": [{ "uri": uri, "mimeType": "application/json", "text": text }],
        "ttlMs": 0,
        "cacheScope": "private",
    });
    Ok(Reply::Result(result.into()))
}
