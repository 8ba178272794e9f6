//! Ports for private servers. They are taken below the range from which the system serves outgoing connections, so that a server
//! which is down for a moment finds its port still free when it comes back.

use std::{io, net::TcpListener, ops::Range};

use rand::RngExt as _;

/// Ports to choose from: above the well-known services, below Linux' first outgoing port (32768).
const PORTS: Range<u16> = 20_000..32_000;
/// Ports looked at before giving up.
const LOOKS_MAX: u32 = 1_000;
/// Starts of one server, each on another port, as another process may be faster between our look and the server's bind.
pub(super) const STARTS_MAX: u32 = 8;

/// A loopback TCP port that is free at this moment.
///
/// # Errors
/// `AddrInUse` when `LOOKS_MAX` random ports were all taken.
pub fn free_port() -> io::Result<u16> {
    let mut random = rand::rng();
    for _ in 0..LOOKS_MAX {
        let port = random.random_range(PORTS);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, format!("no free port found in {PORTS:?}")))
}
