//! One tool of one server, as the server defined it, with the few fields the orchestrator reads.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::declared::GroupTool;
use crate::{
    id::{CapabilityId, InvalidName, Lane, ServerName, TenantId},
    json::RawJson,
    pointer::Digest,
    task::{Labels, Resources},
};

/// What a tool says of itself; hints, not proofs. Absent means not said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Annotations {
    /// The tool does not change its environment.
    pub read_only_hint: Option<bool>,
    /// The tool may destroy things.
    pub destructive_hint: Option<bool>,
    /// Calling again with the same arguments changes nothing more.
    pub idempotent_hint: Option<bool>,
    /// The tool reaches out into an open world.
    pub open_world_hint: Option<bool>,
}

impl Annotations {
    /// Whether a call that may have happened can be made again: only when the tool says so.
    #[must_use]
    pub fn replay_is_safe(&self) -> bool {
        self.read_only_hint == Some(true) || self.idempotent_hint == Some(true)
    }
}

/// What configuration says of a server: the same for all its tools.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServerTerms {
    /// What the server says it is for; words a need may match.
    pub description: String,
    /// Words given by configuration; a need may match them.
    pub labels: Labels,
    /// The lane its jobs go to; `None`: the default lane.
    pub lane: Option<Lane>,
    /// What the server has.
    pub resources: Resources,
    /// Most jobs of this server that are served at a time, over all workers of a store; `None`: no bound.
    pub concurrency: Option<u32>,
    /// Servers of one group do the same by tools of the same names; `None`: only the very same definition makes tools equivalent.
    pub equivalent: Option<String>,
    /// What tools of this server are in its group, by their own names; those not named are called the same and take the same.
    pub equivalent_tools: BTreeMap<String, GroupTool>,
    /// What a call costs, in a unit of the operator's own that is the same for all servers; 0 or more.
    pub price: f64,
    /// Where it runs.
    pub locality: Locality,
    /// The tenants that may use it, `None`: all. For anybody else neither it nor its tools are there.
    pub tenants: Option<BTreeSet<TenantId>>,
}

impl ServerTerms {
    /// Whether a tenant may use the server. Every list, count and route goes by this.
    #[must_use]
    pub fn admits(&self, tenant: &TenantId) -> bool {
        self.tenants.as_ref().is_none_or(|tenants| tenants.contains(tenant))
    }
}

/// Where a server runs, nearest first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Locality {
    /// On this machine.
    #[default]
    Local,
    /// Elsewhere, at a place of the operator's own, such as a Space of theirs.
    Owned,
    /// Elsewhere, at somebody else's.
    Remote,
}

impl Locality {
    /// As configuration writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Owned => "owned",
            Self::Remote => "remote",
        }
    }
}

/// A tool definition that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidDefinition {
    /// Not the JSON a tool definition is.
    #[error("tool definition of server `{server}` is not valid: {source}")]
    Shape {
        /// The server that sent it.
        server: ServerName,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The name cannot be used.
    #[error(transparent)]
    Name(#[from] InvalidName),
}

/// One tool of one server.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Capability {
    /// `server/tool`.
    pub id: CapabilityId,
    /// The tool's title for people.
    pub title: Option<String>,
    /// What the tool does, in the server's words.
    pub description: String,
    /// JSON Schema of the arguments.
    pub input_schema: RawJson,
    /// JSON Schema of the structured result.
    pub output_schema: Option<RawJson>,
    /// Hints on effects.
    pub annotations: Annotations,
    /// What configuration says of its server.
    pub terms: std::sync::Arc<ServerTerms>,
    /// The definition as the server sent it.
    pub definition: RawJson,
    /// Digest of the definition: a tool that changed has another one.
    pub digest: Digest,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Definition {
    name: String,
    title: Option<String>,
    description: Option<String>,
    input_schema: Option<RawJson>,
    output_schema: Option<RawJson>,
    annotations: Option<AnnotationsAndTitle>,
}

#[derive(Deserialize)]
struct AnnotationsAndTitle {
    title: Option<String>,
    #[serde(flatten)]
    hints: Annotations,
}

impl Capability {
    /// Reads a raw tool definition (one element of a `tools/list` answer). Unknown fields stay in `definition`.
    ///
    /// # Errors
    /// When it is not an object with a usable name.
    pub fn from_definition(
        server: &ServerName,
        terms: std::sync::Arc<ServerTerms>,
        definition: RawJson,
    ) -> Result<Self, InvalidDefinition> {
        let d: Definition =
            definition.view().map_err(|source| InvalidDefinition::Shape { server: server.clone(), source })?;
        let (annotated_title, annotations) = d.annotations.map(|a| (a.title, a.hints)).unwrap_or_default();
        Ok(Self {
            id: CapabilityId::new(server.clone(), &d.name)?,
            title: d.title.or(annotated_title),
            description: d.description.unwrap_or_default(),
            input_schema: d.input_schema.unwrap_or_default(),
            output_schema: d.output_schema,
            annotations,
            terms,
            digest: Digest::of(definition.get().as_bytes()),
            definition,
        })
    }

    /// What configuration declares it to be: tools with the same answer do the same. `None` when it declares nothing.
    #[must_use]
    pub fn group(&self) -> Option<String> {
        let group = self.terms.equivalent.as_ref()?;
        let own = self.id.tool();
        Some(format!("{group}/{}", self.terms.equivalent_tools.get(own).map_or(own, GroupTool::name)))
    }

    /// Whether the other one does the same: it has the very same definition, or configuration declares so.
    #[must_use]
    pub fn is_equivalent_to(&self, other: &Self) -> bool {
        self.digest == other.digest || self.group().is_some_and(|group| other.group() == Some(group))
    }

    /// The tool's arguments for an input in the words of its group. One in the tool's own words is left as it is.
    ///
    /// # Errors
    /// When the input cannot be put into what configuration declares; the message says what to change.
    pub fn arguments(&self, input: &RawJson) -> Result<RawJson, String> {
        Ok(self.put(input)?.unwrap_or_else(|| input.clone()))
    }

    /// The same; `None` when there is nothing to change.
    pub(super) fn put(&self, input: &RawJson) -> Result<Option<RawJson>, String> {
        if self.terms.equivalent.is_none() {
            return Ok(None);
        }
        let Some(declared) = self.terms.equivalent_tools.get(self.id.tool()) else { return Ok(None) };
        declared.put(input).map_err(|why| format!("input: {why}, {}", self.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_is_read_and_kept_whole() {
        let raw = r#"{"name":"add","description":"adds","future":1.50,"annotations":{"title":"Add","readOnlyHint":true},"inputSchema":{"type":"object"}}"#;
        let server = ServerName::new("math").unwrap();
        let c = Capability::from_definition(&server, Default::default(), RawJson::parse(raw).unwrap()).unwrap();
        assert_eq!(c.id.to_string(), "math/add");
        assert_eq!(c.title.as_deref(), Some("Add"));
        assert!(c.annotations.replay_is_safe());
        assert_eq!(c.definition.get(), raw);
        let nameless = RawJson::parse("{}").unwrap();
        assert!(Capability::from_definition(&server, Default::default(), nameless).is_err());
    }
}
