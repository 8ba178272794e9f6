//! What an endpoint says of itself: the capabilities of its servers as far as they are relayed, and their instructions in one text.

use std::fmt::Write as _;

use metamcp_core::json::RawJson;
use serde_json::{Map, Value, json};

use super::offer::{Abilities, Offered, UI_EXTENSION};
use crate::wire::era::TASKS_EXTENSION;

/// The instructions of all servers together, in bytes.
const INSTRUCTIONS_BYTES_MAX: usize = 16 << 10;
/// The instructions of one server when there are several, in bytes.
const SERVER_INSTRUCTIONS_BYTES_MAX: usize = 2 << 10;

/// What an endpoint says of itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Discover {
    /// Its `capabilities` object in the form of the modern era.
    pub(crate) capabilities: RawJson,
    /// Instructions for models.
    pub(crate) instructions: Option<String>,
}

/// What is said of these servers together.
pub(super) fn of(offers: &[Offered<'_>]) -> Discover {
    Discover { capabilities: capabilities(offers), instructions: instructions(offers) }
}

/// Lists are there even when they are empty: servers come and go, and that is told.
fn capabilities(offers: &[Offered<'_>]) -> RawJson {
    let any = |can: fn(&Abilities) -> bool| offers.iter().any(|(_, offer)| can(&offer.can));
    let mut extensions = Map::new();
    extensions.insert(TASKS_EXTENSION.to_owned(), json!({}));
    if any(|can| can.ui) {
        extensions.insert(UI_EXTENSION.to_owned(), json!({}));
    }
    let mut capabilities = json!({
        "tools": { "listChanged": true },
        "prompts": { "listChanged": true },
        "resources": { "listChanged": true, "subscribe": any(|can| can.subscribe) },
        "extensions": extensions,
    });
    if let Value::Object(members) = &mut capabilities {
        if any(|can| can.completions) {
            members.insert("completions".to_owned(), json!({}));
        }
        if any(|can| can.logging) {
            members.insert("logging".to_owned(), json!({}));
        }
    }
    capabilities.into()
}

fn instructions(offers: &[Offered<'_>]) -> Option<String> {
    let mut told = offers.iter().filter_map(|(server, offer)| Some((*server, &**offer.instructions.as_ref()?)));
    let (first, second) = (told.next()?, told.next());
    if second.is_none() && offers.len() == 1 {
        return Some(cut(first.1, INSTRUCTIONS_BYTES_MAX).to_owned());
    }
    let mut text = String::new();
    for (server, words) in [first].into_iter().chain(second).chain(told) {
        let words = cut(words.trim(), SERVER_INSTRUCTIONS_BYTES_MAX);
        if text.len() + server.as_str().len() + words.len() > INSTRUCTIONS_BYTES_MAX {
            break;
        }
        let gap = if text.is_empty() { "" } else { "\n\n" };
        write!(text, "{gap}# {server}\n{words}").expect("a String takes every write");
    }
    Some(text)
}

fn cut(words: &str, bytes_max: usize) -> &str {
    &words[..words.floor_char_boundary(bytes_max)]
}
