//! The arguments of our own tools: read once, and refused with words that a model can act on.

use metamcp_core::json::RawJson;
use serde::de::DeserializeOwned;

use crate::gateway::{Request, tool_result::failed};

/// The arguments of a call to one of our tools; an error is the result that its caller reads.
pub(super) fn read<T: DeserializeOwned>(request: &Request<'_>, tool: &str) -> Result<T, RawJson> {
    let given = request.param("arguments").map_or("{}", |arguments| arguments.get());
    serde_json::from_str(given)
        .map_err(|error| refused(&format!("{tool}: {error}; see its inputSchema for what it takes")))
}

/// What a caller reads whose arguments are not taken.
pub(crate) fn refused(why: &str) -> RawJson {
    failed(why, "invalid_arguments", "")
}
