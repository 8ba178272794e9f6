//! Two private PostgreSQL servers: a primary, and a replica that follows it by streaming.

use std::{ffi::OsString, io, path::PathBuf};

use super::{
    patience::Patience,
    postgres::{PostgresServer, PostgresSetup},
    postgres_home::Home,
    process::Launch,
};

/// A primary and its replica on loopback. Dropping it kills both and removes their data.
#[derive(Debug)]
pub struct PostgresPair {
    /// The server that takes writes.
    pub primary: PostgresServer,
    /// The server that follows it and takes reads only.
    pub replica: PostgresServer,
}

impl PostgresPair {
    /// Starts a primary and a replica with the same set-up, and waits until the replica follows.
    ///
    /// # Errors
    /// When `postgres` is missing or one does not start; the end of its log is told.
    pub async fn start(setup: PostgresSetup) -> io::Result<Self> {
        let primary = PostgresServer::start(setup.clone()).await?;
        let home = Home::new()?;
        let mut args: Vec<OsString> =
            ["--wal-method=stream", "--checkpoint=fast", "--no-sync", "--write-recovery-conf"]
                .map(OsString::from)
                .into();
        args.extend(["--pgdata".into(), home.data().into_os_string(), "--dbname".into(), primary.url().into()]);
        let program = home.program.sibling("pg_basebackup")?;
        Launch { program, args, account: home.account, log: PathBuf::new() }.run().await?;
        let pair = Self { replica: PostgresServer::on(home, setup).await?, primary };
        pair.caught_up().await?;
        Ok(pair)
    }

    /// The URL of the primary.
    pub fn url(&self) -> String {
        self.primary.url()
    }

    /// The URL of the replica.
    pub fn read_url(&self) -> String {
        self.replica.url()
    }

    /// Waits until the replica shows all that the primary had written when this was called.
    ///
    /// # Errors
    /// When one of them is down, or it takes too long.
    pub async fn caught_up(&self) -> io::Result<()> {
        let written = self.primary.psql("SELECT pg_current_wal_lsn()").await?;
        let shown = format!("SELECT coalesce(pg_last_wal_replay_lsn() >= '{written}'::pg_lsn, false)");
        let patience = Patience::new("a PostgreSQL replica to catch up");
        while self.replica.psql(&shown).await? != "t" {
            patience.pause().await?;
        }
        Ok(())
    }
}
