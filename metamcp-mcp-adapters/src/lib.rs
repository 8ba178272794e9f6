//! Everything of MetaMCP that speaks over a wire or to a disk, one cargo feature each.

#[cfg(feature = "upstream")]
pub mod discover;
#[cfg(feature = "gateway")]
pub mod gateway;
#[cfg(feature = "server-code")]
pub mod servers;
#[cfg(any(feature = "embedded", feature = "objects", feature = "postgres", feature = "redis"))]
pub mod store;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "upstream")]
pub mod upstream;
#[cfg(feature = "upstream")]
mod wire;
