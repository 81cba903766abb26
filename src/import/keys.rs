//! Settings of `[pgbouncer]` that are not taken over, and why. Those that are, `settings` and `databases` read.

/// What becomes of one.
pub(super) enum Fate {
    /// It is read elsewhere.
    Taken,
    /// Why it has no counterpart, and what to do instead.
    Dropped(&'static str),
    /// The same, unless it has one of these values.
    Unless(&'static [&'static str], &'static str),
}

use Fate::{Dropped, Taken, Unless};

const CIPHERS: &str =
    "rustls' ciphers are all forward secret AEADs and cannot be chosen: remove it";
const DNS: &str =
    "names are looked up at each login: nothing to do; RECONNECT moves servers that are open";
const KEEPALIVE: &str = "keepalive is always on: after 60 s, then 4 probes 15 s apart";
const SYSLOG: &str = "it logs to stderr, which systemd and container runtimes pass on";
const VERSIONS: &str = "TLS 1.2 and 1.3 are spoken, always both: older peers must be updated";
const WINDOWS: &str = "it is for services of Windows, where Tenantry does not run";
const ASKS_NO_LDAP: &str = "LDAP is not asked: give users SCRAM secrets (auth.file), or read PostgreSQL's own (auth.query)";
const PER_USER: &str = "limits belong to tenants, not users: max_server_connections and max_client_connections of the databases he uses, or ALTER ROLE ... CONNECTION LIMIT";

/// In the order of PgBouncer's manual, versions up to 1.25.
#[rustfmt::skip]
pub(super) const SETTINGS: &[(&str, Fate)] = &[
    ("logfile", Dropped("it logs to stderr: let systemd or the container runtime keep it")),
    ("pidfile", Dropped("it stays in the foreground and writes no file: systemd knows its process")),
    ("listen_addr", Taken), ("listen_port", Taken), ("unix_socket_dir", Taken),
    ("unix_socket_mode", Taken),
    ("unix_socket_group", Unless(&[""], "the socket's group is the process's: give the directory that group and the setgid bit")),
    ("user", Dropped("it does not change its user: User= in the unit")),
    ("pool_mode", Taken), ("max_client_conn", Taken), ("default_pool_size", Taken),
    ("min_pool_size", Unless(&["0"], "servers are opened when they are needed: raise server_idle_timeout; guaranteed_server_connections keeps room for a tenant")),
    ("reserve_pool_size", Taken),
    ("reserve_pool_timeout", Dropped("there is no second pool that opens later: its size is added to max_server_connections, and who is next is a matter of turns")),
    ("max_db_connections", Taken), ("max_db_client_connections", Taken),
    ("max_user_connections", Unless(&["0"], PER_USER)),
    ("max_user_client_connections", Unless(&["0"], PER_USER)),
    ("server_round_robin", Unless(&["0"], "the server that fits the tenant best is taken: it has the tenant's state, or has read its catalog")),
    ("track_extra_parameters", Dropped("every setting that a client changes is followed: nothing to do")),
    ("ignore_startup_parameters", Dropped("none is ignored: settings of the start-up packet are given to the session, as PostgreSQL does")),
    ("peer_id", Unless(&["0"], "one process uses all cores and knows its own cancel keys: general.workers")),
    ("disable_pqexec", Unless(&["0"], "simple queries are always taken. A PROTECTION IS LOST: several statements in one query are possible again")),
    ("application_name_add_host", Unless(&["0"], "SHOW CLIENTS has the address; application_name_add_tenant puts the tenant there")),
    ("conffile", Dropped("the file is an argument of tenantry serve")),
    ("service_name", Dropped(WINDOWS)), ("job_name", Dropped(WINDOWS)),
    ("stats_period", Unless(&["60"], "it is a minute, always")),
    ("max_prepared_statements", Taken),
    ("scram_iterations", Dropped("verifiers are used as they are: store them with the rounds you want")),
    ("auth_type", Taken), ("auth_hba_file", Taken),
    ("auth_ident_file", Dropped("there are no ident maps: for certificates see auth.cert_map")),
    ("auth_file", Taken), ("auth_user", Taken), ("auth_query", Taken), ("auth_dbname", Taken),
    ("auth_ldap_options", Dropped(ASKS_NO_LDAP)),
    ("admin_users", Taken), ("stats_users", Taken),
    ("syslog", Unless(&["0"], SYSLOG)), ("syslog_ident", Dropped(SYSLOG)), ("syslog_facility", Dropped(SYSLOG)),
    ("log_connections", Dropped("logins are not logged: SHOW CLIENTS says who is there")),
    ("log_disconnections", Dropped("that clients leave is not logged: SHOW CLIENTS says who is there")),
    ("log_pooler_errors", Dropped("what is refused is always logged: --log-level warn leaves it out")),
    ("log_stats", Dropped("a line a minute is always logged if anything happened: --log-level warn leaves it out")),
    ("verbose", Unless(&["0"], "--log-level debug")),
    ("server_reset_query", Taken), ("server_reset_query_always", Taken), ("server_check_delay", Taken),
    ("server_check_query", Taken),
    ("server_fast_close", Unless(&["0"], "servers are always closed behind the transaction; only sessions that keep theirs end, with 57P01")),
    ("server_lifetime", Taken), ("server_idle_timeout", Taken), ("server_connect_timeout", Taken),
    ("server_login_retry", Dropped("a failed login is tried again after 50 ms; the pause grows with the outage, to 5 s at most")),
    ("client_login_timeout", Dropped("a client has 15 s to say who it is and 15 s to prove it")),
    ("autodb_idle_timeout", Dropped("pools that nobody uses are forgotten: nothing to do")),
    ("pool_idle_timeout", Dropped("pools that nobody uses are forgotten: nothing to do")),
    ("suspend_timeout", Dropped("the process is not suspended: PAUSE")),
    ("query_wait_notify", Dropped("a client that waits gets no notice: SHOW TENANTS says who waits")),
    ("login_notify_message", Dropped("nobody is greeted")),
    ("dns_max_ttl", Dropped(DNS)), ("dns_nxdomain_ttl", Dropped(DNS)), ("dns_zone_check_period", Unless(&["0"], DNS)),
    ("resolv_conf", Unless(&[""], "the system's resolver is used: set it up there")),
    ("client_tls_sslmode", Taken), ("client_tls_key_file", Taken), ("client_tls_cert_file", Taken), ("client_tls_ca_file", Taken),
    ("client_tls_protocols", Unless(&["secure", "tlsv1.2, tlsv1.3", "tlsv1.2,tlsv1.3", "tlsv1.3"], VERSIONS)),
    ("client_tls_ciphers", Unless(&["default", "secure", "fast", "normal"], CIPHERS)), ("client_tls13_ciphers", Dropped(CIPHERS)),
    ("client_tls_ecdhcurve", Unless(&["auto"], CIPHERS)), ("client_tls_dheparams", Unless(&["auto", "none"], CIPHERS)),
    ("server_tls_sslmode", Taken), ("server_tls_ca_file", Taken), ("server_tls_key_file", Taken), ("server_tls_cert_file", Taken),
    ("server_tls_protocols", Unless(&["secure", "tlsv1.2, tlsv1.3", "tlsv1.2,tlsv1.3", "tlsv1.3"], VERSIONS)),
    ("server_tls_ciphers", Unless(&["default", "secure", "fast", "normal"], CIPHERS)), ("server_tls13_ciphers", Dropped(CIPHERS)),
    ("query_timeout", Taken), ("query_wait_timeout", Taken),
    ("cancel_wait_timeout", Dropped("cancel requests go on connections of their own: nothing to do")),
    ("client_idle_timeout", Unless(&["0"], "idle clients hold no server and are let be; lost ones are found by keepalive: set the application's own pool")),
    ("idle_transaction_timeout", Taken), ("transaction_timeout", Taken),
    ("pkt_buf", Dropped("buffers are lent to who is active: remove it")), ("sbuf_loopcnt", Dropped("sockets take turns by themselves: remove it")),
    ("max_packet_size", Unless(&["2147483647"], "large messages are passed on in pieces: limit statements in the application")),
    ("listen_backlog", Dropped("the backlog is 1024")),
    ("so_reuseport", Taken),
    ("tcp_defer_accept", Dropped("silent connections are closed after 15 s: remove it")),
    ("tcp_socket_buffer", Unless(&["0"], "the system's is used: net.ipv4.tcp_rmem and tcp_wmem")),
    ("tcp_keepalive", Dropped(KEEPALIVE)), ("tcp_keepcnt", Dropped(KEEPALIVE)), ("tcp_keepidle", Dropped(KEEPALIVE)), ("tcp_keepintvl", Dropped(KEEPALIVE)),
    ("tcp_user_timeout", Unless(&["0"], "the system's is used: net.ipv4.tcp_retries2")),
];

/// Of those that are read, here and of databases: durations.
pub(super) const SECONDS: &[&str] = &[
    "server_lifetime",
    "server_idle_timeout",
    "server_connect_timeout",
    "server_check_delay",
    "query_timeout",
    "query_wait_timeout",
    "idle_transaction_timeout",
    "transaction_timeout",
];

/// And numbers.
pub(super) const NUMBERS: &[&str] = &[
    "listen_port",
    "max_client_conn",
    "default_pool_size",
    "reserve_pool_size",
    "max_db_connections",
    "max_db_client_connections",
    "max_prepared_statements",
    "server_reset_query_always",
    "so_reuseport",
    "port",
    "pool_size",
    "reserve_pool",
];

/// The same for entries of `[databases]`.
#[rustfmt::skip]
pub(super) const OF_DATABASES: &[(&str, Fate)] = &[
    ("dbname", Taken), ("host", Taken), ("port", Taken), ("user", Taken), ("password", Taken), ("pool_size", Taken),
    ("reserve_pool", Taken), ("reserve_pool_size", Taken), ("max_db_connections", Taken), ("max_db_client_connections", Taken),
    ("query_wait_timeout", Taken), ("server_lifetime", Taken), ("pool_mode", Taken), ("target_session_attrs", Taken),
    ("auth_user", Taken), ("auth_query", Taken), ("auth_dbname", Taken), ("load_balance_hosts", Taken),
    ("min_pool_size", Unless(&["0"], "servers are opened when they are needed: raise server_idle_timeout; guaranteed_server_connections keeps room for a tenant")),
    ("connect_query", Taken),
    ("client_encoding", Dropped("settings of a tenant refuse clients that start with another value: ALTER DATABASE ... SET client_encoding")),
    ("datestyle", Dropped("settings of a tenant refuse clients that start with another value: ALTER DATABASE ... SET datestyle")),
    ("timezone", Dropped("settings of a tenant refuse clients that start with another value: ALTER DATABASE ... SET timezone")),
    ("application_name", Dropped("clients send their own")),
];

/// The same for entries of `[users]`.
pub(super) const OF_USERS: &[(&str, Fate)] = &[("pool_mode", Taken)];

/// Why others of a user's have none.
pub(super) const OF_USERS_ELSE: &str = PER_USER;
