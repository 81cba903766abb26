//! State at the edges of what can be followed: odd names, long values, other encodings, lost roles.

use protocol_tests::wire::query;
use protocol_tests::{Database, Pooler, Wire, on_both};

use crate::{raw, trusting};

const PINNED: &str = "session pinned to its server";

/// Another client has the server in between.
async fn elsewhere(pooler: &Pooler) {
    for tenant in ["acme", "umbra"] {
        raw(pooler, tenant).await.run("select 1").await.unwrap();
    }
}

/// What a client sees of a custom setting; `None` and empty are the same here.
fn see(name: &str) -> String {
    format!("select coalesce(current_setting('{name}', true), '')")
}

on_both! {
    async fn names_of_any_shape_are_kept_and_cross_nowhere(db: &Database) {
        let pooler = trusting(db, 2).await;
        let long = "a_name_that_is_longer_than_an_identifier_of_postgresql_can_ever_be_it_is_cut";
        for (set, name, pins) in [
            (format!("set app.{long} = 'mine'"), format!("app.{}", &long[..63]), 0),
            (format!("set \"App\".\"{long}\" = 'mine'"), format!("app.{}", &long[..63]), 0),
            (format!("select set_config('app.{long}', 'mine', false)"), format!("app.{long}"), 1),
            ("set app.schl\u{fc}ssel = 'mine'".to_owned(), "app.schl\u{fc}ssel".to_owned(), 2),
            ("do $$ begin execute 'set session app' || '.computed = ''mine'''; end $$".to_owned(), "app.computed".to_owned(), 2),
            ("do $$ declare x text := '.found'; begin execute 'set session app' || x || ' = ''mine'''; end $$".to_owned(), "app.found".to_owned(), 3),
            ("do $$ begin execute 'select set_config($1, $2, false)' using 'app.used', 'mine'; end $$".to_owned(), "app.used".to_owned(), 4),
        ] {
            let mut wire = raw(&pooler, "acme").await;
            wire.run(&set).await.unwrap();
            let mut other = raw(&pooler, "acme").await;
            other.run("begin").await.unwrap();
            assert_eq!(wire.run(&see(&name)).await.unwrap(), ["mine"], "{set}");
            assert_eq!(other.run(&see(&name)).await.unwrap(), [""], "{set}");
            drop((wire, other));
            for tenant in ["acme", "umbra", "acme"] {
                assert_eq!(raw(&pooler, tenant).await.run(&see(&name)).await.unwrap(), [""], "{set}");
            }
            assert_eq!(pooler.messages(PINNED), pins, "{set}");
        }
    }

    async fn an_empty_value_beside_a_reset_is_a_value(db: &Database) {
        db.schemas(&["acme", "umbra"]).await;
        let toml = format!("{}[auth]\ntype = \"trust\"\n[tenancy]\ntenant_from = [\"user:.\"]\nschema = \"{{tenant}}\"\n\
            settings = {{ \"app.tenant\" = \"{{tenant}}\" }}\n[tenants.acme]\n[tenants.umbra]\n", db.toml(1));
        let pooler = Pooler::start(&toml).await;
        let mut wire = raw(&pooler, "acme").await;
        for (sql, want) in [
            ("set app.tenant = ''; reset work_mem", ""), ("reset app.tenant", "acme"), ("reset all; set app.tenant = ''", ""),
            ("discard all", "acme"), ("begin; set app.tenant = ''; reset role; commit", ""), ("begin; reset role; reset app.tenant; commit", "acme"),
            ("set app.tenant = ''; reset all", "acme"), ("set app.tenant = ''; set app.tenant to default", "acme"),
            ("do $$ begin execute 'set app.tenant = '''''; execute 'reset search_path'; end $$", ""),
        ] {
            for statement in sql.split_inclusive(';').filter(|_| sql.starts_with("begin")) {
                wire.run(statement).await.unwrap();
            }
            if !sql.starts_with("begin") {
                // DISCARD ALL runs alone.
                wire.run(sql).await.unwrap();
            }
            elsewhere(&pooler).await;
            assert_eq!(wire.run(&see("app.tenant")).await.unwrap(), [want], "{sql}");
        }
    }

    async fn a_value_too_long_to_be_followed_keeps_its_server(db: &Database) {
        let pooler = trusting(db, 2).await;
        let mut pins = 0;
        for kilobytes in [60, 70, 700, 3000] {
            let mut wire = raw(&pooler, "acme").await;
            wire.run("set work_mem = '8MB'").await.unwrap();
            wire.run(&format!("select set_config('app.long', repeat('x', {kilobytes} * 1000), false)")).await.unwrap();
            let mut other = raw(&pooler, "acme").await;
            other.run("begin").await.unwrap();
            let seen = wire.run("select length(current_setting('app.long')), current_setting('work_mem')").await.unwrap();
            assert_eq!(seen, [(kilobytes * 1000).to_string()], "{kilobytes} kB");
            // RESET in a transaction leaves it alone.
            wire.run("begin").await.unwrap();
            wire.run("reset work_mem").await.unwrap();
            wire.run("commit").await.unwrap();
            assert_eq!(wire.run("select length(current_setting('app.long'))").await.unwrap(), seen);
            pins += usize::from(kilobytes > 60);
            assert_eq!(pooler.messages(PINNED), pins, "{kilobytes} kB");
        }
        assert_eq!(raw(&pooler, "acme").await.run(&see("app.long")).await.unwrap(), [""]);
    }

    async fn a_path_in_another_encoding_is_kept(db: &Database) {
        let pooler = trusting(db, 1).await;
        let name = "gr\u{fc}n";
        db.admin.batch_execute(&format!("create schema \"{name}\" authorization \"{}\"; create table \"{name}\".colour as select 'x' as x; alter table \"{name}\".colour owner to \"{}\"", db.name, db.name)).await.unwrap();
        let mut wire = Wire::login(pooler.port, &[("user", "app.acme"), ("client_encoding", "LATIN1")]).await;
        let mut set = b"set search_path = \"gr".to_vec();
        set.extend(b"\xfcn\"");
        wire.send(&protocol_tests::wire::message('Q', &[&set[..], b"\0"].concat())).await;
        assert_eq!(wire.tags().await.replace('S', ""), "CZI");
        for _ in 0..2 {
            elsewhere(&pooler).await;
            assert_eq!(wire.run("select x from colour").await.unwrap(), ["x"]);
        }
    }

    async fn the_seed_of_random_is_nobody_elses(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut wire = raw(&pooler, "acme").await;
        wire.run("select setseed(0.5)").await.unwrap();
        let first = wire.run("select random()").await.unwrap();
        wire.run("select setseed(0.5)").await.unwrap();
        drop(wire);
        assert_ne!(raw(&pooler, "umbra").await.run("select random()").await.unwrap(), first);
        pooler.until_message(1, PINNED).await;
    }

    async fn a_reset_of_everything_leaves_a_lock_where_it_is(db: &Database) {
        let pooler = trusting(db, 2).await;
        let lock = "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()";
        for (sql, left) in [("reset all", "1"), ("discard all", "0")] {
            let mut wire = raw(&pooler, "acme").await;
            wire.run("set work_mem = '8MB'").await.unwrap();
            wire.run("select pg_advisory_lock(pg_backend_pid())").await.unwrap();
            wire.run("do $$ declare x text := 'select 1'; begin execute x; end $$").await.unwrap();
            wire.run(sql).await.unwrap();
            let other = raw(&pooler, "acme").await.run(lock).await.unwrap();
            assert_eq!((wire.run(lock).await.unwrap(), other), (vec![left.to_owned()], vec!["0".to_owned()]), "{sql}");
        }
    }

    async fn a_session_user_is_nobody_elses(db: &Database) {
        db.schemas(&["acme", "umbra"]).await;
        let name = &db.name;
        db.admin.batch_execute(&format!("create role {name}_su login superuser password 'pw'; create role {name}_low; create role {name}_r")).await.unwrap();
        let toml = format!("{}[auth]\ntype = \"trust\"\n{}role = \"{name}_r\"\n", db.toml(1), protocol_tests::pooler::BY_SCHEMA);
        let pooler = Pooler::start(&toml.replace(&format!("user = \"{name}\""), &format!("user = \"{name}_su\"\ndatabase = \"{name}\""))).await;
        let who = "select session_user || ' ' || current_user";
        let (home, low) = (vec![format!("{name}_su {name}_r")], vec![format!("{name}_low {name}_low")]);
        assert_eq!(raw(&pooler, "acme").await.run(who).await.unwrap(), home);
        for sql in ["set session authorization #", "set session_authorization = #", "select set_config('session_authorization', '#', false)",
            "do $$ begin set session authorization #; end $$", "begin; set session authorization #; commit"] {
            let mut wire = raw(&pooler, "acme").await;
            wire.run(&sql.replace('#', &format!("{name}_low"))).await.unwrap();
            for then in ["select 1", "reset all", "begin; set transaction isolation level serializable; commit"] {
                wire.run(then).await.unwrap();
                assert_eq!(wire.run(who).await.unwrap(), low, "{sql}; {then}");
            }
            drop(wire);
            for _ in 0..2 {
                assert_eq!(raw(&pooler, "acme").await.run(who).await.unwrap(), home, "{sql}");
            }
        }
        // A function shows it to nobody but PostgreSQL, which reports it.
        db.admin.batch_execute(&format!("create function acme.become() returns void language plpgsql as $$ begin execute 'set session authorization {name}_low'; end $$; grant usage on schema acme to public")).await.unwrap();
        for sql in ["select acme.become()", "begin; select acme.become(); commit", "set work_mem = '8MB'; select acme.become()"] {
            let mut wire = raw(&pooler, "acme").await;
            wire.run(sql).await.unwrap();
            assert_eq!(wire.run(who).await.unwrap(), low, "{sql}");
            drop(wire);
            assert_eq!(raw(&pooler, "acme").await.run(who).await.unwrap(), home, "{sql}");
        }
        let mut wire = raw(&pooler, "acme").await;
        wire.send(&[protocol_tests::wire::parse("", "select set_config($1, $2, false)"), protocol_tests::wire::message('B', &[&b"\0\0\0\0\0\x02\0\0\0\x15session_authorization"[..], &u32::try_from(low[0].len() / 2).unwrap().to_be_bytes(), format!("{name}_low").as_bytes(), b"\0\0"].concat()), protocol_tests::wire::execute("", 0), protocol_tests::wire::sync()].concat()).await;
        assert!(!wire.tags().await.contains('E'));
        assert_eq!(wire.run(who).await.unwrap(), low);
        wire.run("discard all").await.unwrap();
        assert_eq!((wire.run(who).await.unwrap(), raw(&pooler, "acme").await.run(who).await.unwrap()), (home.clone(), home));
    }

    async fn a_session_whose_role_is_gone_ends_and_says_why(db: &Database) {
        let pooler = trusting(db, 1).await;
        let role = format!("{}_gone", db.name);
        db.admin.batch_execute(&format!("create role {role}; grant {role} to {}", db.name)).await.unwrap();
        let mut wire = raw(&pooler, "acme").await;
        wire.run(&format!("set role {role}")).await.unwrap();
        elsewhere(&pooler).await;
        db.admin.batch_execute(&format!("drop role {role}")).await.unwrap();
        wire.send(&query("select 1")).await;
        let error = wire.receive().await;
        assert_eq!((error.field('S').as_str(), error.field('C').as_str()), ("FATAL", "58000"));
        assert!(error.field('D').contains(&role) && error.field('H').contains("new connection"), "{}", error.field('D'));
        assert_eq!(wire.next().await, None);
        assert_eq!(raw(&pooler, "acme").await.run("select name from who").await.unwrap(), ["acme"]);
    }

    async fn a_superuser_gets_back_what_only_it_may_set(db: &Database) {
        db.schemas(&["acme", "umbra"]).await;
        let name = &db.name;
        db.admin.batch_execute(&format!("create role {name}_su login superuser password 'pw'; create role {name}_low")).await.unwrap();
        let toml = format!("{}[auth]\ntype = \"trust\"\n{}", db.toml(1), protocol_tests::pooler::BY_SCHEMA);
        let pooler = Pooler::start(&toml.replace(&format!("user = \"{name}\""), &format!("user = \"{name}_su\"\ndatabase = \"{name}\""))).await;
        let (mut high, mut low) = (raw(&pooler, "acme").await, raw(&pooler, "acme").await);
        high.run("set log_statement_stats = on").await.unwrap();
        low.run(&format!("set role {name}_low")).await.unwrap();
        for _ in 0..2 {
            assert_eq!(high.run("show log_statement_stats").await.unwrap(), ["on"]);
            assert_eq!(low.run("select current_user || current_setting('log_statement_stats')").await.unwrap(), [format!("{name}_lowoff")]);
        }
    }
}
