//! The HTTP API: REST, server-sent events and WebSocket over one [`Orchestrator`](metamcp_core::engine::Orchestrator).
//!
//! Every handler is a thin way into the engine: a document in, one call, a document or a problem out. Rights, bounds of tasks and all
//! decisions are the engine's; here are the bounds of HTTP itself.

mod batches;
pub mod doc;
mod events;
mod extract;
mod feed;
mod guard;
mod health;
mod history;
mod openapi;
mod options;
mod params;
mod plans;
pub mod problem;
mod queues;
mod range;
mod results;
mod schedules;
mod servers;
mod state;
mod tasks;

use std::{any::Any, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use tower_http::{catch_panic::CatchPanicLayer, trace::TraceLayer};
use utoipa_axum::{router::OpenApiRouter, routes};

use self::{doc::ProblemKind, problem::Problem};
pub use self::{
    options::{
        ANSWER_MS, ApiOptions, BODY_BYTES_MAX, BODY_READ_MS, HEARTBEAT_MS, PAGE_MAX, ReadyCheck, STREAMS_MAX,
        WAIT_MS_MAX,
    },
    state::ApiState,
};
use crate::auth;

/// Every route of the API with its layers: guard, authentication, time limits, and problems for whatever goes wrong.
pub fn router(state: ApiState) -> Router {
    let answer = state.options().answer;
    let (api, openapi) =
        described(answer, answer + Duration::from_millis(state.options().wait_ms_max)).split_for_parts();
    let description = Bytes::from(openapi::text(&openapi::finish(openapi)));
    finished(api.route("/openapi.json", get(openapi::serve).with_state(description)), state)
}

/// `/livez` and `/readyz` alone, with the same layers.
pub fn health_router(state: ApiState) -> Router {
    let limit = middleware::from_fn_with_state(state.options().answer, bounded);
    let health = Router::new().route("/livez", get(health::livez)).route("/readyz", get(health::readyz));
    finished(health.layer(limit), state)
}

/// What holds for every route.
fn finished(routes: Router<ApiState>, state: ApiState) -> Router {
    routes
        .method_not_allowed_fallback(tasks::method_not_allowed)
        .fallback(tasks::no_such_path)
        .layer(middleware::from_fn(auth::authenticate))
        .layer(middleware::from_fn_with_state(state.clone(), guard::guard))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(TraceLayer::new_for_http())
        .with_state(state)
}

/// The description of the API as the JSON text that `/openapi.json` serves.
#[must_use]
pub fn openapi_json() -> String {
    let any = Duration::from_millis(ANSWER_MS);
    openapi::text(&openapi::finish(described(any, any).into_openapi()))
}

/// The routes that are described: quick ones, those that wait when asked to, and streams without an end.
fn described(quick: Duration, waiting: Duration) -> OpenApiRouter<ApiState> {
    let limited = |limit| middleware::from_fn_with_state(limit, bounded);
    let quick_routes = OpenApiRouter::new()
        .routes(routes!(health::index))
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(tasks::cancel))
        .routes(routes!(tasks::retry))
        .routes(routes!(tasks::answer))
        .routes(routes!(tasks::explain))
        .routes(routes!(tasks::route))
        .routes(routes!(results::read))
        .routes(routes!(servers::servers))
        .routes(routes!(servers::tools))
        .routes(routes!(batches::create))
        .routes(routes!(batches::cancel))
        .routes(routes!(plans::propose))
        .routes(routes!(plans::run))
        .routes(routes!(schedules::put, schedules::show, schedules::delete))
        .routes(routes!(schedules::list))
        .routes(routes!(schedules::pause))
        .routes(routes!(schedules::resume))
        .routes(routes!(schedules::fire))
        .routes(routes!(queues::list))
        .routes(routes!(queues::pause))
        .routes(routes!(queues::resume))
        .routes(routes!(history::list, history::add, history::remove))
        .layer(limited(quick));
    let waiting_routes = OpenApiRouter::new()
        .routes(routes!(tasks::create))
        .routes(routes!(tasks::submit, tasks::list))
        .routes(routes!(tasks::show))
        .routes(routes!(batches::show))
        .layer(limited(waiting));
    let streams = OpenApiRouter::new().routes(routes!(events::follow)).routes(routes!(events::follow_ws));
    OpenApiRouter::with_openapi(openapi::base()).merge(quick_routes).merge(waiting_routes).merge(streams)
}

/// Gives up on an answer that takes too long.
async fn bounded(State(limit): State<Duration>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let detail = format!("no answer within {} ms; what was asked may still happen", limit.as_millis());
            Problem::new(ProblemKind::Timeout, detail).into_response()
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("handler panicked: {0}")]
struct Panicked(String);

#[expect(clippy::needless_pass_by_value, reason = "the layer hands the panic over by value")]
fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Problem::internal(&Panicked(text.unwrap_or("no message").to_owned())).into_response()
}
