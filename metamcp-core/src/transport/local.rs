//! Rust functions of this process as the tools of a server: the shortest way, for embedding, examples and tests.
//!
//! [`LocalTools`] answers with the same `tools/call` result objects as a server over a wire, so nothing above knows the difference. It
//! does not check arguments against the input schema: the matcher has done so before a job exists.

use std::{
    any::Any,
    fmt,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
};

use async_trait::async_trait;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    CallContext, Connector, Delivered, Discovered, McpTransport, Resume, ToolCall, ToolOutput, ToolReply,
    TransportError, TransportErrorKind, TransportInfo,
};
use crate::{
    id::ServerName,
    json::RawJson,
    matching::Annotations,
    queue::{Checkpoint, Progress},
};

/// Progress reports of one call that wait for the caller; further ones are dropped.
const PROGRESS_QUEUE_MAX: usize = 64;

/// A tool's own failure: becomes a result with `isError`, so the job is done and its owner reads the message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ToolError {
    /// In words, for the caller.
    pub message: String,
}

impl ToolError {
    /// A failure in words.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

impl From<&str> for ToolError {
    fn from(message: &str) -> Self {
        Self::new(message)
    }
}

impl From<String> for ToolError {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}

/// Where a local tool reports how far it has come.
#[derive(Debug, Clone)]
pub struct LocalProgress(mpsc::Sender<Progress>);

impl LocalProgress {
    /// `value` units are done, of `total` when known. Never waits: a report nobody takes in time is dropped.
    pub fn report(&self, value: f64, total: Option<f64>, message: Option<&str>) {
        // A full queue or a caller that has gone loses the report, nothing else.
        let _ = self.0.try_send(Progress { value, total, message: message.map(str::to_owned) });
    }
}

type ToolFuture = Pin<Box<dyn Future<Output = Result<RawJson, ToolError>> + Send>>;
type ToolFn = Arc<dyn Fn(RawJson, LocalProgress) -> ToolFuture + Send + Sync>;

#[derive(Clone)]
struct LocalTool {
    name: String,
    definition: RawJson,
    run: ToolFn,
}

/// Functions of this process, offered as the tools of one server.
///
/// It is its own [`Connector`]: every connection shares the functions and can be closed by itself.
///
/// ```
/// use metamcp_core::{id::ServerName, matching::Annotations, transport::LocalTools};
/// use serde_json::json;
///
/// let schema = json!({ "type": "object", "properties": { "name": { "type": "string" } } });
/// let tools = LocalTools::new(ServerName::new("greeter")?).tool(
///     "greet",
///     "greets somebody by name",
///     schema,
///     Annotations { read_only_hint: Some(true), ..Annotations::default() },
///     async |arguments, _progress| {
///         let arguments: serde_json::Value = arguments.view().map_err(|e| e.to_string())?;
///         Ok(json!({ "greeting": format!("hello {}", arguments["name"].as_str().unwrap_or("you")) }))
///     },
/// );
/// # let _ = tools;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct LocalTools {
    info: TransportInfo,
    tools: Arc<Vec<LocalTool>>,
    instructions: Option<String>,
    closed: CancellationToken,
}

impl LocalTools {
    /// A server without tools.
    #[must_use]
    pub fn new(server: ServerName) -> Self {
        let implementation = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));
        Self {
            info: TransportInfo::new(server, "local", "local", implementation),
            tools: Arc::default(),
            instructions: None,
            closed: CancellationToken::new(),
        }
    }

    /// With words on what the server is for; a need may match them.
    #[must_use]
    pub fn instructions(mut self, instructions: impl Into<String>) -> Self {
        self.instructions = Some(instructions.into());
        self
    }

    /// With one more tool; one of the same name is replaced.
    ///
    /// The function gets the arguments as they were written, and answers with any JSON: an object becomes `structuredContent` beside its
    /// text, a string becomes the text itself. It is dropped where it stands when the caller goes away.
    #[must_use]
    pub fn tool<F, Fut, T>(
        mut self,
        name: impl Into<String>,
        description: impl Into<String>,
        input_schema: impl Into<RawJson>,
        annotations: Annotations,
        run: F,
    ) -> Self
    where
        F: Fn(RawJson, LocalProgress) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, ToolError>> + Send + 'static,
        T: Into<RawJson>,
    {
        let (name, description) = (name.into(), description.into());
        let mut hints = serde_json::to_value(annotations).expect("hints have string keys only");
        if let Some(hints) = hints.as_object_mut() {
            // What is not said is absent on the wire, not null.
            hints.retain(|_, hint| !hint.is_null());
        }
        let definition = Definition {
            name: &name,
            description: &description,
            input_schema: input_schema.into(),
            annotations: hints,
        };
        let definition = RawJson::from_value(&definition).expect("a definition has string keys only");
        let run: ToolFn = Arc::new(move |arguments, progress| {
            let answer = run(arguments, progress);
            Box::pin(async move { answer.await.map(Into::into) })
        });
        let tools = Arc::make_mut(&mut self.tools);
        tools.retain(|tool| tool.name != name);
        tools.push(LocalTool { name, definition, run });
        self
    }

    fn error(&self, kind: TransportErrorKind, delivered: Delivered, what: impl fmt::Display) -> TransportError {
        TransportError::new(kind, delivered, format!("server `{}`: {what}", self.info.server))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Definition<'a> {
    name: &'a str,
    description: &'a str,
    input_schema: RawJson,
    annotations: serde_json::Value,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CallResult<'a> {
    content: [TextContent<'a>; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    structured_content: Option<&'a RawValue>,
    is_error: bool,
}

#[derive(Serialize)]
struct TextContent<'a> {
    r#type: &'static str,
    text: &'a str,
}

fn output(answer: &Result<RawJson, ToolError>) -> ToolOutput {
    let plain: String;
    let (text, structured_content) = match answer {
        Ok(value) if value.is_object() => (value.get(), Some(value.raw())),
        Ok(value) => match value.view::<String>() {
            Ok(string) => {
                plain = string;
                (plain.as_str(), None)
            }
            Err(_) => (value.get(), None),
        },
        Err(error) => (error.message.as_str(), None),
    };
    let is_error = answer.is_err();
    let result = CallResult { content: [TextContent { r#type: "text", text }], structured_content, is_error };
    ToolOutput::new(RawJson::from_value(&result).expect("a result has string keys only"), is_error)
}

/// Runs a tool, a panic in it being an error of the call and of nothing else.
async fn guarded(mut run: ToolFuture) -> Result<Result<RawJson, ToolError>, String> {
    poll_fn(move |cx| match catch_unwind(AssertUnwindSafe(|| run.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => std::task::Poll::Ready(Err(panic_message(&*panic))),
    })
    .await
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}

impl fmt::Debug for LocalTools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.tools.iter().map(|tool| &tool.name).collect();
        f.debug_struct("LocalTools").field("server", &self.info.server).field("tools", &names).finish_non_exhaustive()
    }
}

#[async_trait]
impl McpTransport for LocalTools {
    fn info(&self) -> &TransportInfo {
        &self.info
    }

    async fn discover(&self) -> Result<Discovered, TransportError> {
        if self.is_closed() {
            return Err(self.error(TransportErrorKind::Closed, Delivered::No, "connection is closed"));
        }
        let tools = self.tools.iter().map(|tool| tool.definition.clone()).collect();
        Ok(Discovered::new(tools, self.instructions.clone()))
    }

    async fn call(&self, call: &ToolCall, cx: &CallContext<'_>) -> Result<ToolReply, TransportError> {
        if self.is_closed() {
            return Err(self.error(TransportErrorKind::Closed, Delivered::No, "connection is closed"));
        }
        let Some(tool) = self.tools.iter().find(|tool| tool.name == call.tool) else {
            // The code that MCP servers answer an unknown tool with.
            let kind = TransportErrorKind::Rejected { code: -32602 };
            return Err(self.error(kind, Delivered::Yes, format_args!("unknown tool `{}`", call.tool)));
        };
        let (reports, mut progress) = mpsc::channel(PROGRESS_QUEUE_MAX);
        // Called inside the guard: a function may panic before it returns its future.
        let (run, arguments) = (Arc::clone(&tool.run), call.arguments.clone());
        let mut run = std::pin::pin!(guarded(Box::pin(async move { run(arguments, LocalProgress(reports)).await })));
        let answer = loop {
            tokio::select! {
                biased;
                Some(report) = progress.recv() => (cx.progress)(report),
                answer = &mut run => break answer,
                () = self.closed.cancelled() => {
                    let what = "connection was closed during the call";
                    return Err(self.error(TransportErrorKind::Closed, Delivered::Maybe, what));
                }
            }
        };
        while let Ok(report) = progress.try_recv() {
            (cx.progress)(report);
        }
        let answer = answer.map_err(|panic| {
            let what = format!("tool `{}` panicked: {panic}", call.tool);
            self.error(TransportErrorKind::Protocol, Delivered::Maybe, what)
        })?;
        Ok(ToolReply::Done(output(&answer)))
    }

    async fn resume(
        &self,
        _from: &Checkpoint,
        _with: Resume,
        _cx: &CallContext<'_>,
    ) -> Result<ToolReply, TransportError> {
        Err(self.error(TransportErrorKind::Invalid, Delivered::No, "local tools leave no checkpoint to go on from"))
    }

    async fn cancel(&self, _from: &Checkpoint) -> Result<(), TransportError> {
        Err(self.error(TransportErrorKind::Invalid, Delivered::No, "local tools leave no checkpoint to cancel"))
    }

    fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    async fn close(&self) {
        self.closed.cancel();
    }
}

#[async_trait]
impl Connector for LocalTools {
    async fn connect(&self) -> Result<Arc<dyn McpTransport>, TransportError> {
        Ok(Arc::new(Self { closed: CancellationToken::new(), ..self.clone() }))
    }

    fn target(&self) -> String {
        "in process".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn tools() -> LocalTools {
        let any = || json!({ "type": "object" });
        LocalTools::new(ServerName::new("local").unwrap())
            .tool("echo", "answers what it got", any(), Annotations::default(), async |arguments, _| Ok(arguments))
            .tool("word", "answers a string", any(), Annotations::default(), async |_, _| Ok(json!("a \"word\"")))
            .tool("boom", "panics", any(), Annotations::default(), |_, _| {
                panic!("out of cheese");
                #[allow(unreachable_code)]
                async {
                    Ok(Value::Null)
                }
            })
    }

    async fn run(tool: &str, arguments: &str) -> Result<ToolOutput, TransportError> {
        let call = ToolCall::new(tool, RawJson::parse(arguments).unwrap());
        match tools().call(&call, &CallContext::quiet()).await? {
            ToolReply::Done(output) => Ok(output),
            other => panic!("a local tool answers at once: {other:?}"),
        }
    }

    #[tokio::test]
    async fn numbers_come_back_as_they_were_spelled() {
        let arguments = r#"{"z":1.0,"big":12345678901234567890123,"huge":1e400}"#;
        let body = run("echo", arguments).await.unwrap().body;
        assert!(body.get().contains(&format!("\"structuredContent\":{arguments}")), "{body:?}");
    }

    #[tokio::test]
    async fn a_string_is_the_text_itself() {
        let body: Value = run("word", "{}").await.unwrap().body.view().unwrap();
        assert_eq!(body["content"][0]["text"], "a \"word\"");
        assert_eq!(body.get("structuredContent"), None);
    }

    #[tokio::test]
    async fn a_panic_is_an_error_of_its_call_alone() {
        let error = run("boom", "{}").await.unwrap_err();
        assert_eq!((&error.kind, error.delivered), (&TransportErrorKind::Protocol, Delivered::Maybe));
        assert!(error.to_string().contains("out of cheese"));
        assert!(run("word", "{}").await.is_ok());
    }

    #[tokio::test]
    async fn a_new_connection_is_open_after_the_first_was_closed() {
        let connector = tools();
        let first = connector.connect().await.unwrap();
        first.close().await;
        assert!(first.is_closed());
        assert!(!connector.connect().await.unwrap().is_closed());
    }
}
