//! Session mode: the server is the client's until it leaves.

use protocol_tests::pooler::BY_SCHEMA;
use protocol_tests::{Database, Pooler, Wire, on_both};

use crate::raw;

on_both! {
    async fn a_session_keeps_its_server_and_its_state(db: &Database) {
        db.schemas(&["acme", "umbra"]).await;
        let toml = format!("{}pool_mode = \"session\"\n[auth]\ntype = \"trust\"\n{BY_SCHEMA}", db.toml(2));
        let pooler = Pooler::start(&toml).await;
        let mut a = raw(&pooler, "acme").await;
        let pid = a.run("select pg_backend_pid()").await.unwrap();
        a.run("create temp table mine (a int); set work_mem = '7MB'; prepare p as select 1").await.unwrap();
        let mut b = raw(&pooler, "umbra").await;
        for _ in 0..3 {
            b.run("select 1").await.unwrap();
            assert_eq!(a.run("select pg_backend_pid()").await.unwrap(), pid);
            assert_eq!(a.run("show work_mem").await.unwrap(), ["7MB"]);
        }
        drop((a, b));
        // Both servers are scrubbed for whoever comes next, of the same tenant too.
        for _ in 0..3 {
            let mut next = raw(&pooler, "acme").await;
            assert_eq!(next.run("show work_mem").await.unwrap(), ["4MB"]);
            assert_eq!(next.run("select 1 from mine").await, Err("42P01".to_owned()));
            assert_eq!(next.run("execute p").await, Err("26000".to_owned()));
        }
    }

    async fn a_client_can_ask_for_it_in_its_url(db: &Database) {
        let pooler = crate::trusting(db, 2).await;
        let mut wire = Wire::login(pooler.port, &[("user", "app.acme"), ("options", "-c tenantry.pool_mode=session")]).await;
        let pid = wire.run("select pg_backend_pid()").await.unwrap();
        let mut other = raw(&pooler, "acme").await;
        for _ in 0..3 {
            assert_ne!(other.run("select pg_backend_pid()").await.unwrap(), pid);
            assert_eq!(wire.run("select pg_backend_pid()").await.unwrap(), pid);
        }
    }
}
