//! Private servers for tests, benches and proofs: real programs, started on loopback ports with data directories of their own.
//!
//! Each server is killed by its pid and its data removed when its value is dropped, and on Linux the kernel kills it when the
//! owning process dies in any other way. All starts wait until the server serves. They need `cargo xtask tools` to have run,
//! a tokio runtime with all drivers on, and a clock that is not paused.

mod cluster;
mod pair;
mod patience;
mod port;
mod postgres;
mod postgres_home;
mod process;
mod program;
mod proxy;
mod redis;
mod s3;
mod sentinel;
mod server;
mod template;

pub use cluster::RedisCluster;
pub use pair::PostgresPair;
pub use port::free_port;
pub use postgres::{PostgresServer, PostgresSetup};
pub use program::program;
pub use proxy::{CutProxy, ProxyMode};
pub use redis::{Append, RedisAccount, RedisServer, RedisSetup, TlsFiles};
pub use s3::S3Server;
pub use sentinel::Sentinels;
