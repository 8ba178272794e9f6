//! One entry of a server's list as the server wrote it, ready to be written under another name.

use std::ops::Range;

use metamcp_core::json::RawJson;
use serde_json::value::RawValue;

use crate::gateway::members::{Members, place, quoted};

/// Members that may be left out. Some servers write `null` in their place, which real clients refuse a whole list for.
const OPTIONAL: [&str; 20] = [
    "title",
    "description",
    "icons",
    "annotations",
    "arguments",
    "mimeType",
    "size",
    "outputSchema",
    "_meta",
    "properties",
    "required",
    "audience",
    "priority",
    "lastModified",
    "readOnlyHint",
    "destructiveHint",
    "idempotentHint",
    "openWorldHint",
    "sizes",
    "theme",
];
/// Members that are objects, or lists of them, with such members of their own.
const NESTED: [&str; 5] = ["icons", "annotations", "arguments", "inputSchema", "outputSchema"];
/// What real clients want every schema of arguments to say.
const OBJECT: &str = r#""object""#;

/// A tool, prompt, resource or template as its server defined it.
#[derive(Debug, Clone)]
pub(crate) struct Definition {
    /// The whole definition.
    pub(crate) raw: RawJson,
    /// What its server calls it: a name, a URI or a template.
    pub(crate) name: Box<str>,
    name_at: Range<usize>,
    /// What is shown in another way than its server wrote it.
    changes: Vec<(Range<usize>, &'static str)>,
}

impl Definition {
    /// Reads a definition that is known by the member `key`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn read(raw: RawJson, key: &str) -> Result<Self, String> {
        let members = Members::of(raw.get()).map_err(|error| error.to_string())?;
        let name = members.text(key).filter(|name| !name.is_empty());
        let name: Box<str> = name.ok_or_else(|| format!("has no `{key}`"))?.into();
        let name_at = members.value_at(raw.get(), key).ok_or_else(|| format!("has no `{key}`"))?;
        if members.text("name").is_none() {
            return Err(format!("`{name}` has no `name`"));
        }
        let mut changes: Vec<_> = hidden(raw.get(), &members).into_iter().map(|at| (at, "")).collect();
        changes.extend(members.get("inputSchema").and_then(|schema| typed(raw.get(), schema)));
        Ok(Self { name, name_at, changes, raw })
    }

    /// Writes it under this name.
    pub(crate) fn write(&self, out: &mut String, name: &str) {
        let text = self.raw.get();
        let (mut from, name_text) = (0, (*self.name != *name).then(|| quoted(name)));
        let new_name = name_text.as_ref().map(|text| (self.name_at.clone(), text.as_str()));
        let mut changes: Vec<_> = new_name.into_iter().chain(self.changes.iter().cloned()).collect();
        changes.sort_by_key(|(at, _)| at.start);
        for (at, new) in changes {
            out.push_str(&text[from..at.start]);
            out.push_str(new);
            from = at.end;
        }
        out.push_str(&text[from..]);
    }
}

/// What is not to be shown: what is `null` and may be left out, and `execution`, which promises the tasks of revision 2025-11-25 that nobody
/// here keeps.
fn hidden(text: &str, members: &Members<'_>) -> Vec<Range<usize>> {
    let mut hidden = members.members_at(text, |key, value| key == "execution" || is_null(key, value));
    for nested in NESTED.iter().filter_map(|key| members.get(key)) {
        let objects = serde_json::from_str::<Vec<&RawValue>>(nested.get()).unwrap_or_else(|_| vec![nested]);
        for object in objects {
            let Ok(inner) = Members::of(object.get()) else { continue };
            let from = place(text, object).start;
            let cuts = inner.members_at(object.get(), is_null);
            hidden.extend(cuts.into_iter().map(|cut| from + cut.start..from + cut.end));
        }
    }
    hidden
}

fn is_null(key: &str, value: &RawValue) -> bool {
    value.get() == "null" && OPTIONAL.contains(&key)
}

/// What has to be written for a schema of arguments, which always are an object, to say so.
fn typed(text: &str, schema: &RawValue) -> Option<(Range<usize>, &'static str)> {
    let members = Members::of(schema.get()).ok()?;
    if let Some(kind) = members.get("type") {
        return (kind.get() != OBJECT).then(|| (place(text, kind), OBJECT));
    }
    // Behind the last member, where no cut takes its comma.
    let end = place(text, schema).end - 1;
    let is_only = members.0.iter().all(|(key, value)| is_null(key, value));
    Some((end..end, if is_only { r#""type":"object""# } else { r#","type":"object""# }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str, name: &str) -> String {
        let mut out = String::new();
        Definition::read(RawJson::parse(text).unwrap(), "name").unwrap().write(&mut out, name);
        out
    }

    #[test]
    fn only_the_name_changes() {
        let text = r#"{ "future":1.50,"name" : "add","inputSchema":{"name":{},"type" :"object"},"_meta":{"ui":{"resourceUri":"ui://a"}} }"#;
        assert_eq!(written(text, "add"), text);
        assert_eq!(written(text, "math__add"), text.replacen("\"add\"", "\"math__add\"", 1));
    }

    #[test]
    fn legacy_tasks_are_not_promised() {
        let text = r#"{"name":"a","execution":{"taskSupport":"optional"},"title":"A"}"#;
        assert_eq!(written(text, "b"), r#"{"name":"b","title":"A"}"#);
        assert_eq!(written(r#"{"execution":{},"name":"a"}"#, "a"), r#"{"name":"a"}"#);
    }

    #[test]
    fn what_may_be_left_out_is_not_shown_as_null() {
        let text = r#"{"title":null,"description": null,"name":"a","arguments":null,"x":null,"icons":null}"#;
        assert_eq!(written(text, "a"), r#"{"name":"a","x":null}"#);
        assert_eq!(written(text, "s__a"), r#"{"name":"s__a","x":null}"#);
    }

    #[test]
    fn what_may_be_left_out_of_a_part_is_not_shown_as_null() {
        let text = r#"{"name":"p","arguments":[{"name":"x","description":null, "required":null},{"title":null,"name":"y"},5],"annotations":{"title":null}}"#;
        let shown = r#"{"name":"p","arguments":[{"name":"x"},{"name":"y"},5],"annotations":{}}"#;
        assert_eq!(written(text, "p"), shown);
    }

    #[test]
    fn a_schema_of_arguments_is_one_of_an_object() {
        for (schema, shown) in [
            ("{}", r#"{"type":"object"}"#),
            (r#"{"properties":null,"required":null}"#, r#"{"type":"object"}"#),
            (r#"{"required":null, "a":null }"#, r#"{ "a":null ,"type":"object"}"#),
            (r#"{"type":null,"properties":{}}"#, r#"{"type":"object","properties":{}}"#),
            (r#"{"type":["object","null"],"required":null}"#, r#"{"type":"object"}"#),
            (r#"{ "type" : "object" }"#, r#"{ "type" : "object" }"#),
        ] {
            let with = |name: &str, schema: &str| format!(r#"{{"title":"t","inputSchema":{schema},"name":"{name}"}}"#);
            assert_eq!(written(&with("a", schema), "s__a"), with("s__a", shown));
        }
    }

    #[test]
    fn a_resource_has_a_name_beside_its_uri() {
        let read = |text: &str| Definition::read(RawJson::parse(text).unwrap(), "uri");
        assert_eq!(&*read(r#"{"uri":"a://b","name":"b"}"#).unwrap().name, "a://b");
        for text in [r#"{"uri":"a://b"}"#, r#"{"uri":"a://b","name":null}"#, r#"{"uri":"a://b","name":1}"#] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_has_no_name_is_told() {
        for text in ["{}", r#"{"name":""}"#, r#"{"name":1}"#, "[]", r#"{"name":"a","name":"b"}"#] {
            assert!(Definition::read(RawJson::parse(text).unwrap(), "name").is_err(), "{text}");
        }
    }
}
