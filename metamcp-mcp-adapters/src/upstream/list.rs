//! Reads a server's whole list of tools, page by page and within bounds, each definition as it was written.
//!
//! A definition that cannot be used is left out with a warning; it does not cost the others.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use metamcp_core::{
    id::ServerName,
    json::RawJson,
    matching::{Capability, ServerTerms},
    transport::{Delivered, Freshness, TransportError, TransportErrorKind},
};
use serde::Deserialize;
use tokio::time::timeout;

use super::{
    usable,
    way::{Failure, error, violation},
};
use crate::wire::{
    era::{INVALID_PARAMS, METHOD_NOT_FOUND},
    freshness,
    header::{self, ParamHeader},
};

/// Pages of one list.
const PAGES_MAX: usize = 1_000;
/// Tools of one server.
const TOOLS_MAX: usize = 10_000;
/// All definitions of one server, in bytes.
const LIST_BYTES_MAX: usize = 32 << 20;
/// Longest wait for one page, in seconds.
const PAGE_S_MAX: u64 = 30;
/// How often the list is begun anew when a cursor is no longer known.
const RESTARTS_MAX: usize = 2;

/// Every tool of a server.
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub(super) tools: Vec<RawJson>,
    /// Which arguments go along as headers; tools without such are not in it.
    pub(super) headers: HashMap<String, Vec<ParamHeader>>,
    /// How long it may be taken for current.
    pub(super) freshness: Option<Freshness>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    tools: Vec<RawJson>,
    next_cursor: Option<String>,
}

/// Asks for page after page.
///
/// `has_tools` is what the server says of itself, `with_headers` whether marked arguments are to go along as headers.
pub(super) async fn drain<F, Fut>(
    server: &ServerName,
    ask: F,
    has_tools: bool,
    with_headers: bool,
) -> Result<Listed, TransportError>
where
    F: Fn(Option<String>) -> Fut,
    Fut: Future<Output = Result<RawJson, Failure>>,
{
    let mut restarts = 0;
    'anew: loop {
        let mut list = Collecting { with_headers, ..Collecting::new(server) };
        let mut cursor: Option<String> = None;
        let mut seen = HashSet::new();
        for _ in 0..PAGES_MAX {
            let page = match timeout(Duration::from_secs(PAGE_S_MAX), ask(cursor.clone())).await {
                Ok(Ok(page)) => page,
                Ok(Err(Failure::Rpc(rpc, _))) if rpc.code == METHOD_NOT_FOUND && !has_tools => {
                    return Ok(Listed::default());
                }
                Ok(Err(Failure::Rpc(rpc, _)))
                    if rpc.code == INVALID_PARAMS && cursor.is_some() && restarts < RESTARTS_MAX =>
                {
                    restarts += 1;
                    continue 'anew;
                }
                Ok(Err(failure)) => return Err(failure.into_error(server)),
                Err(_) => {
                    let what = format!("did not list its tools within {PAGE_S_MAX} s");
                    return Err(error(server, TransportErrorKind::Timeout, Delivered::No, what));
                }
            };
            list.listed.freshness = freshness::with_page(list.listed.freshness, freshness::of(&page));
            let page: Page =
                page.view().map_err(|e| violation(server, format_args!("a list of tools that is none: {e}")))?;
            list.take(page.tools)?;
            let Some(next) = page.next_cursor else { return Ok(list.listed) };
            if !seen.insert(next.clone()) {
                return Err(violation(server, "its list of tools goes in a circle: a cursor came twice"));
            }
            cursor = Some(next);
        }
        return Err(too_large(server, format_args!("its list of tools has more than {PAGES_MAX} pages")));
    }
}

fn too_large(server: &ServerName, what: impl std::fmt::Display) -> TransportError {
    error(server, TransportErrorKind::TooLarge, Delivered::Yes, what)
}

struct Collecting<'a> {
    server: &'a ServerName,
    with_headers: bool,
    terms: Arc<ServerTerms>,
    names: HashSet<String>,
    bytes: usize,
    listed: Listed,
}

impl<'a> Collecting<'a> {
    fn new(server: &'a ServerName) -> Self {
        let terms = Arc::default();
        Self { server, with_headers: false, terms, names: HashSet::new(), bytes: 0, listed: Listed::default() }
    }

    fn take(&mut self, tools: Vec<RawJson>) -> Result<(), TransportError> {
        for tool in tools {
            self.bytes += tool.get().len();
            if self.listed.tools.len() >= TOOLS_MAX || self.bytes > LIST_BYTES_MAX {
                let what =
                    format!("its list of tools is over the bounds of {TOOLS_MAX} tools and {LIST_BYTES_MAX} bytes");
                return Err(too_large(self.server, what));
            }
            match self.check(&tool) {
                Ok(()) => self.listed.tools.push(tool),
                Err(reason) => tracing::warn!(server = %self.server, reason, "left out a tool"),
            }
        }
        Ok(())
    }

    fn check(&mut self, tool: &RawJson) -> Result<(), String> {
        let read = Capability::from_definition(self.server, Arc::clone(&self.terms), tool.clone());
        let read = read.map_err(|error| error.to_string())?;
        let name = read.id.tool();
        usable::tool(tool).map_err(|reason| format!("`{name}` {reason}"))?;
        if self.with_headers {
            let marks = header::of_schema(&read.input_schema).map_err(|reason| format!("`{name}`: {reason}"))?;
            if !marks.is_empty() {
                self.listed.headers.insert(name.to_owned(), marks);
            }
        }
        if !self.names.insert(name.to_owned()) {
            return Err(format!("`{name}` is listed twice"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use serde_json::{Value, json};

    use super::*;
    use crate::wire::frame::RpcError;

    async fn listed(page: impl Fn(usize, Option<&str>) -> Result<Value, Failure>) -> Result<Listed, TransportError> {
        let asked = Cell::new(0);
        let ask = |cursor: Option<String>| {
            asked.set(asked.get() + 1);
            std::future::ready(page(asked.get(), cursor.as_deref()).map(RawJson::from))
        };
        drain(&ServerName::new("s").unwrap(), ask, true, true).await
    }

    fn named(name: &str) -> Value {
        json!({ "name": name, "inputSchema": { "type": "object" } })
    }

    #[tokio::test]
    async fn all_pages_are_read_and_bad_tools_left_out() {
        let marked = |mark: &str| json!({ "name": mark, "inputSchema": { "properties": { "a": { "type": "string", "x-mcp-header": mark } } } });
        let found = listed(|n, cursor| {
            Ok(match (n, cursor) {
                (1, None) => {
                    json!({ "tools": [named("a"), { "noname": 1 }, named("a"), marked("")], "nextCursor": "c" })
                }
                (2, Some("c")) => {
                    let task = json!({ "name": "t", "inputSchema": {}, "execution": { "taskSupport": "required" } });
                    let (listed, none) = (json!({ "name": "s", "inputSchema": [] }), json!({ "name": "n" }));
                    json!({ "tools": [named("b"), marked("M"), listed, none, task] })
                }
                other => panic!("unexpected {other:?}"),
            })
        });
        let found = found.await.unwrap();
        let names: Vec<String> =
            found.tools.iter().map(|t| t.view::<Value>().unwrap()["name"].as_str().unwrap().to_owned()).collect();
        assert_eq!(names, ["a", "b", "M"]);
        assert_eq!(found.headers.keys().collect::<Vec<_>>(), ["M"]);
    }

    #[tokio::test]
    async fn a_list_that_never_ends_is_refused() {
        let circle = listed(|n, _| Ok(json!({ "tools": [], "nextCursor": (n % 3).to_string() }))).await;
        assert_eq!(circle.unwrap_err().kind, TransportErrorKind::Protocol);
        let endless = listed(|n, _| Ok(json!({ "tools": [], "nextCursor": n.to_string() }))).await;
        assert_eq!(endless.unwrap_err().kind, TransportErrorKind::TooLarge);
        let many: Vec<Value> = (0..=TOOLS_MAX).map(|n| named(&n.to_string())).collect();
        let crowd = listed(|_, _| Ok(json!({ "tools": many }))).await;
        assert_eq!(crowd.unwrap_err().kind, TransportErrorKind::TooLarge);
    }

    #[tokio::test]
    async fn a_cursor_that_is_no_longer_known_begins_the_list_anew() {
        let found = listed(|n, cursor| match (n, cursor) {
            (2, Some(_)) => {
                Err(Failure::Rpc(RpcError { code: INVALID_PARAMS, message: String::new(), data: None }, None))
            }
            (_, None) => Ok(json!({ "tools": [named("a")], "nextCursor": "c" })),
            _ => Ok(json!({ "tools": [named("b")] })),
        });
        assert_eq!(found.await.unwrap().tools.len(), 2);
    }
}
