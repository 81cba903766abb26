use super::observe::{Observed, Question, Tie, Ties};
use super::{GucName, SessionState, Value};

fn guc(name: &str) -> GucName {
    GucName::new(name).unwrap()
}

fn state(settings: &[(&str, &str)]) -> SessionState {
    let text = |value: &str| Value::Text(value.as_bytes().into());
    settings.iter().fold(SessionState::default(), |s, (n, v)| s.with(guc(n), text(v)))
}

fn hex(text: &str) -> String {
    text.bytes()
        .flat_map(|b| [b >> 4, b & 15])
        .filter_map(|d| char::from_digit(d.into(), 16))
        .collect()
}

fn observed(settings: &[(&str, Option<&str>)]) -> Observed {
    let mut observed = Observed::default();
    for (name, value) in settings {
        let value = value.map(hex);
        let value = value.as_ref().map(String::as_bytes);
        observed.read(&[Some(b"s"), Some(name.as_bytes()), value]).unwrap();
    }
    observed
}

#[test]
fn what_the_server_says_is_the_state_and_the_rest_is_as_it_was() {
    let before = state(&[("work_mem", "5MB"), ("app.x", "1")]);
    let named = Question { names: [guc("work_mem"), guc("app.y")].into(), ..Question::default() };
    let answer =
        observed(&[("work_mem", Some("6MB")), ("app.y", Some("2")), ("role", Some("none"))]);
    let (session, server) = answer.states(&named, &before, &SessionState::default());
    assert_eq!(session, state(&[("work_mem", "6MB"), ("app.x", "1"), ("app.y", "2")]));
    assert_eq!(server, session);
}

#[test]
fn what_was_reset_is_at_home_again_although_the_server_went_lower() {
    let home = state(&[("timezone", "Asia/Tokyo"), ("app.tenant", "acme")])
        .with_role(Some("r".to_owned()));
    let before = home.clone().with(guc("work_mem"), Value::Text(b"5MB"[..].into()));
    let reset = Question { all: true, resets: true, reset_all: true, ..Question::default() };
    let answer = observed(&[("app.tenant", Some("")), ("role", Some("none"))]);
    let (session, server) = answer.states(&reset, &before, &home);
    assert_eq!(session, home);
    assert_eq!(server, SessionState::default());
}

#[test]
fn a_value_that_is_the_same_keeps_its_spelling() {
    let names = Value::Names(["acme".to_owned(), "Odd\"Name".to_owned()].into());
    let home = SessionState::default().with(guc("search_path"), names);
    let all = Question { all: true, ..Question::default() };
    let answer = observed(&[("search_path", Some("acme, \"Odd\"\"Name\""))]);
    assert_eq!(answer.states(&all, &home, &home).0, home);
    let other = observed(&[("search_path", Some("acme, oddname"))]);
    assert_ne!(other.states(&all, &home, &home).0, home);
}

#[test]
fn a_setting_nobody_knows_is_no_part_of_the_state() {
    let before = state(&[("app.x", "1")]);
    let named = Question { names: [guc("col"), guc("app.new")].into(), ..Question::default() };
    let answer = observed(&[("col", None), ("app.new", Some(""))]);
    assert_eq!(answer.states(&named, &before, &SessionState::default()).0, before);
}

#[test]
fn settings_of_the_transaction_are_not_the_sessions() {
    let answer = observed(&[("transaction_isolation", Some("serializable"))]);
    let all = Question { all: true, ..Question::default() };
    let none = SessionState::default();
    assert_eq!(answer.states(&all, &none, &none).0, none);
}

#[test]
fn ties_are_read_and_rows_that_fit_nothing_are_refused() {
    let mut answer = Observed::default();
    answer.read(&[Some(b"t"), Some(b"1"), Some(b"")]).unwrap();
    assert_eq!(answer.ties, Ties::one(Tie::Listen));
    for row in [
        &[][..],
        &[Some(&b"t"[..]), Some(b"9"), Some(b"")],
        &[Some(b"s"), Some(b"x"), Some(b"0")],
        &[Some(b"s"), Some(b"x"), Some(b"zz")],
        &[Some(b"s"), None, None],
    ] {
        assert!(answer.read(row).is_err(), "{row:?}");
    }
}

#[test]
fn the_question_is_pure_ascii_and_qualified() {
    let question = Question {
        names: [guc("app.x")].into(),
        all: true,
        resets: true,
        ties: Ties::ALL,
        ..Question::default()
    };
    let sql = question.sql(&state(&[("app.z", "\u{e9}")]));
    assert!(
        sql.is_ascii() && sql.starts_with("BEGIN ISOLATION LEVEL READ COMMITTED NOT DEFERRABLE; ")
    );
    assert!(sql.contains("E'app.x', E'app.z'") && sql.ends_with("; COMMIT"));
}
