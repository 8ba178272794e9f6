//! A connected server as an [`McpTransport`]: the methods of the protocol over whichever way it is reached.
//!
//! It waits as long as it is let; deadlines are the engine's. It retries nothing and caches nothing but which arguments go into headers.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use metamcp_core::{
    id::ServerName,
    json::RawJson,
    queue::{Answer, Checkpoint},
    transport::{
        CallContext, Delivered, Discovered, McpTransport, ProgressSink, Resume, ToolCall, ToolReply, TransportError,
        TransportErrorKind, TransportInfo,
    },
};
use serde::Serialize;

use super::{
    handshake::{self, Agreed, Refusal},
    list,
    reply::{self, Again, TaskRef, Unfinished},
    way::{Ask, Failure, Way, error},
};
use crate::wire::{
    era::{Era, INVALID_PARAMS, RequestMeta},
    header::{self, ParamHeader},
};

/// A connected server.
#[derive(Debug)]
pub(super) struct Session {
    info: TransportInfo,
    agreed: Agreed,
    way: Box<dyn Way>,
    ids: AtomicU64,
    /// Which arguments of which tool go along as headers; filled by `discover`.
    headers: Mutex<HashMap<String, Vec<ParamHeader>>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CallParams<'a> {
    name: &'a str,
    arguments: &'a RawJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_responses: Option<RawJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_state: Option<&'a RawJson>,
    #[serde(rename = "_meta")]
    meta: RequestMeta,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TaskParams<'a> {
    task_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_responses: Option<RawJson>,
    #[serde(rename = "_meta")]
    meta: RequestMeta,
}

impl Session {
    /// Agrees with the server; closes the way when that fails.
    pub(super) async fn open(way: Box<dyn Way>, server: ServerName, only: Option<Era>) -> Result<Arc<Self>, Refusal> {
        let ids = AtomicU64::new(1);
        let agreed = match handshake::agree(&*way, &server, &ids, only).await {
            Ok(agreed) => agreed,
            Err(refusal) => {
                way.close().await;
                return Err(refusal);
            }
        };
        let info = TransportInfo::new(server, way.kind(), &agreed.revision, &agreed.implementation);
        Ok(Arc::new(Self { info, agreed, way, ids, headers: Mutex::default() }))
    }

    /// How the server is spoken to.
    pub(super) const fn era(&self) -> Era {
        self.agreed.era
    }

    async fn call_with(
        &self,
        call: &ToolCall,
        answers: Option<RawJson>,
        state: Option<&RawJson>,
        progress: &ProgressSink<'_>,
    ) -> Result<ToolReply, TransportError> {
        let (id, mut meta) = (self.next_id(), RequestMeta::of(self.agreed.era));
        meta.progress_token = Some(id);
        meta.job = call.job.map(|job| job.to_string());
        meta.epoch = call.job.map(|_| call.epoch);
        let params = CallParams {
            name: &call.tool,
            arguments: &call.arguments,
            input_responses: answers,
            request_state: state,
            meta,
        };
        let headers = match self.agreed.era {
            Era::Legacy => Vec::new(),
            Era::Modern => {
                let known = self.headers.lock().unwrap_or_else(PoisonError::into_inner);
                known.get(&call.tool).map(|marks| header::of_arguments(marks, &call.arguments)).unwrap_or_default()
            }
        };
        let ask = Ask { headers, ..self.ask(id, "tools/call", &params, Some(&call.tool)) };
        let result = self.way.ask(ask, progress).await.map_err(|failure| self.failed(failure))?;
        reply::of_call(&self.info.server, self.agreed.era, result, Again::of(call))
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

    async fn ask_task(&self, method: &'static str, task: &str, answers: Option<RawJson>) -> Result<RawJson, Failure> {
        let params = TaskParams { task_id: task, input_responses: answers, meta: RequestMeta::of(self.agreed.era) };
        self.way.ask(self.ask(self.next_id(), method, &params, Some(task)), &|_| ()).await
    }

    fn ask<'a, T: Serialize>(&self, id: u64, method: &'static str, params: &T, name: Option<&'a str>) -> Ask<'a> {
        let params = RawJson::from_value(params).expect("parameters have string keys only");
        Ask { id, era: self.agreed.era, method, params, name, headers: Vec::new(), cancellable: true }
    }

    fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    fn failed(&self, failure: Failure) -> TransportError {
        failure.into_error(&self.info.server)
    }

    fn invalid(&self, what: impl std::fmt::Display) -> TransportError {
        error(&self.info.server, TransportErrorKind::Invalid, Delivered::No, what)
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
            let params = list::params(era, cursor.as_deref());
            self.way.ask(self.ask(self.next_id(), "tools/list", &params, None), &|_| ()).await
        };
        let listed = list::drain(&self.info.server, ask, self.agreed.has_tools, http && era == Era::Modern).await?;
        *self.headers.lock().unwrap_or_else(PoisonError::into_inner) = listed.headers;
        Ok(Discovered::new(listed.tools, self.agreed.instructions.clone()))
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
                    let told = self.ask_task("tasks/update", &task.id, Some(answers)).await;
                    told.map_err(|failure| self.failed(failure))?;
                    reply::answered(server, task, keys.into_keys().collect())
                }
            },
            Unfinished { again: Some(again), .. } => {
                self.call_with(&again.call(), answers, again.state.as_ref(), cx.progress).await
            }
            Unfinished { .. } => Err(self.invalid("the checkpoint says nothing")),
        }
    }

    async fn cancel(&self, from: &Checkpoint) -> Result<(), TransportError> {
        match Unfinished::read(&self.info.server, from)?.task {
            Some(task) => {
                let told = self.ask_task("tasks/cancel", &task.id, None).await;
                told.map(drop).map_err(|failure| self.failed(failure))
            }
            // A call that waits for answers is nowhere: the server keeps nothing of it.
            None => Ok(()),
        }
    }

    async fn changed(&self) {
        self.way.changed().await;
    }

    fn is_closed(&self) -> bool {
        self.way.is_closed()
    }

    async fn close(&self) {
        self.way.close().await;
    }
}
