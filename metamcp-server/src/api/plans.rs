//! Plans of several steps: propose one, and run one that its caller accepts.

use axum::{
    Extension,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header};
use metamcp_core::{
    auth::Principal,
    engine::{Batch, Plan},
};

use super::{
    doc::{BatchDocument, NewPlanDocument, PlanAnswer, ProblemDocument, RunDocument, RunPlanDocument},
    extract::{Document, idempotency_key},
    problem::Problem,
    state::ApiState,
};

type Who = Extension<Principal>;

/// Propose a plan for a need that may take several steps.
///
/// No tool is called, unless `run` is `auto` and nothing is missing: then its steps are accepted as a batch.
#[utoipa::path(
    post, path = "/api/plans", tag = "plans", operation_id = "proposePlan", request_body = NewPlanDocument,
    params(("Idempotency-Key" = Option<String>, Header, description = "the same as `idempotency_key`")),
    responses(
        (status = 200, description = "the plan, which is not run", body = PlanAnswer),
        (status = 202, description = "the plan and its batch, which was accepted; `Location` says where to read it", body = PlanAnswer),
        (status = "4XX", description = "it is refused", body = ProblemDocument, content_type = "application/problem+json"),
        (status = "5XX", description = "the server cannot take it", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn propose(
    State(state): State<ApiState>,
    Extension(who): Who,
    headers: HeaderMap,
    Document(mut new): Document<NewPlanDocument>,
) -> Result<Response, Problem> {
    let key = idempotency_key(&headers, new.idempotency_key.take())?;
    let auto = new.run == RunDocument::Auto;
    let plan = state.engine().plan(&who, new.into_need()).await?;
    if !auto || !plan.is_complete() {
        return Ok(Document(PlanAnswer { plan: plan.into(), batch: None }).into_response());
    }
    let (batch, document) = accept(&state, &who, &plan, key.as_deref()).await?;
    let answer = PlanAnswer { plan: plan.into(), batch: Some(document) };
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location(&batch))], Document(answer)).into_response())
}

/// Run a plan that was proposed and may have been changed.
///
/// Each step becomes a task that waits for the one before; all of them are a batch. Everything is checked as if it were new, and when a step
/// is refused none runs.
#[utoipa::path(
    post, path = "/api/plans/run", tag = "plans", operation_id = "runPlan", request_body = RunPlanDocument,
    params(("Idempotency-Key" = Option<String>, Header, description = "the same as `idempotency_key`")),
    responses(
        (status = 202, description = "it was accepted; `Location` says where to read it", body = BatchDocument),
        (status = "4XX", description = "it is refused", body = ProblemDocument, content_type = "application/problem+json"),
        (status = "5XX", description = "the server cannot take it", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn run(
    State(state): State<ApiState>,
    Extension(who): Who,
    headers: HeaderMap,
    Document(wish): Document<RunPlanDocument>,
) -> Result<Response, Problem> {
    let key = idempotency_key(&headers, wish.idempotency_key)?;
    let (batch, document) = accept(&state, &who, &wish.plan.into(), key.as_deref()).await?;
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location(&batch))], Document(document)).into_response())
}

async fn accept(
    state: &ApiState,
    who: &Principal,
    plan: &Plan,
    key: Option<&str>,
) -> Result<(Batch, BatchDocument), Problem> {
    let batch = state.engine().run_plan(who, plan, key).await?;
    // The steps are accepted whatever becomes of this look at them: that is what the caller must hear.
    let standing = state.engine().batch_state(who, &batch.id).await;
    let standing = standing.inspect_err(|error| tracing::warn!(batch = %batch.id, %error, "batch not read")).ok();
    let document = BatchDocument::of(&batch, standing.as_ref());
    Ok((batch, document))
}

fn location(batch: &Batch) -> String {
    format!("/api/batches/{}", batch.id)
}
