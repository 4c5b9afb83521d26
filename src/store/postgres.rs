//! PostgreSQL: TLS as its URL asks for, and the statements that only it has.

#[path = "queries/mod.rs"]
pub mod queries;

use std::sync::Arc;

use diesel::ConnectionError;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Text};
use diesel_async::pooled_connection::{ManagerConfig, RecyclingMethod};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::FutureExt as _;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres::config::SslMode;

use super::OpenError;
use super::lists::Reach;
use super::models::{HISTORY_LENGTH, PresenceStamp, TaskRow, TransitionRow};
use super::pool::{self, PoolLimits, StatementCount};
use super::schema::tasks;
use crate::error::Result;
use crate::model::TaskStatus;

/// A connection.
pub type Connection = AsyncPgConnection;
/// The SQL dialect.
pub type Dialect = diesel::pg::Pg;
/// The pools.
pub type Db = pool::Db<Connection>;

pub(super) fn is_url(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

pub(super) fn open(url: &str, limits: &PoolLimits, statements: &StatementCount) -> Result<Db, OpenError> {
    let mut config = ManagerConfig::default();
    // A closed connection is noticed without a query; one that hangs is caught by the deadline of the work.
    config.recycling_method = RecyclingMethod::Fast;
    config.custom_setup = Box::new(|url| {
        let url = url.to_owned();
        async move { connect(&url).await }.boxed()
    });
    let pool = pool::build(url, limits.size, limits, config, statements)?;
    Ok(Db::new(pool.clone(), pool, "BEGIN", limits))
}

/// Connects as the URL asks. `sslmode=disable`: in clear. `prefer`, the default: encrypted if the server can, whoever it is, as
/// every client of PostgreSQL does it. `require`: encrypted, and only with a server whose certificate the system trusts.
pub(super) async fn connect(url: &str) -> Result<Connection, ConnectionError> {
    let bad = |error: tokio_postgres::Error| {
        use std::error::Error as _;
        // The outer text is only "error connecting to server"; what helps is beneath.
        let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
        ConnectionError::BadConnection(format!("{error}{cause}"))
    };
    let mut config: tokio_postgres::Config = url.parse().map_err(bad)?;
    if config.get_application_name().is_none() {
        config.application_name("rollcall");
    }
    if config.get_ssl_mode() == SslMode::Disable {
        let (client, connection) = config.connect(tokio_postgres::NoTls).await.map_err(bad)?;
        return AsyncPgConnection::try_from_client_and_connection(client, connection).await;
    }
    let (client, connection) = config.connect(tls(config.get_ssl_mode())?).await.map_err(bad)?;
    AsyncPgConnection::try_from_client_and_connection(client, connection).await
}

fn tls(mode: SslMode) -> Result<tokio_postgres_rustls::MakeRustlsConnect, ConnectionError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| ConnectionError::BadConnection(error.to_string()))?;
    let config = if mode == SslMode::Require {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        config.with_root_certificates(roots).with_no_client_auth()
    } else {
        config.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider))).with_no_client_auth()
    };
    Ok(tokio_postgres_rustls::MakeRustlsConnect::new(config))
}

/// Takes any certificate: with `sslmode=prefer` encryption is a chance and not a promise.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Locks these rows of a table until the transaction ends, in the order of identifiers: of two that need several of the
/// same rows one waits for the other, and never each for the other.
pub async fn lock_rows(connection: &mut Connection, table: &'static str, ids: &[i64]) -> Result<()> {
    if !ids.is_empty() {
        diesel::sql_query(format!("SELECT id FROM {table} WHERE id = ANY ($1) ORDER BY id FOR UPDATE"))
            .bind::<Array<BigInt>, _>(ids.to_vec())
            .execute(connection)
            .await?;
    }
    Ok(())
}

/// Keeps a scope from being deleted until the transaction ends, and nobody from anything else.
pub async fn keep_scope(connection: &mut Connection, id: i64) -> Result<()> {
    diesel::sql_query("SELECT id FROM scopes WHERE id = $1 FOR KEY SHARE")
        .bind::<BigInt, _>(id)
        .execute(connection)
        .await?;
    Ok(())
}

/// Writes the presence of many runners and the newest of their histories, in three statements whatever their number.
pub async fn write_presence(
    connection: &mut Connection,
    stamps: &[PresenceStamp],
    transitions: &[TransitionRow],
) -> Result<()> {
    if !stamps.is_empty() {
        lock_rows(connection, "runners", &column(stamps, |it| it.id)).await?;
        diesel::sql_query(
            "UPDATE runners SET last_online_at = u.online, last_active_at = u.active, status = u.status, \
             status_since = u.since, transition_count = u.number \
             FROM unnest($1, $2, $3, $4, $5, $6) AS u (id, online, active, status, since, number) WHERE runners.id = u.id",
        )
        .bind::<Array<BigInt>, _>(column(stamps, |it| it.id))
        .bind::<Array<BigInt>, _>(column(stamps, |it| it.last_online_at))
        .bind::<Array<BigInt>, _>(column(stamps, |it| it.last_active_at))
        .bind::<Array<Text>, _>(column(stamps, |it| it.status.as_str()))
        .bind::<Array<BigInt>, _>(column(stamps, |it| it.status_since))
        .bind::<Array<BigInt>, _>(column(stamps, |it| it.transition_count))
        .execute(connection)
        .await?;
    }
    if !transitions.is_empty() {
        diesel::sql_query(
            "INSERT INTO runner_transitions (runner_id, slot, number, at, from_status, to_status, cause) \
             SELECT u.* FROM unnest($1, $2, $3, $4, $5, $6, $7) AS u (runner_id, slot, number, at, before, after, cause) \
             JOIN runners ON runners.id = u.runner_id \
             ON CONFLICT (runner_id, slot) DO UPDATE SET number = excluded.number, at = excluded.at, \
             from_status = excluded.from_status, to_status = excluded.to_status, cause = excluded.cause",
        )
        .bind::<Array<BigInt>, _>(column(transitions, |it| it.runner_id))
        .bind::<Array<BigInt>, _>(column(transitions, |it| it.number % HISTORY_LENGTH))
        .bind::<Array<BigInt>, _>(column(transitions, |it| it.number))
        .bind::<Array<BigInt>, _>(column(transitions, |it| it.at))
        .bind::<Array<Text>, _>(column(transitions, |it| it.from_status.as_str()))
        .bind::<Array<Text>, _>(column(transitions, |it| it.to_status.as_str()))
        .bind::<Array<Text>, _>(column(transitions, |it| it.cause.as_str()))
        .execute(connection)
        .await?;
    }
    Ok(())
}

/// Adds labels to runners, in one statement; those that are there stay as they are.
pub async fn insert_labels(connection: &mut Connection, labels: &[(i64, String, bool)]) -> Result<()> {
    if labels.is_empty() {
        return Ok(());
    }
    diesel::sql_query(
        "INSERT INTO runner_labels (runner_id, label, forced) SELECT * FROM unnest($1, $2, $3) \
         ON CONFLICT (runner_id, label) DO NOTHING",
    )
    .bind::<Array<BigInt>, _>(column(labels, |it| it.0))
    .bind::<Array<Text>, _>(column(labels, |it| it.1.clone()))
    .bind::<Array<Bool>, _>(column(labels, |it| it.2))
    .execute(connection)
    .await?;
    Ok(())
}

/// The first tasks that somebody who carries these labels could take, best first: a walk down the tree of label sets along its own
/// labels and through what was used since a time, and the head of the queue at each node it reaches. Several, since others may be taking the first ones.
pub async fn queue_heads(
    connection: &mut Connection,
    reach: Reach,
    labels: &[String],
    used_since: i64,
) -> Result<Vec<i64>> {
    let (within, id) = match reach {
        Reach::Everything => ("", 0),
        Reach::Owner(id) => ("AND t.owner_id = $3", id),
        Reach::Repository(id) => ("AND t.repository_id = $3", id),
    };
    let query = format!(
        "WITH RECURSIVE reach (id) AS (SELECT 0::bigint UNION ALL SELECT n.id FROM reach \
         JOIN label_nodes AS n ON n.parent_id = reach.id AND n.label = ANY ($1) AND n.used_at >= $2) \
         SELECT heads.id FROM reach CROSS JOIN LATERAL (SELECT t.id, t.priority FROM tasks AS t \
         WHERE t.status = 'QUEUED' AND t.label_node = reach.id {within} ORDER BY t.priority DESC, t.id LIMIT {HEADS}) AS heads \
         ORDER BY heads.priority DESC, heads.id LIMIT {HEADS}"
    );
    let query = diesel::sql_query(query)
        .into_boxed::<Dialect>()
        .bind::<Array<Text>, _>(labels.to_vec())
        .bind::<BigInt, _>(used_since);
    let query = if within.is_empty() { query } else { query.bind::<BigInt, _>(id) };
    Ok(query.load::<Found>(connection).await?.into_iter().map(|found| found.id).collect())
}

/// More than there are writing connections: the heads of the queue are locked by at most that many.
const HEADS: usize = 16;

/// The first of these tasks that still waits and that nobody is taking, locked until the transaction ends.
pub async fn lock_first(connection: &mut Connection, ids: &[i64]) -> Result<Option<TaskRow>> {
    Ok(tasks::table
        .filter(tasks::id.eq_any(ids.to_vec()))
        .filter(tasks::status.eq(TaskStatus::Queued.as_str()))
        .order((tasks::priority.desc(), tasks::id.asc()))
        .limit(1)
        .select(TaskRow::as_select())
        .for_update()
        .skip_locked()
        .first(connection)
        .await
        .optional()?)
}

#[derive(diesel::QueryableByName)]
struct Found {
    #[diesel(sql_type = BigInt)]
    id: i64,
}

fn column<'a, R, V>(rows: &'a [R], value: impl Fn(&'a R) -> V) -> Vec<V> {
    rows.iter().map(value).collect()
}
