//! An operator's commands, on the database `tenantry` or `pgbouncer`.

use protocol_tests::database::connect;
use protocol_tests::wire::{message, parse, query, sync};
use protocol_tests::{Database, Pooler, Wire, on_both};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::living_tenants::last_word;
use crate::raw;

pub(crate) async fn pooler(db: &Database, more: &str) -> Pooler {
    Pooler::start(&format!(
        "{}[tenancy]\ntenant_from = [\"user:.\"]\nschema = \"{{tenant}}\"\n[users.ops]\npassword = \"opspw\"\n{more}",
        db.toml(2)
    ))
    .await
}

pub(crate) const ADMIN: &str = "[admin]\nusers = [\"ops\"]\n";
/// As PgBouncer 1.24 has them: its exporter reads them by these names.
const POOLS: &str = "database user cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req sv_active sv_active_cancel sv_being_canceled sv_idle sv_used sv_tested sv_login maxwait maxwait_us pool_mode load_balance_hosts";
const DATABASES: &str = "name host port database force_user pool_size min_pool_size reserve_pool_size server_lifetime pool_mode load_balance_hosts max_connections current_connections max_client_connections current_client_connections paused disabled";
const CLIENTS: &str = "type user database replication state addr port local_addr local_port connect_time request_time wait wait_us close_needed ptr link remote_pid tls application_name prepared_statements id";
pub(crate) const TENANTS: &str = "[tenants.acme]\n[tenants.umbra]\n";

pub(crate) async fn console(
    pooler: &Pooler,
    user: &str,
    password: &str,
    database: &str,
) -> Result<Client, String> {
    let url = format!("postgres://{user}:{password}@127.0.0.1:{}/{database}", pooler.port);
    connect(&url)
        .await
        .map_err(|error| error.code().map_or(error.to_string(), |code| code.code().to_owned()))
}

/// SQLSTATE and DETAIL.
pub(crate) async fn refused(client: &Client, command: &str) -> (String, String) {
    let error = client.batch_execute(command).await.unwrap_err();
    let error = error.as_db_error().unwrap_or_else(|| panic!("{command}: {error}"));
    (error.code().code().to_owned(), error.detail().unwrap_or_default().to_owned())
}

on_both! {
    async fn only_its_users_are_heard(db: &Database) {
        let closed = pooler(db, "").await;
        let known = console(&closed, "ops", "opspw", "tenantry").await.unwrap_err();
        assert_eq!(known, "28000", "without admin.users there is no console: no tenant is named");
        drop(closed);
        let pooler = pooler(db, ADMIN).await;
        for database in ["tenantry", "pgbouncer"] {
            let ops = console(&pooler, "ops", "opspw", database).await.unwrap();
            let rows = ops.query("show version", &[]).await.unwrap();
            assert!(rows[0].get::<_, &str>(0).starts_with("Tenantry "), "by the extended protocol");
            assert!(matches!(&ops.simple_query("SHOW VERSION").await.unwrap()[1], SimpleQueryMessage::Row(row) if row.get("version").is_some()));
            assert_eq!(console(&pooler, "ops", "wrong", database).await.unwrap_err(), "28P01");
            assert_eq!(console(&pooler, "nobody", "opspw", database).await.unwrap_err(), "28P01");
            assert_eq!(console(&pooler, "app", "secret", database).await.unwrap_err(), "42501");
        }
    }

    async fn what_it_cannot_read_it_refuses_and_goes_on(db: &Database) {
        db.schemas(&["acme"]).await;
        let pooler = pooler(db, &format!("{ADMIN}{TENANTS}[auth]\ntype = \"trust\"\n")).await;
        let mut wire = Wire::login(pooler.port, &[("user", "ops"), ("database", "tenantry")]).await;
        for command in ["select 2", "reload now", "show version; nonsense", "reconnect \"x", "drop database saas"] {
            assert_eq!(wire.run(command).await.unwrap_err(), "42601", "{command}");
        }
        wire.send(&query(" ; ")).await;
        assert_eq!(wire.tags().await, "IZI");
        wire.send(&message('Q', b"\xff\xfe\0")).await;
        assert_eq!(wire.tags().await, "EZI");
        // In the extended protocol all is skipped behind an error, until Sync.
        let mut batch = parse("", "nonsense");
        batch.extend(message('B', b"\0\0\0\0\0\0\0\0"));
        batch.extend(message('E', b"\0\0\0\0\0"));
        batch.extend(message('E', b"\0\0\0\0\0"));
        batch.extend(sync());
        wire.send(&batch).await;
        assert_eq!(wire.tags().await, "12EZI");
        for malformed in [message('P', b"no end"), message('B', b"\0unknown\0"), message('E', b"x\0"), message('D', b""), message('F', b"")] {
            wire.send(&[malformed, sync()].concat()).await;
            assert_eq!(wire.tags().await, "EZI");
        }
        // Which of two a portal is, nobody can tell.
        wire.send(&[parse("", "show version; show state"), sync()].concat()).await;
        assert_eq!(wire.receive().await.field('C'), "42601");
        assert_eq!(wire.tags().await, "ZI");
        let help = wire.run("show help").await.unwrap();
        assert!(help[0].contains("RELOAD"), "{help:?}");
        // A message of an absurd length ends it, and nothing else.
        wire.send(b"Q\x7f\xff\xff\xff").await;
        assert!(wire.next().await.is_none());
        assert_eq!(raw(&pooler, "acme").await.run("select name from who").await.unwrap(), ["acme"]);
    }

    async fn reload_answers_when_all_is_read_or_says_what_is_wrong(db: &Database) {
        let sql = format!("create table public.customers (name text); grant select on public.customers to {0}", db.name);
        db.admin.batch_execute(&sql).await.unwrap();
        db.schemas(&["acme", "umbra"]).await;
        let registry = "[registry]\nquery = \"select name as tenant from public.customers\"\nrefresh = \"1h\"\n";
        let pooler = pooler(db, &format!("{ADMIN}{registry}[tenants.acme]\n")).await;
        let ops = console(&pooler, "ops", "opspw", "tenantry").await.unwrap();
        let url = |tenant: &str| format!("postgres://app.{tenant}:secret@127.0.0.1:{}/", pooler.port);
        let acme = connect(&url("acme")).await.unwrap();
        assert!(connect(&url("umbra")).await.is_err());
        db.admin.batch_execute("insert into public.customers values ('umbra')").await.unwrap();
        ops.batch_execute("RELOAD").await.unwrap();
        connect(&url("umbra")).await.unwrap();
        pooler.rewrite(|text| format!("{text}shema = 1\nstate = \"asleep\"\n"));
        let (sqlstate, detail) = refused(&ops, "reload").await;
        assert_eq!(sqlstate, "F0000");
        assert!(detail.contains("tenants.acme.shema: unknown key") && detail.contains("tenants.acme.state"), "{detail}");
        acme.batch_execute("select 1").await.unwrap();
        db.admin.batch_execute("alter table public.customers rename to gone").await.unwrap();
        pooler.rewrite(|text| text.replace("shema = 1\nstate = \"asleep\"\n", ""));
        let (_, detail) = refused(&ops, "reload").await;
        assert!(detail.contains("public.customers"), "{detail}");
        db.admin.batch_execute("alter table public.gone rename to customers").await.unwrap();
        pooler.rewrite(|text| format!("{text}state = \"suspended\"\n"));
        ops.batch_execute("reload;").await.unwrap();
        assert!(acme.batch_execute("select 1").await.is_err());
    }

    async fn who_is_taken_out_of_its_users_is_not_heard_any_more(db: &Database) {
        let pooler = pooler(db, ADMIN).await;
        let ops = console(&pooler, "ops", "opspw", "tenantry").await.unwrap();
        ops.batch_execute("show version").await.unwrap();
        pooler.reload(1, |text| text.replace("users = [\"ops\"]", "users = [\"app\"]")).await;
        assert_eq!(refused(&ops, "reload").await.0, "42501");
    }

    async fn who_may_only_look_changes_nothing(db: &Database) {
        let pooler = pooler(db, &format!("{TENANTS}[admin]\nstats_users = [\"ops\"]\n")).await;
        let ops = console(&pooler, "ops", "opspw", "pgbouncer").await.unwrap();
        for command in ["show pools", "show clients", "show tenants", "show help"] {
            ops.batch_execute(command).await.unwrap();
        }
        for command in ["reload", "reconnect", "kill tenant acme", "kill_client 1", "pause tenant acme", "set tenant acme weight = 2", "reset tenant acme", "show pools; reload"] {
            assert_eq!(refused(&ops, command).await.0, "42501", "{command}");
        }
        assert!(ops.query("show overrides", &[]).await.unwrap().is_empty());
        assert_eq!(pooler.messages("configuration reloaded"), 0);
    }

    async fn reconnect_closes_servers_when_their_clients_let_go(db: &Database) {
        db.schemas(&["acme", "umbra"]).await;
        let pooler = pooler(db, &format!("{ADMIN}{TENANTS}")).await;
        let ops = console(&pooler, "ops", "opspw", "pgbouncer").await.unwrap();
        let (busy, idle) = (pooler.connect_as("app.acme", "secret").await, pooler.connect_as("app.umbra", "secret").await);
        let pid = async |client: &Client| client.query_one("select pg_backend_pid()", &[]).await.unwrap().get::<_, i32>(0);
        busy.batch_execute("begin").await.unwrap();
        let (kept, closed) = (pid(&busy).await, pid(&idle).await);
        assert_ne!(kept, closed);
        assert_eq!(refused(&ops, "reconnect nowhere").await.0, "3D000");
        assert_eq!(pid(&idle).await, closed);
        ops.batch_execute(&format!("reconnect {}", db.name)).await.unwrap();
        db.until(&format!("pid = {closed}"), 0).await;
        assert_eq!(pid(&busy).await, kept, "a transaction ends where it began");
        busy.batch_execute("commit").await.unwrap();
        db.until(&format!("pid = {kept}"), 0).await;
        assert!(![kept, closed].contains(&pid(&busy).await));
        ops.batch_execute("reconnect").await.unwrap();
        let before = pid(&idle).await;
        assert_eq!(refused(&ops, "reconnect tenant nobody").await.0, "3D000");
        ops.batch_execute("reconnect tenant umbra").await.unwrap();
        assert_ne!(pid(&idle).await, before);
    }

    async fn show_has_pgbouncers_columns_and_says_what_is(db: &Database) {
        db.schemas(&["acme", "umbra"]).await;
        let pooler = pooler(db, &format!("{ADMIN}[tenants.acme]\nmax_server_connections = 1\nweight = 3\n[tenants.umbra]\nstate = \"read_only\"\n")).await;
        let ops = console(&pooler, "ops", "opspw", "pgbouncer").await.unwrap();
        for (command, columns) in [
            ("show pools", POOLS),
            ("show databases", DATABASES),
            ("show clients", CLIENTS),
            ("show lists", "list items"),
            ("show state", "key value"),
        ] {
            let statement = ops.prepare(command).await.unwrap();
            let names: Vec<&str> = statement.columns().iter().map(tokio_postgres::Column::name).collect();
            assert!(names.join(" ").starts_with(columns), "{command}: {names:?}");
        }
        let (busy, waits) = (pooler.connect_as("app.acme", "secret").await, pooler.connect_as("app.acme", "secret").await);
        let _idle = pooler.connect_as("app.umbra", "secret").await;
        busy.batch_execute("begin").await.unwrap();
        let waiting = async { waits.batch_execute("select 1").await.unwrap() };
        let look = async {
            pooler.until_message(1, "client waits for a server").await;
            let rows = ops.query("show tenants", &[]).await.unwrap();
            let of = |row: &tokio_postgres::Row| {
                let number = |name: &str| row.get::<_, i64>(name);
                (row.get::<_, String>("tenant"), row.get::<_, String>("state"), number("clients"), number("waiting"), number("servers"), number("weight"))
            };
            let seen: Vec<_> = rows.iter().map(of).collect();
            assert_eq!(seen, [("acme".to_owned(), "active".to_owned(), 2, 1, 1, 3), ("umbra".to_owned(), "read_only".to_owned(), 1, 0, 0, 1)]);
            assert!(rows[0].get::<_, i64>("maxwait_us") > 0);
            let pools = ops.query("show pools", &[]).await.unwrap();
            let of = |name: &str| pools[0].get::<_, i64>(name);
            assert_eq!((pools.len(), of("cl_active"), of("cl_waiting"), of("sv_active")), (1, 2, 1, 1));
            assert_eq!(pools[0].get::<_, String>("database"), db.name);
            let clients = ops.query("show clients", &[]).await.unwrap();
            let of = |row: &tokio_postgres::Row| (row.get::<_, String>("tenant"), row.get::<_, String>("state"), !row.get::<_, String>("link").is_empty());
            let seen: Vec<_> = clients.iter().map(of).collect();
            let client = |tenant: &str, state: &str, linked| (tenant.to_owned(), state.to_owned(), linked);
            // The operator's own session is one of them, as PgBouncer has it.
            assert_eq!(seen, [client("acme", "active", true), client("acme", "waiting", false), client("umbra", "idle", false), client("", "active", false)]);
            let own = |name: &str| clients[3].get::<_, &str>(name);
            assert_eq!((own("user"), own("addr")), ("ops", "127.0.0.1"));
            assert!(["tenantry", "pgbouncer"].contains(&own("database")), "{}", own("database"));
            let first = &clients[0];
            assert_eq!((first.get::<_, &str>("user"), first.get::<_, &str>("addr"), first.get::<_, &str>("tls")), ("app", "127.0.0.1", ""));
            assert!(first.get::<_, &str>("connect_time").ends_with(" UTC") && first.get::<_, i64>("port") > 0);
            let lists = ops.query("show lists", &[]).await.unwrap();
            let item = |name: &str| lists.iter().find(|row| row.get::<_, &str>(0) == name).unwrap().get::<_, i64>(1);
            assert_eq!((item("tenants"), item("used_clients"), item("used_servers")), (2, 3, 1));
            busy.batch_execute("commit").await.unwrap();
        };
        tokio::join!(waiting, look);
        let rows = ops.simple_query("SHOW TENANTS; SHOW VERSION").await.unwrap();
        assert_eq!(rows.iter().filter(|row| matches!(row, SimpleQueryMessage::Row(_))).count(), 3);
    }

    async fn a_tenant_is_paused_changed_and_let_go_without_a_file(db: &Database) {
        db.schemas(&["acme", "umbra"]).await;
        let pooler = pooler(db, &format!("{ADMIN}[tenants.acme]\nmax_server_connections = 1\n[tenants.umbra]\nstate = \"suspended\"\n")).await;
        let ops = console(&pooler, "ops", "opspw", "tenantry").await.unwrap();
        let (one, two) = (pooler.connect_as("app.acme", "secret").await, pooler.connect_as("app.acme", "secret").await);
        ops.batch_execute("PAUSE TENANT acme").await.unwrap();
        pooler.until_message(1, "the tenant is paused, and none of its transactions is under way").await;
        let waits = async { one.query_one("select name from who", &[]).await.unwrap().get::<_, String>(0) };
        let resume = async {
            pooler.until_message(1, "client waits for a server").await;
            ops.batch_execute("RESUME TENANT acme").await.unwrap();
        };
        assert_eq!(tokio::join!(waits, resume).0, "acme");
        // One more server: who waits gets it.
        one.batch_execute("begin").await.unwrap();
        let waits = async { two.batch_execute("select 1").await.unwrap() };
        let widen = async {
            pooler.until_message(2, "client waits for a server").await;
            ops.batch_execute("SET TENANT acme max_server_connections = 2; SET TENANT acme message = 'it''s late'").await.unwrap();
        };
        tokio::join!(waits, widen);
        ops.batch_execute("SET TENANT umbra search_path = '[\"umbra\", \"public\"]'").await.unwrap();
        ops.batch_execute("RESET TENANT umbra").await.unwrap();
        for (command, sqlstate, problem) in [
            ("set tenant acme wieght = 3", "22023", "console.acme.wieght: unknown key; did you mean \"weight\"?"),
            ("set tenant acme weight = many", "22023", "console.acme.weight: expected"),
            ("set tenant acme guaranteed_server_connections = 2", "22023", "clusters.main.max_server_connections: 2, but guaranteed"),
            ("pause tenant nobody", "3D000", "tenant \"nobody\" does not exist"),
        ] {
            let error = ops.batch_execute(command).await.unwrap_err();
            let error = error.as_db_error().unwrap();
            assert_eq!(error.code().code(), sqlstate);
            assert!(error.message().starts_with(problem), "{}", error.message());
        }
        // A secret is neither logged nor shown.
        ops.batch_execute("set tenant umbra password = 'hushhush'").await.unwrap();
        let secret = &ops.query("show overrides", &[]).await.unwrap()[2];
        assert_eq!([1, 2].map(|at| secret.get::<_, String>(at)), ["password", "***"]);
        ops.batch_execute("reset tenant umbra").await.unwrap();
        assert!(!pooler.log_text().contains("hushhush"));
        // A reload keeps it.
        pooler.rewrite(|text| text.replace("[tenants.acme]\n", "[tenants.acme]\nweight = 7\n"));
        ops.batch_execute("reload").await.unwrap();
        let rows = ops.query("show overrides", &[]).await.unwrap();
        let overrides: Vec<_> = rows.iter().map(|row| [0, 1, 2].map(|at| row.get::<_, String>(at)).join(" ")).collect();
        assert_eq!(overrides, ["acme max_server_connections 2", "acme message it's late"]);
        let row = &ops.query("show tenants", &[]).await.unwrap()[0];
        assert_eq!((row.get::<_, i64>("weight"), row.get::<_, i64>("max_server_connections")), (7, 2));
        ops.batch_execute("reset tenant acme").await.unwrap();
        assert!(ops.query("show overrides", &[]).await.unwrap().is_empty());
        // What is written may be taken back, too.
        ops.batch_execute("resume tenant umbra").await.unwrap();
        pooler.connect_as("app.umbra", "secret").await.batch_execute("select 1").await.unwrap();
        ops.batch_execute("suspend tenant acme").await.unwrap();
        assert!(two.batch_execute("select 1").await.is_err());
        // Its driver hears the end a moment after the error.
        let closed = async { while !two.is_closed() { tokio::task::yield_now().await } };
        protocol_tests::soon("the end of the session", closed).await;
    }

    async fn clients_are_disconnected_at_once_and_what_they_run_is_cancelled(db: &Database) {
        db.schemas(&["acme", "umbra"]).await;
        let pooler = pooler(db, &format!("{ADMIN}{TENANTS}[auth]\ntype = \"trust\"\n")).await;
        let ops = connect(&format!("postgres://ops@127.0.0.1:{}/tenantry", pooler.port)).await.unwrap();
        let (mut idle, mut busy, mut waits, mut other) = (raw(&pooler, "acme").await, raw(&pooler, "acme").await, raw(&pooler, "acme").await, raw(&pooler, "umbra").await);
        let mut blocks = raw(&pooler, "umbra").await;
        blocks.run("begin").await.unwrap();
        busy.send(&query("insert into who values ('lost'); select pg_sleep(60)")).await;
        db.until("query like '%pg_sleep(60)%' and state = 'active'", 1).await;
        waits.send(&query("select 1")).await;
        pooler.until_message(1, "client waits for a server").await;
        ops.batch_execute("KILL TENANT acme").await.unwrap();
        for wire in [&mut idle, &mut busy, &mut waits] {
            assert_eq!(last_word(wire).await.0, "57P01");
            assert!(wire.next().await.is_none());
        }
        db.until("query like '%pg_sleep(60)%' and state = 'active'", 0).await;
        blocks.run("commit").await.unwrap();
        assert_eq!(other.run("select name from who").await.unwrap(), ["umbra"]);
        let mut again = raw(&pooler, "acme").await;
        assert_eq!(again.run("select name from who").await.unwrap(), ["acme"], "it may come again, and nothing is left");
        ops.batch_execute(&format!("kill_client {}", again.pid)).await.unwrap();
        assert_eq!(last_word(&mut again).await.0, "57P01");
        assert_eq!(refused(&ops, "kill tenant nobody").await.0, "02000");
    }

    async fn what_drivers_say_of_themselves_does_no_harm(db: &Database) {
        let pooler = pooler(db, ADMIN).await;
        let ops = console(&pooler, "ops", "opspw", "pgbouncer").await.unwrap();
        for said in ["SET application_name = 'x'", "SET extra_float_digits TO 3", "set client_encoding to 'UTF8'", "BEGIN", "show version", "COMMIT", "begin isolation level serializable; rollback", "DISCARD ALL", "SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;"] {
            ops.batch_execute(said).await.unwrap();
        }
        assert_eq!(ops.query_one("select 1", &[]).await.unwrap().get::<_, i64>(0), 1);
        assert!(ops.query_one("SELECT version()", &[]).await.unwrap().get::<_, &str>(0).starts_with("Tenantry "));
        for said in ["set search_path = x", "set role x", "select 2", "select usename from pg_user", "begin; drop table x"] {
            assert_eq!(refused(&ops, said).await.0, "42601", "{said}");
        }
    }

    async fn a_pooler_that_drains_does_not_wait_for_it(db: &Database) {
        let mut pooler = pooler(db, ADMIN).await;
        let ops = console(&pooler, "ops", "opspw", "tenantry").await.unwrap();
        pooler.signal("TERM");
        pooler.ended().await;
        assert!(ops.batch_execute("show version").await.is_err());
    }
}
