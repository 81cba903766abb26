use proptest::prelude::*;

use super::{AUTHORIZATION, Flag, Flags, Lexer, PG_SETTINGS, Settings, is_plain, lone_set};

fn flags(sql: &str) -> Flags {
    let mut lexer = Lexer::new();
    lexer.feed(sql.as_bytes());
    lexer.finish()
}

/// Every statement here changes session state or ties the session to its server.
const FLAGGED: &[(&str, Flag)] = &[
    ("SET search_path TO x", Flag::Set),
    ("set search_path=x", Flag::Set),
    (" \n\t/* c */ -- d\n SeT x = 1", Flag::Set),
    ("/* /* nested */ */ set x = 1", Flag::Set),
    ("--\rset x = 1", Flag::Set),
    ("select 1; set x = 1", Flag::Set),
    ("select 1;;set x = 1", Flag::Set),
    ("SET SESSION x = 1", Flag::Set),
    ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", Flag::Set),
    ("SET TIME ZONE 'UTC'", Flag::Set),
    ("SET ROLE x", Flag::Set),
    ("SET NAMES 'utf8'", Flag::Set),
    ("SET \"search_path\" TO x", Flag::Set),
    ("SET local.x = 1", Flag::Set),
    ("SET LOCAL . x = 1", Flag::Set),
    ("SET transaction . x = 1", Flag::Set),
    ("SET local /* c */ . /* d */ x = 1", Flag::Set),
    ("set", Flag::Set),
    ("select 'a;b'; set x = 1", Flag::Set),
    ("select E'a\\'; -- '; set x = 1", Flag::Set),
    ("select 'a\\'; set x = 1 --'", Flag::Set),
    ("select E'a'\n'b\\''; set x = 1", Flag::Set),
    ("select $$ ' $$; set x = 1", Flag::Set),
    ("select $a$ $$ $a $b$ $a$; set x = 1", Flag::Set),
    ("select $1; set x = 1", Flag::Set),
    ("select \"a\"\";'\"; set x = 1", Flag::Set),
    ("select a$b$c; set x = 1 -- $b$", Flag::Set),
    ("RESET x", Flag::Reset),
    ("reset all", Flag::Reset),
    ("DISCARD ALL", Flag::Discard),
    ("PREPARE p AS SELECT 1", Flag::Prepare),
    ("prepare transaction as select 1", Flag::Prepare),
    ("prepare transaction (int) as select $1", Flag::Prepare),
    ("prepare \"transaction\" as select 1", Flag::Prepare),
    ("prepare set_config as select 1", Flag::Prepare),
    ("LISTEN c", Flag::Listen),
    ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", Flag::HoldCursor),
    ("CREATE TEMP TABLE t (a int)", Flag::Temporary),
    ("create local temporary table t ()", Flag::Temporary),
    ("CREATE OR REPLACE TEMP VIEW v AS SELECT 1", Flag::Temporary),
    ("SELECT 1 AS a INTO TEMP t", Flag::Temporary),
    ("SELECT 1 AS a INTO LOCAL TEMP t", Flag::Temporary),
    ("explain analyze create temp table t as select 1", Flag::Temporary),
    ("CREATE TABLE pg_temp.t (a int)", Flag::Temporary),
    ("CREATE TABLE \"pg_temp\".t (a int)", Flag::Temporary),
    ("set local search_path to 'pg_temp'", Flag::Temporary),
    ("begin; SET LOCAL search_path = public, 'PG_TEMP_3'; commit", Flag::Temporary),
    ("set local search_path to 'pg_'\n'temp'", Flag::Temporary),
    ("set local search_path to 'a, ppg_temp'", Flag::Temporary),
    ("set local search_path to E'pg\\x5ftemp'", Flag::Temporary),
    ("set local search_path to $$pg_temp$$", Flag::Temporary),
    ("set local search_path to U&'pg\\005ftemp'", Flag::UnicodeIdentifier),
    ("select 1 as insert into temp t", Flag::Temporary),
    ("select query_to_xml($$select 1$$, true, false, '')", Flag::RunsText),
    ("select * from ts_stat('select 1')", Flag::RunsText),
    ("set local standard_conforming_strings = off", Flag::Set),
    ("set x = 1; reset all", Flag::Reset),
    ("set x = 1; load 'x'; reset all", Flag::Load),
    ("LOAD 'auto_explain'", Flag::Load),
    ("DO $$ begin end $$", Flag::Do),
    ("do 'begin end'", Flag::Do),
    ("CALL p()", Flag::Call),
    ("SELECT set_config('a.b', 'c', false)", Flag::SetConfig),
    ("select pg_catalog . SET_CONFIG($1, $2, $3)", Flag::SetConfig),
    ("select \"set_config\"('a.b', 'c', false)", Flag::SetConfig),
    ("with x as (select set_config('a.b','c',false)) select 1", Flag::SetConfig),
    ("copy (select set_config('a.b','c',false)) to stdout", Flag::SetConfig),
    ("UPDATE pg_settings SET setting = 'x' WHERE name = 'y'", Flag::PgSettings),
    ("EXECUTE p", Flag::Execute),
    ("EXPLAIN ANALYZE EXECUTE p(1)", Flag::Execute),
    ("select pg_advisory_lock(1)", Flag::AdvisoryLock),
    ("select pg_try_advisory_lock_shared(1)", Flag::AdvisoryLock),
    ("select dblink_connect('x')", Flag::Dblink),
    ("select U&\"set\\005fconfig\"('a.b','c',false)", Flag::UnicodeIdentifier),
    ("select u&\"x\"", Flag::UnicodeIdentifier),
];

/// None of these outlives its transaction.
const PLAIN: &[&str] = &[
    "",
    ";",
    "SELECT abalance FROM pgbench_accounts WHERE aid = 1;",
    "UPDATE t SET a = 1",
    "INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 2",
    "SET LOCAL search_path TO x",
    "set local \"app.tenant\" to 'x'",
    "set local search_path to 'acme', 'public'",
    "set local x to 'a\\b'; select 'pg_temp'",
    "begin; prepare transaction 'x'; select 1",
    "PREPARE /* c */ TRANSACTION E'a\\'b' -- d",
    "BEGIN; SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; COMMIT",
    "SET CONSTRAINTS ALL DEFERRED",
    "select 'set x = 1; set_config('",
    "select $$; set x = 1 $$",
    "select $tag$; set x = 1; $tag $tag$",
    "-- set x = 1",
    "/* ; set x = 1 */ select 1",
    "select E'\\'; set x = 1'",
    "select temp from weather",
    "INSERT INTO temp VALUES (1)",
    "with hold as (select 1) select * from hold",
    "DECLARE c CURSOR WITHOUT HOLD FOR SELECT 1",
    "select pg_advisory_xact_lock(1)",
    "ALTER TABLE t ALTER a SET DEFAULT 1",
    "ALTER ROLE x SET search_path TO y",
    "NOTIFY c",
    "select U&'set\\005fconfig'",
    "select n'x', b'1', x'1F'",
    "select a-b/c, $1::int, 1e5",
    "create table temperature (temp int)",
];

#[test]
fn whatever_outlives_its_transaction_is_flagged() {
    for (sql, want) in FLAGGED {
        assert!(flags(sql).contains(*want), "{sql}");
    }
}

#[test]
fn whatever_is_flagged_is_alarming_at_first_sight() {
    for (sql, _) in FLAGGED {
        assert!(!is_plain(sql.as_bytes()), "{sql}");
    }
    let long_tag = format!("select ${}$ $$", "t".repeat(64));
    assert!(flags(&long_tag).contains(Flag::LongDollarTag));
    assert!(!is_plain(long_tag.as_bytes()));
    assert!(is_plain(b"SELECT abalance FROM pgbench_accounts WHERE aid = 1;"));
}

#[test]
fn everyday_statements_are_not_flagged() {
    for sql in PLAIN {
        assert!(Flags::one(Flag::SetLocal).includes(flags(sql)), "{sql}");
    }
}

#[test]
fn it_does_not_matter_where_a_text_is_cut() {
    let all = FLAGGED.iter().map(|(sql, _)| *sql).chain(PLAIN.iter().copied());
    for sql in all {
        for cut in 0..=sql.len() {
            let (a, b) = sql.as_bytes().split_at(cut);
            let mut lexer = Lexer::new();
            lexer.feed(a);
            lexer.feed(b);
            assert_eq!(lexer.finish(), flags(sql), "{sql} cut at {cut}");
        }
        let mut lexer = Lexer::new();
        sql.bytes().for_each(|byte| lexer.feed(&[byte]));
        assert_eq!(lexer.finish(), flags(sql), "{sql} byte by byte");
    }
}

fn settings(sql: &str) -> Settings {
    Settings::of(sql.as_bytes(), flags(sql))
}

#[test]
fn the_setting_of_a_row_of_pg_settings_is_read() {
    // As pg_dump says it; and what only looks like it.
    let of = |tail: &str| settings(&format!("select set_config(name, 'x', false) {tail}"));
    for plain in
        ["from pg_settings where name = 'work_mem'", "FROM pg_settings WHERE name = 'WORK_MEM';"]
    {
        assert_eq!(
            (&*of(plain).names, of(plain).unknown),
            (&["work_mem".into()][..], None),
            "{plain}"
        );
    }
    for computed in [
        "from pg_settings where name = 'work_mem' or true",
        "from pg_settings where name = 'work_mem' || ''",
        "from (select 'role' as name) x, pg_settings where name = 'work_mem'",
        "from (select 'role' as name) x) from pg_settings where name = 'work_mem'",
        ", a from pg_settings where name = 'work_mem'",
        "from pg_settings, t where name = 'work_mem'",
        "from pg_settings where pg_settings.name = 'work_mem'",
    ] {
        assert!(of(computed).unknown.is_some(), "{computed}");
    }
}

/// A text, and the settings that it may change.
const CHANGED: &[(&str, &[&str])] = &[
    ("SET search_path TO x", &["search_path"]),
    ("select 1; set /* c */ \"Search_Path\" = x", &["search_path"]),
    ("SET SESSION app.user = 'x'; SET app . \"Other\" TO 1", &["app.user", "app.other"]),
    ("SET idle_in_transaction_session_timeout = 1", &["idle_in_transaction_session_timeout"]),
    ("SET local.x = 1", &["local.x"]),
    ("SET session.x = 1", &["session.x"]),
    ("SET TIME ZONE 'UTC'", &["timezone"]),
    ("SET SCHEMA 'x'", &["search_path"]),
    ("SET NAMES 'utf8'", &["client_encoding"]),
    ("SET ROLE x", &["role"]),
    ("set role = 'x'", &["role"]),
    ("SET XML OPTION document", &["xmloption"]),
    (
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        &[
            "default_transaction_isolation",
            "default_transaction_read_only",
            "default_transaction_deferrable",
        ],
    ),
    ("set local standard_conforming_strings = off", &[]),
    ("show standard_conforming_strings", &[]),
    ("select client_encoding from t", &[]),
    ("SET SCHEMA E'umbr\\x61'", &["search_path"]),
    ("SET SCHEMA U&'umbra'", &["search_path"]),
    ("SET SCHEMA 'umb'\n'ra'", &["search_path"]),
    ("SET SESSION ROLE x", &["role"]),
    ("select set_config('search_path', null, false)", &["search_path"]),
    ("update pg_settings set setting = '1' where name = 'work_mem'", &[]),
    ("select pg_catalog.set_config('App.X', $1, false)", &["app.x"]),
    ("select set_config('a.b'::text, 'c', $2)", &["a.b"]),
    (
        "select \"set_config\"( 'a.b' , f(1, (2)), false), set_config('c.d', '', false)",
        &["a.b", "c.d"],
    ),
    ("select set_config('a.b', 'c', true)", &[]),
    ("select set_config('a.b', set_config('c.d', 'e', false), true)", &["c.d"]),
    (
        "DO $$ begin perform set_config('a.b', 'c', false); set work_mem = 1; end $$",
        &["a.b", "work_mem"],
    ),
    ("DO LANGUAGE plpgsql 'begin set a.b to ''x''; end'", &["a.b"]),
    (
        "DO $$ begin execute 'set a.b = ' || quote_literal(x); execute format('set c.d to %L', y); end $$",
        &["a.b", "c.d"],
    ),
    ("DO $$ begin execute 'se' || 't a.b = 1'; end $$", &["a.b"]),
    ("DO $$ begin execute 'grant all on ' || quote_ident(x) || ' to y'; end $$", &[]),
    ("DO $$ begin execute format('update %1$I set %I = %L', x) using y; end $$", &[]),
    (
        "SET app.a_name_that_is_longer_than_an_identifier_of_postgresql_can_ever_be_it_is_cut = 1",
        &["app.a_name_that_is_longer_than_an_identifier_of_postgresql_can_ever"],
    ),
    ("DO $a$ begin execute $b$do $c$ begin set a.b = 1; end $c$ $b$; end $a$", &["a.b"]),
];

#[test]
fn the_settings_a_text_changes_are_named() {
    for (sql, want) in CHANGED {
        let got = settings(sql);
        let names: Vec<&str> = got.names.iter().map(|name| &**name).collect();
        assert_eq!((names.as_slice(), got.unknown), (*want, None), "{sql}");
        assert_eq!(got.all, sql.contains("DO") || sql.contains("pg_settings"), "{sql}");
    }
}

#[test]
fn what_a_text_changes_in_other_ways_is_known() {
    assert_eq!(settings("select set_config($2, $1, false)").parameters, [2]);
    for sql in [
        "set session session characteristics as transaction read only",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    ] {
        assert_eq!(settings(sql).names.len(), 3, "{sql}");
    }
    for (sql, local) in [
        ("set local schema 'umbra'", "search_path"),
        ("set local names 'SJIS'", "client_encoding"),
        ("set local time zone 'UTC'", "timezone"),
        ("set local role none", "role"),
        ("set local seed to 0.5", "seed"),
        ("set local session authorization x", AUTHORIZATION),
    ] {
        assert_eq!(settings(sql).local.iter().map(|n| &**n).collect::<Vec<_>>(), [local], "{sql}");
    }
    for sql in [
        "set local seed = 0.5",
        "set seed to 1",
        "select set_config('seed', '0.5', true)",
        "do $$ begin perform setseed(0.5); end $$",
        "do $$ begin perform dblink_connect('x', 'y'); end $$",
    ] {
        assert!(settings(sql).lasts, "{sql}");
    }
    let update = |sql: &str| {
        settings(sql).assignments.iter().map(|it| it.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(
        update("update pg_settings set setting = 'x' where name = 'work_mem'"),
        ["work_mem"]
    );
    assert_eq!(
        update("update pg_settings set setting = 'x' where name = 'a' or true"),
        [PG_SETTINGS]
    );
    assert_eq!(update("select * from pg_settings"), [""; 0]);
    assert!(settings("RESET ALL").all && settings("RESET ALL").resets);
    for sql in [
        "SET x TO DEFAULT",
        "RESET x",
        "SET TIME ZONE LOCAL",
        "DISCARD ALL",
        "SET NAMES",
        "SET SESSION AUTHORIZATION DEFAULT",
    ] {
        assert!(settings(sql).resets && settings(sql).unknown.is_none(), "{sql}");
    }
}

#[test]
fn the_last_word_says_whether_a_setting_is_reset() {
    let reset = |sql: &str| {
        let settings = settings(sql);
        let names = |names: &[Box<str>]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        (settings.resets_all, names(&settings.reset))
    };
    let of = |all: bool, names: &[&str]| (all, names.iter().map(ToString::to_string).collect());
    assert_eq!(reset("RESET a.b; SET c.d = ''"), of(false, &["a.b"]));
    assert_eq!(reset("RESET a.b; SET a.b = ''"), of(false, &[]));
    assert_eq!(reset("SET a.b = ''; SET a.b TO DEFAULT"), of(false, &["a.b"]));
    assert_eq!(reset("RESET a.b; RESET ALL; SET c.d = ''"), of(true, &["a.b"]));
    assert_eq!(reset("DISCARD ALL"), of(true, &[]));
    assert_eq!(reset("DISCARD TEMP"), of(false, &[]));
}

#[test]
fn a_path_that_may_lead_to_temporary_objects_is_noticed() {
    for sql in [
        "set search_path to 'PG_temp_3'",
        "set search_path to E'pg\\x5ftemp'",
        "select set_config('search_path', $1, false)",
    ] {
        assert!(settings(sql).temporary, "{sql}");
    }
    for sql in [
        "set search_path to acme, \"public\"",
        "select set_config('search_path', 'acme'::text, false)",
    ] {
        assert!(!settings(sql).temporary, "{sql}");
    }
}

#[test]
fn a_lone_set_is_read_when_it_is_plain() {
    let read = |sql: &str| {
        lone_set(sql.as_bytes()).map(|set| (set.name, set.items.map(|items| items.join("|"))))
    };
    let some = |name: &str, items: &str| Some((name.to_owned(), Some(items.to_owned())));
    for (sql, want) in [
        ("SET search_path TO acme", some("search_path", "acme")),
        (
            "/* c */ set session Search_Path = Acme, 'Umbra', \"Odd\" ; -- d",
            some("search_path", "acme|Umbra|Odd"),
        ),
        ("SET app.tenant = 'it''s'", some("app.tenant", "it's")),
        ("SET search_path TO DEFAULT", Some(("search_path".to_owned(), None))),
        ("SET LOCAL search_path TO acme", None),
        ("SET search_path TO acme; select 1", None),
        ("SET search_path TO table", None),
        ("SET search_path TO acme,", None),
        ("SET search_path TO", None),
        ("SET search_path TO acme umbra", None),
        ("SET search_path TO E'a\\x62'", None),
        ("SET search_path TO \"\"", None),
        ("SET TIME ZONE 'UTC'", None),
        ("SET work_mem = 1", None),
        ("SELECT set_config('search_path', 'acme', false)", None),
        ("RESET search_path", None),
    ] {
        assert_eq!(read(sql), want, "{sql}");
    }
    assert_eq!(
        read(&format!("SET search_path TO {}", "a".repeat(64))),
        None,
        "PostgreSQL would cut it"
    );
}

#[test]
fn what_cannot_be_named_is_said_to_be_unknown() {
    for sql in [
        "set",
        "set 'x'",
        "SET SESSION AUTHORIZATION x",
        "SET SEED TO 0.5",
        "select set_config('a.' || 'b', 'c', false)",
        "select set_config(setting_name => 'a.b', new_value => 'c', is_local => false)",
        "select set_config(E'a\\x2eb', 'c', false)",
        "select set_config('a'\n'b', 'c', false)",
        "DO $$ begin execute x; end $$",
        "DO $$ begin execute 'set ' || x; end $$",
        "DO $$ begin execute format('%s', x); end $$",
        "SET app.schl\u{fc}ssel = 1",
        "select set_config('app.schl\u{fc}ssel', '1', false)",
        "select set_config('app.a_name_that_is_longer_than_an_identifier_of_postgresql_can_ever_be', '1', false)",
        "DO $$ begin execute 'SET SESSION app' || '.x = 1' || y; end $$",
        "DO $$ begin execute 'SET ' || quote_ident(x) || ' = 1'; end $$",
        "DO $$ begin execute format('SET SESSION %I = 1', x); end $$",
        "DO $$ begin execute format('SET LOCAL a.b = 1; SET %I = 1', x); end $$",
        "DO $$ begin execute format('set a.b = 1') || x; end $$",
        "DO $$ begin execute 'SELECT ' || 'set_config($1, $2, false)' using x, y; end $$",
        "DO $$ begin execute 'select set_config($1, $2, false)' using x, y; end $$",
        "DO $$ begin perform set_config(x, y, false); end $$",
        "DO LANGUAGE plpython3u $$ plpy.execute('set a.b = 1') $$",
        "DO E'begin \\n end'",
        "set x = 'unterminated",
    ] {
        assert!(settings(sql).unknown.is_some(), "{sql}: {:?}", settings(sql));
    }
}

proptest! {
    /// What the lexer flags as a change of settings is named, or said to be unknown.
    #[test]
    fn no_flagged_setting_is_lost(
        words in prop::collection::vec(prop::sample::select(vec![
            "set", "SET", "session", "local", "reset", "all", "role", "time", "zone", "to", "=", "default", "x", "a.b",
            "'s'", "\"q\"", "$a$ set $a$", "e'\\''", "--\n", "/* ; */", ";", "1", "$1", ".", "names", "(", ")", "u&'x'",
        ]), 0..10),
    ) {
        let sql = words.join(" ");
        let (flags, got) = (flags(&sql), settings(&sql));
        if flags.contains(Flag::Set) || flags.contains(Flag::Reset) {
            let told = !got.names.is_empty() || got.all || got.resets || got.unknown.is_some();
            prop_assert!(told, "{}", sql);
        }
    }

    #[test]
    fn no_text_makes_the_reader_of_settings_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Settings::of(&bytes, Flags::SETTINGS);
    }

    /// The first look never calls plain what the lexer flags.
    #[test]
    fn a_plain_text_is_never_flagged(
        words in prop::collection::vec(prop::sample::select(vec![
            "set", "SET", "local", "reset", "discard", "prepare", "listen", "declare", "with", "hold", "temp",
            "create", "into", "load", "do", "call", "set_config", "pg_settings", "pg_advisory_lock", "dblink",
            "U&\"x\"", "$a$", "'", "\"", "e'", "--", "/*", "*/", ";", "a", "1", "\n", "transaction", ".",
        ]), 0..12),
    ) {
        let sql = words.join(" ");
        prop_assert!(!is_plain(sql.as_bytes()) || flags(&sql).is_empty(), "{}", sql);
    }

    #[test]
    fn no_text_makes_the_lexer_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut lexer = Lexer::new();
        lexer.feed(&bytes);
        let _ = lexer.finish();
    }

    /// A statement behind any closed quote or comment is still seen.
    #[test]
    fn nothing_hides_a_set(text in "[a-z;$'\"\\\\ -]{0,20}", kind in 0..5usize) {
        let hidden = match kind {
            0 => format!("'{}'", text.replace('\'', "''")),
            1 => format!("\"{}\"", text.replace('"', "\"\"")),
            2 => format!("$q${}$q$", text.replace('$', "")),
            3 => format!("/*{}*/ 1", text.replace(['*', '/'], "")),
            _ => format!("e'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")),
        };
        let sql = format!("select {hidden}; set x = 1");
        prop_assert!(!flags(&sql).is_empty(), "{}", sql);
    }
}
