//! A throw-away PostgreSQL.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::place::Place;

pub const PASSWORD: &str = "pw";

/// A running cluster; stopped, and its files removed, on drop.
pub struct Cluster {
    pub port: u16,
    pub bindir: PathBuf,
    directory: Place,
    server: Child,
}

/// Where PostgreSQL of a major version is installed.
#[must_use]
pub fn bindir(major: u32) -> PathBuf {
    bindir_from(major, &format!("TENANTRY_TEST_PG{major}_BINDIR"))
}

fn bindir_from(major: u32, variable: &str) -> PathBuf {
    let default = format!("/usr/lib/postgresql/{major}/bin");
    let path = PathBuf::from(std::env::var(variable).unwrap_or(default));
    assert!(
        path.join("postgres").exists(),
        "no PostgreSQL {major}: run `make test`, or set {variable}"
    );
    path
}

/// PostgreSQL does not run as root: the user it runs as then.
pub(crate) fn unprivileged() -> Option<(u32, u32)> {
    let uid =
        std::fs::metadata("/proc/self").map(|m| std::os::unix::fs::MetadataExt::uid(&m)).unwrap();
    if uid != 0 {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let of = |name: &str| {
        let line = users.lines().find(|line| line.starts_with(&format!("{name}:")))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    Some(of("postgres").or_else(|| of("nobody")).expect("a user for PostgreSQL to run as"))
}

/// A command that runs as the cluster's owner.
fn as_owner(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).current_dir("/");
    if let Some((uid, gid)) = unprivileged() {
        command.uid(uid).gid(gid);
    }
    command
}

impl Cluster {
    /// Starts one; `settings` are lines of `postgresql.conf`.
    #[must_use]
    pub fn start(major: u32, settings: &str) -> Self {
        Self::start_from(bindir(major), settings)
    }

    /// Starts one that can do TLS.
    #[must_use]
    pub fn start_with_tls(major: u32) -> Self {
        let bindir = match major {
            15 => bindir(major),
            _ => bindir_from(major, &format!("TENANTRY_TEST_PG{major}_TLS_BINDIR")),
        };
        Self::start_from(bindir, "")
    }

    fn start_from(bindir: PathBuf, settings: &str) -> Self {
        let directory = Place::new();
        let data = directory.path().join("data");
        let command = |program: &str| as_owner(&bindir.join(program));
        let password = directory.path().join("password");
        std::fs::write(&password, PASSWORD).unwrap();
        let output = command("initdb")
            .args([
                "-A",
                "scram-sha-256",
                "-U",
                "postgres",
                "-N",
                "--no-instructions",
                "-E",
                "UTF8",
                "--locale=C",
            ])
            .arg("-D")
            .arg(&data)
            .arg(format!("--pwfile={}", password.display()))
            .output()
            .unwrap();
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        let port = free_port();
        let config = format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{}'\nfsync = off\nmax_prepared_transactions = 4\n\
             max_connections = 300\nshared_buffers = '32MB'\nmax_wal_size = '256MB'\nautovacuum = off\nlog_min_messages = fatal\n{settings}\n",
            directory.path().display()
        );
        append(&data.join("postgresql.conf"), &config);
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let server = command("postgres")
            .arg("-D")
            .arg(&data)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut cluster = Self { port, bindir, directory, server };
        cluster.wait();
        cluster
    }

    /// A hot standby of it that streams what it writes.
    #[must_use]
    pub fn standby(&self) -> Self {
        let directory = Place::new();
        let data = directory.path().join("data");
        let port = self.port.to_string();
        let output = as_owner(&self.bindir.join("pg_basebackup"))
            .env("PGPASSWORD", PASSWORD)
            .args(["-h", "127.0.0.1", "-U", "postgres", "-c", "fast", "-R", "-p", &port, "-D"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let port = free_port();
        let own =
            format!("port = {port}\nunix_socket_directories = '{}'\n", directory.path().display());
        append(&data.join("postgresql.conf"), &own);
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let mut server = as_owner(&self.bindir.join("postgres"));
        let server = server.arg("-D").arg(&data).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let mut standby = Self { port, bindir: self.bindir.clone(), directory, server };
        standby.wait();
        standby
    }

    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Replaces `pg_hba.conf`.
    pub fn hba(&self, lines: &str) {
        std::fs::write(self.directory.path().join("data/pg_hba.conf"), lines).unwrap();
        self.signal("HUP");
    }

    /// Gives it a certificate; `ssl = on` and a reload make it use it.
    pub fn enable_tls(&self, (cert, key): &(PathBuf, PathBuf)) {
        let data = self.directory.path().join("data");
        for (from, to) in [(cert, "server.crt"), (key, "server.key")] {
            let to = data.join(to);
            std::fs::copy(from, &to).unwrap();
            std::fs::set_permissions(&to, std::os::unix::fs::PermissionsExt::from_mode(0o600))
                .unwrap();
            if let Some((uid, gid)) = unprivileged() {
                chown(&to, Some(uid), Some(gid)).unwrap();
            }
        }
    }

    /// Stops it, waits for `meanwhile`, and starts it again on the same port.
    pub async fn restart_after<F: Future>(mut self, meanwhile: impl FnOnce() -> F) -> Self {
        self.signal("QUIT");
        self.server.wait().unwrap();
        meanwhile().await;
        let data = self.directory.path().join("data");
        self.server = as_owner(&self.bindir.join("postgres"))
            .arg("-D")
            .arg(&data)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.wait();
        self
    }

    fn signal(&self, name: &str) {
        let pid = self.server.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    fn wait(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.is_ready() {
            if let Some(status) = self.server.try_wait().unwrap() {
                let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap();
                panic!("PostgreSQL ended with {status}: {log}");
            }
            assert!(Instant::now() < deadline, "PostgreSQL does not start");
            std::thread::sleep(Duration::from_millis(20)); // between two looks at a condition
        }
    }

    fn is_ready(&self) -> bool {
        let pid = self.directory.path().join("data/postmaster.pid");
        // A hot standby says "standby".
        std::fs::read_to_string(pid).is_ok_and(|text| {
            text.lines().nth(7).is_some_and(|line| ["ready", "standby"].contains(&line.trim()))
        })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.signal("QUIT");
        let _ = self.server.wait();
    }
}

/// A port that is free now.
#[must_use]
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn append(path: &Path, text: &str) {
    let mut all = std::fs::read_to_string(path).unwrap();
    all.push_str(text);
    std::fs::write(path, all).unwrap();
}
