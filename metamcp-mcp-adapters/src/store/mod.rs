//! Durable stores: `JobStore`, `ResultStore` and `EventBus` over a backend, one folder for each.

#[cfg(feature = "embedded")]
pub mod embedded;
#[cfg(feature = "objects")]
pub mod objects;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;
