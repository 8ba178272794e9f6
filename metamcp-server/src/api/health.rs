//! Whether the process lives and is ready, and the word that greets whoever opens the address.

use axum::extract::State;

use super::{
    doc::{Health, Index, ProblemDocument, ProblemKind},
    extract::Document,
    problem::Problem,
    state::ApiState,
};

/// The process answers.
#[utoipa::path(
    get, path = "/livez", tag = "process", operation_id = "livez",
    responses((status = 200, description = "it lives", body = Health))
)]
pub(super) async fn livez() -> Document<Health> {
    Document(Health { status: "ok".to_owned(), store: None })
}

/// The process can take tasks.
#[utoipa::path(
    get, path = "/readyz", tag = "process", operation_id = "readyz",
    responses(
        (status = 200, description = "it is ready", body = Health),
        (status = 503, description = "it is not, and why", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn readyz(State(state): State<ApiState>) -> Result<Document<Health>, Problem> {
    if state.options().drain.is_cancelled() {
        return Err(Problem::new(ProblemKind::NotReady, "the server is stopping"));
    }
    if let Some(ready) = &state.options().ready {
        ready().map_err(|reason| Problem::new(ProblemKind::NotReady, reason))?;
    }
    let health = state.engine().health().await.map_err(|error| {
        tracing::warn!(error = &error as &dyn std::error::Error, "store is not healthy");
        Problem::new(ProblemKind::NotReady, "the job store is not healthy; the log of the server says why")
    })?;
    Ok(Document(Health { status: "ready".to_owned(), store: Some(health.detail) }))
}

/// What this server is.
#[utoipa::path(
    get, path = "/", tag = "process", operation_id = "index",
    responses((status = 200, description = "where to read on", body = Index))
)]
pub(super) async fn index() -> Document<Index> {
    Document(Index {
        name: "metamcp".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        description:
            "state a need at POST /api/tasks/create, read the task at its Location, the result at /api/results"
                .to_owned(),
        openapi: "/openapi.json".to_owned(),
    })
}
