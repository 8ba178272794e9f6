//! `tools/call`: from the name that a client knows to the server that is called, and what the client is told of it.
//!
//! The plain way writes nothing anywhere: the call is made on the live connection and its result passed on as it was written. A call owns all
//! it needs, so that it can outlive its request: one that outlasts a set wait becomes a job while it runs on.

use std::{borrow::Cow, future::poll_fn, pin::Pin, sync::Arc, time::Duration};

use metamcp_core::{
    engine::{Adopted, EngineError},
    id::ServerName,
    json::RawJson,
    queue::Progress,
    transport::{
        CallContext, Delivered, RelayError, RelayMeta, RelayRequest, RelaySide as _, ToolCall, ToolReply,
        TransportError, TransportErrorKind,
    },
};
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::{
    Caller, ClientSide, Gateway, Request, RpcFault,
    bridge::{self, Bridge, Goes, Origin, kind},
    catalog::ToolRef,
    front::Word,
    members::{Key, quoted},
    methods::relayed::{Beside, note_required},
    notes::{Notes, PROGRESS, progress_of},
    own_tools::{self, OwnReply, OwnTool},
    pointers, retry, tasks,
    tool_result::{METHOD, failed, shown},
    unanswered::Unanswered,
};
use crate::wire::era::{INTERNAL_ERROR, INVALID_PARAMS};

/// The client's own key of a call, in `_meta`: calls with the same one are one call.
const KEY_META: &str = "io.github.metamcp/idempotencyKey";
/// Longest a call may last that cannot become a job.
const CALL_MAX: Duration = Duration::from_secs(3_600);
/// What arguments hold that are taken from elsewhere.
static REF: Word = Word::new("\"$ref\"");
/// The type of a result that is still to come.
static TASK: Word = Word::new("task");

/// Answers `tools/call`.
pub(crate) async fn answer(
    gateway: &Gateway,
    caller: &Caller,
    request: &Request<'_>,
    side: &dyn ClientSide,
) -> Result<RawJson, RpcFault> {
    let invalid = |why: String| RpcFault::new(INVALID_PARAMS, why);
    let name = request.param("name").ok_or_else(|| invalid("name: which tool? tools/list names them".to_owned()))?;
    let Ok(Key(name)) = serde_json::from_str::<Key<'_>>(name.get()) else {
        return Err(invalid("name: must be a string".to_owned()));
    };
    if request.param("arguments").is_some_and(|arguments| !arguments.get().starts_with('{')) {
        return Err(invalid("arguments: must be an object".to_owned()));
    }
    let Some(tool) = gateway.awaited_tool(caller, &name).await else {
        return match own_tools::named(&name) {
            // Boxed: it may stand for the call of another tool.
            Some(own) => Box::pin(of_own(own, gateway, caller, request, side)).await,
            None => Err(invalid(format!("unknown tool `{}`; tools/list names those there are", shown(&name)))),
        };
    };
    let arguments = match request.param("arguments") {
        Some(arguments) if REF.is_in(arguments.get()) => {
            let given: RawJson = arguments.to_owned().into();
            match Box::pin(gateway.engine().fill(&caller.principal, &given)).await {
                Ok(Some(filled)) => Some(filled),
                // It names a task that has not ended: a task of its own waits for that.
                Ok(None) => {
                    return Box::pin(tasks::submit_call(gateway, caller, side, request, &tool, given, None)).await;
                }
                Err(error) => return Ok(tasks::refusal(&error)),
            }
        }
        _ => None,
    };
    let key = match request.meta(KEY_META) {
        Some(key) => Some(
            serde_json::from_str::<String>(key.get())
                .map_err(|_| invalid(format!("_meta.{KEY_META}: must be a string")))?,
        ),
        None => None,
    };
    if key.is_some() || tool.heavy {
        let arguments = arguments.or_else(|| request.param("arguments").map(|raw| raw.to_owned().into()));
        let arguments = arguments.unwrap_or_default();
        // Boxed, like all the rare ways: the future of every call would carry them.
        return Box::pin(tasks::submit_call(gateway, caller, side, request, &tool, arguments, key.as_deref())).await;
    }
    direct(gateway, caller, request, side, tool, arguments).await
}

/// A call to one of our tools.
async fn of_own(
    own: OwnTool,
    gateway: &Gateway,
    caller: &Caller,
    request: &Request<'_>,
    side: &dyn ClientSide,
) -> Result<RawJson, RpcFault> {
    let other = match own_tools::call(own, gateway, caller, request, side).await? {
        OwnReply::Result(result) => return Ok(result),
        OwnReply::Call(other) => other,
    };
    match answer(gateway, caller, &other, side).await {
        // The caller named a tool in an argument: that is for its model to mend.
        Err(fault) if fault.code == INVALID_PARAMS => Ok(own_tools::refused(&fault.message)),
        told => told,
    }
}

/// A call on the live connection of its server.
async fn direct(
    gateway: &Gateway,
    caller: &Caller,
    request: &Request<'_>,
    side: &dyn ClientSide,
    tool: Arc<ToolRef>,
    arguments: Option<RawJson>,
) -> Result<RawJson, RpcFault> {
    let call = Arc::new(Call::new(gateway, caller, request, tool, arguments.as_ref()));
    let id = &call.tool.capability.id;
    let origin = Origin { who: &caller.principal, server: id.server(), method: METHOD, name: id.tool() };
    let mut bridge = Bridge::new(gateway.seal(), gateway.elicitations(), caller, side, origin, request)?;
    if let Goes::Job(job) = *bridge.goes() {
        return Box::pin(tasks::go_on(gateway, caller, &mut bridge, job, Some(&call.tool))).await;
    }
    loop {
        match carry(gateway, caller, side, request, &call, &bridge).await? {
            Carried::Told(result) => return Ok(result),
            Carried::Came(result) if !bridge::asks(&result) => return Ok(fit(gateway, caller, &call, result).await),
            Carried::Came(result) => {
                let unanswered = Unanswered::of(gateway, id.server(), &result);
                let told = Box::pin(bridge.take(result)).await?;
                unanswered.taken();
                if let Some(result) = told {
                    return Ok(fit(gateway, caller, &call, result).await);
                }
            }
        }
    }
}

/// A result as the client is given it: one that is too large for it is kept.
async fn fit(gateway: &Gateway, caller: &Caller, call: &Arc<Call>, result: RawJson) -> RawJson {
    if pointers::is_large(gateway, &result) {
        Box::pin(pointers::keep(gateway, caller, &call.tool.capability, call.arguments(), result)).await
    } else {
        result
    }
}

enum Carried {
    /// The server's result.
    Came(RawJson),
    /// What the client is told in its place.
    Told(RawJson),
}

/// One round of a call: until the server answers, or until it has lasted so long that it becomes a job.
async fn carry(
    gateway: &Gateway,
    caller: &Caller,
    side: &dyn ClientSide,
    request: &Request<'_>,
    call: &Arc<Call>,
    bridge: &Bridge<'_>,
) -> Result<Carried, RpcFault> {
    let beside = Beside::new(request, side);
    let mut running: Running = Box::pin(Arc::clone(call).run(bridge.answers().cloned(), bridge.state().cloned()));
    let patience = tasks::patience(gateway, caller);
    let ran = match timeout(patience.unwrap_or(CALL_MAX), watched(&mut running, &call.notes, &beside)).await {
        Ok(ran) => ran,
        Err(_) if patience.is_none() => Err(too_long(call)),
        Err(_) => match adopted(gateway, caller, call).await {
            Ok(adopted) => {
                let handle = tasks::handle_of(caller, adopted.job(), Some(&call.tool));
                let (report, call) = (adopted.reporter(), Arc::clone(call));
                adopted.run(async move {
                    let ran = reported(running, &call.notes, report).await;
                    call.as_reply(ran)
                });
                return Ok(Carried::Told(handle));
            }
            Err(error) => {
                tracing::warn!(tool = %call.tool.capability.id, %error, "a long call could not become a task and goes on as it is");
                let rest = Box::pin(timeout(CALL_MAX, watched(&mut running, &call.notes, &beside)));
                rest.await.unwrap_or_else(|_| Err(too_long(call)))
            }
        },
    };
    let begun = match ran {
        Ok(Came::Result(result)) if kind(&result, &TASK) => call.as_reply(Ok(Came::Result(result))),
        Ok(Came::Result(result)) => return Ok(Carried::Came(result)),
        Ok(Came::Begun(reply)) => Ok(reply),
        Err(RelayError::Rpc(error)) => {
            note_required(gateway, call.server(), &error, side);
            return Err(RpcFault { code: error.code, message: error.message, data: error.data });
        }
        Err(RelayError::Transport(error)) => Err(error),
    };
    match begun {
        Ok(reply) => Box::pin(begin(gateway, caller, call, reply)).await.map(Carried::Told),
        Err(error) => Ok(Carried::Told(failure(call, &error))),
    }
}

/// The call as a job.
async fn adopted(gateway: &Gateway, caller: &Caller, call: &Call) -> Result<Adopted, EngineError> {
    Box::pin(gateway.engine().adopt(&caller.principal, &call.tool.capability.id, call.arguments())).await
}

/// A server that goes on by itself: its task becomes a job, which polls it.
async fn begin(gateway: &Gateway, caller: &Caller, call: &Arc<Call>, reply: ToolReply) -> Result<RawJson, RpcFault> {
    match adopted(gateway, caller, call).await {
        Ok(adopted) => {
            let handle = tasks::handle_of(caller, adopted.job(), Some(&call.tool));
            adopted.run(std::future::ready(Ok(reply)));
            Ok(handle)
        }
        Err(error) => {
            let server = call.tool.capability.id.server();
            let message = format!("server `{server}` began a task of its own, and it cannot be followed: {error}");
            Err(RpcFault::new(INTERNAL_ERROR, message))
        }
    }
}

/// Polls a call and passes its notifications on as they come.
async fn watched(running: &mut Running, notes: &Notes, beside: &Beside<'_>) -> Ran {
    poll_fn(|cx| {
        let polled = running.as_mut().poll(cx);
        for (method, params) in notes.take() {
            beside.notify(&method, params.as_deref());
        }
        polled
    })
    .await
}

/// Polls a call that has become a job: its progress goes to the job, other notifications have nobody to go to.
async fn reported(mut running: Running, notes: &Notes, report: impl Fn(Progress)) -> Ran {
    poll_fn(|cx| {
        let polled = running.as_mut().poll(cx);
        for (method, params) in notes.take() {
            if let (PROGRESS, Some(progress)) = (method.as_str(), params.as_deref().and_then(progress_of)) {
                report(progress);
            }
        }
        polled
    })
    .await
}

/// That a call which cannot become a job does not last for ever.
fn too_long(call: &Call) -> RelayError {
    let server = call.tool.capability.id.server();
    let message = format!("server `{server}` did not answer within {} s", CALL_MAX.as_secs());
    RelayError::Transport(TransportError::new(TransportErrorKind::Timeout, Delivered::Maybe, message))
}

type Running = Pin<Box<dyn Future<Output = Ran> + Send>>;
type Ran = Result<Came, RelayError>;

/// What a server answered.
pub(crate) enum Came {
    /// A result, as it was written.
    Result(RawJson),
    /// The call goes on elsewhere, or needs answers.
    Begun(ToolReply),
}

/// One call with all it needs.
pub(crate) struct Call {
    gateway: Gateway,
    pub(crate) tool: Arc<ToolRef>,
    params: Vec<(Cow<'static, str>, Box<RawValue>)>,
    meta: Vec<(Box<str>, Box<RawValue>)>,
    capabilities: RawJson,
    client_info: Option<RawJson>,
    log_level: Option<RawJson>,
    progress: bool,
    notes: Notes,
}

impl Call {
    fn new(
        gateway: &Gateway,
        caller: &Caller,
        request: &Request<'_>,
        tool: Arc<ToolRef>,
        arguments: Option<&RawJson>,
    ) -> Self {
        let mut params = Vec::with_capacity(request.params.len());
        for (key, value) in &request.params {
            match (&**key, arguments) {
                // Set anew for each round; `task` is of an older revision and means nothing.
                ("name" | "inputResponses" | "requestState" | "task", _) => {}
                ("arguments", filled) => {
                    let value = filled.map_or(*value, RawJson::raw);
                    params.push(("arguments".into(), value.to_owned()));
                }
                _ => params.push((key.to_string().into(), (*value).to_owned())),
            }
        }
        let passes = |key: &str| key != "progressToken" && !key.starts_with("io.modelcontextprotocol/");
        let meta = request.meta.iter().filter(|(key, _)| passes(key));
        Self {
            gateway: gateway.clone(),
            tool,
            params,
            meta: meta.map(|(key, value)| (key.as_ref().into(), (*value).to_owned())).collect(),
            capabilities: caller.capabilities.clone(),
            client_info: caller.client_info.clone(),
            log_level: caller.log_level.clone(),
            progress: request.meta("progressToken").is_some(),
            notes: Notes::default(),
        }
    }

    /// Its arguments.
    pub(crate) fn arguments(&self) -> RawJson {
        let given = self.params.iter().find(|(key, _)| &**key == "arguments");
        given.map_or_else(RawJson::empty_object, |(_, arguments)| arguments.clone().into())
    }

    fn server(&self) -> &ServerName {
        self.tool.capability.id.server()
    }

    async fn run(self: Arc<Self>, answers: Option<RawJson>, state: Option<RawJson>) -> Ran {
        let mut tries = 0;
        loop {
            self.notes.begin();
            let error = match self.attempt(answers.as_ref(), state.as_ref()).await {
                Err(RelayError::Transport(error)) => error,
                other => return other,
            };
            tries += 1;
            match retry::pause_after(tries, &error, self.tool.capability.annotations) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(RelayError::Transport(error)),
            }
        }
    }

    async fn attempt(&self, answers: Option<&RawJson>, state: Option<&RawJson>) -> Ran {
        let transport = self.gateway.engine().transport(self.server()).await.map_err(RelayError::Transport)?;
        let Some(relay) = transport.relay() else {
            let call = ToolCall::new(self.tool.capability.id.tool(), self.arguments());
            let progress = |progress| self.notes.progress(&progress);
            return match transport.call(&call, &CallContext { progress: &progress }).await {
                Ok(ToolReply::Done(output)) => Ok(Came::Result(output.body)),
                Ok(begun) => Ok(Came::Begun(begun)),
                Err(error) => Err(RelayError::Transport(error)),
            };
        };
        let mut params: Vec<(&str, &RawValue)> = Vec::with_capacity(self.params.len() + 3);
        params.push(("name", &self.tool.own_name));
        params.extend(self.params.iter().map(|(key, value)| (&**key, &**value)));
        params.extend(answers.map(|answers| ("inputResponses", answers.raw())));
        params.extend(state.map(|state| ("requestState", state.raw())));
        let extra: Vec<(&str, &RawValue)> = self.meta.iter().map(|(key, value)| (&**key, &**value)).collect();
        let meta = RelayMeta {
            capabilities: Some(self.capabilities.raw()),
            client_info: self.client_info.as_ref().map(RawJson::raw),
            log_level: self.log_level.as_ref().map(RawJson::raw),
            progress: self.progress,
            extra: &extra,
        };
        let request =
            RelayRequest { method: METHOD, name: Some(self.tool.capability.id.tool()), params: &params, meta };
        relay.request(request, &self.notes).await.map(Came::Result)
    }

    /// What came of it as a job takes it.
    fn as_reply(&self, ran: Ran) -> Result<ToolReply, TransportError> {
        match ran {
            Ok(Came::Result(result)) => {
                crate::upstream::tool_reply(self.server(), self.tool.capability.id.tool(), self.arguments(), result)
            }
            Ok(Came::Begun(reply)) => Ok(reply),
            Err(RelayError::Rpc(error)) => {
                let (kind, server) = (TransportErrorKind::Rejected { code: error.code }, self.server());
                let message = format!("server `{server}` answered with error {}: {}", error.code, error.message);
                Err(TransportError::new(kind, Delivered::Yes, message))
            }
            Err(RelayError::Transport(error)) => Err(error),
        }
    }
}

/// A call without an answer, as the model reads it.
fn failure(call: &Call, error: &TransportError) -> RawJson {
    let (code, text) = retry::told(error, call.tool.capability.annotations);
    tracing::info!(tool = %call.tool.capability.id, delivered = ?error.delivered, %error, "call failed");
    let server = call.server();
    failed(&text, code, &format!(r#","server":{}"#, quoted(server.as_str())))
}
