//! What there is: the configured servers, their tools, and the process itself.

use metamcp_core::{
    id::{CapabilityId, Lane, ServerName},
    json::RawJson,
    matching::{Annotations, Capability},
    pointer::Digest,
    registry::{ServerState, ServerStatus},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::moment::Moment;

/// Every configured server, ordered by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServerList {
    /// The servers.
    pub servers: Vec<ServerDocument>,
}

/// Where a server stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServerStateDocument {
    /// Never used so far; it is started when it is first needed.
    Idle,
    /// Being connected to.
    Connecting,
    /// Connected.
    Ready,
    /// The last attempt to connect failed.
    Down,
}

impl From<ServerState> for ServerStateDocument {
    fn from(state: ServerState) -> Self {
        match state {
            ServerState::Idle => Self::Idle,
            ServerState::Connecting => Self::Connecting,
            ServerState::Ready => Self::Ready,
            // A state this server does not know yet is one that cannot be called.
            _ => Self::Down,
        }
    }
}

/// One configured server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServerDocument {
    /// What configuration calls it.
    #[schema(value_type = String)]
    pub name: ServerName,
    /// Where it stands.
    pub state: ServerStateDocument,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub since: Moment,
    /// Where it is; secrets are redacted.
    pub target: String,
    /// The protocol revision of the last connection.
    pub protocol: Option<String>,
    /// What it calls itself, with its version.
    pub implementation: Option<String>,
    /// Why the last attempt to connect failed; stays until one succeeds.
    pub last_failure: Option<String>,
    /// How many tools it offers.
    pub tools: u64,
}

impl From<ServerStatus> for ServerDocument {
    fn from(status: ServerStatus) -> Self {
        Self {
            name: status.name,
            state: status.state.into(),
            since: status.since.into(),
            target: status.target,
            protocol: status.protocol,
            implementation: status.implementation,
            last_failure: status.last_failure,
            tools: status.tools as u64,
        }
    }
}

/// One page of tools, ordered by id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ToolPage {
    /// The tools.
    pub tools: Vec<ToolDocument>,
    /// Ask on with `cursor` set to this; null: there are no more.
    pub next_cursor: Option<String>,
}

/// One tool of one server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ToolDocument {
    /// `server/name`, as a task's `tool` says it.
    #[schema(value_type = String)]
    pub id: CapabilityId,
    /// The server's name.
    #[schema(value_type = String)]
    pub server: ServerName,
    /// The tool's name on that server.
    pub name: String,
    /// For people.
    pub title: Option<String>,
    /// What it does, in the server's words.
    pub description: String,
    /// JSON Schema of the arguments.
    #[schema(value_type = Object)]
    pub input_schema: RawJson,
    /// JSON Schema of the structured result.
    #[schema(value_type = Option<Object>)]
    pub output_schema: Option<RawJson>,
    /// What the tool says of its effects; hints, not proofs.
    pub annotations: AnnotationsDocument,
    /// The lane its tasks go to; null: the default lane.
    #[schema(value_type = Option<String>)]
    pub lane: Option<Lane>,
    /// SHA-256 of the definition: a tool that changed has another one.
    #[schema(value_type = String)]
    pub digest: Digest,
}

impl From<&Capability> for ToolDocument {
    fn from(capability: &Capability) -> Self {
        Self {
            id: capability.id.clone(),
            server: capability.id.server().clone(),
            name: capability.id.tool().to_owned(),
            title: capability.title.clone(),
            description: capability.description.clone(),
            input_schema: capability.input_schema.clone(),
            output_schema: capability.output_schema.clone(),
            annotations: capability.annotations.into(),
            lane: capability.terms.lane.clone(),
            digest: capability.digest,
        }
    }
}

/// What a tool says of its effects; null: not said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AnnotationsDocument {
    /// It does not change its environment.
    pub read_only: Option<bool>,
    /// It may destroy things.
    pub destructive: Option<bool>,
    /// Calling it again with the same arguments changes nothing more.
    pub idempotent: Option<bool>,
    /// It reaches out into an open world.
    pub open_world: Option<bool>,
}

impl From<Annotations> for AnnotationsDocument {
    fn from(annotations: Annotations) -> Self {
        Self {
            read_only: annotations.read_only_hint,
            destructive: annotations.destructive_hint,
            idempotent: annotations.idempotent_hint,
            open_world: annotations.open_world_hint,
        }
    }
}

/// The process is well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok` or `ready`.
    pub status: String,
    /// What the job store really gives, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
}

/// What this server is and where to read on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Index {
    /// `metamcp`.
    pub name: String,
    /// The server's version.
    pub version: String,
    /// In a sentence.
    pub description: String,
    /// Where the description of the API is.
    pub openapi: String,
}
