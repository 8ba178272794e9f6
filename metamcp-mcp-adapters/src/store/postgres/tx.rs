//! One transaction of a store: statements in one flight where they do not need each other's answers, and a rollback when it is left early.
//!
//! It runs on a session of the pool, or inside a transaction that the caller of the library has open.

use std::{
    pin::pin,
    task::{Context, Waker},
};

use metamcp_core::error::StoreError;
use tokio_postgres::{Error, Row, Statement, Transaction, types::ToSql};

use super::pool::{Parameters, Session, Work};

const BEGIN: &str = "begin";
/// For what may be lost in a crash.
const BEGIN_UNSYNCED: &str = "begin; set local synchronous_commit to off";
const COMMIT: &str = "commit";
const ROLLBACK: &str = "rollback";

/// Why a transaction was not done.
#[derive(Debug)]
pub(super) enum Fault {
    /// The server or the connection.
    Sql(Error),
    /// What was read makes no sense, or the call is wrong.
    Store(StoreError),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Sql(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// What is done in one transaction. It may be asked again, from the beginning, when nothing of it was committed.
pub(super) trait Act: Send {
    /// What it answers.
    type Output: Send;

    /// Does it and commits.
    fn act(&mut self, tx: &mut Tx<'_>) -> impl Future<Output = Result<Self::Output, Fault>> + Send;
}

/// An act as the work of a pool.
pub(super) struct InTx<A>(pub(super) A);

impl<A: Act> Work for InTx<A> {
    type Output = Result<A::Output, StoreError>;

    async fn run(&mut self, session: &mut Session) -> Result<Self::Output, Error> {
        match self.0.act(&mut Tx::on(session)).await {
            Ok(answer) => Ok(Ok(answer)),
            Err(Fault::Store(error)) => Ok(Err(error)),
            Err(Fault::Sql(error)) => Err(error),
        }
    }
}

enum Line<'s> {
    Session(&'s mut Session),
    Caller(&'s Transaction<'s>),
}

/// A transaction. Left without a commit it is rolled back.
pub(super) struct Tx<'s> {
    line: Line<'s>,
    open: bool,
}

impl<'s> Tx<'s> {
    /// On a session; begun by [`begin`](Self::begin).
    pub(super) const fn on(session: &'s mut Session) -> Self {
        Self { line: Line::Session(session), open: false }
    }

    /// Inside the caller's transaction: in a savepoint in which the search path leads to `schema`.
    pub(super) async fn within(transaction: &'s Transaction<'s>, schema: &str) -> Result<Self, Error> {
        // The name of a schema is checked to need no quotes.
        let begin = format!(
            "savepoint metamcp; select set_config('metamcp.path', current_setting('search_path'), true); \
             set local search_path to {schema}"
        );
        transaction.batch_execute(&begin).await?;
        Ok(Self { line: Line::Caller(transaction), open: false })
    }

    /// The statements, prepared.
    pub(super) async fn statements<const N: usize>(&mut self, sql: [&'static str; N]) -> Result<[Statement; N], Error> {
        let mut statements = Vec::with_capacity(N);
        for sql in sql {
            statements.push(match &mut self.line {
                Line::Session(session) => session.prepared(sql).await?,
                Line::Caller(transaction) => transaction.prepare(sql).await?,
            });
        }
        Ok(statements.try_into().unwrap_or_else(|_| unreachable!("one for each")))
    }

    /// Says that [`begin`](Self::begin) comes next: from now on leaving rolls back.
    pub(super) const fn opens(&mut self) {
        self.open = true;
    }

    /// Begins; within a transaction of the caller that has happened.
    pub(super) async fn begin(&self) -> Result<(), Error> {
        match &self.line {
            Line::Session(session) => session.wire().batch_execute(BEGIN).await,
            Line::Caller(_) => Ok(()),
        }
    }

    /// Begins what need not survive a crash of the server.
    pub(super) async fn begin_unsynced(&self) -> Result<(), Error> {
        match &self.line {
            Line::Session(session) => session.wire().batch_execute(BEGIN_UNSYNCED).await,
            Line::Caller(_) => Ok(()),
        }
    }

    /// Commits. Sent together with other statements it does so only if they went well. [`committed`](Self::committed) is to follow.
    pub(super) async fn commit(&self) -> Result<(), Error> {
        match &self.line {
            Line::Session(session) => session.wire().batch_execute(COMMIT).await,
            Line::Caller(transaction) => {
                let restore = "select set_config('search_path', current_setting('metamcp.path'), true); release savepoint metamcp";
                transaction.batch_execute(restore).await
            }
        }
    }

    /// Says that the commit, and all that was sent with it, went well.
    pub(super) const fn committed(&mut self) {
        self.open = false;
    }

    /// Undoes what was done and ends.
    pub(super) async fn roll_back(&mut self) -> Result<(), Error> {
        self.open = false;
        match &self.line {
            Line::Session(session) => session.wire().batch_execute(ROLLBACK).await,
            Line::Caller(transaction) => {
                transaction.batch_execute("rollback to savepoint metamcp; release savepoint metamcp").await
            }
        }
    }

    /// Runs a statement and answers its rows. Sent when it is first polled: statements polled one after the other run in that order.
    pub(super) async fn query<const N: usize>(
        &self,
        statement: &Statement,
        parameters: [&(dyn ToSql + Sync); N],
    ) -> Result<Vec<Row>, Error> {
        self.query_with(statement, &parameters).await
    }

    /// As [`query`](Self::query) when `holds`; else nothing is sent.
    pub(super) async fn query_if<const N: usize>(
        &self,
        holds: bool,
        statement: &Statement,
        parameters: [&(dyn ToSql + Sync); N],
    ) -> Result<Vec<Row>, Error> {
        if holds { self.query_with(statement, &parameters).await } else { Ok(Vec::new()) }
    }

    /// As [`query`](Self::query), with parameters that live elsewhere; without any nothing is sent.
    pub(super) async fn query_many(&self, statement: &Statement, parameters: Parameters<'_>) -> Result<(), Error> {
        if parameters.is_empty() { Ok(()) } else { self.query_with(statement, parameters).await.map(drop) }
    }

    async fn query_with(&self, statement: &Statement, parameters: Parameters<'_>) -> Result<Vec<Row>, Error> {
        match &self.line {
            Line::Session(session) => session.wire().query(statement, parameters).await,
            Line::Caller(transaction) => transaction.query(statement, parameters).await,
        }
    }
}

impl Drop for Tx<'_> {
    /// The rollback is sent and nobody waits for its answer; what comes next on the session comes after it. A caller's transaction is the
    /// caller's to end.
    fn drop(&mut self) {
        if let (true, Line::Session(session)) = (self.open, &self.line) {
            let rollback = pin!(session.wire().batch_execute(ROLLBACK));
            // The first poll sends it.
            let _ = rollback.poll(&mut Context::from_waker(Waker::noop()));
        }
    }
}
