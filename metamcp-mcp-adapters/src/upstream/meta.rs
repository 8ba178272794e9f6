//! The text of a request to a server, with what its era wants to be said in `_meta`.

use metamcp_core::transport::RelayMeta;
use serde_json::value::RawValue;

use super::abilities::Relayable;
use crate::wire::{
    era::{
        CLIENT_INFO, Era, META_CAPABILITIES, META_CLIENT_INFO, META_LOG_LEVEL, META_PREFIX, META_PROGRESS_TOKEN,
        META_REVISION, MODERN,
    },
    frame,
    object::ObjectText,
};

/// The bytes of a modern `_meta` without what the caller adds, in round figures.
const META_BYTES: usize = 384;

/// The text of a request: `members` of its parameters and, last, `_meta`.
pub(super) fn request(era: Era, id: u64, method: &str, members: &[(&str, &RawValue)], meta: &RelayMeta<'_>) -> String {
    let room = members.iter().map(|(key, value)| key.len() + value.get().len() + 4).sum::<usize>() + META_BYTES;
    frame::request(id, method, room, |params| {
        for (key, value) in members {
            params.foreign(key, value.get());
        }
        let extra = meta.extra.iter().filter(|(key, _)| is_theirs(era, key));
        match era {
            Era::Modern => {
                params.object("_meta", |text| {
                    text.string(META_REVISION, MODERN).raw(META_CAPABILITIES, &Relayable::of(meta.capabilities).text());
                    text.raw(META_CLIENT_INFO, meta.client_info.map_or(CLIENT_INFO, RawValue::get));
                    if let Some(level) = meta.log_level {
                        text.value(META_LOG_LEVEL, level);
                    }
                    rest(text, id, meta.progress, extra);
                });
            }
            Era::Legacy => {
                let mut extra = extra.peekable();
                if meta.progress || extra.peek().is_some() {
                    params.object("_meta", |text| rest(text, id, meta.progress, extra));
                }
            }
        }
    })
}

fn rest<'a>(text: &mut ObjectText, id: u64, progress: bool, extra: impl Iterator<Item = &'a (&'a str, &'a RawValue)>) {
    if progress {
        text.number(META_PROGRESS_TOKEN, id);
    }
    for (key, value) in extra {
        text.foreign(key, value.get());
    }
}

/// Whether a field of `_meta` is the caller's to set. Legacy servers know none of the modern fields.
fn is_theirs(era: Era, key: &str) -> bool {
    let ours = [META_REVISION, META_CAPABILITIES, META_CLIENT_INFO, META_LOG_LEVEL, META_PROGRESS_TOKEN];
    !ours.contains(&key) && (era == Era::Modern || !key.starts_with(META_PREFIX))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn written(era: Era, meta: &RelayMeta<'_>) -> (String, Value) {
        let name: Box<RawValue> = RawValue::from_string("\"t\"".to_owned()).unwrap();
        let text = request(era, 7, "tools/call", &[("name", &name)], meta);
        let value = serde_json::from_str(&text).unwrap();
        (text, value)
    }

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn a_modern_request_says_all_and_a_legacy_one_next_to_nothing() {
        let (_, modern) = written(Era::Modern, &RelayMeta::default());
        let meta = &modern["params"]["_meta"];
        assert_eq!((&meta[META_REVISION], &meta[META_CAPABILITIES]), (&json!(MODERN), &json!({})));
        assert_eq!(meta[META_CLIENT_INFO]["name"], "metamcp");
        let (legacy, _) = written(Era::Legacy, &RelayMeta::default());
        assert_eq!(legacy, r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t"}}"#);
    }

    #[test]
    fn what_the_caller_says_goes_along_as_it_came_and_replaces_nothing_of_ours() {
        let (info, level, trace) = (raw(r#"{"name": "c"}"#), raw("\"debug\""), raw(r#""00-\u0061""#));
        let (capabilities, theirs, odd) = (raw(r#"{"roots":{},"tasks":{}}"#), raw("\"token\""), raw("1.0"));
        let meta = RelayMeta {
            capabilities: Some(&capabilities),
            client_info: Some(&info),
            log_level: Some(&level),
            progress: true,
            extra: &[
                (META_PROGRESS_TOKEN, &theirs),
                (META_REVISION, &theirs),
                ("traceparent", &trace),
                ("io.modelcontextprotocol/odd", &odd),
            ],
        };
        let (modern, value) = written(Era::Modern, &meta);
        let expected = concat!(
            r#""io.modelcontextprotocol/clientCapabilities":{"roots":{}},"#,
            r#""io.modelcontextprotocol/clientInfo":{"name": "c"},"io.modelcontextprotocol/logLevel":"debug","#,
            r#""progressToken":7,"traceparent":"00-\u0061","io.modelcontextprotocol/odd":1.0}}}"#
        );
        assert!(modern.ends_with(expected), "{modern}");
        assert_eq!(value["params"]["_meta"][META_REVISION], MODERN);
        let (legacy, _) = written(Era::Legacy, &meta);
        assert!(
            legacy.ends_with(r#""params":{"name":"t","_meta":{"progressToken":7,"traceparent":"00-\u0061"}}}"#),
            "{legacy}"
        );
    }
}
