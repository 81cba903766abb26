//! Real drivers, each through every check of `drivers/CHECKLIST.md`, with its own defaults.

use std::path::PathBuf;
use std::process::Stdio;

use protocol_tests::pooler::binary;
use tokio::process::Command;

/// Runs every driver's program against a pooler over two servers of that PostgreSQL; the results are
/// the columns of a table in `docs/compatibility.md`.
async fn every_driver(results: &str, bindir: PathBuf, options: &[&str]) {
    let out = binary().parent().unwrap().join("compatibility").join(results);
    let run_all = concat!(env!("CARGO_MANIFEST_DIR"), "/drivers/run-all");
    let mut command = Command::new(run_all);
    command
        .arg("--bindir")
        .arg(bindir)
        .arg("--tenantry")
        .arg(binary())
        .arg("--out")
        .arg(&out)
        .args(options);
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    // A driver that was not run is no driver that passed.
    assert_eq!(said.matches(" 0 failed").count(), 16, "{said}");
}

#[tokio::test]
async fn every_driver_passes_every_check_on_15() {
    every_driver("drivers/15", "/usr/lib/postgresql/15/bin".into(), &[]).await;
}

#[tokio::test]
async fn every_driver_passes_every_check_on_18() {
    let bindir = std::env::var("TENANTRY_TEST_PG18_BINDIR").expect("run `make test`");
    every_driver("drivers/18", bindir.into(), &[]).await;
}

/// All that they do but one, a path that is not the tenant's.
#[tokio::test]
async fn every_driver_passes_every_check_where_the_guard_is_on() {
    every_driver("guarded", "/usr/lib/postgresql/15/bin".into(), &["--guard"]).await;
}
