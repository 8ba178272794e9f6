//! A private PostgreSQL server on a copy of a data directory that was initialised once on this machine (see `template`).

use std::{fs, io, path::Path};

use rustix::process::Signal;

use super::{
    port::{STARTS_MAX, free_port},
    postgres_home::{Home, OWNER},
    process::{Launch, children, gone, kill_by_number, run},
    redis::TlsFiles,
    server::Server,
    template,
};

/// What the log of PostgreSQL says once it serves; a replica goes on with "read-only connections".
const READY: &str = "database system is ready to accept";

/// How a private PostgreSQL is set up. `PostgresSetup::default()` loses data on a power cut (no fsync) and is open to loopback.
#[derive(Clone, Debug, Default)]
pub struct PostgresSetup {
    /// Whether commits are synced to the disk: on for proofs and benches, off for tests.
    pub fsync: bool,
    /// Password of the account `metamcp`; without one none is asked for.
    pub password: Option<String>,
    /// Serve TLS, and refuse connections without it.
    pub tls: Option<TlsFiles>,
    /// More settings, as (name, value) of `postgresql.conf`.
    pub settings: Vec<(String, String)>,
}

impl PostgresSetup {
    /// The arguments of `postgres`. All settings stand there and none in the data directory, which a replica copies.
    fn args(&self, port: u16, data: &Path) -> Vec<String> {
        let on = |yes: bool| if yes { "on" } else { "off" }.to_owned();
        let file = |name: &str| data.join(name).display().to_string();
        let mut settings = vec![
            ("listen_addresses", "127.0.0.1".to_owned()),
            ("port", port.to_string()),
            // Nothing outside the data directory: no socket, no named shared memory that a kill would leave behind.
            ("unix_socket_directories", String::new()),
            ("dynamic_shared_memory_type", "mmap".to_owned()),
            ("fsync", on(self.fsync)),
        ];
        if self.tls.is_some() {
            settings.extend([
                ("ssl", on(true)),
                ("ssl_cert_file", file("server.crt")),
                ("ssl_key_file", file("server.key")),
            ]);
        }
        settings.extend(self.settings.iter().map(|(name, value)| (name.as_str(), value.clone())));
        let settings = settings.into_iter().flat_map(|(name, value)| ["-c".to_owned(), format!("{name}={value}")]);
        ["-D".to_owned(), data.display().to_string()].into_iter().chain(settings).collect()
    }

    /// Who may connect, and how: the text of `pg_hba.conf`.
    fn hba(&self) -> String {
        let kind = if self.tls.is_some() { "hostssl" } else { "host" };
        let method = if self.password.is_some() { "scram-sha-256" } else { "trust" };
        format!("{kind} all all 127.0.0.1/32 {method}\n{kind} replication all 127.0.0.1/32 {method}\n")
    }
}

/// A running PostgreSQL on a loopback port, with a data directory of its own. Dropping it kills it and removes its data.
#[derive(Debug)]
pub struct PostgresServer {
    setup: PostgresSetup,
    port: u16,
    server: Server,
    home: Home,
}

impl PostgresServer {
    /// Starts a server with one empty database, `postgres`, and waits until it serves.
    ///
    /// # Errors
    /// When `postgres` is missing or does not start; the end of its log is told.
    pub async fn start(setup: PostgresSetup) -> io::Result<Self> {
        let home = Home::new()?;
        template::copy(&home).await?;
        if let Some(TlsFiles { cert, key, .. }) = &setup.tls {
            home.put("server.crt", &fs::read(cert)?)?;
            home.put("server.key", &fs::read(key)?)?;
        }
        let Some(password) = setup.password.clone() else {
            return Self::on(home, setup).await;
        };
        // The door is open for as long as it takes to set the password.
        let mut server = Self::on(home, PostgresSetup { password: None, ..setup }).await?;
        server.psql(&format!("ALTER ROLE {OWNER} PASSWORD '{}'", password.replace('\'', "''"))).await?;
        server.setup.password = Some(password);
        server.home.put("pg_hba.conf", server.setup.hba().as_bytes())?;
        server.restart().await?;
        Ok(server)
    }

    /// Starts a server on the data of `home`.
    pub(super) async fn on(home: Home, setup: PostgresSetup) -> io::Result<Self> {
        home.put("pg_hba.conf", setup.hba().as_bytes())?;
        let (port, server) = serve(&home, &setup).await?;
        Ok(Self { setup, port, server, home })
    }

    /// `postgres://metamcp[:PASSWORD]@127.0.0.1:PORT/postgres`; with TLS also `?sslmode=verify-full&sslrootcert=FILE`.
    pub fn url(&self) -> String {
        let password = self.setup.password.as_ref().map(|password| format!(":{password}")).unwrap_or_default();
        let tls = self.setup.tls.as_ref();
        let tls = tls.map(|tls| format!("?sslmode=verify-full&sslrootcert={}", tls.ca.display())).unwrap_or_default();
        format!("postgres://{OWNER}{password}@127.0.0.1:{}/postgres{tls}", self.port)
    }

    /// How it was set up.
    pub fn setup(&self) -> &PostgresSetup {
        &self.setup
    }

    /// Its port, the same for its whole life.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process all its others come from, or `None` while it is down.
    pub fn pid(&self) -> Option<u32> {
        self.server.pid()
    }

    /// Ends it as an operator would (fast shutdown) and waits for the end. No error when it is down.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub async fn stop(&mut self) -> io::Result<()> {
        self.server.stop().await
    }

    /// SIGKILL to all its processes, and waits until they are gone. No error when it is down.
    ///
    /// # Errors
    /// When a signal cannot be sent, or a process does not end.
    pub async fn kill(&mut self) -> io::Result<()> {
        let Some(pid) = self.pid() else { return Ok(()) };
        // Stopped first, so that it starts no process while we look at those it has.
        self.server.signal(Signal::STOP)?;
        let sessions = children(pid);
        self.server.kill().await?;
        sessions.iter().copied().for_each(kill_by_number);
        gone(&sessions).await
    }

    /// Starts it again on the same port and data, stopping it first if it runs; after a kill it recovers from its log.
    ///
    /// # Errors
    /// When it does not start; the end of its log is told.
    pub async fn restart(&mut self) -> io::Result<()> {
        self.server.restart().await
    }

    /// Runs SQL through `psql` and gives the rows: a line each, fields apart by `|`, nothing else.
    ///
    /// # Errors
    /// When the server is down or refuses the SQL, which is told.
    pub async fn psql(&self, sql: &str) -> io::Result<String> {
        self.psql_at(&self.url(), sql).await
    }

    /// The same at another URL, such as one of another account.
    ///
    /// # Errors
    /// When nobody serves there, or it refuses the account or the SQL.
    pub async fn psql_at(&self, url: &str, sql: &str) -> io::Result<String> {
        let mut command = self.home.program.sibling("psql")?.command();
        command.args(["-X", "-q", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1", "-c", sql, url]);
        run(command).await
    }
}

impl Drop for PostgresServer {
    /// Ended at once (immediate shutdown), so that it gives its shared memory back: a killed server leaves a segment behind, and a system has
    /// but a few thousand. One that does not end is killed, its main process by its owner `Server`.
    fn drop(&mut self) {
        let sessions = self.pid().map(children).unwrap_or_default();
        if !self.server.quit(Signal::QUIT) {
            sessions.into_iter().for_each(kill_by_number);
        }
    }
}

/// Starts a server on the data that is there.
async fn serve(home: &Home, setup: &PostgresSetup) -> io::Result<(u16, Server)> {
    let mut starts = 1;
    loop {
        let port = free_port()?;
        let launch = Launch {
            program: home.program.clone(),
            args: setup.args(port, &home.data()).into_iter().map(Into::into).collect(),
            account: home.account,
            log: home.log(),
        };
        // SIGINT is the fast shutdown: sessions are ended, the data is brought to the disk.
        match Server::start(launch, READY, Signal::INT).await {
            Ok(server) => return Ok((port, server)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && starts < STARTS_MAX => starts += 1,
            Err(error) => return Err(error),
        }
    }
}
