//! Applications and tools, unchanged, where the guard is on: nothing that they need is refused. The drivers' own checks run
//! so in `drivers.rs`.

use std::process::{Output, Stdio};

use protocol_tests::pooler::BY_SCHEMA;
use protocol_tests::{Database, Pooler, on_both};
use tokio::process::Command;

/// Tenants with a role of their own each, in which they may make what they want.
async fn guarded(db: &Database) -> Pooler {
    let name = &db.name;
    for tenant in ["acme", "umbra"] {
        let sql = format!(
            "create role {name}_{tenant}; grant {name}_{tenant} to {name}; create schema {tenant} authorization {name}_{tenant}"
        );
        db.admin.batch_execute(&sql).await.unwrap();
    }
    let rules = format!(
        "role = \"{name}_{{tenant}}\"\nsettings = {{ \"app.tenant\" = \"{{tenant}}\" }}\nguard = \"reject\"\n"
    );
    Pooler::start(&format!("{}{BY_SCHEMA}{rules}", db.toml(2))).await
}

async fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap()
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

on_both! {
    async fn a_django_application_runs(db: &Database) {
        let pooler = guarded(db).await;
        let app = concat!(env!("CARGO_MANIFEST_DIR"), "/guarded/django_app.py");
        let mut command = Command::new(std::env::var("TENANTRY_TEST_PYTHON").expect("run `make test`"));
        command.arg(app).args([&pooler.port.to_string(), "app.acme", "secret", &db.name]);
        let output = run(&mut command).await;
        assert!(output.status.success() && said(&output).contains("passed with"), "{}", said(&output));
    }

    async fn a_dump_of_one_tenant_is_restored_by_it(db: &Database) {
        let pooler = guarded(db).await;
        let acme = pooler.connect("acme").await;
        let sql = "create table note (id serial primary key, body text, at timestamptz default now()); \
            create view shouted as select upper(body) from note; create index on note (body); \
            insert into note (body) select 'note ' || n from generate_series(1, 1000) n";
        acme.batch_execute(sql).await.unwrap();
        let bindir = protocol_tests::cluster::bindir(db.major);
        let url = pooler.url("app.acme", &db.name);
        let directory = tempfile::tempdir().unwrap();
        for format in ["custom", "directory", "plain"] {
            let dump = directory.path().join(format);
            let mut command = Command::new(bindir.join("pg_dump"));
            command.args(["--no-owner", "--schema=acme", "--format", format, "--file"]).arg(&dump);
            let output = run(command.arg("-d").arg(&url)).await;
            assert!(output.status.success(), "{format}: {}", said(&output));
            acme.batch_execute("drop table note cascade").await.unwrap();
            // Its schema is there already, and is not its own to make.
            let mut command = if format == "plain" {
                let mut command = Command::new(bindir.join("psql"));
                command.args(["-X", "-q", "-f"]).arg(&dump);
                command
            } else {
                let mut command = Command::new(bindir.join("pg_restore"));
                command.args(["--no-owner", "--schema=acme", "--exit-on-error"]).arg(&dump);
                command
            };
            let output = run(command.arg("-d").arg(&url)).await;
            assert!(output.status.success(), "{format}: {}", said(&output));
            let row = acme.query_one("select count(*), count(distinct body) from note", &[]).await.unwrap();
            assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (1000, 1000), "{format}");
        }
    }
}
