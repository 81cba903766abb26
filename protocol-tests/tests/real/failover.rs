//! PostgreSQL fails over: to a standby that is promoted, or by its name.

use protocol_tests::database::connect;
use protocol_tests::wire::query;
use protocol_tests::{Cluster, Database, Pooler, on_both};

use crate::raw;

on_both! {
    async fn a_standby_is_passed_over_and_used_when_it_is_promoted(shared: &Database) {
        let primary = Cluster::start(shared.major, "");
        let db = Database::create_on(shared.major, primary.port).await;
        db.schemas(&["acme"]).await;
        shared.schemas(&["umbra"]).await;
        let standby = primary.standby();
        let hosts = format!("host = [\"127.0.0.1:{}\", \"127.0.0.1:{}\"]\ntarget_session_attrs = \"primary\"\n", standby.port, primary.port);
        let second = shared.toml(2).replace("[users.app]\npassword = \"secret\"\ntenants = [\"*\"]\n", "").replace("[clusters.main]", "[clusters.second]");
        let pooler = Pooler::start(&format!(
            "{}{second}[auth]\ntype = \"trust\"\n[tenancy]\ntenant_from = [\"user:.\"]\nschema = \"{{tenant}}\"\ncluster = \"main\"\n[tenants.acme]\n[tenants.umbra]\ncluster = \"second\"\n",
            db.toml(2).replace(&format!("port = {}\n", primary.port), &hosts)
        ))
        .await;
        let (mut acme, mut umbra) = (raw(&pooler, "acme").await, raw(&pooler, "umbra").await);
        acme.run("insert into who values ('first')").await.unwrap();
        assert_eq!(acme.run("select setting from pg_settings where name = 'port'").await.unwrap(), [primary.port.to_string()]);
        // The standby has it before the primary is gone.
        let mut admin = connect(&format!("postgres://postgres:pw@127.0.0.1:{}/{}", standby.port, db.name)).await.unwrap();
        let there = async {
            while admin.query("select 1 from acme.who where name = 'first'", &[]).await.unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        protocol_tests::soon("the first row on the standby", there).await;
        let mut busy = raw(&pooler, "acme").await;
        busy.run("begin").await.unwrap();
        drop(primary);
        // Who was in a transaction hears PostgreSQL's words; who was not waits, and is served.
        assert_eq!(busy.receive().await.field('C'), "57P01");
        assert_eq!(busy.receive().await.field('S'), "FATAL");
        acme.send(&query("insert into who values ('second') returning name")).await;
        let standing_by = |line: &serde_json::Value| line["message"] == "login to the server failed";
        pooler.until_log(1, standing_by).await;
        assert_eq!(umbra.run("select name from who").await.unwrap(), ["umbra"], "others are not concerned");
        admin.batch_execute("select pg_promote()").await.unwrap();
        let (messages, _) = acme.until_ready().await;
        assert!(messages.iter().any(|message| message.tag == 'D' && message.text() == "second"), "{messages:?}");
        assert_eq!(acme.run("select setting from pg_settings where name = 'port'").await.unwrap(), [standby.port.to_string()]);
        admin = connect(&format!("postgres://postgres:pw@127.0.0.1:{}/postgres", standby.port)).await.unwrap();
        drop(admin);
    }

    async fn a_name_is_looked_up_again_at_each_login(shared: &Database) {
        let cluster = Cluster::start(shared.major, "listen_addresses = '127.0.0.1,127.0.0.2'");
        let db = Database::create_on(shared.major, cluster.port).await;
        db.schemas(&["acme"]).await;
        let hosts = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(hosts.path(), "127.0.0.1 pg.test\n").unwrap();
        let toml = format!(
            "{}[auth]\ntype = \"trust\"\n[tenancy]\ntenant_from = [\"user:.\"]\nschema = \"{{tenant}}\"\n[tenants.acme]\n[admin]\nusers = [\"ops\"]\n[users.ops]\n",
            db.toml(2).replace("[clusters.main]\n", "[clusters.main]\nhost = \"pg.test\"\n")
        );
        let Some(pooler) = Pooler::start_with_hosts(hosts.path(), &toml).await else {
            println!("not tested here: unshare is not permitted");
            return;
        };
        let mut acme = raw(&pooler, "acme").await;
        let address = "select host(inet_server_addr())";
        assert_eq!(acme.run(address).await.unwrap(), ["127.0.0.1"]);
        std::fs::write(hosts.path(), "127.0.0.2 pg.test\n").unwrap();
        assert_eq!(acme.run(address).await.unwrap(), ["127.0.0.1"], "a server that is there stays");
        let ops = connect(&format!("postgres://ops@127.0.0.1:{}/tenantry", pooler.port)).await.unwrap();
        ops.batch_execute("reconnect").await.unwrap();
        assert_eq!(acme.run(address).await.unwrap(), ["127.0.0.2"]);
    }
}
