//! Who asks: one layer that turns a request into a [`Principal`] before any handler runs.
//!
//! Without a configured identity provider there is one principal, the local one; handlers take it from the request and never make one.

use axum::{extract::Request, middleware::Next, response::Response};
use metamcp_core::auth::Principal;

/// Names the caller of every request that passes, as an extension of type [`Principal`].
pub async fn authenticate(mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(Principal::local());
    next.run(request).await
}
