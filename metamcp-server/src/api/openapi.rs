//! The description of the API, OpenAPI 3.1, made from the handlers and documents themselves.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::header;
use utoipa::{OpenApi, openapi};

#[derive(OpenApi)]
#[openapi(
    info(title = "MetaMCP", description = "State a need; it is matched to a tool of an MCP server, run as a durable job, and its result is a pointer."),
    components(schemas(super::doc::MissedDocument)),
    tags(
        (name = "tasks", description = "a need, as a durable job"),
        (name = "batches", description = "many tasks in one call, followed as one"),
        (name = "plans", description = "needs that take several steps"),
        (name = "schedules", description = "tasks that recur"),
        (name = "queues", description = "the lanes that tasks wait in"),
        (name = "results", description = "what tools answered, behind pointers"),
        (name = "tools", description = "what can be called, and what would be"),
        (name = "events", description = "news of tasks"),
        (name = "process", description = "the server itself"),
    )
)]
struct Base;

/// What does not come from handlers.
pub(super) fn base() -> openapi::OpenApi {
    let mut base = Base::openapi();
    base.info.version = env!("CARGO_PKG_VERSION").to_owned();
    base.info.license = Some(openapi::LicenseBuilder::new().name(env!("CARGO_PKG_LICENSE")).build());
    base
}

/// The finished description: the router's catch-all is told as a plain path parameter.
pub(super) fn finish(mut openapi: openapi::OpenApi) -> openapi::OpenApi {
    let paths = std::mem::take(&mut openapi.paths.paths);
    openapi.paths.paths = paths.into_iter().map(|(path, item)| (path.replace("{*", "{"), item)).collect();
    openapi
}

/// The description as JSON text, as it is served and kept as golden file.
///
/// # Panics
/// Never: the description has string keys only.
#[must_use]
pub(super) fn text(openapi: &openapi::OpenApi) -> String {
    let mut text = openapi.to_pretty_json().expect("a description has string keys only");
    text.push('\n');
    text
}

/// Answers the description.
pub(super) async fn serve(State(text): State<Bytes>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}
