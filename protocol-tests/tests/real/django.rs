//! Django, unchanged: three multi-tenant libraries in three real projects, see `examples/`.

use std::process::Stdio;

use protocol_tests::pooler::binary;
use tokio::process::Command;

/// Runs `examples/check.py`: every row of every answer is the tenant's own, and there is no error. The
/// results are a table in `docs/compatibility.md`.
async fn check(name: &str, arguments: &[&str]) {
    let directory = binary().parent().unwrap().join("compatibility/django");
    std::fs::create_dir_all(&directory).unwrap();
    let check = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/check.py");
    let cache = std::env::var("TENANTRY_TEST_CACHE").expect("run `make test`");
    let mut command = Command::new(std::env::var("TENANTRY_TEST_PYTHON").expect("run `make test`"));
    command.arg(check).args(["--cache", &cache, "--bindir", "/usr/lib/postgresql/15/bin"]);
    command
        .arg("--tenantry")
        .arg(binary())
        .arg("--table")
        .arg(directory.join(format!("{name}.md")));
    let output =
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.trim_end().ends_with(" passed, 0 failed"), "{said}");
}

#[tokio::test]
async fn every_setting_of_every_library_over_one_two_and_twenty_servers() {
    check("all", &["--targets", "tenantry", "--requests", "200"]).await;
}

/// Beside it, what the same projects get from PostgreSQL itself, and through another pooler.
#[tokio::test]
async fn the_same_without_a_pooler_and_through_pgbouncer() {
    let seed = ["--requests", "100", "--seed", "1"];
    check(
        "others",
        &[&["--targets", "direct", "pgbouncer", "tenantry", "--pools", "2"][..], &seed].concat(),
    )
    .await;
}
