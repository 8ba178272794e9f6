//! `ttlMs` and `cacheScope` of a result: how long and for whom it may be kept (revision 2026-07-28).

use metamcp_core::{json::RawJson, transport::Freshness};
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Hints<'a> {
    #[serde(borrow, default)]
    ttl_ms: Option<&'a RawValue>,
    #[serde(borrow, default)]
    cache_scope: Option<&'a RawValue>,
}

/// What a result says of it; `None` when it says nothing. What cannot be understood is taken for the least: not at all, for one alone.
pub(crate) fn of(result: &RawJson) -> Option<Freshness> {
    if !result.get().contains("ttlMs") && !result.get().contains("cacheScope") {
        return None;
    }
    let Hints { ttl_ms, cache_scope } = serde_json::from_str(result.get()).ok()?;
    if ttl_ms.is_none() && cache_scope.is_none() {
        return None;
    }
    let ttl_ms = ttl_ms.and_then(|ttl| serde_json::from_str::<u64>(ttl.get()).ok()).unwrap_or_default();
    Some(Freshness { ttl_ms, public: cache_scope.is_some_and(|scope| scope.get() == "\"public\"") })
}

/// What holds for all pages of a list, when one more page says this.
pub(crate) fn with_page(list: Option<Freshness>, page: Option<Freshness>) -> Option<Freshness> {
    match (list, page) {
        (Some(list), Some(page)) => Some(list.and(page)),
        (said, None) | (None, said) => said,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_understood_is_not_kept() {
        let told = |text: &str| of(&RawJson::parse(text).unwrap()).map(|fresh| (fresh.ttl_ms, fresh.public));
        assert_eq!(told(r#"{"ttlMs":5,"cacheScope":"public"}"#), Some((5, true)));
        assert_eq!(told(r#"{"ttlMs":5}"#), Some((5, false)));
        assert_eq!(told(r#"{"cacheScope":"public"}"#), Some((0, true)));
        for odd in ["-5", "\"5\"", "null", "1.5"] {
            assert_eq!(told(&format!(r#"{{"ttlMs":{odd},"cacheScope":1}}"#)), Some((0, false)));
        }
        assert_eq!((told("{}"), told(r#"{"tools":[{"ttlMs":5}]}"#)), (None, None));
        let (one, two) = (Freshness { ttl_ms: 5, public: true }, Freshness { ttl_ms: 9, public: false });
        assert_eq!(with_page(Some(one), Some(two)), Some(Freshness { ttl_ms: 5, public: false }));
        assert_eq!((with_page(None, Some(two)), with_page(Some(one), None)), (Some(two), Some(one)));
    }
}
