//! The problem document of RFC 9457: what is wrong, with which field, and what to change.

use metamcp_core::id::JobId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{route::RejectionDocument, state::TaskState};

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $status:literal, $urn:literal, $title:literal;)*) => {
        /// The kinds of problems: each has one status and one title.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
        pub enum ProblemKind {
            $($(#[$doc])* #[serde(rename = $urn)] $name,)*
        }

        impl ProblemKind {
            /// The HTTP status.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// The same for every problem of this kind.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

kinds! {
    /// The body is not JSON.
    InvalidJson = 400, "urn:metamcp:problem:invalid-json", "the body is not JSON";
    /// A query parameter is unknown or out of bounds.
    InvalidParameter = 400, "urn:metamcp:problem:invalid-parameter", "a query parameter is not valid";
    /// An id or a pointer does not have the required form.
    InvalidName = 400, "urn:metamcp:problem:invalid-name", "a name is not valid";
    /// The request itself is broken.
    BadRequest = 400, "urn:metamcp:problem:bad-request", "the request is not valid";
    /// `Host` is not one this server answers to.
    ForbiddenHost = 403, "urn:metamcp:problem:forbidden-host", "this server does not answer to that host";
    /// The request comes from a page of another site.
    ForbiddenOrigin = 403, "urn:metamcp:problem:forbidden-origin", "requests from other sites are refused";
    /// There is no such thing, or it is not the caller's.
    NotFound = 404, "urn:metamcp:problem:not-found", "not found";
    /// The path names nothing.
    NoSuchPath = 404, "urn:metamcp:problem:no-such-path", "no such path";
    /// The path knows other methods.
    MethodNotAllowed = 405, "urn:metamcp:problem:method-not-allowed", "the method is not allowed here";
    /// The body did not come in time.
    RequestTimeout = 408, "urn:metamcp:problem:request-timeout", "the request took too long to come";
    /// The idempotency key belongs to another request.
    IdempotencyConflict = 409, "urn:metamcp:problem:idempotency-conflict", "the idempotency key was used before";
    /// The task's state does not allow it.
    StateConflict = 409, "urn:metamcp:problem:state-conflict", "the task's state does not allow it";
    /// The body is larger than the bound.
    TooLarge = 413, "urn:metamcp:problem:too-large", "the body is too large";
    /// The body is not declared as JSON.
    UnsupportedMediaType = 415, "urn:metamcp:problem:unsupported-media-type", "the media type is not supported";
    /// The range lies behind the end.
    RangeNotSatisfiable = 416, "urn:metamcp:problem:range-not-satisfiable", "the range cannot be satisfied";
    /// A field of the document is unknown, of the wrong type or out of bounds.
    InvalidField = 422, "urn:metamcp:problem:invalid-field", "a field is not valid";
    /// No tool fits the need.
    NoMatch = 422, "urn:metamcp:problem:no-match", "no tool fits this need";
    /// The path is a WebSocket's.
    UpgradeRequired = 426, "urn:metamcp:problem:upgrade-required", "a WebSocket is expected here";
    /// The lane is full.
    LaneFull = 429, "urn:metamcp:problem:lane-full", "the lane is full";
    /// The server itself failed; see its log for `instance`.
    Internal = 500, "urn:metamcp:problem:internal", "internal error";
    /// Too many streams are open.
    TooManyStreams = 503, "urn:metamcp:problem:too-many-streams", "too many streams are open";
    /// The answer was not ready in time.
    Timeout = 503, "urn:metamcp:problem:timeout", "the answer took too long";
    /// The process is stopping.
    Stopping = 503, "urn:metamcp:problem:stopping", "the server is stopping";
    /// The store cannot be reached or is busy.
    StoreUnavailable = 503, "urn:metamcp:problem:store-unavailable", "the store is unavailable";
    /// The process is not ready to serve.
    NotReady = 503, "urn:metamcp:problem:not-ready", "not ready";
}

/// What is wrong with a request, as `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProblemDocument {
    /// Names the kind of problem.
    #[serde(rename = "type")]
    pub kind: ProblemKind,
    /// The kind in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// This very problem in words.
    pub detail: String,
    /// The field, parameter or header that is wrong, as a path such as `resources.gpu`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What to change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
    /// Where in the body, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// Where in that line, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// The tools that were rejected, when none fits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<RejectionDocument>,
    /// The task that is in the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub job: Option<JobId>,
    /// Where the task stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<TaskState>,
    /// Names this failure in the server's log.
    #[serde(rename = "instance", default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "urn:metamcp:incident:1a2b-7")]
    pub incident: Option<String>,
}
