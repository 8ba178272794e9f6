//! One request of a client and what answers it, with everything inside kept as it was written.

use std::borrow::Cow;

use bytes::Bytes;
use metamcp_core::json::RawJson;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A request of a client.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    /// Given back with the answer, as it was spelled.
    pub(crate) id: &'a RawValue,
    /// What it wants.
    pub(crate) method: Cow<'a, str>,
    /// The members of `params` in their order, `_meta` left out.
    pub(crate) params: Vec<(Cow<'a, str>, &'a RawValue)>,
    /// The members of `_meta` in their order.
    pub(crate) meta: Vec<(Cow<'a, str>, &'a RawValue)>,
}

/// What answers a request.
#[derive(Debug)]
pub(crate) enum Reply {
    /// A result object as it is to be written, in the form of the modern era (with `resultType`).
    Result(RawJson),
    /// A result that is kept serialised: a page of a list, already in the whole form of the caller's era (`resultType` and `_meta` in the modern
    /// one), to be passed on as it is.
    Kept(Bytes),
    /// An error.
    Fault(RpcFault),
}

/// A JSON-RPC error to a client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RpcFault {
    /// The kind of error.
    pub(crate) code: i64,
    /// What to change, in words.
    pub(crate) message: String,
    /// Particulars.
    pub(crate) data: Option<RawJson>,
}

impl RpcFault {
    /// An error without particulars.
    pub(crate) fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }
}

impl<'a> Request<'a> {
    /// A member of `params`.
    pub(crate) fn param(&self, key: &str) -> Option<&'a RawValue> {
        self.params.iter().find(|(name, _)| name == key).map(|(_, value)| *value)
    }

    /// A member of `_meta`.
    pub(crate) fn meta(&self, key: &str) -> Option<&'a RawValue> {
        self.meta.iter().find(|(name, _)| name == key).map(|(_, value)| *value)
    }
}
