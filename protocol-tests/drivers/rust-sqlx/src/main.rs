//! sqlx, with the cache of named prepared statements that it has by default, and its pool.

use std::collections::HashSet;
use std::env;
use std::error::Error;
use std::fmt::Debug;
use std::panic::Location;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::TryStreamExt;
use futures_util::future::{try_join, try_join_all};
use sqlx::postgres::{PgListener, PgPoolOptions};
use sqlx::types::{Decimal, JsonValue, Uuid, chrono};
use sqlx::{Connection, Executor, PgConnection, Row};

/// Why a check does not hold; any error becomes one, with the place where it was met.
enum Failure {
    Broken(String),
    /// The driver cannot do this on any server.
    Cannot(&'static str),
}

impl<E: Error> From<E> for Failure {
    #[track_caller]
    fn from(error: E) -> Self {
        fail(error.to_string())
    }
}

type Checked<T = ()> = Result<T, Failure>;

#[track_caller]
fn fail(text: String) -> Failure {
    Failure::Broken(format!("{text:.300} (line {})", Location::caller().line()))
}

#[track_caller]
fn equal<T: PartialEq + Debug>(got: T, want: T) -> Checked {
    if got == want { Ok(()) } else { Err(fail(format!("{got:?} instead of {want:?}"))) }
}

#[track_caller]
fn fails<T>(result: Result<T, sqlx::Error>, sqlstate: &str) -> Checked {
    match result {
        Ok(_) => Err(fail(format!("no error instead of {sqlstate}"))),
        Err(error) => match error.as_database_error().and_then(|error| error.code()) {
            Some(code) => equal(&*code, sqlstate),
            None => Err(fail(format!("{error} instead of {sqlstate}"))),
        },
    }
}

fn variable(name: &str) -> String {
    env::var(format!("TENANTRY_{name}")).unwrap_or_default()
}

fn url_at(host: &str, user: &str, database: &str, query: &str) -> String {
    let (password, port) = (variable("PASSWORD"), variable("PORT"));
    format!("postgres://{user}:{password}@{host}:{port}/{database}{query}")
}

fn url(user: &str, database: &str, query: &str) -> String {
    url_at(&variable("HOST"), user, database, query)
}

fn tenant_url(tenant: &str) -> String {
    url(&format!("{}.{tenant}", variable("USER")), &variable("DATABASE"), "")
}

async fn tenant(name: &str) -> Checked<PgConnection> {
    Ok(PgConnection::connect(&tenant_url(name)).await?)
}

async fn acme() -> Checked<PgConnection> {
    tenant("acme").await
}

/// The one text that a statement without parameters answers.
async fn value(c: &mut PgConnection, sql: &str) -> Checked<String> {
    Ok(sqlx::query_scalar(sql).fetch_one(c).await?)
}

async fn usable(c: &mut PgConnection, tenant: &str) -> Checked {
    let got: Vec<String> = sqlx::query_scalar("select name from who").fetch_all(c).await?;
    equal(got, vec![tenant.to_owned()])
}

async fn connects(url: &str, tenant: &str) -> Checked {
    usable(&mut PgConnection::connect(url).await?, tenant).await
}

async fn item(c: &mut PgConnection) -> Checked {
    c.execute("drop table if exists item").await?;
    c.execute("create table item (id int primary key)").await?;
    Ok(())
}

async fn drop_item(c: &mut PgConnection) -> Checked {
    c.execute("drop table item").await?;
    Ok(())
}

async fn insert(c: &mut PgConnection, id: i32) -> Result<(), sqlx::Error> {
    sqlx::query("insert into item values ($1)").bind(id).execute(c).await.map(|_| ())
}

async fn count(c: &mut PgConnection) -> Checked<i64> {
    Ok(sqlx::query_scalar("select count(*) from item").fetch_one(c).await?)
}

async fn ids(c: &mut PgConnection) -> Checked<Vec<i32>> {
    Ok(sqlx::query_scalar("select id from item order by id").fetch_all(c).await?)
}

async fn divide(c: &mut PgConnection, divisor: i32) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar("select 1 / $1::int").bind(divisor).fetch_one(c).await
}

async fn connect_options() -> Checked {
    let query = "?options=-c%20app.tenant%3Dacme";
    connects(&url(&variable("USER"), &variable("DATABASE"), query), "acme").await
}

async fn connect_user() -> Checked {
    connects(&tenant_url("acme"), "acme").await?;
    connects(&tenant_url("umbra"), "umbra").await
}

async fn connect_database() -> Checked {
    connects(&url(&variable("USER"), "acme", ""), "acme").await
}

async fn connect_database_at() -> Checked {
    let database = format!("{}%40acme", variable("DATABASE"));
    connects(&url(&variable("USER"), &database, ""), "acme").await
}

async fn connect_sni() -> Checked {
    Err(Failure::Cannot(
        "sqlx asks the system's resolver for a host and takes no address beside its name",
    ))
}

async fn tls() -> Checked {
    let user = format!("{}.acme", variable("USER"));
    let query = format!("?sslmode=verify-full&sslrootcert={}", variable("CA"));
    let at = |host: &str| url_at(host, &user, &variable("DATABASE"), &query);
    connects(&at("localhost"), "acme").await?;
    match PgConnection::connect(&at("127.0.0.1")).await {
        Err(sqlx::Error::Io(error)) if format!("{error:?}").contains("NotValidForName") => Ok(()),
        other => {
            Err(fail(format!("the name in the certificate was not checked: {:?}", other.err())))
        }
    }
}

async fn autocommit() -> Checked {
    let (mut a, mut b) = (acme().await?, acme().await?);
    item(&mut a).await?;
    insert(&mut a, 1).await?;
    equal(count(&mut b).await?, 1)?;
    drop_item(&mut a).await
}

async fn transaction() -> Checked {
    let (mut a, mut b) = (acme().await?, acme().await?);
    item(&mut a).await?;
    let mut committed = a.begin().await?;
    insert(&mut committed, 1).await?;
    equal(count(&mut b).await?, 0)?;
    committed.commit().await?;
    equal(count(&mut b).await?, 1)?;
    let mut dropped = a.begin().await?;
    insert(&mut dropped, 2).await?;
    drop(dropped); // rolls back before the next statement
    equal(ids(&mut a).await?, vec![1])?;
    equal(ids(&mut b).await?, vec![1])?;
    drop_item(&mut a).await
}

async fn transaction_error() -> Checked {
    let mut c = acme().await?;
    item(&mut c).await?;
    let mut broken = c.begin().await?;
    insert(&mut broken, 1).await?;
    fails(divide(&mut broken, 0).await, "22012")?;
    fails(divide(&mut broken, 1).await, "25P02")?;
    broken.rollback().await?;
    usable(&mut c, "acme").await?;
    equal(count(&mut c).await?, 0)?;
    drop_item(&mut c).await
}

async fn savepoint() -> Checked {
    let mut c = acme().await?;
    item(&mut c).await?;
    let mut outer = c.begin().await?;
    insert(&mut outer, 1).await?;
    let mut inner = outer.begin().await?; // a savepoint
    insert(&mut inner, 2).await?;
    fails(insert(&mut inner, 1).await, "23505")?;
    inner.rollback().await?;
    insert(&mut outer, 3).await?;
    outer.commit().await?;
    equal(ids(&mut c).await?, vec![1, 3])?;
    drop_item(&mut c).await
}

async fn prepared() -> Checked {
    async fn ask(c: &mut PgConnection, i: i32, pids: &mut HashSet<i32>) -> Checked {
        let sql =
            format!("select name, $1::int + {}, pg_backend_pid() from who where name = $2", i % 5);
        let (name, number, pid): (String, i32, i32) =
            sqlx::query_as(&sql).bind(i).bind("acme").fetch_one(c).await?;
        equal((&*name, number), ("acme", i + i % 5))?;
        pids.insert(pid);
        Ok(())
    }
    let mut pids = HashSet::new();
    let mut sessions = [acme().await?, acme().await?];
    for i in 0..60 {
        // Servers change hands in every order.
        sessions.swap(0, 1);
        let [x, y] = &mut sessions;
        let mut transaction = x.begin().await?;
        ask(&mut transaction, i, &mut pids).await?;
        ask(y, i, &mut pids).await?;
        transaction.commit().await?;
        if i % 3 == 0 {
            ask(x, i, &mut pids).await?;
        }
    }
    equal(sessions[0].cached_statements_size(), 5)?;
    if pids.len() < 2 {
        Err(fail("only one server connection was used".to_owned()))
    } else {
        Ok(())
    }
}

/// The driver has no pipeline but many statements in one simple query.
async fn batch() -> Checked {
    let mut c = acme().await?;
    let sql: Vec<String> = (0..100).map(|n| format!("select {n}")).collect();
    let rows: Vec<_> = sqlx::raw_sql(&sql.join("; ")).fetch_all(&mut c).await?;
    let got: Result<Vec<i32>, _> = rows.iter().map(|row| row.try_get(0)).collect();
    equal(got?, (0..100).collect())?;
    fails(sqlx::raw_sql("select 1; select 1/0; select 2").execute(&mut c).await, "22012")?;
    usable(&mut c, "acme").await
}

async fn copy_in() -> Checked {
    let mut c = acme().await?;
    item(&mut c).await?;
    let mut sink = c.copy_in_raw("copy item from stdin").await?;
    for n in 0..10_000 {
        sink.send(format!("{n}\n").as_bytes()).await?;
    }
    equal(sink.finish().await?, 10_000)?;
    equal(
        value(&mut c, "select count(*) || ' ' || sum(id) from item").await?.as_str(),
        "10000 49995000",
    )?;
    drop_item(&mut c).await
}

async fn copy_out() -> Checked {
    let mut c = acme().await?;
    let stream = c
        .copy_out_raw("copy (select n, name from who, generate_series(1, 10000) n) to stdout")
        .await?;
    let got: Vec<_> = stream.try_collect().await?;
    equal(
        got.concat(),
        (1..=10_000).map(|n| format!("{n}\tacme\n")).collect::<String>().into_bytes(),
    )
}

async fn copy_in_aborted() -> Checked {
    let mut c = acme().await?;
    item(&mut c).await?;
    let mut given_up = c.copy_in_raw("copy item from stdin").await?;
    given_up.send(&b"1\n"[..]).await?;
    given_up.abort("given up").await?; // the driver expects the 57014 and hides it
    let mut refused = c.copy_in_raw("copy item from stdin").await?;
    refused.send(&b"1\nx\n"[..]).await?;
    fails(refused.finish().await, "22P02")?;
    usable(&mut c, "acme").await?;
    equal(count(&mut c).await?, 0)?;
    drop_item(&mut c).await
}

/// The driver reads portals to their end; a cursor is SQL's.
async fn cursor() -> Checked {
    let (mut a, mut b) = (acme().await?, acme().await?);
    let mut transaction = a.begin().await?;
    transaction
        .execute("declare numbers cursor for select n from generate_series(1, 1000) n")
        .await?;
    let mut got: Vec<i32> = vec![];
    loop {
        let piece: Vec<i32> =
            sqlx::query_scalar("fetch 100 from numbers").fetch_all(&mut *transaction).await?;
        if piece.is_empty() {
            break;
        }
        equal(piece.len(), 100)?;
        got.extend(piece);
        usable(&mut b, "acme").await?;
    }
    transaction.commit().await?;
    equal(got, (1..=1000).collect())
}

async fn cancel() -> Checked {
    Err(Failure::Cannot("sqlx sends no cancel request"))
}

async fn notify() -> Checked {
    let mut listener = PgListener::connect(&tenant_url("acme")).await?;
    listener.listen("news").await?;
    let mut b = acme().await?;
    let mut transaction = b.begin().await?;
    sqlx::query("select pg_notify('news', 'hello')").execute(&mut *transaction).await?;
    let early = tokio::time::timeout(Duration::from_millis(200), listener.recv()).await;
    equal(early.is_err(), true)?;
    transaction.commit().await?;
    let got = tokio::time::timeout(Duration::from_secs(5), listener.recv()).await??;
    equal((got.channel(), got.payload()), ("news", "hello"))
}

async fn large() -> Checked {
    let mut c = acme().await?;
    let text = "0123456789abcdef".repeat((20 << 20) / 16);
    let got: String = sqlx::query_scalar("select $1::text").bind(&text).fetch_one(&mut c).await?;
    equal(got == text, true)?;
    usable(&mut c, "acme").await
}

async fn types() -> Checked {
    let mut c = acme().await?;
    let integer = -(1_i64 << 62);
    let numeric: Decimal = "12345678901234567890.000123".parse()?;
    let text = "žluťoučký 🐘 'quoted' \\";
    let bytes: Vec<u8> = (0..=255).collect();
    let time = chrono::DateTime::from_timestamp_micros(1_767_323_045_678_901);
    let json: JsonValue = r#"{"a": [1, null, "ß"]}"#.parse()?;
    let array = vec![Some(1), None, Some(3)];
    let uuid: Uuid = "6b1f0e0c-5f5e-4f43-9d4e-0a2b4c6d8e0f".parse()?;
    let date: Option<chrono::NaiveDate> = None;
    let sql = "select $1::int8, $2::numeric, $3::text, $4::bytea, $5::timestamptz, $6::jsonb, $7::int[], $8::bool, $9::uuid, $10::date";
    let query = sqlx::query(sql).bind(integer).bind(numeric).bind(text).bind(&bytes).bind(time);
    let row =
        query.bind(&json).bind(&array).bind(true).bind(uuid).bind(date).fetch_one(&mut c).await?;
    equal(row.try_get::<i64, _>(0)?, integer)?;
    equal(row.try_get::<Decimal, _>(1)?, numeric)?;
    equal(row.try_get::<&str, _>(2)?, text)?;
    equal(row.try_get::<Vec<u8>, _>(3)?, bytes)?;
    equal(row.try_get(4)?, time)?;
    equal(row.try_get::<JsonValue, _>(5)?, json)?;
    equal(row.try_get::<Vec<Option<i32>>, _>(6)?, array)?;
    equal(row.try_get::<bool, _>(7)?, true)?;
    equal(row.try_get::<Uuid, _>(8)?, uuid)?;
    equal(row.try_get(9)?, date)
}

async fn pool_reset() -> Checked {
    // The pool sends nothing of its own; a DISCARD ALL would take away the statements that the driver thinks are there.
    let options = PgPoolOptions::new().max_connections(1).acquire_timeout(Duration::from_secs(10));
    let options = options
        .after_release(|c, _| Box::pin(async { c.execute("reset all").await.map(|_| true) }));
    let pool = options.connect(&tenant_url("acme")).await?;
    let before = value(&mut *pool.acquire().await?, "show statement_timeout").await?;
    for _ in 0..3 {
        let mut first = pool.acquire().await?;
        first.execute("set statement_timeout = '12345ms'").await?;
        equal(value(&mut first, "show statement_timeout").await?.as_str(), "12345ms")?;
        drop(first);
        let mut second = pool.acquire().await?;
        equal(value(&mut second, "show statement_timeout").await?, before.clone())?;
        usable(&mut second, "acme").await?;
        equal(second.cached_statements_size(), 2)?; // it is the same connection
    }
    pool.close().await;
    Ok(())
}

async fn session_state() -> Checked {
    let (mut a, mut b) = (acme().await?, acme().await?);
    let path = value(&mut b, "show search_path").await?;
    a.execute("set statement_timeout = '12345ms'").await?;
    a.execute("set search_path = pg_catalog, pg_temp").await?;
    b.execute("set statement_timeout = '23456ms'").await?;
    for _ in 0..10 {
        for (c, timeout, place) in
            [(&mut a, "12345ms", "pg_catalog, pg_temp"), (&mut b, "23456ms", &*path)]
        {
            let mut transaction = c.begin().await?;
            equal(value(&mut transaction, "show statement_timeout").await?.as_str(), timeout)?;
            transaction.commit().await?;
            equal(value(c, "show search_path").await?.as_str(), place)?;
        }
    }
    usable(&mut b, "acme").await
}

async fn two_tenants() -> Checked {
    async fn ask(c: &mut PgConnection, tenant: &str, i: i32) -> Checked {
        let sql =
            format!("select name || ' ' || $1::int + {} from who, generate_series(1, 3)", i % 3);
        let got: Vec<String> = sqlx::query_scalar(&sql).bind(i).fetch_all(c).await?;
        equal(got, vec![format!("{tenant} {}", i + i % 3); 3])
    }
    let mut sessions = [("umbra", tenant("umbra").await?), ("acme", acme().await?)];
    for i in 0..100 {
        sessions.swap(0, 1);
        let [(x_name, x), (y_name, y)] = &mut sessions;
        let mut transaction = x.begin().await?;
        ask(&mut transaction, x_name, i).await?;
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
        c: &mut PgConnection,
        tenant: &str,
        i: i32,
        pids: &Mutex<HashSet<i32>>,
    ) -> Checked {
        let sql = format!("select tenant, $1::int + {}, pg_backend_pid() from crowd", i % 3);
        let rows: Vec<(String, i32, i32)> = sqlx::query_as(&sql).bind(i).fetch_all(c).await?;
        equal(rows.len(), 16)?;
        for (name, number, pid) in rows {
            equal((&*name, number), (tenant, i + i % 3))?;
            pids.lock().map_err(|e| fail(e.to_string()))?.insert(pid);
        }
        Ok(())
    }
    async fn client(id: i32, altering: &AtomicUsize, pids: &Mutex<HashSet<i32>>) -> Checked {
        let name = TENANTS[id as usize % 2];
        let mut c = tenant(name).await?;
        for i in 0.. {
            if i >= 20 && altering.load(Ordering::Relaxed) == 0 {
                break;
            }
            read(&mut c, name, i, pids).await?;
            let mut transaction = c.begin().await?;
            read(&mut transaction, name, i, pids).await?;
            read(&mut transaction, name, i + 1, pids).await?;
            transaction.commit().await?;
            let mut transaction = c.begin().await?;
            for n in [2 * i + 1, 2 * i + 2] {
                let sql = "update crowd set n = n + 1 where id = $1 returning tenant, n";
                let row: (String, i32) =
                    sqlx::query_as(sql).bind(id).fetch_one(&mut *transaction).await?;
                equal((&*row.0, row.1), (name, n))?;
            }
            transaction.commit().await?;
        }
        Ok(())
    }
    async fn alterer(c: &mut PgConnection, altering: &AtomicUsize) -> Checked {
        for _ in 0..20 {
            c.execute("alter table crowd add column extra int").await?;
            c.execute("alter table crowd drop column extra").await?;
        }
        altering.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }

    let (altering, pids) = (AtomicUsize::new(TENANTS.len()), Mutex::new(HashSet::new()));
    let mut owners = [acme().await?, tenant("umbra").await?];
    for (c, name) in owners.iter_mut().zip(TENANTS) {
        c.execute("drop table if exists crowd").await?;
        c.execute("create table crowd (tenant text, id int, n int)").await?;
        let sql = "insert into crowd select $1, id, 0 from generate_series(0, 15) id";
        sqlx::query(sql).bind(name).execute(c).await?;
    }
    let clients = try_join_all((0..16).map(|id| client(id, &altering, &pids)));
    let alterers = try_join_all(owners.iter_mut().map(|c| alterer(c, &altering)));
    try_join(clients, alterers).await?;
    for c in &mut owners {
        c.execute("drop table crowd").await?;
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
            let result = if variable("DIRECT") == "1" && name.starts_with("connect-") {
                Err(Failure::Cannot("bare PostgreSQL knows no tenants"))
            } else {
                let result = tokio::time::timeout(Duration::from_secs(15), $check()).await;
                result.unwrap_or_else(|_| Err(fail("no answer in 15 s".to_owned())))
            };
            match result {
                Ok(()) => println!("ok {number} - {name}"),
                Err(Failure::Cannot(why)) => println!("ok {number} - {name} # SKIP {why}"),
                Err(Failure::Broken(why)) => {
                    failed = true;
                    println!("not ok {number} - {name}: {}", why.replace('\n', " "));
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
