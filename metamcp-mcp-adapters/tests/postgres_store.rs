//! The stores on PostgreSQL against real servers: every behaviour of each trait, the comparison with the model, and what only a server that
//! many processes share can show.
#![cfg(all(feature = "postgres", feature = "testing"))]

#[path = "postgres_store/fixture.rs"]
mod fixture;
#[path = "postgres_store/model.rs"]
mod model;
#[path = "postgres_store/suites.rs"]
mod suites;
