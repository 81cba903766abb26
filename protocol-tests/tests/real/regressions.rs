//! What a hostile review found once. Each of these was wrong, and stays mended.

use protocol_tests::wire::{
    V3_0, batch, bind, close, describe, execute, flush, message, parse, query, startup, sync,
};
use protocol_tests::{Database, Wire, on_both};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{raw, trusting};

on_both! {
    async fn a_copy_that_swallowed_a_sync_keeps_its_transaction(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut other = raw(&pooler, "acme").await;
        let mut wire = raw(&pooler, "acme").await;
        wire.send(&[batch("copy who from stdin"), sync()].concat()).await;
        for tag in ['1', '2', 'G'] {
            assert_eq!(wire.receive().await.tag, tag);
        }
        wire.send(&[message('d', b"copied\n"), message('c', b""), flush()].concat()).await;
        assert_eq!(wire.receive().await.tag, 'C');
        other.send(&query("select count(*) from who")).await;
        pooler.until_message(1, "client waits for a server").await;
        wire.send(&sync()).await;
        assert_eq!(wire.tags().await, "ZI");
        assert_eq!(other.until_ready().await.0[1].text(), "2", "committed before anybody else came");
    }

    async fn where_a_message_is_cut_does_not_matter(db: &Database) {
        let pooler = trusting(db, 1).await;
        let (mut a, mut b) = (raw(&pooler, "acme").await, raw(&pooler, "acme").await);
        let set_config = "select set_config($1, '321kB', false)";
        let named = [&b"\0\0\0\0\0\x01"[..], &8_u32.to_be_bytes(), b"work_mem", &[0, 0]].concat();
        for (unit, answer) in [
            (query("set work_mem to '123kB'"), "CZI"),
            ([batch("set work_mem to '321kB'"), sync()].concat(), "12CZI"),
            ([parse("", set_config), message('B', &named), execute("", 0), sync()].concat(), "12DCZI"),
        ] {
            for cut in 1..unit.len() {
                // Behind a query whose answer says that the pooler has read both.
                a.send(&[&query("select 1"), &unit[..cut]].concat()).await;
                assert_eq!(a.tags().await, "TDCZI");
                a.send(&unit[cut..]).await;
                assert_eq!(a.tags().await, answer, "{cut}");
                assert_eq!(b.run("show work_mem").await.unwrap(), ["4MB"], "{cut}");
            }
            assert_ne!(a.run("show work_mem").await.unwrap(), ["4MB"]);
            // As many as do not fit into a buffer.
            a.send(&unit.repeat(1000)).await;
            for _ in 0..1000 {
                assert_eq!(a.tags().await, answer);
            }
            a.run("reset work_mem").await.unwrap();
        }
        assert_eq!(pooler.messages("session pinned to its server"), 0);
    }

    async fn a_name_may_be_cut_anywhere(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut wire = raw(&pooler, "acme").await;
        let first = [query("begin"), parse("s1", "select 1"), sync()].concat();
        let named = [parse("s2", "select 2"), describe('S', "s1"), bind("p", "s2"), execute("p", 0), close('S', "s1"), close('P', "p"), parse("s1", "select 3"), close('S', "s1"), close('S', "s2"), sync()].concat();
        for cut in 1..named.len() {
            wire.send(&[&first[..], &named[..cut]].concat()).await;
            assert_eq!(wire.tags().await, "CZT");
            assert_eq!(wire.tags().await, "1ZT");
            // It has read them: the next is sent on its own.
            wire.send(&named[cut..]).await;
            assert_eq!(wire.tags().await, "1tT2DC33133ZT", "{cut}");
            wire.run("rollback").await.unwrap();
        }
        // As large a pipeline as is cut wherever a buffer ends.
        let unit = |n: usize| [parse("st", &format!("select {n}")), bind("", "st"), execute("", 0), describe('S', "st"), close('S', "st")].concat();
        wire.send(&[(0..3000).flat_map(unit).collect(), sync()].concat()).await;
        assert_eq!(wire.tags().await, "12DCtT3".repeat(3000) + "ZI");
    }

    async fn a_sync_inside_a_simple_copy_is_swallowed(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut wire = raw(&pooler, "acme").await;
        wire.send(&query("copy who from stdin")).await;
        assert_eq!(wire.receive().await.tag, 'G');
        wire.send(&[message('d', b"a\n"), sync(), message('d', b"b\n"), message('c', b"")].concat()).await;
        assert_eq!(wire.tags().await, "CZI");
        assert_eq!(wire.run("select count(*) from who").await.unwrap(), ["3"]);
    }

    async fn a_refused_query_does_not_reveal_the_unnamed_statement(db: &Database) {
        let pooler = trusting(db, 1).await;
        let sql = ["execute tenantry_99", "deallocate tenantry_99"];
        let parsed = sql.map(|sql| [parse("", sql), sync()].concat());
        for refused in sql.map(query).into_iter().chain(parsed) {
            // A login may ask the server, which drops it.
            let mut wire = raw(&pooler, "acme").await;
            let mut victim = raw(&pooler, "acme").await;
            victim.send(&[parse("", "select 'secret'"), sync()].concat()).await;
            assert_eq!(victim.tags().await, "1ZI");
            wire.send(&refused).await;
            assert_eq!(wire.tags().await, "EZI");
            wire.send(&[bind("", ""), execute("", 0), sync()].concat()).await;
            assert_eq!(wire.tags().await, "EZI", "{refused:?}");
        }
    }

    async fn a_statement_made_by_a_function_does_not_cross_tenants(db: &Database) {
        let pooler = trusting(db, 1).await;
        db.admin.batch_execute("create function public.plant() returns void language plpgsql as $$ begin execute 'prepare s1 as select ''secret'''; end $$").await.unwrap();
        let (mut acme, mut umbra) = (raw(&pooler, "acme").await, raw(&pooler, "umbra").await);
        acme.run("select public.plant()").await.unwrap();
        umbra.send(&[bind("", "s1"), execute("", 0), sync()].concat()).await;
        assert_eq!(umbra.until_ready().await.0[0].field('C'), "26000");
    }

    async fn a_function_call_or_a_malformed_query_does_not_reveal_the_unnamed_statement(db: &Database) {
        let pooler = trusting(db, 1).await;
        let call = message('F', &[0, 0, 0x07, 0xea, 0, 0, 0, 0, 0, 0]);
        for first in [call, message('Q', b"no end"), message('P', b"\0no end")] {
            let mut a = raw(&pooler, "acme").await;
            a.send(&[batch("select 'secret of a'"), sync()].concat()).await;
            a.until_ready().await;
            let mut b = raw(&pooler, "acme").await;
            b.send(&[first.clone(), sync(), bind("", ""), execute("", 0), sync()].concat()).await;
            for _ in 0..2 + usize::from(first[0] != b'P') {
                let (messages, _) = b.until_ready().await;
                assert!(messages.iter().all(|m| m.tag != 'D'), "{first:?}");
            }
        }
    }

    async fn nobody_starts_as_a_role_the_tenant_does_not_have(db: &Database) {
        let name = &db.name;
        db.admin.batch_execute(&format!("create role {name}_a; grant {name}_a to {name}")).await.unwrap();
        let pooler = trusting(db, 1).await;
        let mut wire = Wire::open(pooler.port).await;
        wire.send(&startup(V3_0, &[("user", "app.acme"), ("role", &format!("{name}_a"))])).await;
        assert_eq!(wire.receive().await.field('C'), "42501");
        for tenant in ["public", "pg_catalog", "information_schema"] {
            let mut wire = Wire::open(pooler.port).await;
            wire.send(&startup(V3_0, &[("user", &format!("app.{tenant}"))])).await;
            assert_eq!(wire.receive().await.field('C'), "3D000", "{tenant}");
        }
    }

    async fn a_full_buffer_on_a_message_boundary_is_no_whole_unit(db: &Database) {
        let pooler = trusting(db, 1).await;
        let (mut umbra, mut acme) = (raw(&pooler, "umbra").await, raw(&pooler, "acme").await);
        // Bind and Execute of a length that cuts the buffer exactly, and around, a boundary.
        let one = [bind("", ""), execute("", 0)].concat().len();
        for shift in 0..one {
            umbra.run("select 1").await.unwrap();
            let head = parse("", &format!("select 1 /*{}*/", "x".repeat(shift)));
            let count = 20_000 / one;
            let unit: Vec<u8> = head.into_iter().chain((0..count).flat_map(|_| [bind("", ""), execute("", 0)].concat())).chain(sync()).collect();
            acme.send(&unit).await;
            let (messages, status) = acme.until_ready().await;
            assert_eq!((messages.iter().filter(|m| m.tag == 'D').count(), status), (count, 'I'), "{shift}");
        }
    }

    async fn a_lone_sync_keeps_its_place_in_the_answers(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut wire = raw(&pooler, "acme").await;
        wire.send(&[sync(), query("begin"), sync(), query("commit")].concat()).await;
        assert_eq!(wire.tags().await, "ZI");
        assert_eq!(wire.tags().await, "CZT");
        assert_eq!(wire.tags().await, "ZT");
        assert_eq!(wire.tags().await, "CZI");
    }

    async fn a_value_that_does_not_fit_pins_nobody(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut wire = raw(&pooler, "acme").await;
        let bad = message('B', b"\0\0\0\0\0\x01\0\0\0\x03abc\0\0");
        wire.send(&[parse("", "select $1::int"), bad, execute("", 0), sync()].concat()).await;
        assert_eq!(wire.tags().await, "1EZI");
        assert_eq!(raw(&pooler, "umbra").await.run("select name from who").await.unwrap(), ["umbra"]);
        assert_eq!(pooler.messages("session pinned to its server"), 0);
    }

    async fn what_was_sent_before_goodbye_or_before_nonsense_still_runs(db: &Database) {
        let pooler = trusting(db, 1).await;
        let (mut umbra, mut acme) = (raw(&pooler, "umbra").await, raw(&pooler, "acme").await);
        umbra.run("select 1").await.unwrap(); // acme's first statement needs a switch
        acme.send(&[query("select pg_sleep(0.3)"), query("insert into who values ('kept')"), message('X', b"")].concat()).await;
        drop(acme);
        let mut acme = raw(&pooler, "acme").await;
        assert_eq!(acme.run("select count(*) from who").await.unwrap(), ["2"]);
        acme.send(&[query("select pg_sleep(0.3); insert into who values ('too')"), message('y', b"")].concat()).await;
        assert_eq!(acme.tags().await, "TDCCZI");
        assert_eq!(acme.receive().await.field('C'), "08P01");
        assert_eq!(raw(&pooler, "acme").await.run("select count(*) from who").await.unwrap(), ["3"]);
    }

    async fn no_error_is_written_into_the_middle_of_a_row(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut wire = raw(&pooler, "acme").await;
        wire.send(&query("select repeat('x', 100000000)")).await;
        assert_eq!(wire.receive().await.tag, 'T');
        db.until("state = 'active' and wait_event = 'ClientWrite'", 1).await;
        // It writes on as long as something between it and the client takes it: wherever it stands.
        let sql = "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and datname = current_database()";
        db.admin.batch_execute(sql).await.unwrap();
        assert!(wire.next().await.is_none(), "the row never ended, so nothing can follow it");
    }

    async fn bytes_behind_a_request_for_encryption_are_refused_without_tls_too(db: &Database) {
        let pooler = trusting(db, 1).await;
        for code in [80_877_103_i32, 80_877_104] {
            let mut wire = Wire::open(pooler.port).await;
            let request = [&8_i32.to_be_bytes()[..], &code.to_be_bytes()].concat();
            wire.send(&[request, startup(V3_0, &[("user", "app.acme")])].concat()).await;
            // As PostgreSQL does: it has no TLS, and says so first. Of GSSAPI the error is the answer.
            if code == 80_877_103 {
                assert_eq!(wire.letter().await, Some(b'N'));
            }
            let answer = wire.receive().await;
            assert_eq!((answer.tag, answer.field('C').as_str()), ('E', "08P01"));
        }
    }

    async fn a_silent_connection_does_not_delay_the_stop(db: &Database) {
        let mut pooler = trusting(db, 1).await;
        let silent = Wire::open(pooler.port).await;
        raw(&pooler, "acme").await.run("select 1").await.unwrap();
        pooler.signal("INT");
        assert!(pooler.ended().await.success());
        assert_eq!(pooler.messages("some connections did not end in time and are cut"), 0);
        drop(silent);
    }

    async fn a_function_called_by_its_oid_is_not_overlooked(db: &Database) {
        let pooler = trusting(db, 1).await;
        let (mut a, mut b) = (raw(&pooler, "acme").await, raw(&pooler, "acme").await);
        // set_config('search_path', 'umbra', false), and lo_creat(-1), which leaves nothing behind.
        let argument = |value: &[u8]| [&u32::try_from(value.len()).unwrap().to_be_bytes()[..], value].concat();
        let text = [&[0, 0, 0x08, 0x1e, 0, 0, 0, 3][..], &argument(b"search_path"), &argument(b"umbra"), &argument(b"f"), &[0, 0]].concat();
        let large_object = [&[0, 0, 0x03, 0xbd, 0, 0, 0, 1][..], &argument(b"-1"), &[0, 0]].concat();
        a.send(&message('F', &large_object)).await;
        assert_eq!(a.tags().await, "VZI");
        assert_eq!(b.run("select name from who").await.unwrap(), ["acme"]);
        a.send(&message('F', &text)).await;
        let tags = a.tags().await; // PostgreSQL 18 reports the new search_path
        assert!(tags.contains('V') && !tags.contains('E'), "{tags}");
        pooler.until_message(1, "session pinned to its server").await;
        assert_eq!(a.run("select name from who").await.unwrap(), ["umbra"], "its own affair");
        drop(a);
        assert_eq!(b.run("select name from who").await.unwrap(), ["acme"]);
    }

    async fn a_query_in_no_encoding_does_not_reveal_the_unnamed_statement(db: &Database) {
        let pooler = trusting(db, 1).await;
        let (mut a, mut b) = (raw(&pooler, "acme").await, raw(&pooler, "acme").await);
        a.send(&[batch("select 'secret of a'"), sync()].concat()).await;
        a.until_ready().await;
        b.send(&[message('Q', b"select \xff\0"), bind("", ""), execute("", 0), sync()].concat()).await;
        for code in ["22021", "26000"] {
            let (messages, _) = b.until_ready().await;
            assert_eq!(messages[0].field('C'), code);
        }
    }

    async fn a_temporary_schema_named_in_a_string_pins(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut a = raw(&pooler, "acme").await;
        a.run("begin; set local search_path to 'pg_temp'; create table mine (t text); commit").await.unwrap();
        let mut b = raw(&pooler, "acme").await;
        b.send(&query("select * from mine")).await;
        pooler.until_message(1, "client waits for a server").await;
        assert_eq!(a.run("select count(*) from mine").await.unwrap(), ["0"], "it keeps what it made");
        drop(a);
        assert_eq!(b.until_ready().await.0[0].field('C'), "42P01");
    }

    async fn an_unnamed_statement_that_was_closed_ties_nobody_to_a_server(db: &Database) {
        let pooler = trusting(db, 1).await;
        let (mut a, mut b) = (raw(&pooler, "acme").await, raw(&pooler, "acme").await);
        a.send(&[parse("", "select 1"), message('C', b"S\0"), sync()].concat()).await;
        assert_eq!(a.tags().await, "13ZI");
        assert_eq!(b.run("select name from who").await.unwrap(), ["acme"]);
    }

    async fn a_client_that_left_with_a_full_buffer_leaves_the_queue(db: &Database) {
        let pooler = trusting(db, 1).await;
        let (mut holder, mut gone, mut next) = (raw(&pooler, "acme").await, raw(&pooler, "acme").await, raw(&pooler, "acme").await);
        holder.run("begin").await.unwrap();
        gone.send(&query(&format!("insert into who values ('ghost') /* {} */", "x".repeat(60_000)))).await;
        pooler.until_message(1, "client waits for a server").await;
        drop(gone);
        next.send(&query("select count(*) from who")).await;
        pooler.until_message(2, "client waits for a server").await;
        holder.run("commit").await.unwrap();
        assert_eq!(next.until_ready().await.0[1].text(), "1");
    }

    async fn many_cancels_of_one_client_are_few_connections(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut wire = raw(&pooler, "acme").await;
        wire.send(&query("select pg_sleep(600)")).await;
        db.until("state = 'active' and query like '%pg_sleep%'", 1).await;
        let mut cancels = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let (port, pid, key) = (pooler.port, wire.pid, wire.key.clone());
            cancels.spawn(async move { Wire::cancel(port, pid, &key).await });
        }
        let (messages, status) = wire.until_ready().await;
        assert_eq!((messages.iter().find(|m| m.tag == 'E').unwrap().field('C').as_str(), status), ("57014", 'I'));
        while let Some(ended) = cancels.join_next().await {
            ended.unwrap();
        }
        assert_eq!(wire.run("select name from who").await.unwrap(), ["acme"]);
    }

    async fn a_session_that_starts_in_the_temporary_schema_is_pinned(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut b = raw(&pooler, "acme").await;
        let mut a = Wire::login(pooler.port, &[("user", "app.acme"), ("search_path", "pg_temp, acme")]).await;
        a.run("create table mine (t text)").await.unwrap();
        b.send(&query("select * from mine")).await;
        pooler.until_message(1, "client waits for a server").await;
        drop(a);
        assert_eq!(b.until_ready().await.0[0].field('C'), "42P01");
    }

    async fn a_scrub_that_waits_for_a_lock_does_not_keep_its_place(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut a = raw(&pooler, "acme").await;
        a.run("create temp table mine ()").await.unwrap();
        let name: String = db.admin.query_one("select nspname || '.mine' from pg_class c join pg_namespace n on n.oid = relnamespace where relname = 'mine'", &[]).await.unwrap().get(0);
        db.admin.batch_execute(&format!("begin; lock table {name} in access share mode")).await.unwrap();
        drop(a);
        let mut b = raw(&pooler, "umbra").await;
        assert_eq!(b.run("select name from who").await.unwrap(), ["umbra"]);
        db.admin.batch_execute("rollback").await.unwrap();
        db.until("true", 1).await;
    }

    async fn who_still_talks_when_its_server_dies_sees_an_end_and_no_reset(db: &Database) {
        let pooler = trusting(db, 1).await;
        let socket = std::net::TcpStream::connect(("127.0.0.1", pooler.port)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut end = TcpStream::from_std(socket.try_clone().unwrap()).unwrap();
        let mut wire = Wire::over(TcpStream::from_std(socket).unwrap());
        wire.send(&startup(V3_0, &[("user", "app.acme")])).await;
        wire.logged_in().await;
        wire.send(&query("select pg_sleep(600)")).await;
        db.until("query = 'select pg_sleep(600)'", 1).await;
        // As much as all buffers on the way hold, so that the pooler has not read all of it.
        let chunk = [&[b'Q', 0x30, 0, 0, 0][..], &vec![b'x'; 1 << 20]].concat();
        while end.try_write(&chunk).is_ok() {}
        let sql = "select pg_terminate_backend(pid) from pg_stat_activity where query = 'select pg_sleep(600)' and datname = current_database()";
        db.admin.execute(sql, &[]).await.unwrap();
        let mut last = wire.receive().await;
        while last.tag != 'E' {
            last = wire.receive().await;
        }
        assert_eq!(last.field('C'), "57P01");
        assert_eq!(end.read(&mut [0]).await.expect("an end that is no lost connection"), 0);
    }

    async fn who_is_refused_while_it_still_talks_reads_why(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut socket = TcpStream::connect(("127.0.0.1", pooler.port)).await.unwrap();
        let hello = startup(V3_0, &[("user", "app.nobody")]);
        socket.write_all(&[hello, query(&"x".repeat(100_000))].concat()).await.unwrap();
        let mut said = Vec::new();
        socket.read_to_end(&mut said).await.expect("an end that is no lost connection");
        assert!(String::from_utf8_lossy(&said).contains("nobody"), "{said:?}");
    }
}
