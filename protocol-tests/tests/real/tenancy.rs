//! Who a client is, where its tenant lives, and what it is told when it is nobody.

use protocol_tests::cluster::PASSWORD;
use protocol_tests::database::connect;
use protocol_tests::pooler::BY_SCHEMA;
use protocol_tests::wire::{bind, execute, parse, sync};
use protocol_tests::{Database, Pooler, on_both};

use crate::{sqlstate, two_tenants};

async fn refused(pooler: &Pooler, user: &str, database: &str) -> (String, String) {
    let error = connect(&pooler.url(user, database)).await.expect_err("refused");
    let db = error.as_db_error().unwrap_or_else(|| panic!("{error}"));
    (db.code().code().to_owned(), db.message().to_owned())
}

on_both! {
    async fn each_refusal_has_its_own_sqlstate(db: &Database) {
        db.schemas(&["acme", "umbra"]).await;
        let pooler = Pooler::start(&format!(
            "{}[users.poor]\npassword = \"secret\"\ntenants = [\"acme\"]\n[users.none]\npassword = \"secret\"\n\
             [tenancy]\ntenant_from = [\"options:app.tenant\", \"user:.\"]\nschema = \"{{tenant}}\"\n\
             [tenants.acme]\n[tenants.umbra]\n[tenants.ghost]\n\
             [tenants.oldco]\nstate = \"suspended\"\nmessage = \"contact billing\"\n", db.toml(2))).await;
        for (user, database, code, message) in [
            ("app.nope", "", "3D000", "tenant \"nope\" does not exist"),
            ("app", "", "28000", "no tenant identifier in startup parameters"),
            ("app.ghost", "", "3F000", "schema \"ghost\" of tenant \"ghost\" does not exist"),
            ("app.oldco", "", "57P03", "tenant \"oldco\" is suspended"),
            ("app.Bad Name", "", "22023", "invalid tenant identifier"),
            ("poor.umbra", "", "28000", "user \"poor\" may not connect as tenant \"umbra\""),
            ("poor.nope", "", "28000", "user \"poor\" may not connect as tenant \"nope\""),
            ("none.acme", "", "28000", "user \"none\" may not connect as tenant \"acme\""),
            ("app.acme", "elsewhere", "3D000", "database \"elsewhere\" does not exist"),
            ("app.umbra", "?options=-c%20app.tenant%3Dacme", "28000", "conflicting tenant identifiers"),
        ] {
            assert_eq!(refused(&pooler, user, database).await, (code.to_owned(), message.to_owned()), "{user} {database}");
        }
        let error = connect(&pooler.url("app.oldco", "")).await.err().unwrap();
        assert_eq!(error.as_db_error().unwrap().detail(), Some("contact billing"));
        assert!(connect(&pooler.url("poor.acme", "")).await.is_ok());
    }

    async fn a_listener_can_belong_to_a_tenant(db: &Database) {
        db.schemas(&["acme"]).await;
        let general = "listen = [{ address = \"127.0.0.1:0\", tenant = \"acme\" }]";
        let toml = format!("{}[tenancy]\ntenant_from = [\"fixed\"]\nschema = \"{{tenant}}\"\n[tenants.acme]\n", db.toml(1));
        let pooler = Pooler::start_with(general, &toml).await;
        let client = connect(&pooler.url("app", "")).await.unwrap();
        let name: String = client.query_one("select name from who", &[]).await.unwrap().get(0);
        assert_eq!(name, "acme");
    }

    async fn tenants_live_in_schemas_roles_settings_databases_and_logins(db: &Database) {
        let name = &db.name;
        db.schemas(&["acme"]).await;
        db.admin.batch_execute(&format!(
            "create role {name}_role; grant {name}_role to {name}; create role {name}_login login password '{PASSWORD}'; \
             create table rows (tenant text); insert into rows values ('rls'), ('other'); grant select on rows to {name}; \
             alter table rows enable row level security; \
             create policy own on rows using (tenant = current_setting('app.tenant'))")).await.unwrap();
        db.admin.batch_execute(&format!("create database {name}_two owner {name}")).await.unwrap();
        let pooler = Pooler::start(&format!(
            "{}[tenancy]\ntenant_from = [\"user:.\"]\nsettings = {{ \"app.tenant\" = \"{{tenant}}\" }}\n\
             [tenants.acme]\nschema = \"acme\"\n[tenants.rls]\n\
             [tenants.rolo]\nrole = \"{name}_role\"\nsearch_path = [\"public\"]\n\
             [tenants.data]\ndatabase = \"{name}_two\"\n\
             [tenants.login]\nuser = \"{name}_login\"\npassword = \"{PASSWORD}\"\n", db.toml(5))).await;
        let sql = "select current_user::text, session_user::text, current_database()::text, current_setting('search_path'), current_setting('app.tenant')";
        for (tenant, user, session, database, path) in [
            ("acme", name.clone(), name.clone(), name.clone(), "acme"),
            ("rls", name.clone(), name.clone(), name.clone(), "\"$user\", public"),
            ("rolo", format!("{name}_role"), name.clone(), name.clone(), "public"),
            ("data", name.clone(), name.clone(), format!("{name}_two"), "\"$user\", public"),
            ("login", format!("{name}_login"), format!("{name}_login"), name.clone(), "\"$user\", public"),
        ] {
            let client = pooler.connect(tenant).await;
            for _ in 0..3 {
                let row = client.query_one(sql, &[]).await.unwrap();
                let got: Vec<String> = (0..5).map(|i| row.get(i)).collect();
                assert_eq!(got, [&user, &session, &database, path, tenant], "{tenant}");
            }
        }
        let client = pooler.connect("rls").await;
        let rows = client.query("select tenant from rows", &[]).await.unwrap();
        assert_eq!(rows.len(), 1, "the policy sees the tenant");
    }

    async fn another_cluster_is_another_postgresql(db: &Database) {
        let other = protocol_tests::Cluster::start(db.major, "");
        let far = Database::create_on(db.major, other.port).await;
        db.schemas(&["acme"]).await;
        far.schemas(&["umbra"]).await;
        let pooler = Pooler::start(&format!(
            "{}[clusters.far]\nport = {}\nuser = \"{}\"\npassword = \"{PASSWORD}\"\n\
             [tenancy]\ntenant_from = [\"user:.\"]\ncluster = \"main\"\nschema = \"{{tenant}}\"\n[tenants.acme]\n[tenants.umbra]\ncluster = \"far\"\n",
            db.toml(1), far.port, far.name)).await;
        for (tenant, database) in [("acme", &db.name), ("umbra", &far.name)] {
            let row = pooler.connect(tenant).await.query_one("select name, current_database()::text from who", &[]).await.unwrap();
            assert_eq!((row.get::<_, String>(0), row.get::<_, String>(1)), (tenant.to_owned(), database.clone()));
        }
    }

    /// Whose role is not there, or whose start-up packet is refused, costs the others no server.
    async fn a_refused_login_costs_the_others_no_server(db: &Database) {
        db.schemas(&["acme", "umbra"]).await;
        let rules = format!("{BY_SCHEMA}[tenants.bad]\nschema = \"acme\"\nrole = \"nobody_has_it\"\n");
        let trust = "[auth]\ntype = \"trust\"\n";
        let pooler = Pooler::start(&format!("{}{trust}{rules}", db.toml(2))).await;
        let mut wire = crate::raw(&pooler, "acme").await;
        let (acme, umbra) = (pooler.connect("acme").await, pooler.connect("umbra").await);
        let servers = "select string_agg(pid || '', ' ' order by pid) from pg_stat_activity where usename = $1";
        let servers = async || db.admin.query_one(servers, &[&db.name]).await.unwrap().get::<_, String>(0);
        // An unnamed and a named statement, and a transaction that keeps one of the two servers.
        let named = acme.prepare("select name from who where $1").await.unwrap();
        umbra.batch_execute("begin").await.unwrap();
        acme.query(&named, &[&true]).await.unwrap();
        let before = servers().await;
        for round in 0..20 {
            wire.send(&[parse("", "select name from who"), sync()].concat()).await;
            wire.until_ready().await;
            for (user, options, code) in [
                ("app.bad", "", "58000"),
                ("app.acme", "?options=-c%20nosuch=1", "42704"),
                ("app.umbra", "?options=-c%20work_mem=1zz", "22023"),
                ("app.acme", "?options=-c%20TimeZone=UTC%20-c%20DateStyle=nonsense", "22023"),
            ] {
                let refused = connect(&format!("{}{options}", pooler.url(user, ""))).await.unwrap_err();
                let error = refused.as_db_error().unwrap();
                assert_eq!(error.code().code(), code, "{user}{options}: {error:?}");
            }
            wire.send(&[bind("", ""), execute("", 0), sync()].concat()).await;
            let (answer, _) = wire.until_ready().await;
            assert!(answer.iter().any(|m| m.tag == 'D' && m.body.ends_with(b"acme")), "{answer:?}");
            for (client, name) in [(&acme, "acme"), (&umbra, "umbra")] {
                let row = client.query_one("select name, current_setting('TimeZone') from who", &[]).await.unwrap();
                assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), (name, "Etc/UTC"), "{round}");
            }
            assert_eq!(acme.query_one(&named, &[&true]).await.unwrap().get::<_, &str>(0), "acme");
        }
        assert_eq!(servers().await, before);
        // No rollback takes a seed back: that server is closed, before the next one is asked. Acme keeps the other
        // one, so that umbra would get the one with the seed.
        umbra.batch_execute("commit").await.unwrap();
        acme.batch_execute("begin").await.unwrap();
        let mut drawn = Vec::new();
        for _ in 0..3 {
            let options = "?options=-c%20seed=0.5%20-c%20work_mem=1zz";
            connect(&format!("{}{options}", pooler.url("app.acme", ""))).await.unwrap_err();
            drawn.push(umbra.query_one("select random()", &[]).await.unwrap().get::<_, f64>(0));
        }
        drawn.dedup();
        assert_eq!(drawn.len(), 3, "{drawn:?}");
    }

    /// PostgreSQL cuts both to the same schema, which is there.
    async fn two_tenants_whose_schemas_names_are_cut_to_one_are_refused(db: &Database) {
        let cut = format!("tenant_{}", "t".repeat(56));
        db.admin.batch_execute(&format!("create schema {cut}; grant usage on schema {cut} to {0}; create table {cut}.who as select 'both'; grant select on {cut}.who to {0}", db.name)).await.unwrap();
        let rules = BY_SCHEMA.replace("schema = \"{tenant}\"", "schema = \"tenant_{tenant}\"");
        let pooler = Pooler::start(&format!("{}{rules}", db.toml(1))).await;
        for end in ["a", "b"] {
            let name = format!("{}{end}", "t".repeat(56));
            let refused = connect(&pooler.url(&format!("app.{name}"), "")).await.unwrap_err();
            let error = refused.as_db_error().unwrap();
            assert_eq!(error.code().code(), "42622", "{error:?}");
            assert!(error.detail().unwrap().contains("has 64 bytes"), "{error:?}");
        }
        // The longest that fits.
        pooler.connect(&"t".repeat(56)).await.simple_query("table who").await.unwrap();
    }

    async fn a_role_that_is_not_there_is_an_error_of_the_tenants_state(db: &Database) {
        let pooler = Pooler::start(&format!(
            "{}[tenancy]\ntenant_from = [\"user:.\"]\n[tenants.acme]\nrole = \"no_such_role\"\n[tenants.umbra]\n", db.toml(2))).await;
        let (code, message) = refused(&pooler, "app.acme", "").await;
        assert_eq!((code.as_str(), message.as_str()), ("58000", "could not establish session state for tenant \"acme\""));
        assert!(pooler.connect("umbra").await.simple_query("select 1").await.is_ok());
    }

    async fn a_client_cannot_start_as_another_role_or_with_another_tenants_setting(db: &Database) {
        let name = &db.name;
        db.admin.batch_execute(&format!("create role {name}_a; create role {name}_b; grant {name}_a, {name}_b to {name}")).await.unwrap();
        let pooler = Pooler::start(&format!(
            "{}[tenancy]\ntenant_from = [\"user:.\"]\nsettings = {{ \"app.tenant\" = \"{{tenant}}\" }}\nrole = \"{name}_a\"\n[tenants.acme]\n",
            db.toml(2))).await;
        for options in [format!("-c%20role%3D{name}_b"), "-c%20app.tenant%3Dumbra".to_owned(), "-c%20session_authorization%3Dpostgres".to_owned()] {
            let (code, message) = refused(&pooler, "app.acme", &format!("?options={options}")).await;
            assert_eq!(code, "42501", "{options}");
            assert!(message.starts_with("permission denied to set parameter"), "{message}");
        }
        assert!(connect(&pooler.url("app.acme", "?options=-c%20app.tenant%3Dacme")).await.is_ok());
    }

    async fn what_does_not_exist_is_told_only_after_the_password(db: &Database) {
        let pooler = two_tenants(db, 1).await;
        for tenant in ["acme", "nope"] {
            let url = format!("postgres://app.{tenant}:wrong@127.0.0.1:{}/", pooler.port);
            let error = connect(&url).await.err().unwrap();
            assert_eq!(sqlstate(&error), "28P01", "{tenant}");
        }
        let _ = BY_SCHEMA;
    }
}
