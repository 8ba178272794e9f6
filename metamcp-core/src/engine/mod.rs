//! The engine: submit → match → enqueue → lease → call → put → finish → publish.
//!
//! [`Orchestrator`] is the whole of it for callers; [`Worker`] is the loop that serves jobs. What happens next to a job is decided by pure
//! functions in [`plan`]; the waiting is in the worker and in dispatch, and nowhere else.

mod adopt;
mod arguments;
mod batch;
mod batch_id;
mod builder;
mod cache;
mod chain;
mod choice;
mod dispatch;
mod error;
mod fire;
mod history;
mod hold;
mod orchestrator;
pub mod plan;
mod policy;
mod ports;
mod schedule;
mod servers;
mod slots;
mod standing;
mod store_clock;
mod submit;
mod timetable;
mod views;
mod worker;

pub use adopt::Adopted;
pub use batch::{BATCH_TASKS_MAX, Batch, BatchState, BatchTask};
pub use batch_id::BatchId;
pub use builder::OrchestratorBuilder;
pub use chain::{MissingInput, PLAN_STEPS_MAX, Plan, PlanStep, STEP_REFERENCE};
pub(crate) use dispatch::RESULT_GRACE;
pub use error::EngineError;
pub(crate) use history::HISTORY_KEPT;
pub use history::HistoryKeeper;
pub use orchestrator::Orchestrator;
pub use policy::Policy;
pub use schedule::{
    MISSED_GRACE, MISSED_MAX, Missed, NewSchedule, Overlap, SCHEDULE_NAME_BYTES_MAX, SCHEDULES_MAX, Schedule,
};
pub use servers::ServerEntry;
pub use submit::Submitted;
pub use worker::{Worker, WorkerOptions};
