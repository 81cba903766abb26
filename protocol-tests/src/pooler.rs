//! The binary under test.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::Notify;
use tokio_postgres::Client;

use crate::database::{connect, spawn};
use crate::http::{Answer, get};

/// A running pooler; killed on drop.
pub struct Pooler {
    pub port: u16,
    /// Where metrics and the dashboard are, if they are.
    pub http: Option<SocketAddr>,
    pub directory: TempDir,
    child: Child,
    log: Arc<Log>,
}

#[derive(Default)]
struct Log {
    lines: Mutex<Vec<Value>>,
    more: Notify,
}

/// The binary: beside the test's own directory, or `TENANTRY_TEST_BINARY`.
#[must_use]
pub fn binary() -> PathBuf {
    if let Ok(path) = std::env::var("TENANTRY_TEST_BINARY") {
        return path.into();
    }
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(|deps| deps.parent()).unwrap().join("tenantry");
    assert!(path.exists(), "{} is missing: run `make test`", path.display());
    path
}

impl Pooler {
    /// Starts it with a listener on a free port; `toml` is the rest of the configuration. A
    /// `[general]` section goes into `general`.
    pub async fn start_with(general: &str, toml: &str) -> Self {
        Self::start_in(&[], general, toml).await
    }

    /// The same with environment variables.
    pub async fn start_in(environment: &[(&str, &str)], general: &str, toml: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let unix = directory.path().display();
        let listen = if general.contains("listen") {
            String::new()
        } else {
            format!("listen = [\"127.0.0.1:0\", \"unix:{unix}/.s.PGSQL.1\"]\n")
        };
        let path = directory.path().join("tenantry.toml");
        std::fs::write(&path, format!("[general]\n{listen}{general}\n{toml}")).unwrap();
        let mut command = Command::new(binary());
        command.args(["serve", "--log-format", "json", "--log-level", "debug", "-c"]).arg(&path);
        command.envs(environment.iter().copied());
        Self::spawn(command, directory).await
    }

    /// The same with a file in the place of `/etc/hosts`; `None` where the system does not allow that.
    pub async fn start_with_hosts(hosts: &Path, toml: &str) -> Option<Self> {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c"]);
        if !command.arg("true").status().await.is_ok_and(|status| status.success()) {
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tenantry.toml");
        std::fs::write(&path, format!("[general]\nlisten = [\"127.0.0.1:0\"]\n{toml}")).unwrap();
        let mut command = Command::new("unshare");
        command
            .args(["--map-root-user", "--mount", "sh", "-c"])
            .arg("mount --bind \"$0\" /etc/hosts && exec \"$@\"")
            .arg(hosts)
            .arg(binary())
            .args(["serve", "--log-format", "json", "--log-level", "debug", "-c"])
            .arg(&path);
        Some(Self::spawn(command, directory).await)
    }

    async fn spawn(mut command: Command, directory: TempDir) -> Self {
        let mut child =
            command.stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let log = Arc::new(Log::default());
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let sink = Arc::clone(&log);
        spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let parsed = serde_json::from_str(&line).unwrap_or(Value::String(line));
                sink.lines.lock().unwrap().push(parsed);
                sink.more.notify_waiters();
            }
            sink.lines.lock().unwrap().push(Value::String("end of log".to_owned()));
            sink.more.notify_waiters();
        });
        let mut pooler = Self { port: 0, http: None, directory, child, log };
        let listening = pooler.until_log(1, |line| line["message"] == "listening").await;
        let addresses = listening["addresses"].as_str().unwrap();
        let port = addresses.split("127.0.0.1:").nth(1).and_then(|rest| rest.split(')').next());
        pooler.port = port.unwrap().parse().unwrap();
        let http = listening["http"].as_str().unwrap_or_default();
        pooler.http =
            http.trim_matches(['[', ']']).split(", ").next().and_then(|at| at.parse().ok());
        pooler
    }

    /// Starts it in front of a database.
    pub async fn start(toml: &str) -> Self {
        Self::start_with("", toml).await
    }

    /// Directory of its unix socket, whose port is 1.
    #[must_use]
    pub fn socket_directory(&self) -> String {
        self.directory.path().display().to_string()
    }

    /// Its page at a path.
    pub async fn page(&self, path: &str) -> Answer {
        get(self.http.expect("it has [http] listen"), path).await
    }

    #[must_use]
    pub fn url(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}:secret@127.0.0.1:{}/{database}", self.port)
    }

    /// A client of a tenant, named by the user (`user:.`).
    pub async fn connect(&self, tenant: &str) -> Client {
        connect(&self.url(&format!("app.{tenant}"), "")).await.unwrap_or_else(|error| {
            panic!("{error}: {:?}\n{}", error.as_db_error(), self.log_text())
        })
    }

    /// The same by a user's name and password.
    pub async fn connect_as(&self, user: &str, password: &str) -> Client {
        let url = format!("postgres://{user}:{password}@127.0.0.1:{}/", self.port);
        connect(&url).await.unwrap_or_else(|error| panic!("{error}\n{}", self.log_text()))
    }

    /// Waits until `count` log lines meet `wanted`; returns the last of them.
    pub async fn until_log(&self, count: usize, wanted: impl Fn(&Value) -> bool) -> Value {
        let look = async {
            loop {
                let more = self.log.more.notified();
                {
                    let lines = self.log.lines.lock().unwrap();
                    if let Some(line) = lines.iter().filter(|line| wanted(line)).nth(count - 1) {
                        return line.clone();
                    }
                    assert!(
                        lines.last() != Some(&Value::String("end of log".to_owned())),
                        "it ended: {lines:#?}"
                    );
                }
                more.await;
            }
        };
        match tokio::time::timeout(crate::PATIENCE, look).await {
            Ok(line) => line,
            Err(_) => panic!("waited in vain for a log line:\n{}", self.log_text()),
        }
    }

    /// Waits until `count` lines have this message.
    pub async fn until_message(&self, count: usize, message: &str) -> Value {
        self.until_log(count, |line| line["message"] == message).await
    }

    /// Lines with this message so far.
    #[must_use]
    pub fn messages(&self, message: &str) -> usize {
        self.count_log(|line| line["message"] == message)
    }

    /// Lines that meet `wanted` so far.
    #[must_use]
    pub fn count_log(&self, wanted: impl Fn(&Value) -> bool) -> usize {
        self.log.lines.lock().unwrap().iter().filter(|line| wanted(line)).count()
    }

    #[must_use]
    pub fn log_text(&self) -> String {
        let lines = self.log.lines.lock().unwrap();
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Writes its configuration anew and has it read again, for the `count`th time.
    pub async fn reload(&self, count: usize, change: impl Fn(&str) -> String) {
        self.rewrite(change);
        self.signal("HUP");
        self.until_message(count, "configuration reloaded").await;
    }

    /// Writes its configuration anew.
    pub fn rewrite(&self, change: impl Fn(&str) -> String) {
        let path = self.directory.path().join("tenantry.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, change(&text)).unwrap();
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let status = std::process::Command::new("kill").args([&format!("-{name}"), &pid]).status();
        assert!(status.unwrap().success());
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> std::process::ExitStatus {
        crate::soon("the pooler's end", self.child.wait()).await.unwrap()
    }

    #[must_use]
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

/// The `[tenancy]` of most tests: named by `options`, the user or the database; schemas. A tenant may have all servers:
/// most clusters have one or two.
pub const BY_SCHEMA: &str = "[tenancy]\ntenant_from = [\"options:app.tenant\", \"user:.\", \"database\"]\n\
    unknown = \"template\"\nschema = \"{tenant}\"\nmax_server_connections = 1000\n[tenants.\"*\"]\n";
