//! Everything of MetaMCP that speaks over a wire or to a disk, one cargo feature each.

#[cfg(feature = "upstream")]
pub mod discover;
#[cfg(feature = "server-code")]
pub mod servers;
#[cfg(feature = "embedded")]
pub mod store;
#[cfg(feature = "upstream")]
pub mod upstream;
#[cfg(feature = "upstream")]
mod wire;
