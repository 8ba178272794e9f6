//! Who asks. Every call into the engine carries a [`Principal`]; what it may see is decided here, once, for every face.
//!
//! Identity providers, scopes and shares come later; today there is one local principal, and the check already stands on every path.

use serde::{Deserialize, Serialize};

use crate::id::TenantId;

/// Somebody on whose behalf a call is made.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Principal {
    /// The boundary nothing crosses.
    pub tenant: TenantId,
    /// The caller inside the tenant.
    pub subject: String,
}

impl Principal {
    /// `subject` inside `tenant`.
    #[must_use]
    pub fn new(tenant: TenantId, subject: impl Into<String>) -> Self {
        Self { tenant, subject: subject.into() }
    }

    /// The one principal of a process without authentication: `local` in tenant `local`.
    #[must_use]
    pub fn local() -> Self {
        Self::new(TenantId::new("local").expect("`local` is a valid tenant"), "local")
    }

    /// Whether this principal may read and steer what `owner` made.
    #[must_use]
    pub fn may_access(&self, owner: &Self) -> bool {
        self == owner
    }
}
