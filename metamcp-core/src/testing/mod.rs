//! What implementations of the traits are tested with: one suite of behaviours for each trait, a manual clock, a comparer with the model.
//!
//! A suite is a macro that makes one named test of each behaviour, each on a fresh fixture:
//! `metamcp_core::job_store_suite!(make);` where `make` is an async function without arguments that makes the fixture. With
//! `job_store_suite!(make, behaviours_in_one)` all of a suite is one test, for fixtures on something that is slow to start: `make` is then
//! handed a `&mut Option` in which to keep that something until the end.

mod clock;
pub mod event_bus;
pub mod history;
pub mod job_store;
pub mod mcp_transport;
pub mod model;
pub mod record_store;
pub mod result_store;
pub mod scripted;

use std::pin::Pin;

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

/// Makes a future where the stack of who awaits it does not hold it: one test that awaits hundreds would overflow.
#[doc(hidden)]
#[inline(never)]
pub fn boxed<'a, F: Future<Output = ()> + 'a>(make: impl FnOnce() -> F) -> Pin<Box<dyn Future<Output = ()> + 'a>> {
    Box::pin(make())
}

/// As [`behaviours!`](crate::behaviours), all of them in one test, one after the other; the last one told is the one that failed.
#[doc(hidden)]
#[macro_export]
macro_rules! behaviours_in_one {
    ($suite:ident, $make:path; $($room:ident { $($name:ident)* })*) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn every_behaviour() {
            let mut kept = None;
            $($(
                println!("{}", stringify!($name));
                {
                    let kept = &mut kept;
                    $crate::testing::boxed(move || async move {
                        $crate::testing::$suite::$room::$name($make(kept).await).await;
                    })
                    .await;
                }
            )*)*
        }
    };
    (@flat $suite:ident, $make:path; $($name:ident)*) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn every_behaviour() {
            let mut kept = None;
            $(
                println!("{}", stringify!($name));
                {
                    let kept = &mut kept;
                    $crate::testing::boxed(move || async move {
                        $crate::testing::$suite::$name($make(kept).await).await;
                    })
                    .await;
                }
            )*
        }
    };
}
