//! What can be called: the configured servers as they are known now, and their tools in pages.

use axum::{
    Extension,
    extract::{RawQuery, State},
};
use metamcp_core::{
    auth::Principal,
    id::{CapabilityId, ServerName},
};

use super::{
    doc::{ProblemDocument, ServerList, ToolPage},
    extract::Document,
    params::Params,
    problem::Problem,
    state::ApiState,
};

/// Tools on a page, unless asked otherwise.
const PAGE_DEFAULT: u16 = 100;

/// List the configured servers as they are known now; starts none.
#[utoipa::path(
    get, path = "/api/servers", tag = "tools", operation_id = "listServers",
    responses((status = 200, description = "every server, ordered by name", body = ServerList))
)]
pub(super) async fn servers(
    State(state): State<ApiState>,
    Extension(who): Extension<Principal>,
) -> Document<ServerList> {
    Document(ServerList { servers: state.engine().servers_for(&who).into_iter().map(Into::into).collect() })
}

/// List the tools, ordered by id.
///
/// Servers that were never used are started and waited for, within a bound; one that does not come up is missing here and tells why in `/api/servers`.
#[utoipa::path(
    get, path = "/api/tools", tag = "tools", operation_id = "listTools",
    params(
        ("server" = Option<String>, Query, description = "only of this server"),
        ("limit" = Option<u16>, Query, description = "most tools on the page, 100 unless given", minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the last page"),
    ),
    responses(
        (status = 200, description = "one page", body = ToolPage),
        (status = "4XX", description = "a parameter is not valid", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn tools(
    State(state): State<ApiState>,
    Extension(who): Extension<Principal>,
    RawQuery(query): RawQuery,
) -> Result<Document<ToolPage>, Problem> {
    let params = Params::parse(query.as_deref(), &["server", "limit", "cursor"])?;
    let server = params.value::<ServerName>("server")?;
    let after = params.value::<CapabilityId>("cursor")?;
    let limit = usize::from(params.limit(PAGE_DEFAULT, state.options().page_max)?);
    if let Some(server) = &server
        && !state.engine().servers_for(&who).iter().any(|known| known.name == *server)
    {
        return Err(Problem::parameter("server", format!("`{server}` is not configured; GET /api/servers lists them")));
    }
    let catalog = state.engine().tools_for(&who).await;
    let all = catalog.capabilities();
    let from = after.map_or(0, |after| all.partition_point(|capability| capability.id <= after));
    let mut wanted = all[from..].iter().filter(|c| server.as_ref().is_none_or(|server| c.id.server() == server));
    let tools: Vec<_> = wanted.by_ref().take(limit).map(|capability| (&**capability).into()).collect();
    let next_cursor = wanted.next().and(tools.last()).map(|last: &super::doc::ToolDocument| last.id.to_string());
    Ok(Document(ToolPage { tools, next_cursor }))
}
