//! What an operator finds in the log: one line each, and whose it is.

use std::process::Stdio;

use protocol_tests::database::connect;
use protocol_tests::pooler::binary;
use protocol_tests::{Database, Pooler, on_both};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

const TOML: &str = "[tenancy]\ntenant_from = [\"user:.\"]\nschema = \"{tenant}\"\n[tenants.acme]\n[tenants.umbra]\n[tenants.oldco]\nstate = \"suspended\"\n";

/// A field of the event, or of the client that it happened to.
fn of<'a>(line: &'a Value, field: &str) -> &'a str {
    let value = if line[field].is_null() { &line["span"][field] } else { &line[field] };
    value.as_str().unwrap_or_else(|| panic!("{field} in {line}"))
}

on_both! {
    async fn a_refusal_a_pin_a_failed_switch_and_a_reload_are_one_line_each(db: &Database) {
        db.schemas(&["acme", "umbra"]).await;
        let role = format!("{}_rw", db.name);
        db.admin.batch_execute(&format!("create role {role}; grant {role} to {0}; grant usage on schema umbra to {role}", db.name)).await.unwrap();
        let toml = format!("{}{TOML}", db.toml(1)).replace("[tenants.umbra]\n", &format!("[tenants.umbra]\nrole = \"{role}\"\n"));
        let pooler = Pooler::start(&toml).await;
        let url = |user: &str, password: &str| format!("postgres://{user}:{password}@127.0.0.1:{}/", pooler.port);
        // Logins.
        for (user, password, tenant, reason, sqlstate) in [
            ("app.oldco", "secret", Some("oldco"), "suspended", "57P03"),
            ("app.nobody", "secret", Some("nobody"), "unknown_tenant", "3D000"),
            ("app.acme", "wrong", None, "authentication", "28P01"),
        ] {
            connect(&url(user, password)).await.err().unwrap();
            let line = pooler.until_log(1, |line| line["message"] == "client refused" && line["reason"] == reason).await;
            assert_eq!((of(&line, "user"), of(&line, "sqlstate"), line["tenant"].as_str()), (user, sqlstate, tenant));
            assert!(of(&line, "client").starts_with("127.0.0.1:"), "{line}");
        }
        // A pin.
        let acme = pooler.connect_as("app.acme", "secret").await;
        acme.batch_execute("listen news").await.unwrap();
        let pid: i32 = acme.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
        let line = pooler.until_message(1, "session pinned to its server").await;
        assert_eq!((of(&line, "tenant"), of(&line, "user"), of(&line, "reason")), ("acme", "app", "LISTEN"));
        assert!(of(&line, "client").starts_with("127.0.0.1:") && line["span"]["server"] == i64::from(pid), "{line}");
        drop(acme);
        // A switch that fails: the role is taken away.
        let umbra = pooler.connect_as("app.umbra", "secret").await;
        umbra.batch_execute("select 1").await.unwrap();
        pooler.connect_as("app.acme", "secret").await.batch_execute("select 1").await.unwrap();
        db.admin.batch_execute(&format!("revoke {role} from {0}; revoke usage on schema umbra from {role}; drop role {role}", db.name)).await.unwrap();
        assert_eq!(crate::sqlstate(&umbra.batch_execute("select 1").await.unwrap_err()), "58000");
        let line = pooler.until_message(1, "switch refused").await;
        assert!(of(&line, "tenant") == "umbra" && of(&line, "error").contains(&role) && line["server"].as_i64().unwrap() > 0, "{line}");
        let line = pooler.until_message(1, "statement refused").await;
        assert_eq!((of(&line, "tenant"), of(&line, "sqlstate")), ("umbra", "58000"));
        // A reload, and one that is not taken.
        pooler.reload(1, |text| text.replace("[tenants.acme]\n", "[tenants.acme]\nweight = 3\n")).await;
        let line = pooler.until_message(1, "configuration reloaded").await;
        assert_eq!(of(&line, "changed"), "tenants.acme");
        pooler.rewrite(|text| text.replace("weight = 3", "wieght = 3"));
        pooler.signal("HUP");
        let line = pooler.until_message(1, "configuration not reloaded: the old one stays").await;
        assert!(of(&line, "error").contains("tenants.acme.wieght: unknown key") && line["level"] == "ERROR", "{line}");
    }

    async fn text_says_the_same_in_words(db: &Database) {
        db.schemas(&["acme", "umbra"]).await;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tenantry.toml");
        std::fs::write(&path, format!("[general]\nlisten = [\"127.0.0.1:0\"]\n{}{TOML}", db.toml(1))).unwrap();
        let mut command = Command::new(binary());
        command.arg("serve").arg(&path).stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut pooler = command.spawn().unwrap();
        let mut lines = BufReader::new(pooler.stderr.take().unwrap()).lines();
        let mut until = async |text: &str| loop {
            let line = protocol_tests::soon(text, lines.next_line()).await.unwrap().expect("it runs");
            if line.contains(text) {
                return line;
            }
        };
        let listening = until("listening").await;
        let port = listening.split("127.0.0.1:").nth(1).unwrap().split(')').next().unwrap();
        connect(&format!("postgres://app.oldco:secret@127.0.0.1:{port}/")).await.err().unwrap();
        let line = until("client refused").await;
        for word in [" INFO ", "user=\"app.oldco\"", "tenant=\"oldco\"", "client=127.0.0.1:", "reason=\"suspended\"", "sqlstate=\"57P03\""] {
            assert!(line.contains(word), "{word}: {line}");
        }
        let acme = connect(&format!("postgres://app.acme:secret@127.0.0.1:{port}/")).await.unwrap();
        acme.batch_execute("listen news").await.unwrap();
        let line = until("session pinned").await;
        for word in ["user=\"app\"", "tenant=\"acme\"", "client=127.0.0.1:", "server=", "reason=\"LISTEN\""] {
            assert!(line.contains(word), "{word}: {line}");
        }
        pooler.kill().await.unwrap();
    }
}
