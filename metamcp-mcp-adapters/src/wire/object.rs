//! Writes JSON objects member by member, each value as the text it came as.

use std::fmt::Write;

use serde_json::value::RawValue;

/// A JSON object in the making.
#[derive(Debug)]
pub(crate) struct ObjectText {
    text: String,
    /// Where this object begins in the text.
    empty: bool,
}

impl ObjectText {
    /// An object without members, with room for so many bytes.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        let mut text = String::with_capacity(bytes);
        text.push('{');
        Self { text, empty: true }
    }

    /// One more member, its value JSON text.
    pub(crate) fn raw(&mut self, key: &'static str, value: &str) -> &mut Self {
        self.key(key);
        self.text.push_str(value);
        self
    }

    /// One more member, its value as it came.
    pub(crate) fn value(&mut self, key: &'static str, value: &RawValue) -> &mut Self {
        self.raw(key, value.get())
    }

    /// One more member under a key of somebody else, its value JSON text.
    pub(crate) fn foreign(&mut self, key: &str, value: &str) -> &mut Self {
        self.comma();
        quote(&mut self.text, key);
        self.text.push(':');
        self.text.push_str(value);
        self
    }

    /// One more member, a string.
    pub(crate) fn string(&mut self, key: &'static str, value: &str) -> &mut Self {
        self.key(key);
        quote(&mut self.text, value);
        self
    }

    /// One more member, a number.
    pub(crate) fn number(&mut self, key: &'static str, value: u64) -> &mut Self {
        self.key(key);
        write!(self.text, "{value}").expect("a String takes all");
        self
    }

    /// One more member, an object written by `fill`.
    pub(crate) fn object(&mut self, key: &'static str, fill: impl FnOnce(&mut Self)) -> &mut Self {
        self.key(key);
        self.text.push('{');
        self.empty = true;
        fill(self);
        self.text.push('}');
        self.empty = false;
        self
    }

    /// The text of the whole object.
    pub(crate) fn finish(mut self) -> String {
        self.text.push('}');
        self.text
    }

    /// A key of ours, which needs no look at each byte.
    fn key(&mut self, key: &'static str) {
        debug_assert!(is_plain(key), "{key} must be escaped");
        self.comma();
        self.text.extend(["\"", key, "\":"]);
    }

    fn comma(&mut self) {
        if !std::mem::take(&mut self.empty) {
            self.text.push(',');
        }
    }
}

/// Whether nothing in a text must be escaped. Over all bytes without a way out: that is done many bytes at a time.
fn is_plain(text: &str) -> bool {
    text.bytes().fold(true, |plain, byte| plain & (byte >= 0x20) & (byte != b'"') & (byte != b'\\'))
}

/// Appends a JSON string.
fn quote(to: &mut String, text: &str) {
    if is_plain(text) {
        to.push('"');
        to.push_str(text);
        to.push('"');
    } else {
        to.push_str(&serde_json::to_string(text).expect("a string is JSON"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn members_stand_in_their_order_and_values_as_they_came() {
        let raw: Box<RawValue> = serde_json::from_str("1.0").unwrap();
        let mut object = ObjectText::with_capacity(0);
        object.object("none", |_| ()).value("n", &raw).object("in", |inner| {
            inner.string("s", "é\n").foreign("a\"b", "1.0").number("x", 7);
        });
        object.raw("last", "[]");
        let text = object.finish();
        assert!(text.starts_with(r#"{"none":{},"n":1.0,"in":{"#), "{text}");
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read, json!({ "none": {}, "n": 1.0, "in": { "s": "é\n", "a\"b": 1.0, "x": 7 }, "last": [] }));
    }
}
