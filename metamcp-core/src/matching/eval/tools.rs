//! The tools and labelled needs of an evaluation, as their files have them.
//!
//! A file calls a tool by an id of any form; a catalogue calls it `server/name`. [`ToolSet`] keeps which is which.

use std::{
    collections::{BTreeMap, HashMap},
    io::BufRead,
    sync::Arc,
};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{EvalError, lines::Lines};
use crate::{
    id::{CapabilityId, NAME_BYTES_MAX, ServerName},
    json::RawJson,
    matching::{Capability, Catalog, ServerTerms},
};

const TOOL_FORM: &str = r#"{"id": "ID", "server": "SERVER", "name": "NAME", "description": "…", "inputSchema": {…}}"#;
const NEED_FORM: &str = r#"{"query": "the need in words", "tools": ["ID", …]}"#;

/// Fields as our own documents spell them (`GET /api/tools`), and as the protocol does.
const SPELLINGS: [(&str, &str); 2] = [("input_schema", "inputSchema"), ("output_schema", "outputSchema")];

/// The tools that needs are ranked over.
#[derive(Debug)]
pub struct ToolSet {
    catalog: Catalog,
    capabilities: HashMap<String, CapabilityId>,
    ids: HashMap<CapabilityId, String>,
}

/// A need in words and the tools that are right for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelledNeed {
    /// The need.
    pub words: String,
    /// The tools, each of which is right.
    pub tools: Vec<CapabilityId>,
}

#[derive(Deserialize)]
struct ToolLine {
    id: String,
    server: String,
    /// The rest is the tool's definition as its server would send it.
    #[serde(flatten)]
    definition: Map<String, Value>,
}

#[derive(Deserialize)]
struct NeedLine {
    query: String,
    tools: Vec<String>,
}

impl ToolSet {
    /// Reads one tool a line: `{"id", "server", "name", "description", "inputSchema"}`, and whatever else a tool definition may have. `file`
    /// is what errors call it.
    ///
    /// A server's name may have any characters here; those that [`ServerName`] does not take are written `-`.
    ///
    /// # Errors
    /// With file and line, when a line is no tool, or names a tool that an earlier line named.
    pub fn read(file: &str, from: impl BufRead) -> Result<Self, EvalError> {
        let mut lines = Lines::new(file, from);
        let (mut capabilities, mut ids) = (HashMap::new(), HashMap::new());
        let mut found = Vec::new();
        let mut terms: BTreeMap<ServerName, Arc<ServerTerms>> = BTreeMap::new();
        while let Some(ToolLine { id, server, mut definition }) = lines.next(TOOL_FORM)? {
            for (ours, protocols) in SPELLINGS {
                if let Some(schema) = definition.remove(ours) {
                    definition.entry(protocols).or_insert(schema);
                }
            }
            let server = server_name(&server).map_err(|mend| lines.wrong(mend))?;
            let terms = Arc::clone(terms.entry(server.clone()).or_default());
            let definition = RawJson::from(Value::Object(definition));
            let capability = Capability::from_definition(&server, terms, definition)
                .map_err(|error| lines.wrong(format!("{error}; write {TOOL_FORM} on one line")))?;
            if capabilities.insert(id.clone(), capability.id.clone()).is_some() {
                return Err(lines.wrong(format!("the id `{id}` is on an earlier line; give each tool its own")));
            }
            if let Some(earlier) = ids.insert(capability.id.clone(), id) {
                let mend = format!("`{}` is also the tool `{earlier}`; rename one of the two", capability.id);
                return Err(lines.wrong(mend));
            }
            found.push(Arc::new(capability));
        }
        if found.is_empty() {
            return Err(lines.wrong_file(format!("holds no tool; write {TOOL_FORM} on each line")));
        }
        Ok(Self { catalog: Catalog::new(found), capabilities, ids })
    }

    /// Reads one labelled need a line: `{"query", "tools": [id, …]}`, with ids of this set.
    ///
    /// # Errors
    /// With file and line, when a line is no labelled need, names no tool, or one that is not in the set.
    pub fn needs(&self, file: &str, from: impl BufRead) -> Result<Vec<LabelledNeed>, EvalError> {
        let mut lines = Lines::new(file, from);
        let mut needs = Vec::new();
        while let Some(NeedLine { query, tools }) = lines.next(NEED_FORM)? {
            if tools.is_empty() {
                return Err(lines.wrong("`tools` is empty; name the tools that are right".to_owned()));
            }
            let known = |id: &String| {
                let unknown = || lines.wrong(format!("no tool has the id `{id}`; correct it, or leave the line out"));
                self.capabilities.get(id).cloned().ok_or_else(unknown)
            };
            let tools = tools.iter().map(known).collect::<Result<_, _>>()?;
            needs.push(LabelledNeed { words: query, tools });
        }
        if needs.is_empty() {
            return Err(lines.wrong_file(format!("holds no need; write {NEED_FORM} on each line")));
        }
        Ok(needs)
    }

    /// The tools as a matcher takes them.
    #[must_use]
    pub const fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// What the file calls this tool.
    #[must_use]
    pub fn id(&self, capability: &CapabilityId) -> Option<&str> {
        self.ids.get(capability).map(String::as_str)
    }
}

fn server_name(text: &str) -> Result<ServerName, String> {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_') { c } else { '-' };
    let name: String = text.chars().map(allowed).take(NAME_BYTES_MAX).collect();
    ServerName::new(name).map_err(|_| "`server` is empty; name the server that offers the tool".to_owned())
}

#[cfg(test)]
mod tests {
    use super::{super::LINE_BYTES_MAX, *};

    const TOOLS: &str = "\u{feff}{\"id\":\"A\",\"server\":\"A & B\",\"name\":\"x y\",\"description\":null,\"inputSchema\":null}\r\n\n\
        {\"id\":\"s/t\",\"server\":\"s\",\"name\":\"t\",\"description\":\"d\",\"inputSchema\":{},\"annotations\":{\"readOnlyHint\":true}}";

    #[test]
    fn ids_of_any_form_are_kept_apart_from_catalogue_names() {
        let tools = ToolSet::read("t", TOOLS.as_bytes()).unwrap();
        let names: Vec<String> = tools.catalog().capabilities().iter().map(|c| c.id.to_string()).collect();
        assert_eq!(names, ["A---B/x y", "s/t"]);
        assert_eq!(tools.id(&tools.catalog().capabilities()[0].id), Some("A"));
        assert!(tools.catalog().capabilities()[1].annotations.replay_is_safe());
        assert!(!tools.catalog().capabilities()[1].definition.get().contains("server"));
        let needs = tools.needs("q", r#"{"query":"do","tools":["s/t","A"]}"#.as_bytes()).unwrap();
        assert_eq!(needs[0].tools[1].to_string(), "A---B/x y");
    }

    #[test]
    fn a_bad_line_is_told_with_file_line_and_mend() {
        let line = |id: &str, server: &str, name: &str| {
            format!("{}\n", serde_json::json!({ "id": id, "server": server, "name": name }))
        };
        let long = format!("\"{}\"", "x".repeat(LINE_BYTES_MAX));
        for (text, place, word) in [
            ("{}\n".to_owned(), "t.jsonl:1: ", "inputSchema"),
            (line("a", "s", "a") + "\n{", "t.jsonl:3: ", "on one line"),
            (line("a", "s", "a") + &line("a", "s", "b"), "t.jsonl:2: ", "earlier line"),
            (line("a", "s t", "a") + &line("b", "s-t", "a"), "t.jsonl:2: ", "rename"),
            (line("a", "", "a"), "t.jsonl:1: ", "`server` is empty"),
            (line("a", "s", ""), "t.jsonl:1: ", "1 to 256 bytes"),
            (long, "t.jsonl:1: ", "shorten"),
            ("\n\n".to_owned(), "t.jsonl: ", "holds no tool"),
        ] {
            let told = ToolSet::read("t.jsonl", text.as_bytes()).unwrap_err().to_string();
            assert!(told.starts_with(place) && told.contains(word), "{told}");
        }
        let tools = ToolSet::read("t.jsonl", TOOLS.as_bytes()).unwrap();
        for (text, place, word) in [
            (r#"{"query":"do","tools":["t"]}"#, "q.jsonl:1: ", "`t`"),
            (r#"{"query":"do","tools":[]}"#, "q.jsonl:1: ", "empty"),
            (r#"{"query":7,"tools":["A"]}"#, "q.jsonl:1: ", "the need in words"),
            ("\u{ff}", "q.jsonl:1: ", "on one line"),
            ("", "q.jsonl: ", "holds no need"),
        ] {
            let told = tools.needs("q.jsonl", text.as_bytes()).unwrap_err().to_string();
            assert!(told.starts_with(place) && told.contains(word), "{told}");
        }
    }
}
