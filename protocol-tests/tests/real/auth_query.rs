//! `auth.query`: secrets in a table, and what clients cannot do about it.

use std::time::Duration;

use protocol_tests::pooler::BY_SCHEMA;
use protocol_tests::wire::{V3_0, scram, startup};
use protocol_tests::{Database, Pooler, Wire, on_both};

const QUERY: &str = "select usename, passwd from auth_users where usename = $1";

/// A pooler that looks users up in `public.auth_users`, which names `pg_catalog` nowhere.
async fn looking_up(db: &Database, query: &str) -> Pooler {
    db.schemas(&["acme"]).await;
    db.admin
        .batch_execute(&format!(
            "create table public.auth_users (usename text, passwd text); grant select on public.auth_users to {0}; \
             create role {0}_stored password 'from postgres'; \
             insert into public.auth_users values ('ann', 'plain'), ('nul', null), \
             ('bob', (select rolpassword from pg_authid where rolname = '{0}_stored'))",
            db.name
        ))
        .await
        .unwrap();
    let toml = format!(
        "{}[users.\"*\"]\ntenants = [\"*\"]\n[auth]\nquery = \"\"\"{query}\"\"\"\n{BY_SCHEMA}",
        db.toml(2)
    );
    Pooler::start(&toml).await
}

/// `None`: let in. Else the SQLSTATE.
async fn attempt(
    pooler: &Pooler,
    user: &str,
    password: &str,
    more: &[(&str, &str)],
) -> Option<String> {
    let mut wire = Wire::open(pooler.port).await;
    let user = format!("{user}.acme");
    let mut parameters = vec![("user", user.as_str())];
    parameters.extend(more);
    wire.send(&startup(V3_0, &parameters)).await;
    let first = wire.receive().await;
    if first.tag == 'E' {
        return Some(first.field('C'));
    }
    wire.put_back(&first);
    if let Some(error) = scram(&mut wire, password).await {
        return Some(error.field('C'));
    }
    let message = wire.receive().await;
    (message.tag == 'E').then(|| message.field('C'))
}

on_both! {
    async fn users_are_found_by_a_query_on_a_connection_of_its_own(db: &Database) {
        let pooler = looking_up(db, &QUERY.replace("auth_users", "public.auth_users")).await;
        for (user, password, want) in [
            ("ann", "plain", None), ("bob", "from postgres", None), ("app", "secret", None),
            ("ann", "wrong", Some("28P01")), ("nobody", "plain", Some("28P01")), ("nul", "", Some("28P01")),
            ("x' or '1'='1", "plain", Some("28P01")),
        ] {
            assert_eq!(attempt(&pooler, user, password, &[]).await.as_deref(), want, "{user}");
        }
        // A changed password works soon, and the old one no longer.
        db.admin.batch_execute("update public.auth_users set passwd = 'changed' where usename = 'ann'").await.unwrap();
        protocol_tests::soon("the new password", async {
            while attempt(&pooler, "ann", "changed", &[]).await.is_some() {
                tokio::time::sleep(Duration::from_millis(300)).await; // between two looks
            }
        }).await;
        assert_eq!(attempt(&pooler, "ann", "plain", &[]).await.as_deref(), Some("28P01"));
    }

    async fn no_parameter_of_a_client_reaches_the_query(db: &Database) {
        // Unqualified: whoever can choose the search_path, or the temporary schema, can answer it.
        let pooler = looking_up(db, "select usename, passwd from pg_shadow where usename = $1").await;
        db.admin.batch_execute(&format!(
            "create schema evil; grant usage on schema evil to {0}; grant select on pg_shadow to {0}; \
             create view evil.pg_shadow as select 'ann'::name as usename, 'known'::text as passwd; grant select on evil.pg_shadow to {0}; \
             create function evil.mine(name, text) returns boolean language sql as 'select true'; \
             create operator evil.= (leftarg = name, rightarg = text, function = evil.mine)", db.name)).await.unwrap();
        for more in [
            [("search_path", "evil, pg_catalog")], [("options", "-c search_path=evil,pg_catalog")], [("options", "-c role=postgres")],
        ] {
            assert_eq!(attempt(&pooler, "ann", "known", &more).await.as_deref(), Some("28P01"), "{more:?}");
        }
        let paths = db.admin.query(
            "select query from pg_stat_activity where query like '%pg_shadow%' and query like '%usename = $1%' and pid <> pg_backend_pid()", &[]).await.unwrap();
        assert_eq!(paths.len(), 1, "one connection asks for all of them");
    }

    async fn a_table_that_cannot_be_read_refuses_and_recovers(db: &Database) {
        let pooler = looking_up(db, "select usename, passwd from public.gone where usename = $1").await;
        assert_eq!(attempt(&pooler, "ann", "plain", &[]).await.as_deref(), Some("08006"));
        assert_eq!(attempt(&pooler, "app", "secret", &[]).await, None, "who is configured is not asked for");
        db.admin.batch_execute(&format!("alter table public.auth_users rename to gone; grant select on public.gone to {}", db.name)).await.unwrap();
        assert_eq!(attempt(&pooler, "ann", "plain", &[]).await, None);
        // Its connection may be lost at any time.
        db.admin.batch_execute(&format!("select pg_terminate_backend(pid) from pg_stat_activity where usename = '{}'", db.name)).await.unwrap();
        assert_eq!(attempt(&pooler, "bob", "from postgres", &[]).await, None);
    }

    async fn an_answer_that_is_of_another_or_of_several_lets_nobody_in(db: &Database) {
        let query = "select case $1 when 'bob' then 'ann' else usename end, passwd from public.auth_users \
             where usename = case $1 when 'zoe' then 'ann' else $1 end \
             union all select $1, secret from (values ('second'), ('third')) as many (secret) where $1 = 'many'";
        let pooler = looking_up(db, query).await;
        for (user, password) in [("bob", "from postgres"), ("zoe", "plain"), ("many", "second"), ("many", "third")] {
            assert_eq!(attempt(&pooler, user, password, &[]).await.as_deref(), Some("28P01"), "{user}");
        }
        assert_eq!(attempt(&pooler, "ann", "plain", &[]).await, None);
        pooler.until_message(3, "auth.query answered for another user, or for several").await;
    }

    async fn who_guesses_has_to_wait_and_is_told(db: &Database) {
        let pooler = looking_up(db, &QUERY.replace("auth_users", "public.auth_users")).await;
        let mut refused = 0;
        for _ in 0..40 {
            match attempt(&pooler, "ann", "guess", &[]).await.as_deref() {
                Some("28P01") => {}
                Some("28000") => refused += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!((5..=20).contains(&refused), "twenty may be wrong, and one a second: {refused}");
        pooler.until_log(1, |line| line["message"] == "client refused" && line["sqlstate"] == "28000").await;
    }
}
