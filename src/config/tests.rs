use std::path::PathBuf;
use std::time::Duration;

use super::{Availability, Config, ConfigError, ListenAddress, PoolMode};
use crate::tenant::TenantId;

const BASE: &str = r#"
[clusters.main]
user = "saas"
database = "saas"
max_server_connections = 8
[users.app]
password = "pw"
tenants = ["*"]
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, PathBuf::new())
}

fn with_base(text: &str) -> Config {
    parse(&format!("{BASE}\n{text}")).unwrap_or_else(|error| panic!("{error}"))
}

fn faults(text: &str) -> Vec<String> {
    match parse(text) {
        Err(ConfigError::Faults(list)) => {
            list.into_iter().map(|f| format!("{}: {}", f.path, f.problem)).collect()
        }
        other => panic!("no faults but {other:?}"),
    }
}

fn id(config: &Config, name: &str) -> TenantId {
    config.tenancy.name_pattern.parse(name).unwrap()
}

#[test]
fn a_composed_name_that_postgresql_would_cut_is_refused() {
    let longest = "t".repeat(54);
    for key in ["schema", "role", "database", "user", "search_path"] {
        let text = |name: &str| {
            let value = if key == "search_path" {
                "[\"tenant_xx{tenant}\"]"
            } else {
                "\"tenant_xx{tenant}\""
            };
            format!("{BASE}[tenancy]\n{key} = {value}\npassword = \"p\"\n[tenants.{name}]\n")
        };
        assert!(parse(&text(&longest)).is_ok(), "{key}: 63 bytes fit");
        let got = faults(&text(&format!("{longest}t")));
        assert!(
            got[0].starts_with(&format!("tenancy.{key}: ")) && got[0].contains("64 bytes"),
            "{got:?}"
        );
    }
    // A name of its own ends it.
    let own = format!(
        "{BASE}[tenancy]\nschema = \"tenant_xx{{tenant}}\"\n[tenants.{longest}t]\nschema = \"short\"\n"
    );
    assert!(parse(&own).is_ok());
}

#[test]
fn certificates_can_be_the_proof_only_where_they_are_checked() {
    let parse = |mode: &str| {
        let text = format!(
            "[clusters.main]\nuser = \"u\"\n[users.app]\n[auth]\ntype = \"cert\"\n[tls.client]\nmode = \"{mode}\"\n"
        );
        Config::parse(&text, PathBuf::new()).map(|_| ()).map_err(|error| error.to_string())
    };
    let told = parse("disable").unwrap_err();
    assert!(told.contains("auth.type: cert needs tls.client.mode verify-ca"), "{told}");
}

#[test]
fn included_files_add_up_and_nothing_is_given_twice() {
    let directory = std::env::temp_dir().join(format!("tenantry-include-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.join(name), text).unwrap();
    write("a.toml", "[tenants.acme]\nclass = \"gold\"\n[classes.gold]\nweight = 7\n");
    write("b.toml", "[tenants.umbra]\n");
    let load = || {
        let text =
            format!("include = [\"*.toml\"]\n{BASE}[tenants.acme]\nmax_waiting_clients = 3\n");
        Config::parse(&text, directory.clone())
    };
    let config = load().unwrap();
    let acme = config.tenant(&id(&config, "acme")).unwrap();
    assert_eq!((acme.quotas.weight, acme.quotas.max_waiting_clients), (7, 3));
    assert!(config.tenant(&id(&config, "umbra")).is_some());
    write("b.toml", "[tenants.acme]\nclass = \"gold\"\n");
    let told = load().unwrap_err().to_string();
    assert!(told.contains("tenants.acme.class: given already; once more in "), "{told}");
    write("b.toml", "include = [\"a.toml\"]");
    assert!(load().unwrap_err().to_string().contains("an included file includes no others"));
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn what_is_guaranteed_leaves_something_to_the_others() {
    let tenants = |each: usize| {
        format!(
            "{BASE}\n[classes.gold]\nguaranteed_server_connections = {each}\n[tenants.a]\nclass = \"gold\"\n[tenants.b]\nclass = \"gold\"\n"
        )
    };
    assert_eq!(
        faults(&tenants(4)),
        [
            "clusters.main.max_server_connections: 8, but guaranteed_server_connections of its tenants add up to 8: at least one must be left to the others"
        ]
    );
    assert!(parse(&tenants(3)).is_ok());
}

#[test]
fn half_a_verifier_is_not_taken_for_a_password() {
    let secret = |text: &str| {
        let toml = format!("{BASE}\n[users.half]\npassword = \"{text}\"");
        Config::parse(&toml, PathBuf::new()).map(|_| ()).map_err(|error| error.to_string())
    };
    let key = "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=";
    assert_eq!(secret(&format!("SCRAM-SHA-256$4096:c2FsdA==${key}:{key}")), Ok(()));
    assert_eq!(secret("SCRAM-SHA-256 is fine as a password"), Ok(()));
    for text in ["SCRAM-SHA-256$junk", &format!("SCRAM-SHA-256$4096:c2FsdA==${key}:")] {
        let told = secret(text).unwrap_err();
        assert!(told.contains("users.half: a SCRAM verifier is"), "{told}");
    }
}

#[test]
fn all_faults_are_reported_at_once_with_their_paths() {
    let text = r#"
[general]
max_client_con = 5
pool_mode = "statement"
workers = 0
[clusters.main]
port = 99999
server_lifetime = "1 fortnight"
[users.app]
password = "a"
password_file = "b"
[tenancy]
tenant_from = ["nowhere", "sni"]
cluster = "other"
[tenants."a*b*"]
[tenants.acme]
class = "gold"
settings = { "a b" = "1" }
[tenant.x]
"#;
    let got = faults(text);
    for want in [
        "general.max_client_con: unknown key; did you mean \"max_client_conn\"?",
        "general.pool_mode: expected session or transaction, got \"statement\"",
        "general.workers: expected a number from 1 to 64, or \"auto\", got 0",
        "clusters.main.port: expected a port from 1 to 65535, got 99999",
        "clusters.main.user: required",
        "users.app.password_file: give password or password_file, not both",
        "tenancy.cluster: no cluster \"other\"",
        "tenants.acme.class: no class \"gold\"",
        "tenants.\"a*b*\": a pattern has at most one \"*\"",
        "tenants.acme.settings: invalid configuration parameter name \"a b\"",
        "tenant: unknown section; known are include, general, tls, auth, users, classes, tenants, tenancy, clusters, registry, admin, http",
    ] {
        assert!(got.iter().any(|g| g == want), "missing {want}\nin {got:#?}");
    }
    assert!(
        got.iter().any(|g| g.starts_with("clusters.main.server_lifetime: expected a duration"))
    );
    assert!(got.iter().any(|g| g.starts_with("tenancy.tenant_from: unknown source \"nowhere\"")));
    assert!(got.iter().any(|g| g.starts_with("tenancy.sni_pattern: required")));
}

#[test]
fn a_text_that_is_not_toml_is_refused_with_its_line() {
    let Err(error) = parse("[general\n") else { panic!("accepted") };
    assert!(error.to_string().contains("line 1"), "{error}");
}

#[test]
fn durations_are_read_with_their_units() {
    for (text, want) in [
        ("\"500ms\"", Duration::from_millis(500)),
        ("\"30s\"", Duration::from_secs(30)),
        ("\"10m\"", Duration::from_mins(10)),
        ("\"1h\"", Duration::from_hours(1)),
        ("\"1d\"", Duration::from_hours(24)),
        ("30", Duration::from_secs(30)),
        ("0.5", Duration::from_millis(500)),
    ] {
        let config = with_base(&format!("[general]\nshutdown_timeout = {text}"));
        assert_eq!(config.general.shutdown_timeout, want, "{text}");
    }
    for text in ["\"30\"", "\"s\"", "-1", "\"-1s\"", "1e300", "nan", "true", "\"1e9d\""] {
        let got = faults(&format!("{BASE}\n[general]\nshutdown_timeout = {text}"));
        assert!(got[0].starts_with("general.shutdown_timeout: expected a duration"), "{got:?}");
    }
}

#[test]
fn only_listed_tenants_exist_unless_a_template_makes_them() {
    let config = with_base("[tenants.acme]\n[tenants.\"*\"]");
    assert!(config.tenant(&id(&config, "acme")).is_some());
    assert!(config.tenant(&id(&config, "umbra")).is_none());
    let config = with_base("[tenancy]\nunknown = \"template\"\n[tenants.\"t-*\"]");
    assert!(config.tenant(&id(&config, "t-1")).is_some());
    assert!(config.tenant(&id(&config, "umbra")).is_none());
}

#[test]
fn the_most_specific_layer_decides_and_says_so() {
    let config = with_base(
        r#"
[tenancy]
unknown = "template"
schema = "{tenant}"
settings = { "app.tenant" = "{tenant}", "work_mem" = "4MB" }
[classes.free]
max_server_connections = 2
[classes.gold]
max_server_connections = 6
[tenants."*"]
class = "free"
max_waiting_clients = 7
[tenants."big-*"]
class = "gold"
[tenants.acme]
database = "acme_db"
settings = { work_mem = "8MB" }
"#,
    );
    let max = |name: &str| config.tenant(&id(&config, name)).unwrap().quotas.max_server_connections;
    assert_eq!((max("small"), max("big-1"), max("acme")), (2, 6, 2));
    let (tenant, explained) = config.explain(&id(&config, "acme")).unwrap();
    assert_eq!(tenant.database, "acme_db");
    assert_eq!(
        tenant.baseline.statements(),
        [
            "SET \"app\".\"tenant\" TO E'acme'",
            "SET \"search_path\" TO E'acme'",
            "SET \"work_mem\" TO E'8MB'"
        ]
    );
    let from = |key: &str| explained.iter().find(|e| e.key == key).unwrap().from.clone();
    assert_eq!(from("database"), "tenants.acme");
    assert_eq!(from("max_server_connections"), "classes.free");
    assert_eq!(from("max_waiting_clients"), "tenants.\"*\"");
    assert_eq!(from("schema"), "tenancy");
    assert_eq!(from("query_wait_timeout"), "default");
    let neutral: Vec<_> = config.clusters["main"].neutral.iter().map(ToString::to_string).collect();
    assert_eq!(neutral, ["app.tenant"], "work_mem has a default of its own");
}

#[test]
fn a_tenant_can_have_its_own_login_and_be_suspended() {
    let config = with_base(
        r#"
[tenants.umbra]
user = "umbra_rw"
password = "secret"
role = "r_{tenant}"
[tenants.oldco]
state = "suspended"
message = "contact billing"
"#,
    );
    let umbra = config.tenant(&id(&config, "umbra")).unwrap();
    assert_eq!((umbra.user.as_str(), umbra.baseline.role()), ("umbra_rw", Some("r_umbra")));
    assert_eq!(umbra.password.unwrap().expose(), "secret");
    let oldco = config.tenant(&id(&config, "oldco")).unwrap();
    let message = Some("contact billing".to_owned());
    assert_eq!(oldco.availability, Availability::Suspended { message });
}

#[test]
fn listeners_are_tcp_unix_or_belong_to_a_tenant() {
    let config = with_base(
        r#"[general]
listen = ["127.0.0.1:7000", "unix:/run/x", "unix:/run/.s.PGSQL.1", { address = "[::1]:7001", tenant = "acme" }]
pool_mode = "session""#,
    );
    assert_eq!(config.general.pool_mode, PoolMode::Session);
    let addresses: Vec<_> = config.general.listen.iter().map(|l| l.address.clone()).collect();
    assert_eq!(addresses[1], ListenAddress::Unix("/run/x/.s.PGSQL.7000".into()));
    assert_eq!(addresses[2], ListenAddress::Unix("/run/.s.PGSQL.1".into()));
    assert_eq!(config.general.listen[3].tenant.as_deref(), Some("acme"));
    let got = faults(&format!("{BASE}\n[general]\nlisten = [\"unix:relative\", 5]"));
    assert_eq!(got.len(), 3, "{got:?}");
}

#[test]
fn pgbouncers_userlist_is_read() {
    let text = "; comment\n\"app\" \"pw\"\n\"o\"\"b\"\t\"md5x\" \"ignored\"\n\n";
    let users = super::userlist::parse(text).unwrap();
    assert_eq!(users[0].0, "app");
    assert_eq!((users[1].0.as_str(), users[1].1.expose()), ("o\"b", "md5x"));
    assert_eq!(super::userlist::parse("\"app\" \"pw\"\napp pw"), Err(2));
}

#[test]
fn a_secret_is_never_shown() {
    let config = with_base("");
    assert!(!format!("{config:?}").contains("\"pw\""));
}

#[test]
fn variables_come_from_the_environment_or_are_faults() {
    let config = with_base("[tenants.acme]\ndatabase = \"x${CARGO_PKG_NAME}y\"");
    assert_eq!(config.tenant(&id(&config, "acme")).unwrap().database, "xtenantryy");
    let config = with_base("[tenants.acme]\ndatabase = \"x$${HOME}$$y\"");
    assert_eq!(config.tenant(&id(&config, "acme")).unwrap().database, "x${HOME}$$y");
    let got = faults(&format!("{BASE}\n[tenants.acme]\ndatabase = \"${{NO_SUCH_VARIABLE}}\""));
    assert_eq!(got, ["tenants.acme.database: environment variable NO_SUCH_VARIABLE is not set"]);
}

#[test]
fn the_example_configuration_is_valid_and_names_every_key() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy/tenantry.toml");
    let config = Config::load(&path).unwrap_or_else(|error| panic!("{error}"));
    let acme = config.tenant(&id(&config, "acme")).unwrap();
    assert_eq!(acme.quotas.max_server_connections, 10);
    assert!(config.tenant(&id(&config, "stranger")).is_none());
    // A key the example does not mention, even in a comment, is a key nobody will find.
    let text = std::fs::read_to_string(path).unwrap();
    for key in [
        "listen",
        "pool_mode",
        "max_client_conn",
        "max_prepared_statements",
        "absorb",
        "query",
        "cert_map",
        "guard",
        "on_session_state",
        "max_pin_time",
        "search_path",
        "workers",
        "scrub",
        "shutdown_timeout",
        "mode",
        "cert",
        "key",
        "ca",
        "host",
        "port",
        "user",
        "password",
        "password_file",
        "database",
        "max_server_connections",
        "server_idle_timeout",
        "server_lifetime",
        "server_connect_timeout",
        "type",
        "file",
        "tenants",
        "tenant_from",
        "name_pattern",
        "sni_pattern",
        "unknown",
        "default_tenant",
        "schema",
        "search_path",
        "settings",
        "role",
        "cluster",
        "class",
        "max_client_connections",
        "guaranteed_server_connections",
        "weight",
        "max_waiting_clients",
        "query_wait_timeout",
        "state",
        "message",
    ] {
        assert!(text.contains(key), "{key}");
    }
}

#[test]
fn a_cluster_may_be_at_one_of_several_hosts() {
    let hosts = |host: &str| {
        let text = BASE.replace("[clusters.main]", &format!("[clusters.main]\nport = 1\n{host}"));
        let config = parse(&text).unwrap_or_else(|error| panic!("{error}"));
        config.clusters["main"].hosts.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(hosts(""), ["127.0.0.1:1"]);
    assert_eq!(hosts("host = \"/run/pg\""), ["/run/pg:1"]);
    assert_eq!(hosts("host = \"::1\""), ["::1:1"]);
    let listed = hosts("host = [\"a\", \"b:2\", \"[::1]:3\", \"::1\"]");
    assert_eq!(listed, ["a:1", "b:2", "::1:3", "::1:1"]);
    for wrong in [
        "host = []",
        "host = [\"\"]",
        "host = \"a:x\"",
        "host = [\"a:0\"]",
        "host = [\"a:99999\"]",
        "host = 3",
        "target_session_attrs = \"read\"",
    ] {
        let text = BASE.replace("[clusters.main]", &format!("[clusters.main]\n{wrong}"));
        let key = wrong.split(' ').next().unwrap();
        assert!(faults(&text)[0].starts_with(&format!("clusters.main.{key}: expected")), "{wrong}");
    }
}
