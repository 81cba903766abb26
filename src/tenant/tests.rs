use proptest::prelude::*;
use regex::Regex;

use super::{
    Claim, ClaimError, Claimant, GucName, NamePattern, SessionState, Source, Value,
    WildcardPattern, claim, percent_decode,
};

fn names() -> NamePattern {
    NamePattern::new("[a-z0-9_-]{1,63}").unwrap()
}

fn sources() -> Vec<Source> {
    vec![
        Source::Options { guc: "app.tenant".to_owned() },
        Source::User { separator: ".".to_owned() },
        Source::Sni { pattern: Regex::new(r"^(?<tenant>[^.]+)\.db\.").unwrap() },
        Source::Database,
        Source::Fixed,
    ]
}

struct Said {
    user: &'static str,
    database: Option<&'static str>,
    option: Option<&'static str>,
    sni: Option<&'static str>,
    fixed: Option<&'static str>,
}

const NOTHING: Said =
    Said { user: "app", database: Some("saas"), option: None, sni: None, fixed: None };

fn resolve(said: &Said) -> Result<Claim, ClaimError> {
    let settings: Vec<_> =
        said.option.map(|v| ("app.tenant".to_owned(), v.into())).into_iter().collect();
    let shared = ["saas".to_owned()];
    let who = Claimant {
        user: said.user,
        database: said.database,
        settings: &settings,
        sni: said.sni,
        fixed: said.fixed,
        shared_databases: &shared,
    };
    claim(&sources(), &names(), who)
}

#[test]
fn every_source_can_name_the_tenant() {
    for (said, user, database) in [
        (Said { option: Some("acme"), ..NOTHING }, "app", Some("saas")),
        (Said { user: "app.acme", ..NOTHING }, "app", Some("saas")),
        (Said { user: "first.last.acme", ..NOTHING }, "first.last", Some("saas")),
        (Said { database: Some("acme"), ..NOTHING }, "app", None),
        (Said { database: Some("saas@acme"), ..NOTHING }, "app", Some("saas")),
        (Said { database: Some("saas%40acme"), ..NOTHING }, "app", Some("saas")),
        (Said { sni: Some("acme.db.example.com"), ..NOTHING }, "app", Some("saas")),
        (Said { fixed: Some("acme"), ..NOTHING }, "app", Some("saas")),
        (Said { user: "app.acme", database: Some("acme"), ..NOTHING }, "app", None),
    ] {
        let got = resolve(&said).unwrap();
        assert_eq!(got.tenant.as_ref().map(super::TenantId::as_str), Some("acme"));
        assert_eq!((got.user.as_str(), got.database.as_deref()), (user, database));
    }
    assert_eq!(resolve(&NOTHING).unwrap().tenant, None);
}

#[test]
fn sources_that_disagree_are_refused_and_both_are_named() {
    let said = Said { option: Some("acme"), user: "app.umbra", ..NOTHING };
    let Err(ClaimError::Conflict { first, second }) = resolve(&said) else { panic!("not refused") };
    assert_eq!(first, ("options:app.tenant".to_owned(), "acme".to_owned()));
    assert_eq!(second, ("user:.".to_owned(), "umbra".to_owned()));
}

#[test]
fn a_name_outside_the_pattern_is_no_tenant() {
    let long: &'static str = "a23456789012345678901234567890123456789012345678901234567890123x";
    for name in ["Acme", "a b", "", "a\"b", "é", long] {
        let got = resolve(&Said { option: Some(name), ..NOTHING });
        assert_eq!(got, Err(ClaimError::Invalid { source_name: "options:app.tenant".to_owned() }));
    }
}

#[test]
fn percent_escapes_are_decoded_once() {
    for (text, want) in [
        ("a%40b", "a@b"),
        ("a%2540b", "a%40b"),
        ("100%", "100%"),
        ("%zz", "%zz"),
        ("%00", "%00"),
        ("%ff", "%ff"),
    ] {
        assert_eq!(percent_decode(text), want);
    }
}

#[test]
fn the_most_specific_pattern_fits_best() {
    let fit = |pattern: &str, name: &str| WildcardPattern::new(pattern).unwrap().fit(name);
    assert_eq!(fit("*", "acme"), Some(0));
    assert_eq!(fit("team-*", "team-a"), Some(5));
    assert_eq!(fit("a*a", "a"), None);
    assert_eq!(fit("acme", "acme"), Some(usize::MAX));
    assert_eq!(fit("acme", "acme2"), None);
    assert_eq!(WildcardPattern::new("*a*"), None);
}

fn text(value: &str) -> Value {
    Value::Text(value.as_bytes().into())
}

fn guc(name: &str) -> GucName {
    GucName::new(name).unwrap()
}

#[test]
fn a_state_is_reached_by_plain_ascii_statements_with_the_role_last() {
    let names = Value::Names(["acme".to_owned(), "pub\"lic".to_owned()].into());
    let state = SessionState::default()
        .with_role(Some("acme_rw".to_owned()))
        .with(guc("app.user"), text("o'b\\é"))
        .with(guc("Search_Path"), names);
    assert_eq!(
        state.statements(),
        [
            r#"SET "app"."user" TO E'o''b\\\xc3\xa9'"#,
            r#"SET "search_path" TO E'acme', E'pub"lic'"#,
            "SET role TO E'acme_rw'",
        ]
    );
    let raw = SessionState::default().with(guc("search_path"), text("a, b"));
    assert_eq!(raw.statements(), ["SELECT pg_catalog.set_config(E'search_path', E'a, b', false)"]);
}

#[test]
fn between_two_states_only_the_difference_is_set() {
    let a = SessionState::default().with(guc("x.a"), text("1")).with(guc("x.b"), text("2"));
    let b = SessionState::default()
        .with(guc("x.b"), text("2"))
        .with(guc("x.c"), text("3"))
        .with_role(Some("r".to_owned()));
    assert_eq!(
        b.statements_from(&a),
        ["SET \"x\".\"a\" TO DEFAULT", "SET \"x\".\"c\" TO E'3'", "SET role TO E'r'"]
    );
    assert_eq!(a.statements_from(&b)[0], "RESET role", "before what the role may not set");
    assert_eq!(a.statements_from(&a), [""; 0]);
}

#[test]
fn the_clients_own_settings_lie_over_the_tenants() {
    let base = SessionState::default().with(guc("x"), text("1")).with(guc("y"), text("1"));
    let own = SessionState::default().with(guc("y"), text("2"));
    let both = base.overlay(&own);
    assert_eq!((both.get("x"), both.get("y")), (Some(&text("1")), Some(&text("2"))));
}

#[test]
fn names_that_could_break_out_of_their_quotes_are_no_settings() {
    for name in ["", ".", "a.", "a b", "a\"b", "1a", "a.1", "é", "a;b", &"a".repeat(128)] {
        assert!(GucName::new(name).is_err(), "{name}");
    }
}

proptest! {
    #[test]
    fn no_value_breaks_out_of_its_literal(value in proptest::collection::vec(1..=255u8, 0..60)) {
        let state = SessionState::default().with(guc("x.y"), Value::Text(value.clone().into()));
        let sql = state.statements().remove(0);
        let inner = sql.strip_prefix("SET \"x\".\"y\" TO E'").and_then(|s| s.strip_suffix('\''));
        prop_assert!(sql.is_ascii());
        // Read it back by the rules of E'': every quote doubled, every escape known.
        let mut read = Vec::new();
        let mut rest = inner.unwrap().as_bytes();
        while let Some((&byte, after)) = rest.split_first() {
            rest = match (byte, after) {
                (b'\'', [b'\'', after @ ..]) => { read.push(b'\''); after }
                (b'\\', [b'\\', after @ ..]) => { read.push(b'\\'); after }
                (b'\\', [b'x', h, l, after @ ..]) => {
                    let digits = [*h, *l];
                    read.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
                    after
                }
                (b'\'' | b'\\', _) => panic!("{sql}"),
                _ => { read.push(byte); after }
            };
        }
        prop_assert_eq!(read, value);
    }
}
