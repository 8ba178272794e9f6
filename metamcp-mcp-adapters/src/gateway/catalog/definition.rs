//! One entry of a server's list as the server wrote it, ready to be written under another name.

use std::ops::Range;

use metamcp_core::json::RawJson;

use crate::gateway::members::{Members, quoted};

/// A tool, prompt, resource or template as its server defined it.
#[derive(Debug, Clone)]
pub(crate) struct Definition {
    /// The whole definition.
    pub(crate) raw: RawJson,
    /// What its server calls it: a name, a URI or a template.
    pub(crate) name: Box<str>,
    name_at: Range<usize>,
    /// Not to be shown: it promises the tasks of revision 2025-11-25, which nobody here keeps.
    execution_at: Option<Range<usize>>,
}

impl Definition {
    /// Reads a definition that is known by the member `key`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn read(raw: RawJson, key: &str) -> Result<Self, String> {
        let members = Members::of(raw.get()).map_err(|error| error.to_string())?;
        let name = members.text(key).filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| format!("has no `{key}`"))?.into();
        let name_at = members.value_at(raw.get(), key).ok_or_else(|| format!("has no `{key}`"))?;
        let execution_at = members.member_at(raw.get(), "execution");
        Ok(Self { name, name_at, execution_at, raw })
    }

    /// Writes it under this name.
    pub(crate) fn write(&self, out: &mut String, name: &str) {
        let text = self.raw.get();
        let (mut from, name_text) = (0, (*self.name != *name).then(|| quoted(name)));
        let new_name = name_text.as_ref().map(|text| (self.name_at.clone(), text.as_str()));
        let mut changes: Vec<_> = new_name.into_iter().chain(self.execution_at.clone().map(|at| (at, ""))).collect();
        changes.sort_by_key(|(at, _)| at.start);
        for (at, new) in changes {
            out.push_str(&text[from..at.start]);
            out.push_str(new);
            from = at.end;
        }
        out.push_str(&text[from..]);
    }
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
        let text =
            r#"{ "future":1.50,"name" : "add","inputSchema":{"name":{}},"_meta":{"ui":{"resourceUri":"ui://a"}} }"#;
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
    fn what_has_no_name_is_told() {
        for text in ["{}", r#"{"name":""}"#, r#"{"name":1}"#, "[]", r#"{"name":"a","name":"b"}"#] {
            assert!(Definition::read(RawJson::parse(text).unwrap(), "name").is_err(), "{text}");
        }
    }
}
