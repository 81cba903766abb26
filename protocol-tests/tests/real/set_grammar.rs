//! Every form of SET, RESET, DISCARD and `set_config` that PostgreSQL's grammar knows, generated from it (`VariableSetStmt`,
//! `VariableResetStmt`, `DiscardStmt` in `gram.y`), with PostgreSQL as the oracle: what a form does to a session it does to
//! that session alone, and where the guard is on it leads nowhere out of the tenant.

use protocol_tests::pooler::BY_SCHEMA;
use protocol_tests::wire::{batch, sync};
use protocol_tests::{Database, Pooler, Wire, on_both};

use crate::raw;

const STATE: &str = "select concat_ws('|', current_setting('search_path'), current_user, session_user, current_setting('app.tenant', true), \
    current_setting('work_mem'), current_setting('TimeZone'), current_setting('DateStyle'), current_setting('client_encoding'), \
    current_setting('default_transaction_read_only'), current_setting('default_transaction_isolation'), current_setting('xmloption'), \
    current_setting('standard_conforming_strings'), coalesce(current_setting('app.own', true), ''))";

/// What must be the tenant's.
const GUARDED: &str = "select concat_ws('|', current_setting('search_path'), current_user, current_setting('app.tenant', true))";

/// `rest` of a SET: what may stand behind its scope.
fn rests(owner: &str) -> Vec<String> {
    let values = |texts: &str| {
        [
            format!("'{texts}'"),
            format!("E'{}\\x{:02x}'", &texts[..texts.len() - 1], texts.as_bytes()[texts.len() - 1]),
            format!("U&'{texts}'"),
            format!("'{}'\n'{}'", &texts[..2], &texts[2..]),
            format!("$${texts}$$"),
            format!("$a${texts}$a$"),
            texts.to_owned(),
            format!("\"{texts}\""),
            format!("/* c */ '{texts}' -- d\n"),
            "DEFAULT".to_owned(),
            format!("E'{texts}'"),
        ]
    };
    let mut rests = Vec::new();
    for (name, value) in [
        ("search_path", "umbra"),
        ("SEARCH_PATH", "umbra"),
        ("\"search_path\"", "umbra"),
        ("role", owner),
        ("\"role\"", owner),
        ("app.tenant", "umbra"),
        ("app.\"tenant\"", "umbra"),
        ("\"app\".tenant", "umbra"),
        ("app.own", "mine"),
        ("work_mem", "7MB"),
        ("datestyle", "german"),
        ("timezone", "UTC"),
        ("client_encoding", "latin1"),
        ("default_transaction_read_only", "true"),
        ("xmloption", "document"),
        ("standard_conforming_strings", "true"),
    ] {
        for value in values(value) {
            rests.push(format!("{name} TO {value}"));
            rests.push(format!("{name}={value}"));
        }
        // A backend that never heard of a setting has no current value of it; a server of a pool may have heard of it.
        if name != "app.own" {
            rests.push(format!("{name} FROM CURRENT"));
        }
    }
    for value in values("umbra") {
        rests.push(format!("SCHEMA {value}"));
    }
    for value in values(owner) {
        rests.push(format!("ROLE {value}"));
        rests.push(format!("SESSION AUTHORIZATION {value}"));
    }
    rests.extend(
        [
            "search_path TO umbra, public",
            "search_path = public, 'umbra'",
            "search_path TO ''",
            "TIME ZONE 'UTC'",
            "TIME ZONE LOCAL",
            "TIME ZONE DEFAULT",
            "TIME ZONE -7",
            "TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE",
            "NAMES 'latin1'",
            "NAMES",
            "NAMES DEFAULT",
            "XML OPTION DOCUMENT",
            "SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            "SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ WRITE",
            "TRANSACTION ISOLATION LEVEL SERIALIZABLE",
            "TRANSACTION READ ONLY",
            "CATALOG 'x'",
            "app.own TO 1, 2",
            "work_mem TO 4096",
            "seed TO DEFAULT",
        ]
        .map(str::to_owned),
    );
    rests
}

fn statements(owner: &str) -> Vec<String> {
    let mut all = Vec::new();
    for rest in rests(owner) {
        for scope in ["", "LOCAL ", "SESSION ", "session\t"] {
            all.push(format!("SET {scope}{rest}"));
        }
    }
    let resets = [
        "search_path",
        "\"search_path\"",
        "role",
        "ALL",
        "TIME ZONE",
        "SESSION AUTHORIZATION",
        "TRANSACTION ISOLATION LEVEL",
        "app.tenant",
        "app.own",
        "work_mem",
    ];
    all.extend(resets.map(|what| format!("RESET {what}")));
    all.extend(
        ["ALL", "PLANS", "SEQUENCES", "TEMP", "TEMPORARY"].map(|what| format!("DISCARD {what}")),
    );
    all.push("SET CONSTRAINTS ALL DEFERRED".to_owned());
    all.extend(LEAVES_ROLE.map(str::to_owned));
    for name in [
        "'search_path'",
        "'SEARCH_PATH'",
        "E'search_path'",
        "E'search\\x5fpath'",
        "'search' || '_path'",
        "'role'",
        "'app.tenant'",
        "'app.own'",
        "$$search_path$$",
    ] {
        for value in ["'umbra'", "NULL", "'' || 'umbra'", "'UMBRA'", "' umbra '", "''"] {
            let value =
                if name == "'role'" { value.replace("umbra", owner) } else { value.to_owned() };
            for local in ["false", "true", "'f'", "1 = 1", "false::bool", "not true"] {
                all.push(format!("select set_config({name}, {value}, {local})"));
            }
            all.push(format!(
                "select pg_catalog . \"set_config\" ({name}, {value}, is_local => false)"
            ));
        }
    }
    all
}

async fn state(wire: &mut Wire, sql: &str) -> String {
    wire.run(sql).await.map_or_else(|code| code, |rows| rows[0].clone())
}

async fn run(wire: &mut Wire, sql: &str, extended: bool) -> Option<String> {
    if extended {
        wire.send(&[batch(sql), sync()].concat()).await;
        let (messages, _) = wire.until_ready().await;
        return messages.iter().find(|m| m.tag == 'E').map(|m| m.field('C'));
    }
    wire.run(sql).await.err()
}

/// How a session leaves its role. Behind the pooler it has the tenant's again, as after a RESET.
const LEAVES_ROLE: [&str; 2] = ["SET ROLE NONE", "SET SESSION ROLE NONE"];

async fn tenants(db: &Database) -> String {
    db.schemas(&["acme", "umbra"]).await;
    let name = &db.name;
    let sql = format!(
        "create role {name}_acme; create role {name}_umbra; grant {name}_acme, {name}_umbra to {name}; \
         grant usage on schema acme to {name}_acme; grant usage on schema umbra to {name}_umbra"
    );
    db.admin.batch_execute(&sql).await.unwrap();
    format!("{name}_umbra")
}

async fn pooler(db: &Database, servers: usize, guard: &str) -> Pooler {
    let rules = format!(
        "role = \"{}_{{tenant}}\"\nsettings = {{ \"app.tenant\" = \"{{tenant}}\" }}\nguard = \"{guard}\"\n",
        db.name
    );
    Pooler::start(&format!("{}[auth]\ntype = \"trust\"\n{BY_SCHEMA}{rules}", db.toml(servers)))
        .await
}

on_both! {
    async fn what_a_form_of_set_does_it_does_to_its_own_session(db: &Database) {
        let owner = tenants(db).await;
        let pooler = pooler(db, 1, "off").await;
        let mut other = raw(&pooler, "acme").await;
        let home = state(&mut other, STATE).await;
        let options = format!("-c search_path=acme -c role={}_acme -c app.tenant=acme", db.name);
        for (at, sql) in statements(&owner).iter().enumerate() {
            let (mut wire, mut direct) = (raw(&pooler, "acme").await, db.wire(&options).await);
            let extended = at % 2 == 0;
            let mut want = (run(&mut direct, sql, extended).await, state(&mut direct, STATE).await);
            if LEAVES_ROLE.contains(&&**sql) {
                want.1.clone_from(&home);
            }
            let got = (run(&mut wire, sql, extended).await, state(&mut wire, STATE).await);
            assert_eq!(got, want, "{sql}");
            // It may keep its server; whoever comes when it has gone finds nothing.
            drop(wire);
            assert_eq!(state(&mut other, STATE).await, home, "{sql}");
        }
    }

    async fn no_form_of_set_leads_out_of_the_tenant(db: &Database) {
        let owner = tenants(db).await;
        let pooler = pooler(db, 1, "reject").await;
        let mut wire = raw(&pooler, "acme").await;
        let home = state(&mut wire, GUARDED).await;
        // Less than the tenant's path is no way out.
        let narrower = home.replacen("acme|", "\"\"|", 1);
        let (mut refused, mut ran) = (0, 0);
        for (at, sql) in statements(&owner).iter().enumerate() {
            wire.run("begin").await.unwrap();
            let error = run(&mut wire, sql, at % 2 == 0).await;
            if error.is_none() {
                ran += 1;
                let seen = state(&mut wire, GUARDED).await;
                assert!(seen == home || seen == narrower || seen.starts_with('|'), "{sql}: {seen}");
            }
            refused += usize::from(error.as_deref() == Some("42501"));
            wire.run("commit").await.unwrap();
            let seen = state(&mut wire, GUARDED).await;
            assert!(seen == home || seen == narrower || seen.starts_with('|'), "{sql}: {seen}");
            wire.run("reset all").await.unwrap();
            assert_eq!(state(&mut wire, GUARDED).await, home, "{sql}");
        }
        assert!(refused > 200 && ran > 200, "{refused} refused, {ran} ran");
    }

    async fn a_bound_value_is_set_and_null_is_what_the_session_began_with(db: &Database) {
        let owner = tenants(db).await;
        let pooler = pooler(db, 1, "off").await;
        let path = "-c search_path=acme,public -c app.own=first -c work_mem=5MB";
        let options = format!("{path} -c role={}_acme -c app.tenant=acme", db.name);
        let through = format!("{}?options={}", pooler.url("app.acme", ""), path.replace(' ', "%20"));
        let connect = async |url: String| protocol_tests::database::connect(&url).await.unwrap();
        for (name, value) in [
            ("search_path", "umbra"),
            ("role", &*owner),
            ("app.tenant", "umbra"),
            ("app.own", "mine"),
            ("work_mem", "7MB"),
            ("TimeZone", "Asia/Tokyo"),
        ] {
            for value in [Some(value), None] {
                let direct = format!("{}?options={}", db.direct(), options.replace(' ', "%20"));
                for setter in [format!("select set_config('{name}', $1, false)"), format!("reset {name}")] {
                    let (pooled, alone) = (connect(through.clone()).await, connect(direct.clone()).await);
                    let mut seen = Vec::new();
                    for client in [&pooled, &alone] {
                        if setter.starts_with("reset") {
                            client.batch_execute(&setter).await.unwrap();
                        } else {
                            client.query(&setter, &[&value]).await.unwrap();
                        }
                        seen.push(client.query_one(STATE, &[]).await.unwrap().get::<_, String>(0));
                    }
                    assert_eq!(seen[0], seen[1], "{setter} of {value:?}");
                }
            }
        }
    }
}
