//! `server_sharing = "tenant"`: what a backend remembers and no scrub removes, another tenant never meets.

use std::collections::HashMap;

use protocol_tests::pooler::BY_SCHEMA;
use protocol_tests::{Database, Pooler, on_both};

/// A hundred draws of a generator that is printed.
fn draws(seed: u64) -> impl Iterator<Item = usize> {
    println!("seed {seed}");
    let mut state = seed;
    std::iter::repeat_with(move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap()
    })
    .take(100)
}

async fn pooler(db: &Database, servers: usize, sharing: &str, tenants: &str) -> Pooler {
    let toml = format!("{}{BY_SCHEMA}server_sharing = \"{sharing}\"\n{tenants}", db.toml(servers));
    Pooler::start(&toml).await
}

/// One function for all, in whose body the tenants' tables are named; they have their columns in another order.
async fn drifted(db: &Database) {
    db.schemas(&["acme", "umbra"]).await;
    let sql = "create table acme.people (email text, name text); create table umbra.people (name text, email text); \
        insert into acme.people values ('a@acme', 'anna'); insert into umbra.people values ('uwe', 'u@umbra'); \
        set search_path = acme; create function public.first_name() returns text language plpgsql as $$ \
          declare p people%rowtype; begin select name, email into p.name, p.email from people; return p.name; end $$; \
        create function public.whole() returns text language plpgsql as $$ \
          declare p people%rowtype; begin select * into p from people limit 1; return p.name; end $$; \
        create function public.seeded() returns void language sql as $$ select setseed(0.5) $$; \
        reset search_path; grant all on all tables in schema acme, umbra to public";
    db.admin.batch_execute(sql).await.unwrap();
}

on_both! {
    async fn what_a_function_remembers_of_a_tenant_stays_with_it(db: &Database) {
        drifted(db).await;
        let pooler = pooler(db, 1, "tenant", "search_path = [\"{tenant}\", \"public\"]\n").await;
        let (acme, umbra) = (pooler.connect("acme").await, pooler.connect("umbra").await);
        let mut drawn = Vec::new();
        for _ in 0..4 {
            for (client, name) in [(&acme, "anna"), (&umbra, "uwe")] {
                for function in ["first_name", "whole"] {
                    let row = client.query_one(&format!("select public.{function}()"), &[]).await.unwrap();
                    assert_eq!(row.get::<_, String>(0), name, "{function}");
                }
            }
            // Not of the seed that acme has left in its own server.
            acme.execute("select public.seeded()", &[]).await.unwrap();
            let row = umbra.query_one("select random()", &[]).await.unwrap();
            drawn.push(row.get::<_, f64>(0));
        }
        drawn.dedup();
        assert_eq!(drawn.len(), 4, "{drawn:?}");
    }

    async fn functions_that_tenants_share_and_that_name_row_types_are_told_once(db: &Database) {
        drifted(db).await;
        let said = "tenants share functions that name row types: a server may read one tenant's rows in another's order of columns, unless server_sharing = \"tenant\"";
        for (sharing, times) in [("tenant", 0), ("all", 1)] {
            let pooler = pooler(db, 2, sharing, "[tenants.umbra]\n").await;
            let _alone = pooler.connect("acme").await;
            drop(pooler.connect("acme").await);
            assert_eq!(pooler.messages(said), 0, "{sharing}: nobody shares anything yet");
            for _ in 0..3 {
                pooler.connect("umbra").await.batch_execute("select 1").await.unwrap();
            }
            if times > 0 {
                let line = pooler.until_message(1, said).await;
                assert_eq!((&line["database"], &line["functions"]), (&db.name.clone().into(), &2.into()));
            }
            drop(pooler.connect("umbra").await);
            assert_eq!(pooler.messages(said), times, "{sharing}");
        }
    }

    /// The limit that the level is there for: it shows that the test above can fail.
    async fn with_shared_servers_a_function_goes_on_with_the_first_tenants_row(db: &Database) {
        drifted(db).await;
        let pooler = pooler(db, 1, "all", "search_path = [\"{tenant}\", \"public\"]\n").await;
        let (acme, umbra) = (pooler.connect("acme").await, pooler.connect("umbra").await);
        acme.query_one("select public.whole()", &[]).await.unwrap();
        let row = umbra.query_one("select public.whole()", &[]).await.unwrap();
        assert_eq!(row.get::<_, String>(0), "u@umbra");
    }

    async fn a_server_serves_one_tenant_in_its_life(db: &Database) {
        let names: Vec<String> = (0..6).map(|n| format!("t{n}")).collect();
        db.schemas(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
        // The last two share theirs.
        let shared = "[tenants.t4]\nserver_sharing = \"all\"\n[tenants.t5]\nclass = \"shared\"\n[classes.shared]\nserver_sharing = \"all\"\n";
        let others = names[..4].iter().map(|name| format!("[tenants.{name}]\n")).collect::<Vec<_>>().concat();
        let toml = format!("{}{BY_SCHEMA}server_sharing = \"tenant\"\n{others}{shared}", db.toml(2));
        let toml = toml.replace("[tenants.acme]\n", "").replace("[tenants.umbra]\n", "");
        let pooler = Pooler::start(&toml).await;
        let mut clients = Vec::new();
        for name in &names {
            clients.push(pooler.connect(name).await);
        }
        let mut served: HashMap<i32, usize> = HashMap::new();
        let mut together = false;
        for draw in draws(u64::from(std::process::id())) {
            let who = draw % clients.len();
            let row = clients[who].query_one("select pg_backend_pid(), (select name from who)", &[]).await.unwrap();
            assert_eq!(row.get::<_, String>(1), names[who]);
            let before = *served.entry(row.get(0)).or_insert(who);
            let both_share = before >= 4 && who >= 4;
            together |= both_share && before != who;
            assert!(before == who || both_share, "{} met a server of {}", names[who], names[before]);
        }
        assert!(together, "those that share never met");
    }

    async fn a_tenant_that_shares_no_more_leaves_the_servers_of_all(db: &Database) {
        db.schemas(&["acme", "umbra"]).await;
        let pooler = pooler(db, 1, "all", "").await;
        let (acme, umbra) = (pooler.connect("acme").await, pooler.connect("umbra").await);
        let pid = async |client: &tokio_postgres::Client| -> i32 {
            client.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0)
        };
        assert_eq!(pid(&acme).await, pid(&umbra).await);
        pooler.reload(1, |toml| toml.replace("\"all\"", "\"tenant\"")).await;
        let (a, u) = (pid(&acme).await, pid(&umbra).await);
        assert_ne!(a, u);
        let answer = pooler.connect("acme").await;
        assert_ne!(pid(&answer).await, u);
    }
}
