//! Reads what a connected server offers, all pages of all lists, each entry as it was written, within bounds of number, size and time.

use std::{collections::HashSet, time::Duration};

use metamcp_core::{
    json::RawJson,
    transport::{Freshness, McpTransport, Relay, RelayError, RelayMeta, RelayRequest, RelaySide, TransportError},
};
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::offer::Lists;
use crate::{
    gateway::members::{Members, quoted},
    wire::{era::METHOD_NOT_FOUND, freshness},
};

/// Pages of one list.
const PAGES_MAX: usize = 1_000;
/// Entries of one list.
const ENTRIES_MAX: usize = 10_000;
/// One list, in bytes.
const LIST_BYTES_MAX: usize = 32 << 20;
/// Longest wait for one page, in seconds.
const PAGE_S_MAX: u64 = 30;

/// Why a list could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// The server refused or cannot be reached.
    #[error("{0}")]
    Transport(#[from] TransportError),
    /// In words.
    #[error("`{method}` {what}")]
    List {
        /// The list.
        method: &'static str,
        /// What is wrong with it.
        what: String,
    },
}

/// Everything that the server offers.
pub(super) async fn read(transport: &dyn McpTransport) -> Result<Lists, ReadError> {
    let found = transport.discover().await?;
    let mut lists = Lists { tools: found.tools, instructions: found.instructions, ..Lists::default() };
    lists.fresh.tools = found.freshness;
    let Some(relay) = transport.relay() else { return Ok(lists) };
    let introduction = relay.introduction();
    lists.modern = introduction.modern;
    lists.capabilities = introduction.capabilities.clone();
    if introduction.instructions.is_some() {
        lists.instructions.clone_from(&introduction.instructions);
    }
    let offered = Members::of(introduction.capabilities.get()).ok();
    let has = |capability: &str| offered.as_ref().is_some_and(|offered| offered.get(capability).is_some());
    if has("prompts") {
        (lists.prompts, lists.fresh.prompts) = list(relay, "prompts/list", "prompts").await?;
    }
    if has("resources") {
        (lists.resources, lists.fresh.resources) = list(relay, "resources/list", "resources").await?;
        (lists.templates, lists.fresh.templates) = list(relay, "resources/templates/list", "resourceTemplates").await?;
    }
    Ok(lists)
}

/// All pages of a list, and how long they may be taken for current; empty when the server does not know the method.
async fn list(
    relay: &dyn Relay,
    method: &'static str,
    key: &str,
) -> Result<(Vec<RawJson>, Option<Freshness>), ReadError> {
    let wrong = |what: String| ReadError::List { method, what };
    let (mut entries, mut bytes, mut seen, mut fresh) = (Vec::new(), 0, HashSet::new(), None);
    let mut cursor: Option<Box<RawValue>> = None;
    for _ in 0..PAGES_MAX {
        let page = page(relay, method, cursor.as_deref());
        let page = match timeout(Duration::from_secs(PAGE_S_MAX), page).await {
            Ok(Ok(page)) => page,
            Ok(Err(RelayError::Rpc(error))) if error.code == METHOD_NOT_FOUND && cursor.is_none() => {
                return Ok((entries, None));
            }
            Ok(Err(RelayError::Rpc(error))) => {
                return Err(wrong(format!("was refused with {}: {}", error.code, error.message)));
            }
            Ok(Err(RelayError::Transport(error))) => return Err(error.into()),
            Err(_) => return Err(wrong(format!("was not answered within {PAGE_S_MAX} s"))),
        };
        fresh = freshness::with_page(fresh, freshness::of(&page));
        let members = Members::of(page.get()).map_err(|error| wrong(format!("is no result: {error}")))?;
        let found = members.get(key).ok_or_else(|| wrong(format!("has no `{key}`")))?;
        let found: Vec<RawJson> =
            serde_json::from_str(found.get()).map_err(|error| wrong(format!("is no list: {error}")))?;
        bytes += found.iter().map(|entry| entry.get().len()).sum::<usize>();
        entries.extend(found);
        if entries.len() > ENTRIES_MAX || bytes > LIST_BYTES_MAX {
            return Err(wrong(format!("is over the bounds of {ENTRIES_MAX} entries and {LIST_BYTES_MAX} bytes")));
        }
        let Some(next) = members.text("nextCursor") else { return Ok((entries, fresh)) };
        cursor = Some(RawValue::from_string(quoted(&next)).expect("a string is JSON"));
        if !seen.insert(next.into_owned()) {
            return Err(wrong("goes in a circle: a cursor came twice".to_owned()));
        }
    }
    Err(wrong(format!("has more than {PAGES_MAX} pages")))
}

async fn page(relay: &dyn Relay, method: &str, cursor: Option<&RawValue>) -> Result<RawJson, RelayError> {
    let params: Vec<(&str, &RawValue)> = cursor.map(|cursor| ("cursor", cursor)).into_iter().collect();
    let request = RelayRequest { method, name: None, params: &params, meta: RelayMeta::default() };
    relay.request(request, &Nobody).await
}

/// Takes what comes beside an answer that nobody waits for.
pub(crate) struct Nobody;

impl RelaySide for Nobody {
    fn notify(&self, _method: &str, _params: Option<&RawValue>) {}
}
