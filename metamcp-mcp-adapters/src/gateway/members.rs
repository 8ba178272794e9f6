//! The members of a JSON object without building a value: where each stands in the text, so that one can be replaced or left out and all else
//! stays as it was written.

use std::{borrow::Cow, fmt, ops::Range};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// Most members of an object: they are compared with one another.
const MEMBERS_MAX: usize = 1_024;

/// Key and value of every member, in their order.
#[derive(Debug)]
pub(crate) struct Members<'a>(pub(crate) Vec<(Cow<'a, str>, &'a RawValue)>);

/// A key that is borrowed where it has no escapes.
#[derive(Deserialize)]
pub(crate) struct Key<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::new();
                while let Some((Key(key), value)) = map.next_entry::<Key<'de>, &'de RawValue>()? {
                    // Of two, one reader would take the first and another the last.
                    if members.iter().any(|(known, _)| *known == key) {
                        return Err(A::Error::custom(format_args!("the member `{key}` is there twice")));
                    }
                    if members.len() == MEMBERS_MAX {
                        return Err(A::Error::custom(format_args!("an object has over {MEMBERS_MAX} members")));
                    }
                    members.push((key, value));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Reader)
    }
}

impl<'a> Members<'a> {
    /// The members of `object`.
    ///
    /// # Errors
    /// When it is no object, or has a member twice.
    pub(crate) fn of(object: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(object)
    }

    /// The value of a member.
    pub(crate) fn get(&self, key: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| *value)
    }

    /// The text of a member that is a string.
    pub(crate) fn text(&self, key: &str) -> Option<Cow<'a, str>> {
        serde_json::from_str::<Key<'a>>(self.get(key)?.get()).ok().map(|Key(text)| text)
    }

    /// Where the value of a member stands in `object`, which these were read from.
    pub(crate) fn value_at(&self, object: &str, key: &str) -> Option<Range<usize>> {
        self.get(key).map(|value| place(object, value))
    }

    /// What has to be cut from `object` to leave out a member, with its comma.
    pub(crate) fn member_at(&self, object: &str, key: &str) -> Option<Range<usize>> {
        let at = self.0.iter().position(|(known, _)| known == key)?;
        Some(self.cut(object, at, at))
    }

    /// What has to be cut from `object` to leave out all these members, in the order of the text.
    pub(crate) fn members_at(&self, object: &str, is_left_out: impl Fn(&str, &RawValue) -> bool) -> Vec<Range<usize>> {
        let leaves_out = |(key, value): &&(Cow<'a, str>, &'a RawValue)| is_left_out(key, value);
        let leading = self.0.iter().take_while(leaves_out).count();
        // The comma behind the first members goes with the last of them.
        let begin = leading.checked_sub(1).map(|last| self.cut(object, 0, last));
        let others = (leading..self.0.len()).filter(|at| leaves_out(&&self.0[*at]));
        begin.into_iter().chain(others.map(|at| self.cut(object, at, at))).collect()
    }

    /// Where the members from `first` to `last` stand, with a comma.
    fn cut(&self, object: &str, first: usize, last: usize) -> Range<usize> {
        let end = place(object, self.0[last].1).end;
        match first.checked_sub(1) {
            Some(before) => place(object, self.0[before].1).end..end,
            None => {
                let start = object.find('{').map_or(0, |brace| brace + 1);
                let comma = object[end..].find(',').filter(|_| last + 1 < self.0.len());
                start..comma.map_or(end, |comma| end + comma + 1)
            }
        }
    }
}

/// Where `inner`, a part of `outer`, stands in it.
pub(crate) fn place(outer: &str, inner: &RawValue) -> Range<usize> {
    let start = inner.get().as_ptr().addr() - outer.as_ptr().addr();
    start..start + inner.get().len()
}

/// `object` with the value of a member replaced by a string; `None` when there is no such member.
pub(crate) fn with_text(object: &str, key: &str, text: &str) -> Option<String> {
    with_json(object, key, &quoted(text))
}

/// `object` with the value of a member replaced by JSON text; `None` when there is no such member.
pub(crate) fn with_json(object: &str, key: &str, json: &str) -> Option<String> {
    let at = Members::of(object).ok()?.value_at(object, key)?;
    Some([&object[..at.start], json, &object[at.end..]].concat())
}

/// A JSON string.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string is JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_is_replaced_and_the_rest_stays() {
        let object = "{ \"a\" : 1.0,\"na\\u006de\": \"x\" , \"b\":[ ] }";
        assert_eq!(with_text(object, "name", "é\"").unwrap(), "{ \"a\" : 1.0,\"na\\u006de\": \"é\\\"\" , \"b\":[ ] }");
        assert_eq!(with_text(object, "c", ""), None);
        assert_eq!(Members::of(object).unwrap().text("name").as_deref(), Some("x"));
    }

    #[test]
    fn a_member_is_cut_with_its_comma() {
        for (object, without) in [
            (r#"{ "x":{"a":[1,2]}, "b":1 }"#, r#"{ "b":1 }"#),
            (r#"{"a":1 , "x":2, "b":3}"#, r#"{"a":1, "b":3}"#),
            (r#"{"a":1,"x":2 }"#, r#"{"a":1 }"#),
            (r#"{"x":2}"#, "{}"),
        ] {
            let cut = Members::of(object).unwrap().member_at(object, "x").unwrap();
            assert_eq!(format!("{}{}", &object[..cut.start], &object[cut.end..]), without, "{object}");
        }
    }

    #[test]
    fn any_members_are_cut_and_an_object_stays() {
        for (object, without) in [
            (r#"{ "x":1, "y":2 , "a":3}"#, r#"{ "a":3}"#),
            (r#"{"x":1,"a":3, "y":2,"z":4 }"#, r#"{"a":3 }"#),
            (r#"{"a":3,"x":1,"b":4}"#, r#"{"a":3,"b":4}"#),
            (r#"{ "x":1,"y":2 }"#, "{ }"),
            ("{}", "{}"),
        ] {
            let cuts = Members::of(object).unwrap().members_at(object, |key, _| "xyz".contains(key));
            let mut left = object.to_owned();
            cuts.into_iter().rev().for_each(|cut| left.replace_range(cut, ""));
            assert_eq!(left, without, "{object}");
        }
    }

    #[test]
    fn a_member_that_is_there_twice_is_refused() {
        assert!(Members::of(r#"{"name":"a","na\u006de":"b"}"#).is_err());
        assert!(Members::of("[]").is_err());
    }
}
