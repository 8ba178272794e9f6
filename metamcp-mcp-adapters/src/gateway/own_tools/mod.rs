//! Our own tools: finding one among thousands, calling it, stating a need in words, and asking after what goes on.
//!
//! `find_tools`, `call_tool` and `run_task` keep the context of an agent small; `task_submit`, `task_status`, `task_result` and `task_cancel`
//! are tasks for clients without the extension. Lists show them by the endpoint's mode; all of them can always be called.

mod arguments;
mod definitions;
mod find;
mod run;
mod task;

use metamcp_core::json::RawJson;

pub(crate) use self::{arguments::refused, definitions::definitions};
use super::{Caller, ClientSide, Gateway, Request, RpcFault};

/// One of our tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OwnTool {
    FindTools,
    CallTool,
    RunTask,
    TaskSubmit,
    TaskStatus,
    TaskResult,
    TaskCancel,
}

impl OwnTool {
    const ALL: [Self; 7] = [
        Self::FindTools,
        Self::CallTool,
        Self::RunTask,
        Self::TaskSubmit,
        Self::TaskStatus,
        Self::TaskResult,
        Self::TaskCancel,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::FindTools => "find_tools",
            Self::CallTool => "call_tool",
            Self::RunTask => "run_task",
            Self::TaskSubmit => "task_submit",
            Self::TaskStatus => "task_status",
            Self::TaskResult => "task_result",
            Self::TaskCancel => "task_cancel",
        }
    }
}

/// Our tool of this name.
pub(crate) fn named(name: &str) -> Option<OwnTool> {
    OwnTool::ALL.into_iter().find(|own| own.name() == name)
}

/// What comes of a call to one of our tools.
pub(crate) enum OwnReply<'a> {
    Result(RawJson),
    /// It stands for the call of another tool.
    Call(Request<'a>),
}

/// Calls one of our tools.
///
/// # Errors
/// What the caller is told in place of a result.
pub(crate) async fn call<'a>(
    own: OwnTool,
    gateway: &Gateway,
    caller: &Caller,
    request: &'a Request<'a>,
    side: &dyn ClientSide,
) -> Result<OwnReply<'a>, RpcFault> {
    let result = match own {
        OwnTool::FindTools => find::find_tools(gateway, caller, request).await,
        OwnTool::CallTool => return Ok(run::called(request).map_or_else(OwnReply::Result, OwnReply::Call)),
        OwnTool::RunTask => run::run_task(gateway, caller, request, side).await,
        OwnTool::TaskSubmit => task::submit(gateway, caller, request).await,
        OwnTool::TaskStatus => task::status(gateway, caller, request).await,
        OwnTool::TaskResult => task::result(gateway, caller, request, side).await,
        OwnTool::TaskCancel => task::cancel(gateway, caller, request).await,
    };
    result.map(OwnReply::Result)
}
