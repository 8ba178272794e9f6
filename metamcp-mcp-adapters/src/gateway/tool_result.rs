//! Results of tools that are written here: what went wrong in words, and what our own tools tell.

use metamcp_core::json::RawJson;

use super::{front, members::quoted};

/// The method of a call.
pub(crate) const METHOD: &str = "tools/call";
/// What is told of a failure, in `_meta` of the result.
const ERROR_META: &str = "io.github.metamcp/error";

/// A result that says in words what went wrong; `more`: further members of its particulars.
pub(crate) fn failed(text: &str, code: &str, more: &str) -> RawJson {
    let content = format!(r#""content":[{{"type":"text","text":{}}}],"isError":true"#, quoted(text));
    let meta = format!(r#""_meta":{{"{ERROR_META}":{{"code":{}{more}}}}}"#, quoted(code));
    RawJson::parse(front::result(&format!("{content},{meta}"))).expect("the parts are JSON")
}

/// Longest name that an error repeats, in bytes.
const SHOWN_BYTES_MAX: usize = 120;

/// As much of a name as an error repeats.
pub(crate) fn shown(name: &str) -> &str {
    &name[..name.floor_char_boundary(SHOWN_BYTES_MAX)]
}

/// A result in words and in structure.
pub(crate) fn structured(text: &str, structure: &RawJson) -> RawJson {
    let text = format!(
        r#""content":[{{"type":"text","text":{}}}],"structuredContent":{},"isError":false"#,
        quoted(text),
        structure.get()
    );
    RawJson::parse(front::result(&text)).expect("the parts are JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_in_words_and_in_members() {
        let result: serde_json::Value = failed("a \"b\"", "outcome_unknown", r#","server":"s""#).view().unwrap();
        assert_eq!((&result["isError"], &result["content"][0]["text"]), (&true.into(), &"a \"b\"".into()));
        assert_eq!(result["_meta"][ERROR_META]["code"], "outcome_unknown");
        assert_eq!(result["_meta"][ERROR_META]["server"], "s");
    }
}
