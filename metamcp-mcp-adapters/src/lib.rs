//! Everything of MetaMCP that speaks over a wire or to a disk, one cargo feature each.

#[cfg(feature = "server-code")]
pub mod servers;
#[cfg(feature = "embedded")]
pub mod store;
#[cfg(feature = "upstream")]
pub mod upstream;
#[cfg(any(feature = "upstream", feature = "server-code"))]
pub mod wire;
