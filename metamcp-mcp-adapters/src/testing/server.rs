//! A server that can be stopped, killed, paused and started again on the same port and data: what all private servers share.

use std::io;

use rustix::process::Signal;

use super::process::{Launch, Process};

/// One server and how to start it again.
#[derive(Debug)]
pub(super) struct Server {
    launch: Launch,
    /// What its log says once it serves.
    ready: &'static str,
    /// The signal it takes as a request to end well.
    stop: Signal,
    process: Option<Process>,
}

impl Server {
    pub(super) async fn start(launch: Launch, ready: &'static str, stop: Signal) -> io::Result<Self> {
        let mut server = Self { launch, ready, stop, process: None };
        server.restart().await?;
        Ok(server)
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    pub(super) async fn stop(&mut self) -> io::Result<()> {
        match self.process.take() {
            Some(mut process) => process.stop(self.stop).await,
            None => Ok(()),
        }
    }

    pub(super) async fn kill(&mut self) -> io::Result<()> {
        match self.process.take() {
            Some(mut process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// Stops it if it runs, then starts it as it was started first.
    pub(super) async fn restart(&mut self) -> io::Result<()> {
        self.stop().await?;
        let mut process = Process::start(&self.launch)?;
        process.ready(self.ready).await?;
        self.process = Some(process);
        Ok(())
    }

    /// Sends `signal`, which ends it at once; whether it has ended. Blocks the thread for up to two seconds.
    pub(super) fn quit(&mut self, signal: Signal) -> bool {
        self.process.as_mut().is_some_and(|process| process.signal(signal).is_ok() && process.ends_soon())
    }

    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        let down = || io::Error::new(io::ErrorKind::NotConnected, "the server is down: restart it first");
        self.process.as_ref().ok_or_else(down)?.signal(signal)
    }
}
