//! Batches: submit many tasks in one call, follow them and cancel them as one.

use axum::{
    Extension,
    extract::{RawQuery, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header};
use metamcp_core::{auth::Principal, engine::BatchId};

use super::{
    doc::{BatchDocument, CancelDocument, NewBatchDocument, ProblemDocument, ProblemKind},
    extract::{Document, Named, OptionalDocument, idempotency_key},
    params::Params,
    problem::Problem,
    state::ApiState,
    tasks::CANCELLED_BY_OWNER,
};

type Who = Extension<Principal>;
type Answered<T> = Result<Document<T>, Problem>;

/// Submit a batch of tasks.
///
/// Each task is accepted or refused by itself; those that are accepted are durable before this answers.
#[utoipa::path(
    post, path = "/api/batches/create", tag = "batches", operation_id = "createBatch", request_body = NewBatchDocument,
    params(("Idempotency-Key" = Option<String>, Header, description = "the same as `idempotency_key`")),
    responses(
        (status = 202, description = "it was accepted; `Location` says where to read it", body = BatchDocument),
        (status = "4XX", description = "it is refused as a whole", body = ProblemDocument, content_type = "application/problem+json"),
        (status = "5XX", description = "the server cannot take it", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn create(
    State(state): State<ApiState>,
    Extension(who): Who,
    headers: HeaderMap,
    Document(new): Document<NewBatchDocument>,
) -> Result<Response, Problem> {
    let key = idempotency_key(&headers, new.idempotency_key)?;
    if let Some(n) = new.tasks.iter().position(|task| task.wait_ms.is_some()) {
        let (field, mend) = (format!("tasks[{n}].wait_ms"), "leave it out; wait for the batch where it is read");
        return Err(Problem::new(ProblemKind::InvalidField, format!("{field}: {mend}")).with_field(field, mend));
    }
    let now = state.now();
    let tasks = new.tasks.into_iter().map(|task| task.into_task(now)).collect();
    let batch = state.engine().submit_batch(&who, tasks, key.as_deref()).await?;
    // The tasks are accepted whatever becomes of this look at them: that is what the caller must hear.
    let standing = state.engine().batch_state(&who, &batch.id).await;
    let standing = standing.inspect_err(|error| tracing::warn!(batch = %batch.id, %error, "batch not read")).ok();
    let location = format!("/api/batches/{}", batch.id);
    let document = BatchDocument::of(&batch, standing.as_ref());
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Document(document)).into_response())
}

/// Read a batch, or wait until all of its tasks have ended.
#[utoipa::path(
    get, path = "/api/batches/{id}", tag = "batches", operation_id = "getBatch",
    params(
        ("id" = String, Path, description = "the batch"),
        ("wait_ms" = Option<u64>, Query, description = "wait up to so long until all of its tasks have ended", maximum = 60_000),
    ),
    responses(
        (status = 200, description = "the batch as it stands", body = BatchDocument),
        (status = "4XX", description = "not there, or not the caller's", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn show(
    State(state): State<ApiState>,
    Extension(who): Who,
    Named(id): Named<BatchId>,
    RawQuery(query): RawQuery,
) -> Answered<BatchDocument> {
    let wait_ms = Params::parse(query.as_deref(), &["wait_ms"])?.value("wait_ms")?;
    let wait = state.wait(wait_ms).map_err(|mend| Problem::parameter("wait_ms", mend))?;
    let batch = state.engine().batch(&who, &id).await?;
    let waiting = state.engine().wait_batch(&who, &id, wait);
    let standing = match state.options().drain.run_until_cancelled(waiting).await {
        Some(waited) => waited?,
        // The process drains: as it stands now.
        None => state.engine().batch_state(&who, &id).await?,
    };
    Ok(Document(BatchDocument::of(&batch, Some(&standing))))
}

/// Cancel a batch: each of its tasks that has not ended.
///
/// A task that runs is asked to stop and may still complete.
#[utoipa::path(
    post, path = "/api/batches/{id}/cancel", tag = "batches", operation_id = "cancelBatch",
    params(("id" = String, Path, description = "the batch")),
    request_body(content = Option<CancelDocument>, description = "may be left out"),
    responses(
        (status = 200, description = "the batch as it then stands", body = BatchDocument),
        (status = "4XX", description = "not there, or not the caller's", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn cancel(
    State(state): State<ApiState>,
    Extension(who): Who,
    Named(id): Named<BatchId>,
    OptionalDocument(wish): OptionalDocument<CancelDocument>,
) -> Answered<BatchDocument> {
    let reason = if wish.reason.is_empty() { CANCELLED_BY_OWNER } else { &wish.reason };
    let standing = state.engine().cancel_batch(&who, &id, reason).await?;
    let batch = state.engine().batch(&who, &id).await?;
    Ok(Document(BatchDocument::of(&batch, Some(&standing))))
}
