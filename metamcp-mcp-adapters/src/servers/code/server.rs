//! `CodeServer`: the MCP side. Takes calls, runs each on a blocking thread under its limits, passes progress and
//! cancellation on, and turns failures into tool errors. It knows nothing of what the tools look for.

use std::sync::Arc;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation, JsonObject, ListToolsResult,
    PaginatedRequestParams, ProgressNotificationParam, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::{QuitReason, RequestContext, ServerInitializeError};
use rmcp::transport::IntoTransport;
use rmcp::{ErrorData, RoleServer, ServerHandler, ServiceExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};

use super::budget::{Budget, Stop};
use super::config::{CodeConfig, CodeLimits};
use super::error::{CodeServerError, ToolError};
use super::roots::Roots;
use super::scan::Context;
use super::tools::{Answer, CodeTool};

/// What a client is told about the server as a whole.
const INSTRUCTIONS: &str = "Reads source code by its syntax, below the folders it was given. `outline` shows what \
    files contain, `symbols` finds definitions by name, `references` finds uses of a name, `query` finds code patterns \
    with tree-sitter queries, `parse` shows the syntax tree and syntax errors. Nothing is ever written or run.";

/// The MCP server `code`. Cheap to clone; clones share the bound on concurrent calls.
#[derive(Debug, Clone)]
pub struct CodeServer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    roots: Roots,
    limits: CodeLimits,
    tools: Vec<Tool>,
    places: Arc<Semaphore>,
}

impl CodeServer {
    /// Builds a server that reads below the configured roots only.
    ///
    /// # Errors
    /// When no root is given, a root is not an existing folder, or a limit cannot be met by any call.
    pub fn new(config: CodeConfig) -> Result<Self, CodeServerError> {
        let CodeConfig { roots, limits } = config;
        limits.check()?;
        let roots = Roots::new(&roots)?;
        let places = Arc::new(Semaphore::new(limits.calls_max.min(Semaphore::MAX_PERMITS)));
        let tools = CodeTool::ALL.map(CodeTool::describe).into();
        Ok(Self { inner: Arc::new(Inner { roots, limits, tools, places }) })
    }

    async fn run(
        &self,
        tool: CodeTool,
        arguments: JsonObject,
        context: &RequestContext<RoleServer>,
    ) -> Result<Answer, ToolError> {
        let place = context
            .ct
            .run_until_cancelled(Arc::clone(&self.inner.places).acquire_owned())
            .await
            .ok_or(Stop::Cancelled)?
            .expect("the semaphore is never closed");
        let (report, mut reports) = watch::channel((0, 0));
        let inner = Arc::clone(&self.inner);
        let budget = Budget::start(inner.limits.call_ms_max, context.ct.clone());
        let work = tokio::task::spawn_blocking(move || {
            // Held until the work really ends, also when nobody waits for it any more.
            let _place = place;
            let progress = move |done, total| {
                report.send_replace((done, total));
            };
            let cx = Context { roots: &inner.roots, limits: &inner.limits, budget: &budget, progress: &progress };
            tool.run(cx, &arguments, &inner.described(tool).input_schema)
        });
        // Ends when the work drops its sender; the last report is seen before the end is.
        let forward = async {
            while reports.changed().await.is_ok() {
                let (done, total) = *reports.borrow_and_update();
                let Some(token) = context.meta.get_progress_token() else { continue };
                let progress = ProgressNotificationParam::new(token, done as f64)
                    .with_total(total as f64)
                    .with_message(format!("{done} of {total} files"));
                // Progress is a courtesy: a peer that is gone ends the call by cancellation, not here.
                if let Err(error) = context.peer.notify_progress(progress).await {
                    tracing::debug!(%error, "progress not sent");
                }
            }
        };
        let (done, ()) = tokio::join!(work, forward);
        done.unwrap_or_else(|error| {
            tracing::error!(%error, tool = tool.name(), "tool failed");
            Err(ToolError::new("the tool failed on this input, please report it"))
        })
    }
}

impl Inner {
    fn described(&self, tool: CodeTool) -> &Tool {
        self.tools.iter().find(|known| known.name == tool.name()).expect("new describes all tools")
    }
}

impl ServerHandler for CodeServer {
    fn get_info(&self) -> ServerConfig {
        let implementation = Implementation::new("code", env!("CARGO_PKG_VERSION"))
            .with_title("Source code by syntax")
            .with_description("Outlines, definitions, references, tree queries and syntax errors of source code");
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(implementation)
            .with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(self.inner.tools.clone()))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        CodeTool::by_name(name).map(|tool| self.inner.described(tool).clone())
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let Some(tool) = CodeTool::by_name(&request.name) else {
            let names = CodeTool::ALL.map(CodeTool::name).join(", ");
            let message = format!("unknown tool `{}`, this server has: {names}", request.name);
            return Err(ErrorData::invalid_params(message, None));
        };
        let result = match self.run(tool, request.arguments.unwrap_or_default(), &context).await {
            Ok(Answer { text, structured }) => {
                let mut result = CallToolResult::success(vec![ContentBlock::text(text)]);
                result.structured_content = Some(structured);
                result
            }
            Err(ToolError(message)) => CallToolResult::error(vec![ContentBlock::text(message)]),
        };
        Ok(result.into())
    }
}

/// Serves one session on the standard input and output of this process, until the input is closed. Nothing else may
/// write to the standard output meanwhile.
///
/// # Errors
/// When the session cannot be served; see [`serve_io`].
///
/// # Cancel safety
/// Dropping the future ends the session; a read of the standard input already begun stays behind on its thread.
pub async fn serve_stdio(server: CodeServer) -> Result<(), CodeServerError> {
    serve(server, rmcp::transport::stdio()).await
}

/// Serves one session over any byte stream, as newline-delimited JSON, until the peer closes it. Speaks MCP 2026-07-28
/// (`server/discover`, metadata in each request) and the revisions with `initialize`, as the client chooses.
///
/// # Errors
/// When the first message is not one that begins a session, or the stream breaks before it began.
///
/// # Cancel safety
/// Dropping the future ends the session.
pub async fn serve_io(
    server: CodeServer,
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<(), CodeServerError> {
    serve(server, io).await
}

async fn serve<T, E, A>(server: CodeServer, transport: T) -> Result<(), CodeServerError>
where
    T: IntoTransport<RoleServer, E, A>,
    E: std::error::Error + Send + Sync + 'static,
{
    let session = match server.serve(transport).await {
        Ok(session) => session,
        // A peer that leaves before it asked anything did nothing wrong.
        Err(ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
        Err(error) => return Err(CodeServerError::Session(error.into())),
    };
    match session.waiting().await {
        Ok(QuitReason::JoinError(error)) | Err(error) => Err(CodeServerError::Session(error.into())),
        Ok(_) => Ok(()),
    }
}
