//! A job as the tasks extension tells it, and as a client without the extension reads it.

use metamcp_core::{
    id::ServerName,
    json::RawJson,
    queue::{Job, JobError, JobHead, JobState},
};

use super::{refused::fault, terms::takes_tasks, update};
use crate::{
    gateway::{
        Caller, Gateway, RpcFault, bridge, catalog::ToolRef, front, members::quoted, pointers, tool_result::failed,
    },
    wire::era::INTERNAL_ERROR,
};

/// How often a client should ask after a task, in milliseconds.
const POLL_MS: u64 = 1_000;

/// The status that clients read.
pub(crate) const fn status(state: JobState) -> &'static str {
    match state {
        JobState::Input => "input_required",
        JobState::Done => "completed",
        JobState::Dead => "failed",
        JobState::Cancelled => "cancelled",
        _ => "working",
    }
}

/// What a client is told of a job that goes on.
pub(crate) fn handle_of(caller: &Caller, job: &Job, tool: Option<&ToolRef>) -> RawJson {
    if takes_tasks(caller) {
        let text = format!(r#"{{"resultType":"task",{}}}"#, task_members(job));
        return RawJson::parse(text).expect("the parts are JSON");
    }
    detached(job, tool)
}

/// The members that every view of a task has, without braces.
pub(crate) fn task_members(job: &Job) -> String {
    let head = &job.head;
    let message = message(head).map_or_else(String::new, |message| format!(r#""statusMessage":{},"#, quoted(&message)));
    let ttl = kept_ms(head).map_or_else(|| "null".to_owned(), |ms| ms.to_string());
    let (created, updated) = (head.created_at, head.updated_at);
    format!(
        r#""taskId":"{}","status":"{}",{message}"createdAt":"{created}","lastUpdatedAt":"{updated}","ttlMs":{ttl},"pollIntervalMs":{POLL_MS}"#,
        head.id,
        status(head.state)
    )
}

/// How long after its creation a task is kept: until it has ended at the latest, and then for its retention.
fn kept_ms(head: &JobHead) -> Option<u64> {
    let end = head.finished_at.or(head.deadline_at)?;
    u64::try_from((end + head.retain).since(head.created_at).as_millis()).ok()
}

pub(crate) fn message(head: &JobHead) -> Option<String> {
    let progress = || {
        head.progress.as_ref().map(|p| match (&p.message, p.total) {
            (Some(message), _) => message.clone(),
            (None, Some(total)) => format!("{} of {total}", p.value),
            (None, None) => format!("at {}", p.value),
        })
    };
    let error = || head.error.as_ref().map(|error| error.message.clone());
    match head.state {
        JobState::Waiting => Some("waits for other tasks".to_owned()),
        JobState::Delayed | JobState::Ready => {
            Some(error().map_or_else(|| "queued".to_owned(), |error| format!("to be tried again: {error}")))
        }
        JobState::Leased => Some(progress().unwrap_or_else(|| "running".to_owned())),
        JobState::Input => Some("asks for input".to_owned()),
        JobState::Dead => error(),
        JobState::Cancelled => head.cancel_reason.clone(),
        _ => None,
    }
}

/// What `tasks/get` answers.
pub(super) async fn detailed(gateway: &Gateway, caller: &Caller, job: &Job) -> Result<RawJson, RpcFault> {
    let text = front::result(&members(gateway, caller, job).await?);
    RawJson::parse(text)
        .map_err(|error| RpcFault::new(INTERNAL_ERROR, format!("a part of the task is no JSON: {error}")))
}

/// The members of a task with what belongs to its status, without braces.
pub(super) async fn members(gateway: &Gateway, caller: &Caller, job: &Job) -> Result<String, RpcFault> {
    let payload = match job.head.state {
        // Only modern clients ask for tasks, and servers of either era answer them.
        JobState::Done => format!(r#","result":{}"#, front::inlined(&result_of(gateway, caller, job).await?)),
        JobState::Dead => {
            let internal = || JobError::new(metamcp_core::queue::JobErrorCode::Internal, "the task failed");
            let error = job.head.error.clone().unwrap_or_else(internal);
            let code = serde_json::to_string(&error.code).expect("a code is a word");
            let text = quoted(&error.message);
            format!(r#","error":{{"code":{INTERNAL_ERROR},"message":{text},"data":{{"code":{code}}}}}"#)
        }
        JobState::Input => {
            let open = update::outstanding(gateway, job).await?;
            // A client is shown only what it can answer.
            let server = server_of(job);
            let asked = open.iter().filter_map(|asked| {
                let request = bridge::shown(caller, server?, &asked.request).ok()?;
                Some(format!("{}:{request}", quoted(&asked.key)))
            });
            let asked: Vec<String> = asked.collect();
            format!(r#","inputRequests":{{{}}}"#, asked.join(","))
        }
        _ => String::new(),
    };
    Ok(format!("{}{payload}", task_members(job)))
}

/// Whose tool serves the job.
pub(super) fn server_of(job: &Job) -> Option<&ServerName> {
    job.body.route.candidates.get(usize::from(job.head.candidate)).map(|candidate| candidate.capability.server())
}

/// The result of a job that is done: as its server wrote it, or by pointer when it is large.
pub(crate) async fn result_of(gateway: &Gateway, caller: &Caller, job: &Job) -> Result<RawJsonText, RpcFault> {
    let Some(pointer) = &job.head.result else {
        return Err(RpcFault::new(INTERNAL_ERROR, "the task is done and has no result"));
    };
    pointers::told(gateway, caller, job, pointer).await.map_err(|error| fault(&error))
}

/// JSON text on its way into a larger one.
pub(crate) type RawJsonText = String;

/// What a client without the extension is told of a task that goes on. A client that checks results against a schema takes only an error in
/// the place of one.
pub(crate) fn detached(job: &Job, tool: Option<&ToolRef>) -> RawJson {
    let id = job.head.id;
    let text = format!(
        "Not finished yet; it goes on as task {id} ({}). Do not make this call again. To get its result, call the tool `task_result` with \
         {{\"task_id\": \"{id}\"}}; `task_status` tells how it stands, `task_cancel` stops it. Those that are not listed here are called by \
         `call_tool`: {{\"name\": \"task_result\", \"arguments\": {{\"task_id\": \"{id}\"}}}}.",
        message(&job.head).unwrap_or_else(|| status(job.head.state).to_owned()),
    );
    let checked = tool.is_some_and(|tool| tool.capability.output_schema.is_some());
    let body = format!(
        r#""content":[{{"type":"text","text":{}}}],"isError":{checked},"_meta":{{"io.github.metamcp/task":{{{}}}}}"#,
        quoted(&text),
        task_members(job),
    );
    RawJson::parse(front::result(&body)).expect("the parts are JSON")
}

/// What a client is told that waited for a job which ended without a result.
pub(super) fn ended_without(job: &Job) -> RawJson {
    let more = format!(r#","task":"{}""#, job.head.id);
    match (&job.head.state, &job.head.error) {
        (JobState::Cancelled, _) => {
            let reason = job.head.cancel_reason.as_deref().unwrap_or_default();
            failed(&format!("The task was cancelled: {reason}"), "cancelled", &more)
        }
        (_, Some(error)) => {
            let code = serde_json::to_value(error.code).ok().and_then(|code| code.as_str().map(str::to_owned));
            failed(&error.message, code.as_deref().unwrap_or("failed"), &more)
        }
        _ => failed("The task failed.", "failed", &more),
    }
}
