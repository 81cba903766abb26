//! A database of a test's own, with roles and tenants in it.

use std::path::PathBuf;

use rand::Rng;
use tokio_postgres::{Client, NoTls};

use crate::cluster::PASSWORD;

/// A fresh database with a login role that owns it; dropped at its test's end, so that a run of all tests needs the room
/// of the few that run at the same time.
pub struct Database {
    pub major: u32,
    pub port: u16,
    /// Name of the database, of its owner, and the prefix of the test's other roles.
    pub name: String,
    pub admin: Client,
}

/// Connects and keeps the connection running in a task.
pub async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    spawn(async move {
        // Its error is also the error of whoever waits for an answer.
        let _ = connection.await;
    });
    Ok(client)
}

/// The harness may leave tasks behind: they end with the test's runtime.
#[allow(clippy::disallowed_methods, reason = "ends with the test's runtime")]
pub fn spawn(future: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(future);
}

impl Database {
    /// A database on the shared cluster of that version.
    pub async fn create(major: u32) -> Self {
        let variable = format!("TENANTRY_TEST_PG{major}_PORT");
        let port = std::env::var(&variable)
            .unwrap_or_else(|_| panic!("{variable} is not set: run `make test`"));
        Self::create_on(major, port.parse().unwrap()).await
    }

    /// A database on any cluster.
    pub async fn create_on(major: u32, port: u16) -> Self {
        let name = format!("t{:012x}", rand::rng().random::<u64>() & 0xffff_ffff_ffff);
        let server = connect(&format!("postgres://postgres:{PASSWORD}@127.0.0.1:{port}/postgres"))
            .await
            .unwrap();
        server
            .batch_execute(&format!("create role {name} login password '{PASSWORD}'"))
            .await
            .unwrap();
        server.batch_execute(&format!("create database {name} owner {name}")).await.unwrap();
        let admin = connect(&format!("postgres://postgres:{PASSWORD}@127.0.0.1:{port}/{name}"))
            .await
            .unwrap();
        Self { major, port, name, admin }
    }

    /// Schemas that each hold a table `who` with one row, the tenant's name, owned by the login role.
    pub async fn schemas(&self, tenants: &[&str]) {
        self.schemas_in(&self.admin, tenants).await;
    }

    /// The same, where `admin` is: in another database, too.
    pub async fn schemas_in(&self, admin: &Client, tenants: &[&str]) {
        for tenant in tenants {
            let owner = &self.name;
            let sql = format!(
                "create schema {tenant} authorization {owner}; create table {tenant}.who (name text); \
                 alter table {tenant}.who owner to {owner}; insert into {tenant}.who values ('{tenant}')"
            );
            admin.batch_execute(&sql).await.unwrap();
        }
    }

    /// A raw connection straight to PostgreSQL.
    pub async fn wire(&self, options: &str) -> crate::Wire {
        let mut wire = crate::Wire::open(self.port).await;
        let parameters = [("user", &*self.name), ("database", &self.name), ("options", options)];
        wire.send(&crate::wire::startup(crate::wire::V3_0, &parameters)).await;
        crate::wire::scram(&mut wire, PASSWORD).await;
        wire.logged_in().await;
        wire
    }

    /// A URL straight to PostgreSQL.
    #[must_use]
    pub fn direct(&self) -> String {
        format!("postgres://{0}:{PASSWORD}@127.0.0.1:{1}/{0}", self.name, self.port)
    }

    /// A superuser's URL straight to another database of the same PostgreSQL.
    #[must_use]
    pub fn direct_as_admin(&self, database: &str) -> String {
        format!("postgres://postgres:{PASSWORD}@127.0.0.1:{}/{database}", self.port)
    }

    /// The `[clusters.main]` and `[users.app]` of a configuration for this database.
    #[must_use]
    pub fn toml(&self, servers: usize) -> String {
        format!(
            "[clusters.main]\nport = {}\nuser = \"{}\"\npassword = \"{PASSWORD}\"\nmax_server_connections = {servers}\n\
             [users.app]\npassword = \"secret\"\ntenants = [\"*\"]\n",
            self.port, self.name
        )
    }

    /// Its cluster, which can do TLS, does it with this certificate from now on.
    pub async fn enable_tls(&self, cluster: &crate::Cluster, own: &(PathBuf, PathBuf)) {
        cluster.enable_tls(own);
        self.admin.batch_execute("alter system set ssl = on").await.unwrap();
        self.reload().await;
    }

    /// Makes PostgreSQL read its configuration again; returns when new connections go by it.
    pub async fn reload(&self) {
        let loaded = async || {
            let client = connect(&self.direct()).await.unwrap();
            let row = client.query_one("select pg_conf_load_time()::text", &[]).await.unwrap();
            row.get::<_, String>(0)
        };
        let before = loaded().await;
        self.admin.batch_execute("select pg_reload_conf()").await.unwrap();
        let look = async {
            while loaded().await == before {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await; // between two looks
            }
        };
        crate::soon("the configuration to be loaded", Box::pin(look)).await;
    }

    /// Backends of this database, the admin's own aside.
    pub async fn backends(&self) -> i64 {
        self.count("true").await
    }

    /// Backends for which `condition` holds.
    pub async fn count(&self, condition: &str) -> i64 {
        let sql = format!(
            "select count(*) from pg_stat_activity where datname = current_database() \
             and pid <> pg_backend_pid() and backend_type = 'client backend' and ({condition})"
        );
        self.admin.query_one(&sql, &[]).await.unwrap().get(0)
    }

    /// Waits until exactly `count` backends meet `condition`.
    pub async fn until(&self, condition: &str, count: i64) {
        let look = async {
            while self.count(condition).await != count {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await; // between two looks
            }
        };
        crate::soon(&format!("{count} backends with {condition}"), look).await;
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let url = self.direct_as_admin("postgres");
        let sql = format!("drop database {} with (force)", self.name);
        // A test's own runtime may be ending. What cannot be dropped (the cluster is stopped, a transaction is
        // prepared) goes with the cluster.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let drop = async {
                if let Ok(client) = connect(&url).await {
                    let _ = client.batch_execute(&sql).await;
                }
            };
            let at_most = std::time::Duration::from_secs(10);
            let _ = runtime.unwrap().block_on(async { tokio::time::timeout(at_most, drop).await });
        });
        dropping.join().unwrap();
    }
}
