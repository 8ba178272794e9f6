//! The documents of the HTTP API, as types that are written by the server and read by its clients, the CLI among them.
//!
//! They are the API's own shapes, converted by hand from and to the core's types: renaming something inside changes nothing outside.

mod batch;
mod event;
mod job;
mod lesson;
mod moment;
mod plan;
mod problem;
mod queue;
mod route;
mod schedule;
mod server;
mod state;
mod task;

pub use batch::{BatchDocument, BatchStandingDocument, BatchTaskDocument, NewBatchDocument};
pub use event::{EventDocument, EventKindDocument, MissedDocument};
pub use job::{InputRequestDocument, JobDocument, ProgressDocument, TaskPage};
pub use lesson::{LessonDocument, LessonPage, LessonsChanged, NewLessonsDocument, VerdictDocument};
pub use moment::{Moment, NotAMoment};
pub use plan::{
    MissingDocument, NewPlanDocument, PlanAnswer, PlanDocument, PlanStepDocument, RunDocument, RunPlanDocument,
};
pub use problem::{ProblemDocument, ProblemKind};
pub use queue::{QueueDocument, QueueList};
pub use route::{CandidateDocument, ExplainDocument, ReasonDocument, RejectionDocument, RouteDocument};
pub use schedule::{MissedInstants, OverlapDocument, ScheduleDocument, SchedulePage, ScheduleTerms};
pub use server::{
    AnnotationsDocument, Health, Index, ServerDocument, ServerList, ServerStateDocument, ToolDocument, ToolPage,
};
pub use state::{ErrorDocument, TaskState};
pub use task::{
    AnswerDocument, CancelDocument, ConcurrencyDocument, NeedDocument, RateDocument, ResourcesDocument, TaskDocument,
};
