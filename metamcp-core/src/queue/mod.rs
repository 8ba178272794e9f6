//! The durable queue: jobs, their states and legal moves, leases and fences.
//!
//! [`JobStore`] is the trait every backend implements. `Core` is the pure state machine behind the in-memory store, the heart of the
//! embedded one, and the model the others are compared with.

mod batched;
pub mod bounds;
mod core;
mod job;
mod lease;
mod memory;
pub mod moves;
mod store;

pub use self::{
    batched::BatchedJobStore,
    core::{Admission, Change, Core, CoreLimits, Granted},
    job::{
        AFTER_MAX, Answer, CHECKPOINT_BYTES_MAX, Checkpoint, ERROR_BYTES_MAX, Held, InputRequest, Job, JobBody,
        JobError, JobErrorCode, JobHead, JobState, LeaseEnd, LeaseKey, NewJob, Progress,
    },
    lease::{
        Answered, Beat, Cancelled, Durability, Enqueued, Fenced, Final, Finish, Heartbeat, JobPage, JobQuery,
        LANES_MAX, LANES_TOLD_MAX, LEASE_BATCH_MAX, LIST_PAGE_MAX, LaneCounts, LeaseBatch, LeaseRequest, Leased,
        Maintained, Nack, NackHow, Redriven, Restored, Shares, StoreHealth, WEIGHT_MAX, WEIGHTS_MAX,
    },
    memory::MemoryJobStore,
    store::JobStore,
};
pub use crate::task::{ConcurrencyKey, LIMIT_KEY_BYTES_MAX, RateKey};
