//! `cargo xtask demo`: builds the server and hands the terminal over to `metamcp demo`. It says how long the build took,
//! since on the first run that is most of the wait; what the demo shows is the server's own matter.

use std::time::Instant;

use anyhow::Result;

use crate::args::passed_on;
use crate::process::{Place, Run};

/// `cargo xtask demo [ARGS]`; the arguments go to `metamcp demo` as they are.
pub(crate) fn demo(place: &Place, args: &[String]) -> Result<()> {
    let binary = place.built.join(format!("metamcp{}", std::env::consts::EXE_SUFFIX));
    println!("plan\n  build  cargo build -p metamcp-server\n  demo   {} demo\n", place.shown(&binary));
    let started = Instant::now();
    Run::cargo(place, &["build", "-p", "metamcp-server"]).status()?;
    println!("\nok    build  {:.1} s", started.elapsed().as_secs_f64());
    let demo = Run::program(place, &binary, &["demo"]).args(&passed_on(args));
    demo.replace_us()
}
