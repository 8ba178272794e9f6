//! A list cut into pages and kept serialised, in the form of each era, with cursors of our own.
//!
//! A cursor names the content of the list, not a moment or a process: it stays good while the list stays the same, on every replica and after
//! a restart; when the list has changed it is refused, and the client begins anew.

use std::sync::OnceLock;

use bytes::Bytes;
use metamcp_core::{pointer::Digest, transport::Freshness};

use crate::wire::era::{CLIENT_INFO, Era, META_SERVER_INFO};

/// Hexadecimal digits of a list's digest in a cursor.
const CURSOR_DIGITS: usize = 16;
/// Bytes on one page after which the next one begins, however few entries there are: half of what a wire carries in one frame.
const PAGE_BYTES_MAX: usize = crate::wire::FRAME_BYTES_MAX / 2;

/// A list of entries, each as it is to be written.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    text: String,
    /// Where each entry ends in the text.
    ends: Vec<usize>,
}

/// A list, ready to be sent.
#[derive(Debug)]
pub(crate) struct Pages {
    digest: Digest,
    pages: Vec<Page>,
}

#[derive(Debug)]
struct Page {
    modern: Bytes,
    /// Up to where the two eras are the same, but for the closing brace.
    common: usize,
    legacy: OnceLock<Bytes>,
}

impl Entries {
    /// Adds an entry that `write` writes.
    pub(crate) fn add(&mut self, write: impl FnOnce(&mut String)) {
        write(&mut self.text);
        self.ends.push(self.text.len());
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Pages of the list that results call `key`.
    pub(crate) fn pages(&self, key: &str, items_max: usize, fresh: Freshness) -> Pages {
        let mut content = Vec::with_capacity(self.text.len() + self.ends.len());
        let mut start = 0;
        for end in &self.ends {
            content.extend_from_slice(&self.text.as_bytes()[start..*end]);
            content.push(b'\n');
            start = *end;
        }
        let digest = Digest::of(&content);
        let tail = format!(
            r#","resultType":"complete","ttlMs":{},"cacheScope":"{}","_meta":{{"{META_SERVER_INFO}":{CLIENT_INFO}}}}}"#,
            fresh.ttl_ms,
            if fresh.public { "public" } else { "private" },
        );
        let starts = self.page_starts(items_max.max(1));
        let pages = starts.iter().enumerate().map(|(number, first)| {
            let last = starts.get(number + 1).copied().unwrap_or(self.len());
            let mut text = format!("{{\"{key}\":[");
            for at in *first..last {
                if at > *first {
                    text.push(',');
                }
                text.push_str(self.entry(at));
            }
            text.push(']');
            if last < self.len() {
                text.push_str(&format!(",\"nextCursor\":\"{}\"", cursor(&digest, number + 1)));
            }
            let common = text.len();
            text.push_str(&tail);
            Page { modern: text.into(), common, legacy: OnceLock::new() }
        });
        Pages { pages: pages.collect(), digest }
    }

    fn entry(&self, at: usize) -> &str {
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[at]]
    }

    /// The first entry of each page; an empty list has one page.
    fn page_starts(&self, items_max: usize) -> Vec<usize> {
        let (mut starts, mut bytes) = (vec![0], 0);
        for at in 0..self.len() {
            let first = *starts.last().expect("there is a first page");
            let size = self.entry(at).len();
            if at > first && (at - first >= items_max || bytes + size > PAGE_BYTES_MAX) {
                starts.push(at);
                bytes = 0;
            }
            bytes += size;
        }
        starts
    }
}

impl Pages {
    /// The page of a cursor, the first without one, in the form of the era; `None` for a cursor of another list.
    pub(crate) fn page(&self, era: Era, cursor: Option<&str>) -> Option<Bytes> {
        let number = match cursor {
            None => 0,
            Some(text) => {
                let (digest, number) = text.split_once('.')?;
                (digest == short(&self.digest)).then_some(())?;
                number.parse().ok()?
            }
        };
        let page: &Page = self.pages.get(number)?;
        Some(match era {
            Era::Modern => page.modern.clone(),
            Era::Legacy => page.legacy.get_or_init(|| [&page.modern[..page.common], b"}"].concat().into()).clone(),
        })
    }

    /// Whether both hold the same entries in the same order.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Default for Pages {
    fn default() -> Self {
        Entries::default().pages("", 1, Freshness { ttl_ms: 0, public: false })
    }
}

fn cursor(digest: &Digest, number: usize) -> String {
    format!("{}.{number}", short(digest))
}

fn short(digest: &Digest) -> String {
    digest.to_string()[..CURSOR_DIGITS].to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const STALE: Freshness = Freshness { ttl_ms: 0, public: true };

    fn entries(names: &[&str]) -> Entries {
        let mut entries = Entries::default();
        for name in names {
            entries.add(|out| out.push_str(&format!("{{\"name\":\"{name}\"}}")));
        }
        entries
    }

    fn walk(pages: &Pages, era: Era) -> (Vec<String>, usize) {
        let (mut names, mut count, mut cursor) = (Vec::new(), 0, None::<String>);
        loop {
            let page: Value = serde_json::from_slice(&pages.page(era, cursor.as_deref()).unwrap()).unwrap();
            count += 1;
            assert_eq!(page.get("resultType").is_some(), era == Era::Modern);
            names.extend(page["tools"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap().to_owned()));
            let Some(next) = page.get("nextCursor") else { return (names, count) };
            cursor = next.as_str().map(str::to_owned);
        }
    }

    #[test]
    fn every_entry_is_on_one_page_in_order() {
        let names = ["a", "b", "c", "d", "e"];
        let pages = entries(&names).pages("tools", 2, Freshness { ttl_ms: 60_000, public: false });
        for era in [Era::Modern, Era::Legacy] {
            assert_eq!(walk(&pages, era), (names.map(str::to_owned).to_vec(), 3));
        }
        assert_eq!(walk(&entries(&[]).pages("tools", 2, STALE), Era::Modern), (Vec::new(), 1));
        let page: Value = serde_json::from_slice(&pages.page(Era::Modern, None).unwrap()).unwrap();
        assert_eq!((page["ttlMs"].as_u64(), page["cacheScope"].as_str()), (Some(60_000), Some("private")));
        assert_eq!(page["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "metamcp");
    }

    #[test]
    fn a_cursor_holds_for_the_same_list_only() {
        let before = entries(&["a", "b", "c"]).pages("tools", 2, STALE);
        let (same, other) = (entries(&["a", "b", "c"]), entries(&["a", "b", "d"]));
        let first: Value = serde_json::from_slice(&before.page(Era::Modern, None).unwrap()).unwrap();
        let cursor = first["nextCursor"].as_str();
        assert!(same.pages("tools", 2, STALE).page(Era::Legacy, cursor).is_some());
        let other = other.pages("tools", 2, STALE);
        assert!(other.page(Era::Modern, cursor).is_none() && !other.same_as(&before));
        for wrong in ["", "x", ".", "0.0", "\u{e9}.1"] {
            assert!(before.page(Era::Modern, Some(wrong)).is_none(), "{wrong}");
        }
    }
}
