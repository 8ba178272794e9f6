//! Results in objects: a shared directory and a server that speaks S3. The behaviours of a result store, alone and under tiers and a cache;
//! damage, sharing, orphans; a crash at every step; puts, deletes and prunes in every order; what a wrong set-up is told.

#![cfg(all(feature = "embedded", feature = "objects", feature = "testing"))]
#![expect(clippy::unwrap_used, reason = "a test stops where something is wrong")]

mod bodies;
mod crash;
mod faulty;
mod processes;
mod races;
mod set_up;
mod suites;
mod world;
