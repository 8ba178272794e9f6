//! A tool as an endpoint shows it.

use std::sync::{Arc, OnceLock};

use metamcp_core::matching::Capability;
use serde_json::value::{RawValue, to_raw_value};

use crate::wire::header::{self, ParamHeader};

/// A tool as an endpoint shows it.
#[derive(Debug)]
pub(crate) struct ToolRef {
    /// What it is called here.
    pub(crate) name: Box<str>,
    /// The tool itself.
    pub(crate) capability: Arc<Capability>,
    /// Its server's own name of it, a JSON string.
    pub(crate) own_name: Box<RawValue>,
    /// Whether it is known to take long.
    pub(crate) heavy: bool,
    /// Which of its arguments are repeated in headers; read when it is called over HTTP.
    headers: OnceLock<Vec<ParamHeader>>,
}

impl ToolRef {
    pub(super) fn new(name: &str, capability: &Arc<Capability>, heavy: bool) -> Self {
        let own_name = to_raw_value(capability.id.tool()).expect("a string is JSON");
        Self { name: name.into(), capability: Arc::clone(capability), own_name, heavy, headers: OnceLock::new() }
    }

    /// Which of its arguments are repeated in headers. A tool whose marks are wrong is as good as unmarked.
    pub(crate) fn headers(&self) -> &[ParamHeader] {
        self.headers.get_or_init(|| header::of_schema(&self.capability.input_schema).unwrap_or_default())
    }
}
