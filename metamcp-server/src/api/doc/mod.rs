//! The documents of the HTTP API, as types that are written by the server and read by its clients, the CLI among them.
//!
//! They are the API's own shapes, converted by hand from and to the core's types: renaming something inside changes nothing outside.

mod event;
mod job;
mod moment;
mod problem;
mod route;
mod server;
mod state;
mod task;

pub use event::{EventDocument, EventKindDocument, MissedDocument};
pub use job::{InputRequestDocument, JobDocument, ProgressDocument, TaskPage};
pub use moment::{Moment, NotAMoment};
pub use problem::{ProblemDocument, ProblemKind};
pub use route::{CandidateDocument, ExplainDocument, ReasonDocument, RejectionDocument, RouteDocument};
pub use server::{
    AnnotationsDocument, Health, Index, ServerDocument, ServerList, ServerStateDocument, ToolDocument, ToolPage,
};
pub use state::{ErrorDocument, TaskState};
pub use task::{AnswerDocument, CancelDocument, NeedDocument, ResourcesDocument, TaskDocument};
