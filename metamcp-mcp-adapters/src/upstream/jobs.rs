//! A connected server as an [`McpTransport`]: what jobs need of it.

use std::{collections::HashMap, sync::PoisonError};

use async_trait::async_trait;
use metamcp_core::{
    id::ServerName,
    json::RawJson,
    queue::{Answer, Checkpoint, Progress},
    transport::{
        CallContext, Delivered, Discovered, McpTransport, ProgressSink, Relay, RelayMeta, RelayRequest, RelaySide,
        Resume, ToolCall, ToolReply, TransportError, TransportErrorKind, TransportInfo,
    },
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    abilities,
    handover::Holder,
    list,
    reached::Reached,
    reply::{self, Again, ParkedRef, TaskRef, Unfinished},
    session::{Session, raw},
    slot::PROGRESS,
    way::{Failure, error},
};
use crate::wire::era::{Era, INVALID_PARAMS};

/// `_meta`: the job a call is made for; a server that sees it twice knows a repeated call.
const META_JOB: &str = "io.github.metamcp/job";
/// `_meta`: which lease of the job makes the call.
const META_EPOCH: &str = "io.github.metamcp/epoch";

/// Hands the progress of a call to its job, and its log to ours.
struct JobSide<'a> {
    server: &'a ServerName,
    progress: &'a ProgressSink<'a>,
}

impl RelaySide for JobSide<'_> {
    fn notify(&self, method: &str, params: Option<&RawValue>) {
        #[derive(Deserialize)]
        struct Report {
            progress: f64,
            total: Option<f64>,
            message: Option<String>,
        }
        let Some(params) = params else { return };
        if method == PROGRESS {
            if let Ok(Report { progress: value, total, message }) = serde_json::from_str(params.get()) {
                (self.progress)(Progress { value, total, message });
            }
        } else {
            let text = &params.get()[..params.get().floor_char_boundary(1_024)];
            tracing::debug!(target: "metamcp::server_log", server = %self.server, method, "{text}");
        }
    }
}

impl Session {
    async fn call_with(
        &self,
        call: &ToolCall,
        answers: Option<&RawJson>,
        state: Option<&RawJson>,
        progress: &ProgressSink<'_>,
    ) -> Result<ToolReply, TransportError> {
        let name = raw(&call.tool);
        let mut params = vec![("name", &*name), ("arguments", call.arguments.raw())];
        params.extend(answers.map(|answers| ("inputResponses", answers.raw())));
        params.extend(state.map(|state| ("requestState", state.raw())));
        let job = call.job.map(|job| (raw(&job.to_string()), raw(&call.epoch)));
        let extra = job.as_ref().map(|(job, epoch)| [(META_JOB, &**job), (META_EPOCH, &**epoch)]);
        let request = RelayRequest {
            method: "tools/call",
            name: Some(&call.tool),
            params: &params,
            meta: RelayMeta {
                capabilities: Some(abilities::of_job()),
                progress: true,
                extra: extra.as_ref().map_or(&[], |extra| extra),
                ..RelayMeta::default()
            },
        };
        let side = JobSide { server: &self.info.server, progress };
        let reached = self.make(request, &side).await.map_err(|failure| self.failed(failure))?;
        self.reply(reached, Again::of(call))
    }

    /// Brings the answer to a call that waits for it, alive.
    async fn answer_parked(
        &self,
        parked: &ParkedRef,
        answers: &RawJson,
        progress: &ProgressSink<'_>,
    ) -> Result<ToolReply, TransportError> {
        let request = RelayRequest {
            method: "tools/call",
            name: Some(&parked.tool),
            params: &[],
            meta: RelayMeta { capabilities: Some(abilities::of_job()), ..RelayMeta::default() },
        };
        let side = JobSide { server: &self.info.server, progress };
        let reached = self.go_on(&parked.state, Some(answers.raw()), request, &side).await;
        let reached = reached.map_err(|failure| self.failed(failure))?;
        self.reply(reached, Again::of(&ToolCall::new(&parked.tool, RawJson::empty_object())))
    }

    fn reply(&self, reached: Reached, again: Again) -> Result<ToolReply, TransportError> {
        match reached {
            Reached::Result(result) => reply::of_call(&self.info.server, self.agreed.era, result, again),
            Reached::Parked { open, state } => {
                reply::of_parked(&self.info.server, ParkedRef { state, tool: again.tool }, open)
            }
        }
    }

    async fn poll(&self, task: TaskRef) -> Result<ToolReply, TransportError> {
        let result = match self.ask_task("tasks/get", &task.id, None).await {
            Ok(result) => result,
            Err(Failure::Rpc(rpc, _)) if rpc.code == INVALID_PARAMS => {
                // The task ran, its end is not known any more.
                let kind = TransportErrorKind::Rejected { code: rpc.code };
                let what = format!("does not know the task any more: {}", rpc.message);
                return Err(error(&self.info.server, kind, Delivered::Maybe, what));
            }
            Err(failure) => return Err(self.failed(failure)),
        };
        reply::of_task(&self.info.server, &result, task)
    }

    async fn ask_task(&self, method: &'static str, task: &str, answers: Option<&RawJson>) -> Result<RawJson, Failure> {
        let id = raw(task);
        let mut params = vec![("taskId", &*id)];
        params.extend(answers.map(|answers| ("inputResponses", answers.raw())));
        self.plain(method, Some(task), &params).await
    }
}

#[async_trait]
impl McpTransport for Session {
    fn info(&self) -> &TransportInfo {
        &self.info
    }

    async fn discover(&self) -> Result<Discovered, TransportError> {
        let (era, http) = (self.agreed.era, self.way.kind() == "http");
        let ask = |cursor: Option<String>| async move {
            let cursor = cursor.map(|cursor| raw(&cursor));
            let params: Vec<_> = cursor.iter().map(|cursor| ("cursor", &**cursor)).collect();
            self.plain("tools/list", None, &params).await
        };
        let (has_tools, with_headers) = (self.agreed.can.tools.is_some(), http && era == Era::Modern);
        let listed = list::drain(&self.info.server, ask, has_tools, with_headers).await?;
        *self.headers.lock().unwrap_or_else(PoisonError::into_inner) = listed.headers;
        Ok(Discovered::new(listed.tools, self.agreed.instructions.clone()).with_freshness(listed.freshness))
    }

    async fn call(&self, call: &ToolCall, cx: &CallContext<'_>) -> Result<ToolReply, TransportError> {
        if !call.arguments.is_object() {
            return Err(self.invalid("the arguments of a tool must be a JSON object"));
        }
        self.call_with(call, None, None, cx.progress).await
    }

    async fn resume(&self, from: &Checkpoint, with: Resume, cx: &CallContext<'_>) -> Result<ToolReply, TransportError> {
        let server = &self.info.server;
        let answers = match with {
            Resume::Poll => None,
            Resume::Answer(Answer { responses }) => {
                let read = RawJson::parse(responses).ok().filter(RawJson::is_object);
                Some(read.ok_or_else(|| self.invalid("an answer must be a JSON object, request key to response"))?)
            }
            other => return Err(self.invalid(format_args!("cannot go on by {other:?}"))),
        };
        match Unfinished::read(server, from)? {
            Unfinished { task: Some(task), .. } => match answers {
                None => self.poll(task).await,
                Some(answers) => {
                    let keys: HashMap<String, serde::de::IgnoredAny> =
                        answers.view().map_err(|e| self.invalid(format_args!("an answer cannot be read: {e}")))?;
                    let told = self.ask_task("tasks/update", &task.id, Some(&answers)).await;
                    told.map_err(|failure| self.failed(failure))?;
                    reply::answered(server, task, keys.into_keys().collect())
                }
            },
            Unfinished { again: Some(again), .. } => {
                self.call_with(&again.call(), answers.as_ref(), again.state.as_ref(), cx.progress).await
            }
            Unfinished { parked: Some(parked), .. } => match answers {
                Some(answers) => self.answer_parked(&parked, &answers, cx.progress).await,
                None => Err(self.invalid("the call waits for an answer, it cannot be polled")),
            },
            Unfinished { .. } => Err(self.invalid("the checkpoint says nothing")),
        }
    }

    async fn cancel(&self, from: &Checkpoint) -> Result<(), TransportError> {
        match Unfinished::read(&self.info.server, from)? {
            Unfinished { task: Some(task), .. } => {
                let told = self.ask_task("tasks/cancel", &task.id, None).await;
                told.map(drop).map_err(|failure| self.failed(failure))
            }
            Unfinished { parked: Some(parked), .. } => {
                self.end_parked(&parked.state).await;
                Ok(())
            }
            // A call that is to be made again is nowhere: the server keeps nothing of it.
            Unfinished { .. } => Ok(()),
        }
    }

    async fn changed(&self) {
        self.way.news().tools_changed().await;
    }

    fn relay(&self) -> Option<&dyn Relay> {
        Some(self)
    }

    fn is_closed(&self) -> bool {
        self.way.is_closed()
    }

    async fn close(&self) {
        self.end().await;
    }
}
