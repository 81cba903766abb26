//! The text of an `EXECUTE` in PL/pgSQL: literals, joined with names and values that are put in between.
//!
//! Promises: [`Computed::can_be_read`] is true only where what is put in, whatever it is, is the name of a table, column or
//! the like, or a value: never a keyword, a function that is called, a setting's name, or part of a name, a string or a
//! comment. (`quote_ident` leaves `set` and `update` without quotes, and a line's end in a name ends a comment.)

use super::lexer::is_word;
use super::settings::{arguments, is_assignment, name};
use super::stands;
use super::tokens::{Token, spans, tokens};

/// Stands in the text for a name that is put in: `quote_ident(...)`, `%I`.
pub(super) const IDENTIFIER: u8 = 1;
/// The same for a value: `quote_literal(...)`, `%L`.
pub(super) const LITERAL: u8 = 2;

/// First words of statements into which something may be put in.
const TAKES_PIECES: [&str; 19] = [
    "alter", "analyze", "cluster", "comment", "create", "delete", "drop", "grant", "insert",
    "lock", "merge", "notify", "reassign", "refresh", "reindex", "revoke", "select", "truncate",
    "update",
];

/// A text, with what is put in as single bytes.
pub(super) struct Computed {
    pub(super) text: Vec<u8>,
    pieces: usize,
}

impl Computed {
    /// Behind `EXECUTE`: a literal, a `format` of one, or literals and quoted pieces, joined. `ends`: the words that end it.
    /// Behind any other word the expression goes on.
    pub(super) fn of(mut tokens: &[Token<'_>], ends: &[&str]) -> Option<Self> {
        let mut computed = Self { text: Vec::new(), pieces: 0 };
        loop {
            tokens = match without_schema(tokens) {
                [Token::Text(piece), rest @ ..] => {
                    computed.text.extend_from_slice(piece);
                    rest
                }
                [function, Token::Punct(b'('), rest @ ..] => {
                    match rest {
                        [Token::Text(text), Token::Punct(b',' | b')'), ..]
                            if function.is("format") =>
                        {
                            computed.format(text)?;
                        }
                        _ if function.is("quote_ident") => computed.put_in(IDENTIFIER),
                        _ if function.is("quote_literal") || function.is("quote_nullable") => {
                            computed.put_in(LITERAL);
                        }
                        _ => return None,
                    }
                    let len: usize = arguments(rest)?.iter().map(|part| part.len() + 1).sum();
                    rest.get(len..)?
                }
                _ => return None,
            };
            let bar = Token::Punct(b'|');
            tokens = match tokens {
                [a, b, rest @ ..] if *a == bar && *b == bar => rest,
                [] | [Token::Punct(b';'), ..] => return Some(computed),
                [word, ..] if ends.iter().any(|end| word.is(end)) => {
                    return Some(computed);
                }
                _ => return None,
            };
        }
    }

    fn put_in(&mut self, piece: u8) {
        self.text.push(piece);
        self.pieces += 1;
    }

    /// `None`: it puts in what is not quoted.
    fn format(&mut self, text: &[u8]) -> Option<()> {
        let mut at = text.iter();
        while let Some(byte) = at.next() {
            if *byte != b'%' {
                self.text.push(*byte);
                continue;
            }
            // `%1$I` takes the first argument.
            match at.find(|b| !b.is_ascii_digit() && **b != b'$')? {
                b'%' => self.text.push(b'%'),
                b'I' => self.put_in(IDENTIFIER),
                b'L' => self.put_in(LITERAL),
                _ => return None,
            }
        }
        Some(())
    }

    /// Whether it does what its text shows, whatever is put in.
    pub(super) fn can_be_read(&self) -> bool {
        let Some(spans) = spans(&self.text) else { return false };
        // What is put in is a token of its own: `%I_seq`, `"%I"` and `-- %I` are not.
        let alone = |at: usize| {
            let next_to = |byte: Option<&u8>| {
                byte.is_some_and(|b| is_word(*b) || b"'\"&%\x01\x02".contains(b))
            };
            !next_to(at.checked_sub(1).and_then(|before| self.text.get(before)))
                && !next_to(self.text.get(at + 1))
        };
        let clean = spans.iter().filter(|(token, at)| is_piece(token) && alone(at.start)).count();
        let tokens: Vec<Token<'_>> = spans.into_iter().map(|(token, _)| token).collect();
        clean == self.pieces && tokens.split(|token| *token == Token::Punct(b';')).all(is_readable)
    }

    /// Whether it may be an `UPDATE` of the view `pg_settings`.
    pub(super) fn may_update_settings(&self) -> bool {
        self.pieces > 0 && tokens(&self.text).is_some_and(|tokens| updates_computed(&tokens))
    }
}

/// A call of a function of PostgreSQL's, without the `pg_catalog.` in front of it.
fn without_schema<'a, 'b>(tokens: &'a [Token<'b>]) -> &'a [Token<'b>] {
    match tokens {
        [schema, Token::Punct(b'.'), call @ ..] if schema.names("pg_catalog") => match call {
            [Token::Word(_), Token::Punct(b'('), ..] => call,
            _ => tokens,
        },
        _ => tokens,
    }
}

fn is_piece(token: &Token<'_>) -> bool {
    matches!(token, Token::Punct(IDENTIFIER | LITERAL))
}

/// One statement.
fn is_readable(statement: &[Token<'_>]) -> bool {
    let has_pieces = statement.iter().any(is_piece);
    match statement {
        [] => true,
        [word, rest @ ..] if word.is("set") || word.is("reset") => sets_what_shows(rest),
        [Token::Word(_), ..] if !has_pieces => true,
        [word @ Token::Word(_), ..] => {
            TAKES_PIECES.iter().any(|takes| word.is(takes))
                && !may_lend_name(statement)
                && (0..statement.len()).all(|at| match statement[at] {
                    Token::Punct(IDENTIFIER) => stands::is_name(statement, at),
                    Token::Punct(LITERAL) => stands::is_value(statement, at),
                    _ => true,
                })
        }
        _ => false,
    }
}

/// Behind `SET` or `RESET`: whether the setting's name shows, and what is put in is its one value.
fn sets_what_shows(tokens: &[Token<'_>]) -> bool {
    let is_scope = |word: &Token<'_>| word.is("session") || word.is("local");
    let tokens = match tokens {
        [scope, rest @ ..] if is_scope(scope) && rest.first() != Some(&Token::Punct(b'.')) => rest,
        _ => tokens,
    };
    let Some((_, behind)) = name(tokens) else { return false };
    !behind.iter().any(is_piece)
        || matches!(behind, [to, Token::Punct(LITERAL)] if is_assignment(std::slice::from_ref(to)))
}

/// An `UPDATE` of a table that is put in, of the column `setting` or one that is put in too.
fn updates_computed(tokens: &[Token<'_>]) -> bool {
    let piece = Token::Punct(IDENTIFIER);
    let updates = |at: usize| {
        let behind = &tokens[at..];
        let set = behind.iter().position(|word| word.is("set")).unwrap_or(behind.len());
        behind[..set].contains(&piece)
            && behind[set..].iter().any(|token| token.names("setting") || *token == piece)
    };
    (0..tokens.len()).any(|at| tokens[at].is("update") && updates(at))
}

/// Whether it may make a view or a rule by which `pg_settings` is updated under another name.
fn may_lend_name(statement: &[Token<'_>]) -> bool {
    let says = |word: &str| statement.iter().any(|token| token.is(word));
    let body = statement.iter().position(|word| word.is("as")).unwrap_or(statement.len());
    statement[0].is("create")
        && (says("view") || says("rule"))
        && statement[body..].contains(&Token::Punct(IDENTIFIER))
}

#[cfg(test)]
mod tests {
    use super::super::{Lexer, Settings};

    fn read(body: &str) -> Settings {
        let sql = format!("do $do$ begin {body}; end $do$");
        let mut lexer = Lexer::new();
        lexer.feed(sql.as_bytes());
        Settings::of(sql.as_bytes(), lexer.finish())
    }

    fn assert_harmless(body: &str) {
        let settings = read(body);
        let named: Vec<_> = settings.assignments.iter().filter(|it| &*it.name != "a.b").collect();
        assert!(settings.unknown.is_none() && named.is_empty(), "{body}: {settings:?}");
    }

    #[test]
    fn what_is_put_in_may_be_a_name_or_a_value() {
        for body in [
            "execute format('create table if not exists %I (id int)', x)",
            "execute format('create table %I.%I (id int)', x, y)",
            "execute 'create unique index on ' || quote_ident(x) || ' (id)'",
            "execute format('create index %I on only %I using btree (%I)', a, b, c)",
            "execute format('insert into %I.t (id, t) values (%L, %L)', x, y, z)",
            "execute format('update %I set t = %L where id = 5 %% 2', x, y) using z",
            "execute format('delete from %I where %I = %L', x, y, z)",
            "execute format('alter table %I add column %I text default %L', x, y, z)",
            "execute format('grant select on %I to %I', x, y)",
            "execute format('grant execute on function %I(int) to %I', x, y)",
            "execute 'drop table if exists ' || quote_ident(x) || ' cascade'",
            "for r in execute format('select * from %I', x) loop null; end loop",
            "execute format('set a.b to %L', x)",
            "execute format('select %I, %L::text from %I.%I where %I = %L and %I is not null order by %I desc limit 1', a, b, c, d, e, f, g, h)",
            "execute format('select count(*) from %I', x) into n",
            "execute format('alter table %I rename column %I to %I', a, b, c)",
            "execute format('alter table %I owner to %I', a, b)",
            "execute format('alter table %I.%I drop constraint if exists %I', a, b, c)",
            "execute format('alter table %I add constraint %I foreign key (%I) references %I (%I) on delete cascade', a, b, c, d, e)",
            "execute format('create trigger %I before update on %I for each row execute function f()', a, b)",
            "execute format('create table %I (%I int primary key, %I text)', a, b, c)",
            "execute format('drop index concurrently if exists %I', a)",
            "execute format('comment on column %I.%I is %L', a, b, c)",
            "execute format('truncate %I', a)",
            "execute format('analyze %I', a)",
            "execute format('select setval(%L, (select max(%I) from %I))', a, b, c)",
            "execute format('create schema if not exists %I authorization %I', a, b)",
            "execute format('create role %I password %L', a, b)",
            "execute format('insert into %I select * from %I', a, b)",
            "execute format('alter sequence %I restart with 5', a)",
            "execute format('create table %I (like %I including all)', a, b)",
            "execute format('create table %I partition of %I.%I for values in (%L)', a, b, c, d)",
            "execute format('alter table %I attach partition %I for values from (%L) to (%L)', a, b, c, d)",
            "execute format('alter default privileges in schema %I grant select on tables to %I', a, b)",
            "execute format('drop owned by %I', a)",
            "execute format('reassign owned by %I to %I', a, b)",
            "execute format('create extension if not exists %I with schema %I', a, b)",
            "update users set role = 'admin' where id = 1",
            "update only t as u set role = 'admin'",
            "insert into t values (1, e'a\\nb') on conflict (id) do update set t = e'a\\nb'",
            "create rule r as on insert to t do also select e'a\\n'",
            "insert into t values (1) on conflict (id) do update set role = excluded.role",
            "execute 'update t set role = 1'",
            "if exists (select 1 from pg_settings where name = 'x') then perform 1; end if",
        ] {
            assert_harmless(body);
        }
    }

    #[test]
    fn what_migrations_compute_runs() {
        for body in [
            "execute pg_catalog.format('drop table %I', x)",
            "execute 'drop table ' || \"pg_catalog\".quote_ident(x) || ' cascade'",
            "execute format('select * from %I t where t.id = 1', x)",
            "execute format('select * from %I as t left join %I u on t.id = u.id', x, y)",
            "execute format('delete from %I a using %I b where a.id = b.id', x, y)",
            "execute format('alter table %I add column if not exists %I text', x, y)",
            "execute format('grant select, update on %I.%I to x', x, y)",
            "execute format('revoke select on %I.%I from %I', x, y, z)",
            "execute format('alter table %I set schema %I', x, y)",
            "execute format('alter table if exists only %I.%I set schema x', x, y)",
            "alter sequence s set schema x",
            "execute format('alter table %I replica identity full', x)",
            "execute format('alter table %I validate constraint %I', x, y)",
            "execute format('alter table %I inherit %I', x, y)",
            "create trigger t before update on a for each row execute function f()",
            "create trigger t before update on a when (pg_trigger_depth() = 0) execute procedure f()",
            "grant execute on function f() to x",
            "execute format('create role %I with login password %L', a, b)",
            "execute format('alter table %I force row level security', a)",
            "execute format('create policy %I on %I for all to %I using (true)', a, b, c)",
            "execute format('alter table %I alter column %I type text using %I::text', a, b, c)",
            "execute format('create sequence %I owned by %I.%I', a, b, c)",
            "execute format('alter type %I add value %L', a, b)",
            "execute format('select %I->>%L, %I #> %L from %I', a, b, c, d, e)",
            "execute format('select 1 where %I > now() - interval %L and %I at time zone %L is not distinct from %L', a, b, c, d, e)",
        ] {
            assert_harmless(body);
        }
    }

    /// Each leads out of a tenant's state with the right words put in.
    #[test]
    fn what_is_put_in_may_not_be_run() {
        for body in [
            "execute 'do ' || quote_literal('begin set role x; end')",
            "execute 'do ' || quote_nullable('begin set role x; end')",
            "execute format('do %L', 'begin set role x; end')",
            "execute format('do $a$ begin perform %L; end $a$', '$a$; set role x; $a$')",
            "execute format('do ''begin set %I x; end''', 'role')",
            "execute 'select ' || quote_ident('set_config') || '(''role'', ''x'', false)'",
            "execute 'select pg_catalog.' || quote_ident('set_config') || '(''role'', ''x'', false)'",
            "execute format('select set_%I(''role'', ''x'', false)', 'config')",
            "execute format('select %Iconfig(''role'', ''x'', false)', 'set_')",
            "execute format('select \"set_%I\"(''role'', ''x'', false)', 'config')",
            "execute format('select 1 -- %I', e'\\n; set role x')",
            "execute format('select 1 /* %I */', '*/; set role x; /*')",
            "execute 'create temp table t as select ' || quote_ident('set_config') || '(1)'",
            "execute format('create table t as (%I y)', 'x')",
            "execute format('create table t as %I y', 'execute')",
            "execute format('create index on t (%I(a))', 'x')",
            "execute format('select * from a join b on %I(1)', 'x')",
            "execute format('explain analyze %I t set a = 1', 'update')",
            "execute format('with u as (%I %I set setting = 1) select 1', 'update', 'pg_settings')",
            "execute format('prepare p as %I t set a = 1', 'update')",
            "execute format('%I role x', 'set')",
            "execute format('select 1' || x)",
            "execute format('select 1'::text || x, y)",
            "execute format('select 1' collate \"C\" || x)",
            "execute format(variadic x)",
            "execute format('%-5I', x)",
            "execute format('%*1$s', 5, x)",
            "execute 'reset ' || quote_ident('role')",
            "execute 'set a' || quote_ident(x) || ' = 1'",
            "execute 'execute ' || quote_ident(x)",
            "execute format('create view v as select * from %I', 'pg_settings')",
            "execute format('create %I v as select * from pg_settings', 'view')",
            "execute format('create or replace %I v as select 1', 'view')",
            // PostgreSQL takes `x.f` for `f(x)`.
            "execute format('select x.%I from concat(%L) x', 'ts_stat', 'select 1')",
            "execute format('select (x.%I).* from concat(%L) x', 'ts_stat', 'select 1')",
            "execute format('select (concat(%L)).%I', 'select 1', 'ts_stat')",
            "execute format('select %I.%I from concat(%L) x', 'x', 'ts_stat', 'select 1')",
            "execute format('select 1 from concat(%L) a order by a.%I', 'select 1', 'ts_stat')",
            "execute format('select extract(year from x.%I) from t x', 'ts_stat')",
            "execute format('select 1 from a x where b is distinct from x.%I', 'ts_stat')",
            "execute format('select 1 from a x join b on x.%I = 1', 'ts_stat')",
            "execute format('alter table t alter c type text using x.%I', 'ts_stat')",
            "execute format('delete from t x where x.%I is null', 'ts_stat')",
            "execute format('insert into t select x.%I from concat(%L) x', 'ts_stat', 'select 1')",
            "execute 'select x.' || quote_ident('ts_stat') || ' from t x'",
            // A literal with a backslash is E'', and so is what continues it.
            "execute format('select %L\n''\\''''; set role x; --''', E'a\\\\b')",
            "execute format('set a.b to %L\n''x''', x)",
            "execute 'select ' || quote_literal(x) || E'\\n''a'''",
            "execute 'select ' || quote_literal(x) || '\n''a'''",
            "execute format('select %L --\n''a''', x)",
            "execute format('select ''a''\n%L', x)",
            "execute format('set a.b to %L, c', x)",
            "execute format('set %I to %L', x, y)",
            // Keywords that are no names' need no quotes.
            "execute format('update %I %I setting = %L where name = %L', 'pg_settings', 'set', 'x', 'y')",
            "execute format('update %I %I %I = %L', 'pg_settings', 'set', 'setting', 'x')",
            "execute format('update only %I %I setting = 1', 'pg_settings', 'set')",
            "execute format('update pg_catalog.%I %I setting = 1', 'pg_settings', 'set')",
            "execute format('update %I x %I setting = 1', 'pg_settings', 'set')",
            "execute format('select 1; %I role x', 'set')",
            "execute format('insert into t with x as (%I pg_settings set setting = 1) select 1', 'update')",
            "execute format('alter table t %I x', 'add')",
            "execute format('alter %I x set role to y', 'role')",
            "execute format('select %I %L', 'x', 'y')",
            // A variable may be called so.
            "execute function",
            "execute procedure",
            "execute function || 'x'",
            "execute function from (select 1) y",
            "execute function operator(pg_catalog.||) 'x'",
            "if row then execute function; end if",
            // Before PostgreSQL 14 these go on as an expression of more than one SELECT.
            "execute 'select 1' loop except select 'select 1' union select x",
            "for r in execute 'select 1' into except select 'select 1' union select x loop null; end loop",
            "for r in execute function loop null; end loop",
            "open c for execute function",
            "execute x.format('select 1')",
            "execute pg_catalog.x.format('select 1')",
            "execute pg_catalog || format('select 1')",
            "execute pg_catalog",
            "execute format('update %I x set setting = %L', 'pg_settings', 'y')",
            "execute format('insert into %I x', 'set')",
            "execute format('select 1 from a x where b is distinct from %I x', 'y')",
        ] {
            assert!(read(body).unknown.is_some(), "{body}: {:?}", read(body));
        }
    }

    #[test]
    fn what_hides_in_the_body_or_updates_settings_is_seen() {
        for body in [
            r#"perform U&"set\005fconfig"('role', 'x', false)"#,
            r#"x := U&"set\005fconfig"('role', 'x', false)"#,
            r#"execute 'select U&"set\005fconfig"(''role'', ''x'', false)'"#,
            "do U&'begin se!0074 role x; end' uescape '!'",
            "execute 'do U&''begin se!0074 role x; end'' uescape ''!'''",
            r"execute 'do E''begin se\x74 role x; end'''",
            r"execute 'do language plpgsql E''begin se\x74 role x; end'''",
            r"do U&'begin se\0074 role x; end'",
            "perform query_to_xml('select 1', true, true, '')",
            "perform query_to_xmlschema('select 1', true, true, '')",
            "perform * from ts_stat('select 1')",
            "perform ts_rewrite('a'::tsquery, 'select 1')",
            "perform cursor_to_xml('c', 1, true, true, '')",
            "execute 'select query_to_xml(' || quote_literal(x) || ', true, true, '''')'",
            "perform \"query_to_xml\"('select 1', true, true, '')",
        ] {
            assert!(read(body).unknown.is_some(), "{body}");
        }
        for body in [
            "update pg_settings set setting = 'x' where name = 'role'",
            "update pg_catalog.pg_settings set setting = 'x' where name = 'role'",
            "update \"pg_settings\" as p set setting = 'x'",
            "with u as (update pg_settings set setting = 'x' returning 1) select 1 into x from u",
            "for r in update pg_settings set setting = 'x' returning 1 loop end loop",
            "execute 'update pg_settings set setting = ''x'''",
            "execute format('update %I set setting = 1', 'pg_settings')",
            "execute 'update ' || quote_ident('pg_settings') || ' set ' || quote_ident('setting') || ' = 1'",
            "create view v as select * from pg_settings",
            "create rule r as on update to t do instead select * from pg_settings",
            "if update then set role x; end if",
            "while update loop set role x; end loop",
            "perform update; set role x",
            "case update when true then set role x; end case",
        ] {
            assert!(!read(body).assignments.is_empty(), "{body}");
        }
    }
}
