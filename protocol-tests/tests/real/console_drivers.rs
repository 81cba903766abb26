//! What psql and drivers say when they connect, and when their pools take a connection back, does not break the console.

use std::process::Stdio;

use protocol_tests::{Database, Pooler};
use tokio::process::Command;

async fn says(program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(arguments).env("PGPASSWORD", "opspw").stdin(Stdio::null()).kill_on_drop(true);
    command.env("NODE_PATH", std::env::var("TENANTRY_TEST_NODE_MODULES").expect("run `make test`"));
    let output = command.output().await.unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program}: {said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    said
}

#[tokio::test]
async fn psql_and_drivers_read_the_console() {
    let db = Database::create(15).await;
    let pooler = Pooler::start(&format!(
        "{}[users.ops]\npassword = \"opspw\"\n[admin]\nusers = [\"ops\"]\n[tenancy]\n",
        db.toml(1)
    ))
    .await;
    let port = pooler.port.to_string();
    let url = format!("postgres://ops:opspw@127.0.0.1:{port}/tenantry");
    let here = |name: &str| format!("{}/console/{name}", env!("CARGO_MANIFEST_DIR"));
    let python = std::env::var("TENANTRY_TEST_PYTHON").expect("run `make test`");
    let jdbc = format!("jdbc:postgresql://127.0.0.1:{port}/tenantry");
    let ruby = format!(
        "require 'pg'; puts 'ruby-pg ' + PG.connect('{url}').exec_params('SHOW VERSION', [])[0]['version']"
    );
    let php = format!(
        "$c = new PDO('pgsql:host=127.0.0.1;port={port};dbname=tenantry', 'ops', 'opspw'); $s = $c->prepare('SHOW VERSION'); $s->execute(); echo 'php-pdo ', $s->fetchColumn(), \"\\n\";"
    );
    let mut said = String::from("psql ");
    let psql = says(
        "psql",
        &[
            "-XAtq",
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-U",
            "ops",
            "-d",
            "tenantry",
            "-c",
            "SET application_name = 'x'",
            "-c",
            "\\conninfo",
            "-c",
            "SHOW VERSION",
        ],
    )
    .await;
    said += psql.lines().last().unwrap();

    said.push('\n');
    said += &says(&python, &[&here("drivers.py"), &url]).await;
    said += &says("node", &[&here("drivers.js"), &url]).await;
    said += &says(
        "java",
        &["-cp", "/usr/share/java/postgresql.jar", &here("Drivers.java"), &jdbc, "ops", "opspw"],
    )
    .await;
    said += &says("ruby", &["-e", &ruby]).await;
    said += &says("php", &["-r", &php]).await;
    let names: Vec<&str> = said
        .lines()
        .map(|line| line.strip_suffix(" Tenantry 0.1.0").unwrap_or_else(|| panic!("{said}")))
        .collect();
    assert_eq!(
        names,
        [
            "psql",
            "psycopg2",
            "psycopg",
            "asyncpg",
            "sqlalchemy",
            "pg",
            "postgres.js",
            "pgjdbc-extended",
            "pgjdbc-simple",
            "ruby-pg",
            "php-pdo"
        ]
    );
}
