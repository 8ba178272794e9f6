//! A transport that answers by script: for simulations and benches of what stands above a transport.
//!
//! Every call takes the next [`Step`] of its tool, or the standing one when the script is used up, and is recorded. It speaks no protocol
//! and keeps none of a real server's promises unless the script says so.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::{
    id::ServerName,
    json::RawJson,
    queue::{Answer, Checkpoint, InputRequest, Progress},
    transport::{
        CallContext, Connector, Delivered, Discovered, McpTransport, Resume, ToolCall, ToolOutput, ToolReply,
        TransportError, TransportErrorKind, TransportInfo,
    },
};

/// What one call does.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Step {
    /// Answers with this text.
    Done(String),
    /// Answers with this `result` object.
    Raw(RawJson),
    /// Answers with `isError` and this text.
    ToolFails(String),
    /// Fails.
    Fail(TransportErrorKind, Delivered),
    /// Fails and asks for a pause.
    Busy(Duration),
    /// Never answers; ends only when dropped.
    Hang,
    /// Works on as a remote task of this name; the next step of its tool is what a poll gets.
    Working {
        /// Its task id.
        task: String,
        /// When to poll.
        poll_after: Duration,
    },
    /// Asks this; the next step of its tool is what the answer gets.
    NeedsInput(Vec<InputRequest>),
    /// Reports progress, then goes on with the next step at once.
    Progress(Progress),
    /// Waits on tokio's clock, then goes on with the next step.
    Delay(Duration),
    /// Marks the connection closed, fails with what is known of the delivery.
    Close(Delivered),
}

/// What was asked of a scripted transport.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Seen {
    /// A connection was made.
    Connect,
    /// A tool was called.
    Call(ToolCall),
    /// A checkpoint was polled.
    Poll(Checkpoint),
    /// A question was answered.
    Answer(Checkpoint, Answer),
    /// A checkpoint was cancelled.
    Cancel(Checkpoint),
    /// A call or a resume was dropped before its end.
    Dropped(String),
    /// The connection was closed.
    Close,
}

#[derive(Debug, Default)]
struct Script {
    steps: BTreeMap<String, VecDeque<Step>>,
    standing: Option<Step>,
    refuse_connects: u32,
    seen: Vec<Seen>,
    added: Vec<RawJson>,
}

/// A scripted server. Clones share the script; connections close one by one.
#[derive(Debug, Clone)]
pub struct ScriptedTransport {
    info: TransportInfo,
    tools: Arc<Vec<RawJson>>,
    script: Arc<Mutex<Script>>,
    closed: Arc<AtomicBool>,
    changed: Arc<Notify>,
}

impl ScriptedTransport {
    /// A server without tools, whose calls answer `ok` unless told otherwise.
    #[must_use]
    pub fn new(server: ServerName) -> Self {
        Self {
            info: TransportInfo::new(server, "scripted", "scripted", "scripted 0"),
            tools: Arc::default(),
            script: Arc::default(),
            closed: Arc::default(),
            changed: Arc::default(),
        }
    }

    /// With this raw tool definition.
    #[must_use]
    pub fn tool(mut self, definition: Value) -> Self {
        Arc::make_mut(&mut self.tools).push(definition.into());
        self
    }

    /// With a tool that takes any object, described in words; `idempotent` is what it says of repeated calls.
    #[must_use]
    pub fn simple_tool(self, name: &str, description: &str, idempotent: bool) -> Self {
        self.tool(json!({
            "name": name, "description": description, "inputSchema": { "type": "object" },
            "annotations": { "idempotentHint": idempotent },
        }))
    }

    /// Adds steps to the script of a tool.
    pub fn script(&self, tool: &str, steps: impl IntoIterator<Item = Step>) {
        self.locked().steps.entry(tool.to_owned()).or_default().extend(steps);
    }

    /// Offers one more tool from now on, and says so.
    pub fn add_tool(&self, definition: Value) {
        self.locked().added.push(definition.into());
        self.changed.notify_one();
    }

    /// What every call gets whose script is used up.
    pub fn standing(&self, step: Step) {
        self.locked().standing = Some(step);
    }

    /// The next so many connects fail.
    pub fn refuse_connects(&self, times: u32) {
        self.locked().refuse_connects = times;
    }

    /// Everything that was asked so far, in order.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.locked().seen.clone()
    }

    /// How often a tool was called; resumes do not count.
    #[must_use]
    pub fn calls(&self, tool: &str) -> usize {
        self.locked().seen.iter().filter(|seen| matches!(seen, Seen::Call(call) if call.tool == tool)).count()
    }

    fn locked(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, tool: &str) -> Step {
        let mut script = self.locked();
        let next = script.steps.get_mut(tool).and_then(VecDeque::pop_front);
        next.or_else(|| script.standing.clone()).unwrap_or_else(|| Step::Done("ok".to_owned()))
    }

    fn fail(&self, kind: TransportErrorKind, delivered: Delivered) -> TransportError {
        let message = format!("server `{}`: scripted {kind:?}", self.info.server);
        TransportError::new(kind, delivered, message)
    }

    async fn run(&self, tool: &str, cx: &CallContext<'_>) -> Result<ToolReply, TransportError> {
        let mut dropped = Dropped { transport: self, tool, armed: true };
        let checkpoint = |task: Option<&str>| Checkpoint {
            text: json!({ "tool": tool, "task": task }).to_string(),
            replay_safe: task.is_some(),
        };
        let result = loop {
            break match self.next(tool) {
                Step::Done(text) => Ok(ToolReply::Done(result(&text, false))),
                Step::Raw(body) => Ok(ToolReply::Done(ToolOutput::new(body, false))),
                Step::ToolFails(text) => Ok(ToolReply::Done(result(&text, true))),
                Step::Fail(kind, delivered) => Err(self.fail(kind, delivered)),
                Step::Busy(pause) => {
                    Err(self.fail(TransportErrorKind::Busy, Delivered::No).with_retry_after(Some(pause)))
                }
                Step::Hang => std::future::pending().await,
                Step::Working { task, poll_after } => {
                    Ok(ToolReply::Working { checkpoint: checkpoint(Some(&task)), poll_after, progress: None })
                }
                Step::NeedsInput(requests) => Ok(ToolReply::NeedsInput { checkpoint: checkpoint(None), requests }),
                Step::Progress(progress) => {
                    (cx.progress)(progress);
                    continue;
                }
                Step::Delay(pause) => {
                    tokio::time::sleep(pause).await;
                    continue;
                }
                Step::Close(delivered) => {
                    self.closed.store(true, Ordering::Release);
                    Err(self.fail(TransportErrorKind::Closed, delivered))
                }
            };
        };
        dropped.armed = false;
        result
    }

    fn open(&self) -> Result<(), TransportError> {
        if self.is_closed() { Err(self.fail(TransportErrorKind::Closed, Delivered::No)) } else { Ok(()) }
    }

    fn tool_of(&self, from: &Checkpoint) -> Result<String, TransportError> {
        let read: Option<Value> = serde_json::from_str(&from.text).ok();
        let tool = read.as_ref().and_then(|v| v["tool"].as_str()).map(str::to_owned);
        tool.ok_or_else(|| self.fail(TransportErrorKind::Invalid, Delivered::No))
    }
}

fn result(text: &str, is_error: bool) -> ToolOutput {
    let body = json!({ "content": [{ "type": "text", "text": text }], "isError": is_error });
    ToolOutput::new(body.into(), is_error)
}

struct Dropped<'a> {
    transport: &'a ScriptedTransport,
    tool: &'a str,
    armed: bool,
}

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.transport.locked().seen.push(Seen::Dropped(self.tool.to_owned()));
        }
    }
}

#[async_trait]
impl McpTransport for ScriptedTransport {
    fn info(&self) -> &TransportInfo {
        &self.info
    }

    async fn discover(&self) -> Result<Discovered, TransportError> {
        self.open()?;
        let tools = self.tools.iter().chain(&self.locked().added).cloned().collect();
        Ok(Discovered::new(tools, None))
    }

    async fn changed(&self) {
        self.changed.notified().await;
    }

    async fn call(&self, call: &ToolCall, cx: &CallContext<'_>) -> Result<ToolReply, TransportError> {
        self.open()?;
        self.locked().seen.push(Seen::Call(call.clone()));
        self.run(&call.tool, cx).await
    }

    async fn resume(&self, from: &Checkpoint, with: Resume, cx: &CallContext<'_>) -> Result<ToolReply, TransportError> {
        self.open()?;
        let tool = self.tool_of(from)?;
        self.locked().seen.push(match with {
            Resume::Poll => Seen::Poll(from.clone()),
            Resume::Answer(answer) => Seen::Answer(from.clone(), answer),
        });
        self.run(&tool, cx).await
    }

    async fn cancel(&self, from: &Checkpoint) -> Result<(), TransportError> {
        self.open()?;
        self.locked().seen.push(Seen::Cancel(from.clone()));
        Ok(())
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    async fn close(&self) {
        if !self.closed.swap(true, Ordering::AcqRel) {
            self.locked().seen.push(Seen::Close);
        }
    }
}

#[async_trait]
impl Connector for ScriptedTransport {
    async fn connect(&self) -> Result<Arc<dyn McpTransport>, TransportError> {
        let mut script = self.locked();
        if let Some(left) = script.refuse_connects.checked_sub(1) {
            script.refuse_connects = left;
            return Err(self.fail(TransportErrorKind::Connect, Delivered::No));
        }
        script.seen.push(Seen::Connect);
        Ok(Arc::new(Self { closed: Arc::default(), ..self.clone() }))
    }

    fn target(&self) -> String {
        "scripted".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_script_is_followed_and_recorded() {
        let server = ScriptedTransport::new(ServerName::new("s").unwrap()).simple_tool("t", "does", true);
        server.refuse_connects(1);
        assert_eq!(server.connect().await.unwrap_err().delivered, Delivered::No);
        let link = server.connect().await.unwrap();
        let task = Step::Working { task: "42".to_owned(), poll_after: Duration::from_secs(1) };
        server.script("t", [Step::Delay(Duration::from_secs(3_600)), task, Step::Done("late".to_owned()), Step::Hang]);
        let (call, cx) = (ToolCall::new("t", RawJson::empty_object()), CallContext::quiet());
        let ToolReply::Working { checkpoint, .. } = link.call(&call, &cx).await.unwrap() else { panic!("a task") };
        assert!(matches!(link.resume(&checkpoint, Resume::Poll, &cx).await.unwrap(), ToolReply::Done(_)));
        assert!(tokio::time::timeout(Duration::from_secs(9), link.call(&call, &cx)).await.is_err());
        assert!(matches!(link.call(&call, &cx).await.unwrap(), ToolReply::Done(_)), "the standing answer");
        assert_eq!(server.calls("t"), 3);
        assert!(server.seen().contains(&Seen::Dropped("t".to_owned())));
        link.close().await;
        assert_eq!(link.call(&call, &cx).await.unwrap_err().delivered, Delivered::No);
    }
}
