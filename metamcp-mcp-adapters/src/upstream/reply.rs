//! Reads what a server answers to `tools/call` and to questions on a task, and writes down how to go on when that is not the end.
//!
//! Only the fields that decide are looked at; the body that goes on is the text that came.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use metamcp_core::{
    id::{JobId, ServerName},
    json::RawJson,
    queue::{CHECKPOINT_BYTES_MAX, Checkpoint, InputRequest, Progress},
    transport::{Delivered, ToolCall, ToolOutput, ToolReply, TransportError, TransportErrorKind},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::way::{error, rejected, violation};
use crate::wire::{
    era::Era,
    frame::{self, Frame, Outcome, RpcError},
};

/// Shortest and longest pause between two polls of a task, and the one when the server names none, in milliseconds.
const POLL_MS_MIN: u64 = 50;
const POLL_MS_MAX: u64 = 60_000;
const POLL_MS_DEFAULT: u64 = 1_000;
/// Questions of one answer.
const REQUESTS_MAX: usize = 64;
/// The code under which a task that its server cancelled is reported.
const CANCELLED_BY_SERVER: i64 = -32_800;

/// How to go on with an unfinished call; the text of a [`Checkpoint`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Unfinished {
    /// Set when a remote task is to be polled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) task: Option<TaskRef>,
    /// Set when the call is to be made again, with answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) again: Option<Again>,
    /// Set when the call is alive and waits for an answer; it is nowhere but in the process that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) parked: Option<ParkedRef>,
}

/// A call that waits, alive, for an answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ParkedRef {
    pub(super) state: String,
    pub(super) tool: String,
}

/// A task of the server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct TaskRef {
    pub(super) id: String,
    /// Questions that were answered: the server may repeat them until it has read the answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) answered: Vec<String>,
}

/// A call to be made again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Again {
    pub(super) tool: String,
    pub(super) arguments: RawJson,
    /// The server's `requestState`, given back as it was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) state: Option<RawJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<JobId>,
    epoch: u64,
}

impl Again {
    pub(super) fn of(call: &ToolCall) -> Self {
        let ToolCall { tool, arguments, job, epoch, .. } = call.clone();
        Self { tool, arguments, state: None, job, epoch }
    }

    pub(super) fn call(&self) -> ToolCall {
        let call = ToolCall::new(&self.tool, self.arguments.clone());
        match self.job {
            Some(job) => call.for_job(job, self.epoch),
            None => call,
        }
    }
}

impl Unfinished {
    /// Reads a checkpoint of this kind of transport.
    pub(super) fn read(server: &ServerName, from: &Checkpoint) -> Result<Self, TransportError> {
        let invalid = |what: String| error(server, TransportErrorKind::Invalid, Delivered::No, what);
        let read: Self =
            serde_json::from_str(&from.text).map_err(|e| invalid(format!("not a checkpoint of an MCP server: {e}")))?;
        if [read.task.is_some(), read.again.is_some(), read.parked.is_some()].into_iter().filter(|set| *set).count()
            != 1
        {
            return Err(invalid("not a checkpoint of an MCP server: it must name one task or one call".to_owned()));
        }
        Ok(read)
    }

    fn write(&self, server: &ServerName) -> Result<Checkpoint, TransportError> {
        let text = serde_json::to_string(self).expect("a checkpoint has string keys only");
        if text.len() > CHECKPOINT_BYTES_MAX {
            let what = format!("going on needs {} bytes to be kept, the bound is {CHECKPOINT_BYTES_MAX}", text.len());
            return Err(error(server, TransportErrorKind::TooLarge, Delivered::Yes, what));
        }
        // Polling a task twice is harmless; making a call again may act again.
        Ok(Checkpoint { text, replay_safe: self.task.is_some() })
    }

    fn of_task(task: TaskRef) -> Self {
        Self { task: Some(task), again: None, parked: None }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResultView<'a> {
    #[serde(borrow, default)]
    result_type: Option<Cow<'a, str>>,
    #[serde(default)]
    is_error: Option<bool>,
    #[serde(default)]
    request_state: Option<RawJson>,
    #[serde(borrow, default)]
    input_requests: Option<BTreeMap<String, &'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TaskView<'a> {
    #[serde(borrow)]
    task_id: Cow<'a, str>,
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(default)]
    status_message: Option<String>,
    #[serde(default)]
    poll_interval_ms: Option<f64>,
    #[serde(borrow, default)]
    input_requests: Option<BTreeMap<String, &'a RawValue>>,
    #[serde(default)]
    result: Option<RawJson>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

/// The answer to `tools/call`.
pub(super) fn of_call(
    server: &ServerName,
    era: Era,
    result: RawJson,
    again: Again,
) -> Result<ToolReply, TransportError> {
    let view: ResultView<'_> = view(server, &result)?;
    // Legacy servers know no other answer; what they put there means nothing.
    let kind = if era == Era::Modern { view.result_type.as_deref() } else { None };
    match kind {
        None | Some("complete") => {
            let is_error = view.is_error.unwrap_or_default();
            Ok(ToolReply::Done(ToolOutput::new(result, is_error)))
        }
        Some("task") => {
            let task: TaskView<'_> = self::view(server, &result)?;
            let id = task.task_id.clone().into_owned();
            of_task_view(server, task, TaskRef { id, answered: Vec::new() })
        }
        Some("input_required") => {
            let requests = requests(server, view.input_requests.unwrap_or_default())?;
            let again = Again { state: view.request_state, ..again };
            if requests.is_empty() && again.state.is_none() {
                return Err(violation(server, "`input_required` with neither a question nor a state"));
            }
            let checkpoint = Unfinished { task: None, again: Some(again), parked: None }.write(server)?;
            if requests.is_empty() {
                // Nobody is asked anything: the server only wants to be called again.
                let poll_after = Duration::from_millis(POLL_MS_DEFAULT);
                return Ok(ToolReply::Working { checkpoint, poll_after, progress: None });
            }
            Ok(ToolReply::NeedsInput { checkpoint, requests })
        }
        Some(other) => {
            let other: String = other.chars().take(64).collect();
            Err(violation(server, format_args!("a result of the unknown type `{other}`")))
        }
    }
}

/// The answer to a relayed `tools/call`, which has the form of the modern era whatever its server speaks, as a job takes it.
#[cfg(feature = "gateway")]
pub(crate) fn of_relayed(
    server: &ServerName,
    tool: &str,
    arguments: RawJson,
    result: RawJson,
) -> Result<ToolReply, TransportError> {
    let view: ResultView<'_> = view(server, &result)?;
    if let Some(state) = view.request_state.as_ref().and_then(|state| super::parked::named(state.raw())) {
        let open = requests(server, view.input_requests.unwrap_or_default())?;
        return of_parked(server, ParkedRef { state, tool: tool.to_owned() }, open);
    }
    of_call(server, Era::Modern, result, Again::of(&ToolCall::new(tool, arguments)))
}

/// A call that waits, alive, for the answers to these questions.
pub(super) fn of_parked(
    server: &ServerName,
    parked: ParkedRef,
    requests: Vec<InputRequest>,
) -> Result<ToolReply, TransportError> {
    let checkpoint = Unfinished { task: None, again: None, parked: Some(parked) }.write(server)?;
    Ok(ToolReply::NeedsInput { checkpoint, requests })
}

/// The answer to `tasks/get`.
pub(super) fn of_task(server: &ServerName, result: &RawJson, task: TaskRef) -> Result<ToolReply, TransportError> {
    of_task_view(server, view(server, result)?, task)
}

/// A task whose answers were just brought.
pub(super) fn answered(server: &ServerName, mut task: TaskRef, keys: Vec<String>) -> Result<ToolReply, TransportError> {
    task.answered.extend(keys);
    let checkpoint = Unfinished::of_task(task).write(server)?;
    Ok(ToolReply::Working { checkpoint, poll_after: Duration::from_millis(POLL_MS_MIN), progress: None })
}

fn of_task_view(server: &ServerName, view: TaskView<'_>, task: TaskRef) -> Result<ToolReply, TransportError> {
    let poll_after = match view.poll_interval_ms {
        Some(ms) if ms.is_finite() => Duration::from_secs_f64((ms / 1e3).clamp(0.0, POLL_MS_MAX as f64 / 1e3)),
        Some(_) | None => Duration::from_millis(POLL_MS_DEFAULT),
    };
    let poll_after = poll_after.clamp(Duration::from_millis(POLL_MS_MIN), Duration::from_millis(POLL_MS_MAX));
    let progress = view.status_message.map(|message| Progress { value: 0.0, total: None, message: Some(message) });
    match &*view.status {
        "working" => {
            let checkpoint = Unfinished::of_task(task).write(server)?;
            Ok(ToolReply::Working { checkpoint, poll_after, progress })
        }
        "input_required" => {
            let mut requests = requests(server, view.input_requests.unwrap_or_default())?;
            requests.retain(|request| !task.answered.contains(&request.key));
            let checkpoint = Unfinished::of_task(task).write(server)?;
            if requests.is_empty() {
                return Ok(ToolReply::Working { checkpoint, poll_after, progress });
            }
            Ok(ToolReply::NeedsInput { checkpoint, requests })
        }
        "completed" => {
            let result = view.result.ok_or_else(|| violation(server, "a completed task without its result"))?;
            let is_error = self::view::<ResultView<'_>>(server, &result)?.is_error.unwrap_or_default();
            Ok(ToolReply::Done(ToolOutput::new(result, is_error)))
        }
        "failed" => Err(rejected(server, &task_error(view.error))),
        "cancelled" => {
            let rpc =
                RpcError { code: CANCELLED_BY_SERVER, message: "the server cancelled the task".to_owned(), data: None };
            Err(rejected(server, &rpc))
        }
        other => {
            Err(violation(server, format_args!("a task in the unknown state `{}`", other.get(..64).unwrap_or(other))))
        }
    }
}

/// The error of a failed task; the frame reader already knows how to read one.
fn task_error(error: Option<&RawValue>) -> RpcError {
    let mut found = None;
    let frame = format!(r#"{{"id":0,"error":{}}}"#, error.map_or("null", RawValue::get));
    let read = frame::each(&frame, |frame| {
        if let Frame::Response { outcome: Outcome::Error(error), .. } = frame {
            found = Some(error);
        }
    });
    let unsaid = || RpcError { code: -32_603, message: "the task failed without an error".to_owned(), data: None };
    read.ok().and(found).unwrap_or_else(unsaid)
}

fn requests(server: &ServerName, raw: BTreeMap<String, &RawValue>) -> Result<Vec<InputRequest>, TransportError> {
    if raw.len() > REQUESTS_MAX {
        return Err(violation(server, format_args!("{} questions at once, the bound is {REQUESTS_MAX}", raw.len())));
    }
    Ok(raw.into_iter().map(|(key, request)| InputRequest { key, request: request.get().to_owned() }).collect())
}

/// The fields that decide. The far side has answered, but not what the protocol says: what the call did is not known.
fn view<'a, T: Deserialize<'a>>(server: &ServerName, result: &'a RawJson) -> Result<T, TransportError> {
    if !result.is_object() {
        return Err(violation(server, "a result that is not an object"));
    }
    serde_json::from_str(result.get()).map_err(|e| violation(server, format_args!("a result of another shape: {e}")))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn server() -> ServerName {
        ServerName::new("s").unwrap()
    }

    fn reply(era: Era, result: &str) -> Result<ToolReply, TransportError> {
        let call = ToolCall::new("t", RawJson::parse(r#"{"n": 1.0}"#).unwrap());
        of_call(&server(), era, RawJson::parse(result).unwrap(), Again::of(&call))
    }

    #[test]
    fn a_result_is_passed_on_as_it_was_written() {
        let text =
            r#"{"z":1.0,"content":[{"type":"holo","n":1e400}],"isError":true,"a":12345678901234567890123,"z":2}"#;
        for era in [Era::Legacy, Era::Modern] {
            let Ok(ToolReply::Done(output)) = reply(era, text) else { panic!("a result") };
            assert_eq!(output.body.get(), text);
            assert!(output.is_error);
        }
    }

    #[test]
    fn what_is_no_result_may_have_happened() {
        for text in
            ["[]", "null", "\"x\"", r#"{"resultType":"surprise"}"#, r#"{"isError":"no"}"#, r#"{"resultType":"task"}"#]
        {
            let error = reply(Era::Modern, text).unwrap_err();
            assert_eq!((&error.kind, error.delivered), (&TransportErrorKind::Protocol, Delivered::Maybe), "{text}");
        }
    }

    #[test]
    fn a_legacy_result_type_means_nothing() {
        assert!(matches!(reply(Era::Legacy, r#"{"resultType":"task"}"#), Ok(ToolReply::Done(_))));
    }

    #[test]
    fn the_state_goes_back_as_it_was_written() {
        let text = r#"{"resultType":"input_required","requestState":"\u00e9\/x","inputRequests":{"q":{"method": "elicitation/create"}}}"#;
        let Ok(ToolReply::NeedsInput { checkpoint, requests }) = reply(Era::Modern, text) else { panic!("questions") };
        assert_eq!(requests[0].request, r#"{"method": "elicitation/create"}"#);
        assert!(!checkpoint.replay_safe);
        let again = Unfinished::read(&server(), &checkpoint).unwrap().again.unwrap();
        assert_eq!(again.state.unwrap().get(), r#""\u00e9\/x""#);
        assert_eq!(again.arguments.get(), r#"{"n": 1.0}"#);
    }

    #[test]
    fn a_state_without_a_question_asks_only_to_come_again() {
        let text = r#"{"resultType":"input_required","requestState":"s"}"#;
        assert!(matches!(reply(Era::Modern, text), Ok(ToolReply::Working { .. })));
        assert!(reply(Era::Modern, r#"{"resultType":"input_required"}"#).is_err());
    }

    fn task(fields: &Value) -> Result<ToolReply, TransportError> {
        let mut task = json!({ "taskId": "t1", "status": "working" });
        task.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        of_task(&server(), &task.into(), TaskRef { id: "t1".to_owned(), answered: vec!["old".to_owned()] })
    }

    #[test]
    fn a_task_is_polled_within_bounds() {
        for (asked, wait_ms) in
            [(json!(0), POLL_MS_MIN), (json!(1e300), POLL_MS_MAX), (json!(null), POLL_MS_DEFAULT), (json!(200), 200)]
        {
            let Ok(ToolReply::Working { poll_after, checkpoint, .. }) = task(&json!({ "pollIntervalMs": asked }))
            else {
                panic!("working")
            };
            assert_eq!(poll_after, Duration::from_millis(wait_ms));
            assert!(checkpoint.replay_safe);
        }
    }

    #[test]
    fn every_end_of_a_task_is_an_answer() {
        let Ok(ToolReply::Done(output)) = task(&json!({ "status": "completed", "result": { "isError": true } })) else {
            panic!("completed")
        };
        assert!(output.is_error);
        let failed = task(&json!({ "status": "failed", "error": { "code": -5, "message": "m" } })).unwrap_err();
        assert_eq!((failed.kind, failed.delivered), (TransportErrorKind::Rejected { code: -5 }, Delivered::Yes));
        assert!(matches!(
            task(&json!({ "status": "cancelled" })).unwrap_err().kind,
            TransportErrorKind::Rejected { .. }
        ));
        assert_eq!(task(&json!({ "status": "lost" })).unwrap_err().kind, TransportErrorKind::Protocol);
    }

    #[test]
    fn a_question_that_was_answered_is_not_asked_again() {
        let ask = |keys: &[&str]| {
            let requests: serde_json::Map<_, _> = keys.iter().map(|k| ((*k).to_owned(), json!({}))).collect();
            task(&json!({ "status": "input_required", "inputRequests": requests })).unwrap()
        };
        assert!(matches!(ask(&["old"]), ToolReply::Working { .. }));
        let ToolReply::NeedsInput { requests, .. } = ask(&["new", "old"]) else { panic!("a question") };
        assert_eq!(requests.len(), 1);
    }

    #[test]
    fn a_checkpoint_of_something_else_is_refused() {
        for text in ["", "{}", r#"{"task":{"id":"a"},"again":{"tool":"t","arguments":{},"epoch":0}}"#] {
            let from = Checkpoint { text: text.to_owned(), replay_safe: true };
            assert_eq!(Unfinished::read(&server(), &from).unwrap_err().delivered, Delivered::No);
        }
    }
}
