//! What is known of a request besides its body, and how one that is not served is answered.

use std::sync::{Arc, LazyLock};

use http::{HeaderMap, StatusCode};
use metamcp_core::auth::Principal;

use super::{
    call::Answer,
    headers::{self, Accepts},
};
use crate::{
    gateway::{RpcFault, front, incoming::INVALID_REQUEST},
    wire::era::LEGACY,
};

/// What is known of a request besides its body.
#[derive(Debug)]
pub(super) struct Head {
    /// Who a layer before this one says it is.
    pub(super) principal: Option<Principal>,
    pub(super) endpoint: Option<Arc<str>>,
    pub(super) headers: HeaderMap,
    pub(super) accepts: Accepts,
}

impl Head {
    /// Who asks.
    pub(super) fn principal(&self) -> &Principal {
        static LOCAL: LazyLock<Principal> = LazyLock::new(Principal::local);
        self.principal.as_ref().unwrap_or_else(|| &LOCAL)
    }

    /// Whether the headers name a revision without sessions.
    pub(super) fn is_modern(&self) -> bool {
        headers::revision(&self.headers).is_some_and(|revision| !LEGACY.contains(&revision))
    }
}

/// An error that belongs to no request.
pub(super) fn refused(status: StatusCode, fault: &RpcFault) -> Answer {
    Answer::whole(status, front::fault(None, fault))
}

/// An error of a request that is not served at all.
pub(super) fn invalid(status: StatusCode, why: impl Into<String>) -> Answer {
    refused(status, &RpcFault::new(INVALID_REQUEST, why))
}
