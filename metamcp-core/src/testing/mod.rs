//! What implementations of the traits are tested with: one suite of behaviours for each trait, a manual clock, a comparer with the model.
//!
//! A suite is a macro that makes one named test of each behaviour, each on a fresh fixture:
//! `metamcp_core::job_store_suite!(make);` where `make` is an async function without arguments that makes the fixture.

mod clock;
pub mod event_bus;
pub mod job_store;
pub mod mcp_transport;
pub mod model;
pub mod record_store;
pub mod result_store;
pub mod scripted;

pub use clock::{ManualClock, StoreTime};

/// Makes one test of each named behaviour: `suite, make; room { name… }…`, or `@flat suite, make; name…`.
#[doc(hidden)]
#[macro_export]
macro_rules! behaviours {
    ($suite:ident, $make:path; $($room:ident { $($name:ident)* })*) => {
        $($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                $crate::testing::$suite::$room::$name($make().await).await;
            }
        )*)*
    };
    (@flat $suite:ident, $make:path; $($name:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                $crate::testing::$suite::$name($make().await).await;
            }
        )*
    };
}
