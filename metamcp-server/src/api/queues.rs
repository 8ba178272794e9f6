//! The lanes of the queue: how many jobs stand where, and stopping and resuming what is taken from them.

use axum::{Extension, extract::State};
use metamcp_core::{auth::Principal, id::Lane};

use super::{
    doc::{ProblemDocument, QueueDocument, QueueList},
    extract::{Document, Named},
    problem::Problem,
    state::ApiState,
};

type Who = Extension<Principal>;
type Answered<T> = Result<Document<T>, Problem>;

/// List the lanes, ordered by name.
///
/// Those that workers serve, and those that hold tasks or are paused.
#[utoipa::path(
    get, path = "/api/queues", tag = "queues", operation_id = "listQueues",
    responses(
        (status = 200, description = "every lane", body = QueueList),
        (status = "5XX", description = "the store cannot be read", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(State(state): State<ApiState>, Extension(who): Who) -> Answered<QueueList> {
    let lanes = state.engine().lanes(&who).await?;
    Ok(Document(QueueList { queues: lanes.into_iter().map(Into::into).collect() }))
}

/// Pause a lane: no worker takes anything from it until it is resumed.
///
/// What runs goes on; tasks are still accepted.
#[utoipa::path(
    post, path = "/api/queues/{lane}/pause", tag = "queues", operation_id = "pauseQueue",
    params(("lane" = String, Path, description = "the lane")),
    responses(
        (status = 200, description = "the lane as it then stands", body = QueueDocument),
        (status = "4XX", description = "no worker serves it and it holds nothing", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn pause(
    State(state): State<ApiState>,
    Extension(who): Who,
    Named(lane): Named<Lane>,
) -> Answered<QueueDocument> {
    set(&state, &who, lane, true).await
}

/// Resume a paused lane.
#[utoipa::path(
    post, path = "/api/queues/{lane}/resume", tag = "queues", operation_id = "resumeQueue",
    params(("lane" = String, Path, description = "the lane")),
    responses(
        (status = 200, description = "the lane as it then stands", body = QueueDocument),
        (status = "4XX", description = "no worker serves it and it holds nothing", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn resume(
    State(state): State<ApiState>,
    Extension(who): Who,
    Named(lane): Named<Lane>,
) -> Answered<QueueDocument> {
    set(&state, &who, lane, false).await
}

async fn set(state: &ApiState, who: &Principal, lane: Lane, paused: bool) -> Answered<QueueDocument> {
    let counts = state.engine().pause_lane(who, &lane, paused).await?;
    Ok(Document((lane, counts).into()))
}
