//! Durable stores: `JobStore`, `ResultStore` and `EventBus` over a backend, one folder for each.

pub mod embedded;
