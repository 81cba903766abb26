//! tokio-postgres (each statement is prepared by name and closed again, unless the program keeps it) and deadpool's pool for it.

use std::collections::HashSet;
use std::env;
use std::error::Error;
use std::fmt::Debug;
use std::net::IpAddr;
use std::panic::Location;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod};
use futures_util::future::{join_all, poll_fn, try_join, try_join_all};
use futures_util::{SinkExt, TryStreamExt};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::sync::mpsc;
use tokio_postgres::config::SslMode;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Config, GenericClient, NoTls, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

/// What went wrong; any error becomes one, with the place where it was met.
struct Failure(String);

impl<E: Error> From<E> for Failure {
    #[track_caller]
    fn from(error: E) -> Self {
        let why = error.source().map(|source| format!(": {source}")).unwrap_or_default();
        Self(format!("{error}{why} (line {})", Location::caller().line()))
    }
}

type Checked<T = ()> = Result<T, Failure>;

#[track_caller]
fn fail(text: String) -> Failure {
    Failure(format!("{text:.300} (line {})", Location::caller().line()))
}

#[track_caller]
fn equal<T: PartialEq + Debug>(got: T, want: T) -> Checked {
    if got == want { Ok(()) } else { Err(fail(format!("{got:?} instead of {want:?}"))) }
}

#[track_caller]
fn fails<T>(result: Result<T, tokio_postgres::Error>, sqlstate: &str) -> Checked {
    match result {
        Ok(_) => Err(fail(format!("no error instead of {sqlstate}"))),
        Err(error) => match error.code() {
            Some(code) => equal(code.code(), sqlstate),
            None => Err(fail(format!("{error} instead of {sqlstate}"))),
        },
    }
}

fn variable(name: &str) -> String {
    env::var(format!("TENANTRY_{name}")).unwrap_or_default()
}

fn url(user: &str, database: &str, query: &str) -> String {
    let (password, host, port) = (variable("PASSWORD"), variable("HOST"), variable("PORT"));
    format!("postgres://{user}:{password}@{host}:{port}/{database}?connect_timeout=10{query}")
}

fn tenant_url(tenant: &str) -> String {
    url(&format!("{}.{tenant}", variable("USER")), &variable("DATABASE"), "")
}

/// Connects and keeps the connection running; it ends when the client is dropped.
async fn open(url: &str) -> Checked<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(async { connection.await.ok() });
    Ok(client)
}

async fn tenant(name: &str) -> Checked<Client> {
    open(&tenant_url(name)).await
}

async fn acme() -> Checked<Client> {
    tenant("acme").await
}

fn verifying() -> Checked<MakeRustlsConnect> {
    let mut roots = rustls::RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(variable("CA")).map_err(|e| fail(format!("{e}")))?;
    roots.add(ca)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?;
    Ok(MakeRustlsConnect::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// By a host name, over TLS that is verified against it, at the server's address.
async fn verified(host: &str, user: &str) -> Checked<Client> {
    let address: IpAddr = variable("HOST").parse()?;
    let mut config = Config::new();
    config.host(host).hostaddr(address).port(variable("PORT").parse()?).ssl_mode(SslMode::Require);
    config.user(user).password(variable("PASSWORD")).dbname(variable("DATABASE"));
    let (client, connection) = config.connect(verifying()?).await?;
    tokio::spawn(async { connection.await.ok() });
    Ok(client)
}

/// The first column of every row; all are texts.
async fn column(
    c: &impl GenericClient,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Vec<String>, tokio_postgres::Error> {
    Ok(c.query(sql, parameters).await?.iter().map(|row| row.get(0)).collect())
}

async fn value(c: &impl GenericClient, sql: &str) -> Checked<String> {
    Ok(column(c, sql, &[]).await?.remove(0))
}

async fn usable(c: &impl GenericClient, tenant: &str) -> Checked {
    equal(column(c, "select name from who", &[]).await?, vec![tenant.to_owned()])
}

async fn item(c: &Client) -> Checked {
    Ok(c.batch_execute("drop table if exists item; create table item (id int primary key)").await?)
}

async fn count(c: &impl GenericClient) -> Checked<String> {
    value(c, "select count(*)::text from item").await
}

async fn ids(c: &Client) -> Checked<String> {
    value(c, "select string_agg(id::text, ' ' order by id) from item").await
}

async fn drop_item(c: &Client) -> Checked {
    Ok(c.batch_execute("drop table item").await?)
}

async fn connect_options() -> Checked {
    let url = url(&variable("USER"), &variable("DATABASE"), "&options=-c%20app.tenant%3Dacme");
    usable(&open(&url).await?, "acme").await
}

async fn connect_user() -> Checked {
    usable(&acme().await?, "acme").await?;
    usable(&tenant("umbra").await?, "umbra").await
}

async fn connect_database() -> Checked {
    usable(&open(&url(&variable("USER"), "acme", "")).await?, "acme").await
}

async fn connect_database_at() -> Checked {
    let database = format!("{}%40acme", variable("DATABASE"));
    usable(&open(&url(&variable("USER"), &database, "")).await?, "acme").await
}

async fn connect_sni() -> Checked {
    usable(&verified("acme.db.localhost", &variable("USER")).await?, "acme").await
}

async fn tls() -> Checked {
    let user = format!("{}.acme", variable("USER"));
    usable(&verified("localhost", &user).await?, "acme").await?;
    match verified("other.example", &user).await {
        Err(Failure(why)) if why.contains("not valid for name \"other.example\"") => Ok(()),
        Err(other) => Err(other),
        Ok(_) => Err(fail("the name in the certificate was not checked".to_owned())),
    }
}

async fn autocommit() -> Checked {
    let (a, b) = (acme().await?, acme().await?);
    item(&a).await?;
    a.execute("insert into item values ($1)", &[&1]).await?;
    equal(count(&b).await?.as_str(), "1")?;
    drop_item(&a).await
}

async fn transaction() -> Checked {
    let (mut a, b) = (acme().await?, acme().await?);
    item(&a).await?;
    let committed = a.transaction().await?;
    committed.execute("insert into item values ($1)", &[&1]).await?;
    equal(count(&b).await?.as_str(), "0")?;
    committed.commit().await?;
    equal(count(&b).await?.as_str(), "1")?;
    let dropped = a.transaction().await?;
    dropped.execute("insert into item values ($1)", &[&2]).await?;
    drop(dropped); // rolls back
    equal(ids(&a).await?.as_str(), "1")?;
    equal(count(&b).await?.as_str(), "1")?;
    drop_item(&a).await
}

async fn transaction_error() -> Checked {
    let mut c = acme().await?;
    item(&c).await?;
    let broken = c.transaction().await?;
    broken.execute("insert into item values (1)", &[]).await?;
    fails(broken.query("select 1 / $1::int", &[&0]).await, "22012")?;
    fails(broken.query("select 1", &[]).await, "25P02")?;
    broken.rollback().await?;
    usable(&c, "acme").await?;
    equal(count(&c).await?.as_str(), "0")?;
    drop_item(&c).await
}

async fn savepoint() -> Checked {
    let mut c = acme().await?;
    item(&c).await?;
    let mut outer = c.transaction().await?;
    outer.execute("insert into item values (1)", &[]).await?;
    let inner = outer.transaction().await?; // a savepoint
    inner.execute("insert into item values (2)", &[]).await?;
    fails(inner.execute("insert into item values ($1)", &[&1]).await, "23505")?;
    inner.rollback().await?;
    outer.execute("insert into item values (3)", &[]).await?;
    outer.commit().await?;
    equal(ids(&c).await?.as_str(), "1 3")?;
    drop_item(&c).await
}

/// Statements that are named for one execution, and statements that are kept.
async fn prepared() -> Checked {
    fn sql(i: i32) -> String {
        format!("select name, $1::int + {}, pg_backend_pid() from who where name = $2", i % 5)
    }
    async fn ask(
        c: &impl GenericClient,
        kept: &[Statement],
        i: i32,
        pids: &mut HashSet<i32>,
    ) -> Checked {
        for row in [
            c.query_one(&sql(i), &[&i, &"acme"]).await?,
            c.query_one(&kept[i as usize % 5], &[&i, &"acme"]).await?,
        ] {
            equal((row.get(0), row.get(1)), ("acme", i + i % 5))?;
            pids.insert(row.get(2));
        }
        Ok(())
    }
    let mut pids = HashSet::new();
    let mut sessions = [(acme().await?, vec![]), (acme().await?, vec![])];
    for (client, kept) in &mut sessions {
        for kind in 0..5 {
            kept.push(client.prepare(&sql(kind)).await?);
        }
    }
    for i in 0..60 {
        // Servers change hands in every order.
        sessions.swap(0, 1);
        let [(x, x_kept), (y, y_kept)] = &mut sessions;
        let transaction = x.transaction().await?;
        ask(&transaction, x_kept, i, &mut pids).await?;
        ask(y, y_kept, i, &mut pids).await?;
        transaction.commit().await?;
        if i % 3 == 0 {
            ask(x, x_kept, i, &mut pids).await?;
        }
    }
    if pids.len() < 2 {
        Err(fail("only one server connection was used".to_owned()))
    } else {
        Ok(())
    }
}

/// Futures that are polled together go out in one pipeline.
async fn batch() -> Checked {
    let c = acme().await?;
    let select = c.prepare("select $1::int").await?;
    let numbers: Vec<i32> = (0..100).collect();
    let rows = join_all(numbers.iter().map(|n| async { c.query_one(&select, &[n]).await })).await;
    let got: Result<Vec<i32>, _> = rows.into_iter().map(|row| row.map(|row| row.get(0))).collect();
    equal(got?, numbers)?;
    let divide = c.prepare("select 1 / $1::int").await?;
    let mut rows = join_all([1, 0, 1].map(|n| {
        let (c, divide) = (&c, &divide);
        async move { c.query_one(divide, &[&n]).await }
    }))
    .await;
    equal(rows.remove(2)?.get::<_, i32>(0), 1)?;
    fails(rows.remove(1), "22012")?;
    equal(rows.remove(0)?.get::<_, i32>(0), 1)?;
    fails(c.batch_execute("select 1; select 1/0; select 2").await, "22012")?;
    usable(&c, "acme").await
}

async fn copy_in() -> Checked {
    let c = acme().await?;
    item(&c).await?;
    let mut sink = pin!(c.copy_in("copy item from stdin").await?);
    for n in 0..10_000 {
        sink.feed(Bytes::from(format!("{n}\n"))).await?;
    }
    equal(sink.finish().await?, 10_000)?;
    equal(
        value(&c, "select count(*) || ' ' || sum(id) from item").await?.as_str(),
        "10000 49995000",
    )?;
    drop_item(&c).await
}

async fn copy_out() -> Checked {
    let c = acme().await?;
    let stream =
        c.copy_out("copy (select n, name from who, generate_series(1, 10000) n) to stdout").await?;
    let got: Vec<Bytes> = stream.try_collect().await?;
    equal(
        got.concat(),
        (1..=10_000).map(|n| format!("{n}\tacme\n")).collect::<String>().into_bytes(),
    )
}

async fn copy_in_aborted() -> Checked {
    let c = acme().await?;
    item(&c).await?;
    {
        let mut given_up = pin!(c.copy_in("copy item from stdin").await?);
        given_up.send(Bytes::from_static(b"1\n")).await?;
    } // dropped: a CopyFail, whose 57014 nobody hears
    equal(count(&c).await?.as_str(), "0")?;
    let mut refused = pin!(c.copy_in("copy item from stdin").await?);
    refused.send(Bytes::from_static(b"1\nx\n")).await?;
    fails(refused.finish().await, "22P02")?;
    usable(&c, "acme").await?;
    equal(count(&c).await?.as_str(), "0")?;
    drop_item(&c).await
}

async fn cursor() -> Checked {
    let (mut a, b) = (acme().await?, acme().await?);
    let transaction = a.transaction().await?;
    let portal = transaction.bind("select n from generate_series(1, $1::int) n", &[&1000]).await?;
    let mut got: Vec<i32> = vec![];
    loop {
        let piece = transaction.query_portal(&portal, 100).await?;
        if piece.is_empty() {
            break;
        }
        equal(piece.len(), 100)?;
        got.extend(piece.iter().map(|row| row.get::<_, i32>(0)));
        usable(&b, "acme").await?;
    }
    transaction.commit().await?;
    equal(got, (1..=1000).collect())
}

async fn cancel() -> Checked {
    let (c, other) = (acme().await?, acme().await?);
    let begun = Instant::now();
    let token = c.cancel_token();
    let cancelled = async {
        let asleep = "select 'yes' from pg_stat_activity where state = 'active' and query = 'select pg_sleep(10)'";
        while column(&other, asleep, &[]).await?.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await; // between two looks
        }
        token.cancel_query(NoTls).await?;
        Checked::Ok(())
    };
    let (slept, cancelled) = tokio::join!(c.batch_execute("select pg_sleep(10)"), cancelled);
    cancelled?;
    fails(slept, "57014")?;
    equal(begun.elapsed() < Duration::from_secs(5), true)?;
    usable(&c, "acme").await
}

async fn notify() -> Checked {
    let (a, mut connection) = tokio_postgres::connect(&tenant_url("acme"), NoTls).await?;
    let (tell, mut heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(got) = message {
                tell.send((got.channel().to_owned(), got.payload().to_owned())).ok();
            }
        }
    });
    a.batch_execute("listen news").await?;
    let mut b = acme().await?;
    let transaction = b.transaction().await?;
    transaction.execute("select pg_notify('news', 'hello')", &[]).await?;
    let early = tokio::time::timeout(Duration::from_millis(200), heard.recv()).await;
    equal(early.is_err(), true)?;
    transaction.commit().await?;
    let got = tokio::time::timeout(Duration::from_secs(5), heard.recv()).await?;
    equal(got, Some(("news".to_owned(), "hello".to_owned())))
}

async fn large() -> Checked {
    let c = acme().await?;
    let text = "0123456789abcdef".repeat((20 << 20) / 16);
    let got = column(&c, "select $1::text", &[&text]).await?;
    equal(got[0] == text, true)?;
    usable(&c, "acme").await
}

async fn types() -> Checked {
    let c = acme().await?;
    let integer = -(1_i64 << 62);
    let numeric: rust_decimal::Decimal = "12345678901234567890.000123".parse()?;
    let text = "žluťoučký 🐘 'quoted' \\";
    let bytes: Vec<u8> = (0..=255).collect();
    let time = chrono::DateTime::from_timestamp_micros(1_767_323_045_678_901);
    let json = serde_json::json!({"a": [1, null, "ß"]});
    let array = vec![Some(1), None, Some(3)];
    let uuid: uuid::Uuid = "6b1f0e0c-5f5e-4f43-9d4e-0a2b4c6d8e0f".parse()?;
    let date: Option<chrono::NaiveDate> = None;
    let sql = "select $1::int8, $2::numeric, $3::text, $4::bytea, $5::timestamptz, $6::jsonb, $7::int[], $8::bool, $9::uuid, $10::date";
    let row = c
        .query_one(
            sql,
            &[&integer, &numeric, &text, &bytes, &time, &json, &array, &true, &uuid, &date],
        )
        .await?;
    equal(row.try_get::<_, i64>(0)?, integer)?;
    equal(row.try_get::<_, rust_decimal::Decimal>(1)?, numeric)?;
    equal(row.try_get::<_, &str>(2)?, text)?;
    equal(row.try_get::<_, Vec<u8>>(3)?, bytes)?;
    equal(row.try_get(4)?, time)?;
    equal(row.try_get::<_, serde_json::Value>(5)?, json)?;
    equal(row.try_get::<_, Vec<Option<i32>>>(6)?, array)?;
    equal(row.try_get::<_, bool>(7)?, true)?;
    equal(row.try_get::<_, uuid::Uuid>(8)?, uuid)?;
    equal(row.try_get::<_, Option<chrono::NaiveDate>>(9)?, None)
}

async fn pool_reset() -> Checked {
    // Clean: CLOSE ALL, SET SESSION AUTHORIZATION DEFAULT, RESET ALL, UNLISTEN *, advisory unlocks and two DISCARDs.
    let config = ManagerConfig { recycling_method: RecyclingMethod::Clean };
    let manager = Manager::from_config(tenant_url("acme").parse()?, NoTls, config);
    let pool = Pool::builder(manager).max_size(1).build()?;
    let before = value(&**pool.get().await?, "show statement_timeout").await?;
    for _ in 0..3 {
        let first = pool.get().await?;
        first.batch_execute("set statement_timeout = '12345ms'").await?;
        equal(value(&**first, "show statement_timeout").await?.as_str(), "12345ms")?;
        drop(first);
        let second = pool.get().await?;
        equal(value(&**second, "show statement_timeout").await?, before.clone())?;
        usable(&**second, "acme").await?;
        // Of the second user's kept statements nothing is lost.
        let kept = second.prepare_cached("select name from who where name = $1").await?;
        equal(second.query_one(&kept, &[&"acme"]).await?.get(0), "acme")?;
    }
    Ok(())
}

async fn session_state() -> Checked {
    let (mut a, mut b) = (acme().await?, acme().await?);
    let path = value(&b, "show search_path").await?;
    a.batch_execute("set statement_timeout = '12345ms'").await?;
    a.batch_execute("set search_path = pg_catalog, pg_temp").await?;
    b.batch_execute("set statement_timeout = '23456ms'").await?;
    for _ in 0..10 {
        for (c, timeout, place) in
            [(&mut a, "12345ms", "pg_catalog, pg_temp"), (&mut b, "23456ms", &path)]
        {
            let transaction = c.transaction().await?;
            equal(value(&transaction, "show statement_timeout").await?.as_str(), timeout)?;
            transaction.commit().await?;
            equal(value(c, "show search_path").await?.as_str(), place)?;
        }
    }
    usable(&b, "acme").await
}

async fn two_tenants() -> Checked {
    async fn ask(c: &impl GenericClient, tenant: &str, i: i32) -> Checked {
        let sql =
            format!("select name || ' ' || $1::int + {} from who, generate_series(1, 3)", i % 3);
        equal(column(c, &sql, &[&i]).await?, vec![format!("{tenant} {}", i + i % 3); 3])
    }
    let mut sessions = [("umbra", tenant("umbra").await?), ("acme", acme().await?)];
    for i in 0..100 {
        sessions.swap(0, 1);
        let [(x_name, x), (y_name, y)] = &mut sessions;
        let transaction = x.transaction().await?;
        ask(&transaction, x_name, i).await?;
        ask(y, y_name, i).await?;
        transaction.commit().await?;
        if i % 3 == 0 {
            ask(x, x_name, i).await?;
        }
    }
    Ok(())
}

async fn sixteen_clients() -> Checked {
    const TENANTS: [&str; 2] = ["acme", "umbra"];

    async fn read(
        c: &impl GenericClient,
        tenant: &str,
        i: i32,
        pids: &Mutex<HashSet<i32>>,
    ) -> Checked {
        let sql = format!("select tenant, $1::int + {}, pg_backend_pid() from crowd", i % 3);
        let rows = c.query(&sql, &[&i]).await?;
        equal(rows.len(), 16)?;
        for row in rows {
            equal((row.get(0), row.get(1)), (tenant, i + i % 3))?;
            pids.lock().map_err(|e| fail(e.to_string()))?.insert(row.get(2));
        }
        Ok(())
    }
    async fn client(id: i32, altering: &AtomicUsize, pids: &Mutex<HashSet<i32>>) -> Checked {
        let name = TENANTS[id as usize % 2];
        let mut c = tenant(name).await?;
        let update =
            c.prepare("update crowd set n = n + 1 where id = $1 returning tenant, n").await?;
        for i in 0.. {
            if i >= 20 && altering.load(Ordering::Relaxed) == 0 {
                break;
            }
            read(&c, name, i, pids).await?;
            let transaction = c.transaction().await?;
            read(&transaction, name, i, pids).await?;
            read(&transaction, name, i + 1, pids).await?;
            transaction.commit().await?;
            let transaction = c.transaction().await?;
            for n in [2 * i + 1, 2 * i + 2] {
                let row = transaction.query_one(&update, &[&id]).await?;
                equal((row.get(0), row.get(1)), (name, n))?;
            }
            transaction.commit().await?;
        }
        Ok(())
    }
    async fn alterer(c: &Client, altering: &AtomicUsize) -> Checked {
        for _ in 0..20 {
            c.batch_execute("alter table crowd add column extra int").await?;
            c.batch_execute("alter table crowd drop column extra").await?;
        }
        altering.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }

    let (altering, pids) = (AtomicUsize::new(TENANTS.len()), Mutex::new(HashSet::new()));
    let owners = [acme().await?, tenant("umbra").await?];
    for (c, name) in owners.iter().zip(TENANTS) {
        c.batch_execute(
            "drop table if exists crowd; create table crowd (tenant text, id int, n int)",
        )
        .await?;
        c.execute("insert into crowd select $1, id, 0 from generate_series(0, 15) id", &[&name])
            .await?;
    }
    let clients = try_join_all((0..16).map(|id| client(id, &altering, &pids)));
    let alterers = try_join_all(owners.iter().map(|c| alterer(c, &altering)));
    try_join(clients, alterers).await?;
    for c in &owners {
        c.batch_execute("drop table crowd").await?;
    }
    if pids.into_inner()?.len() < 2 {
        Err(fail("only one server connection was used".to_owned()))
    } else {
        Ok(())
    }
}

/// Runs each check in its turn; the name is the checklist's, with underscores.
macro_rules! run {
    ($($check:ident)*) => {{
        let names = [$(stringify!($check)),*];
        println!("TAP version 13\n1..{}", names.len());
        let (mut number, mut failed) = (0, false);
        $({
            number += 1;
            let name = stringify!($check).replace('_', "-");
            if variable("DIRECT") == "1" && name.starts_with("connect-") {
                println!("ok {number} - {name} # SKIP bare PostgreSQL knows no tenants");
            } else {
                let limit = Duration::from_secs(15);
                let result = tokio::time::timeout(limit, $check()).await;
                match result.unwrap_or_else(|_| Err(fail("no answer in 15 s".to_owned()))) {
                    Ok(()) => println!("ok {number} - {name}"),
                    Err(Failure(why)) => {
                        failed = true;
                        println!("not ok {number} - {name}: {}", why.replace('\n', " "));
                    }
                }
            }
        })*
        failed
    }};
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let failed = run!(
        connect_options connect_user connect_database connect_database_at connect_sni tls autocommit transaction transaction_error
        savepoint prepared batch copy_in copy_out copy_in_aborted cursor cancel notify large types pool_reset session_state two_tenants
        sixteen_clients
    );
    std::process::exit(failed.into());
}
