use proptest::prelude::*;

use super::{ClientEvent, ClientScan, ClientVerdict, Exchange, Refusal, ServerScan, ServerVerdict};
use crate::sql::{Flag, Flags};
use crate::wire::frontend::Names;

/// Sends each tag of `text`; an upper-case tag after `_` is of a named statement.
fn client(exchange: &mut Exchange, tags: &str) {
    for tag in tags.bytes() {
        let verdict = exchange.on_client(tag, Names::Unnamed);
        assert_eq!(verdict, ClientVerdict::Forward, "{}", char::from(tag));
    }
}

/// Receives each tag of `text`; `i`, `t`, `e` are `ReadyForQuery` with that status.
fn server(exchange: &mut Exchange, tags: &str) {
    for tag in tags.bytes() {
        let result = match tag {
            b'i' => exchange.on_server(b'Z', Some(b"I")),
            b'x' => exchange.on_server(b'Z', Some(b"T")),
            b'e' => exchange.on_server(b'Z', Some(b"E")),
            _ => exchange.on_server(tag, None),
        };
        assert!(result.is_ok(), "{} in {tags}: {result:?}", char::from(tag));
    }
}

#[test]
fn a_server_is_at_rest_only_with_nothing_owed_and_no_transaction() {
    for (steps, rest) in [
        (&[("Q", "TDCi")][..], true),
        (&[("Q", "TDC")], false),
        (&[("Q", "Cx")], false),
        (&[("Q", "Ee")], false),
        (&[("Q", "Cx"), ("Q", "Ci")], true),
        (&[("QQ", "Ci")], false),
        (&[("QQ", "CiEi")], true),
        (&[("Q", "CCEi")], true),
        (&[("PBDES", "12TDCi")], true),
        (&[("PBES", "E"), ("", "i")], true),
        (&[("PBE", "12C")], false),
        (&[("PBEH", "12C")], false),
        (&[("PBEH", "12s")], false),
        (&[("PBESPBEH", "12Ci12C")], false),
        (&[("PBESPBES", "12Ci12Ci")], true),
        (&[("PBESPBES", "Ei12Ci")], true),
        (&[("PBE", "E"), ("BEQ", ""), ("S", "i")], true),
        (&[("PBE", "E"), ("Q", "")], false),
        (&[("PS", "1i")], true),
        (&[("F", "Vi")], true),
        (&[("F", "Ei")], true),
        (&[("Q", "G"), ("ddc", "Ci")], true),
        (&[("Q", "G"), ("ddf", "Ei")], true),
        (&[("Q", "G"), ("d", "Ei")], true),
        (&[("Q", "HddcCi")], true),
        (&[("PBE", "12G"), ("ddcS", "Ci")], true),
        (&[("PBES", "12G"), ("ddcS", "Ci")], true),
        (&[("PBE", "12G"), ("df", "E"), ("S", "i")], true),
        // The COPY failed; whether it ate the early Sync is not known: never released.
        (&[("PBES", "12G"), ("d", "Ei")], false),
        // The COPY ate the early Sync: its transaction is open until another one comes.
        (&[("PBES", "12G"), ("ddc", "C")], false),
        (&[("PBES", "12G"), ("ddc", "C"), ("S", "i")], true),
        (&[("PBES", "12G"), ("ddcS", "C")], false),
        (&[("Q", "G"), ("dSdc", "Ci")], true),
        (&[("Q", "G"), ("dSd", "Ei")], false),
        // A query inside a COPY: PostgreSQL's answer depends on its timing.
        (&[("Q", "G"), ("Q", "Ei")], false),
        (&[("Qdc", "Ei")], true),
    ] {
        let mut exchange = Exchange::default();
        for (sent, came) in steps {
            client(&mut exchange, sent);
            server(&mut exchange, came);
        }
        assert_eq!(exchange.is_at_rest(), rest, "{steps:?}");
    }
}

#[test]
fn a_reply_that_answers_nothing_is_unexpected() {
    for (sent, came, odd) in [
        ("", "", b'Z'),
        ("", "", b'C'),
        ("", "", b'T'),
        ("Q", "Ci", b'Z'),
        ("Q", "", b'1'),
        ("P", "", b'2'),
        ("PBE", "12", b'T'),
        ("Q", "", b'V'),
        ("Q", "", b'W'),
        ("Q", "", b'R'),
        ("Q", "", b'K'),
        ("Q", "G", b'Z'),
    ] {
        let mut exchange = Exchange::default();
        client(&mut exchange, sent);
        server(&mut exchange, came);
        let body = Some(&b"I"[..]);
        assert!(exchange.on_server(odd, body).is_err(), "{sent} {came} {}", char::from(odd));
    }
    let mut exchange = Exchange::default();
    client(&mut exchange, "Q");
    assert!(exchange.on_server(b'Z', Some(b"X")).is_err());
}

#[test]
fn notices_and_parameters_may_come_at_any_time() {
    let mut exchange = Exchange::default();
    server(&mut exchange, "NA");
    assert_eq!(exchange.on_server(b'S', None), Ok(ServerVerdict::Parameter));
    client(&mut exchange, "PBES");
    server(&mut exchange, "N1A2NCNi");
    assert!(exchange.is_at_rest());
}

#[test]
fn replies_to_the_switch_are_swallowed_and_counted() {
    let mut exchange = Exchange::default();
    client(&mut exchange, "Q");
    exchange.begin_switch(6);
    for tag in *b"12CN1DA2" {
        assert_eq!(exchange.on_server(tag, None), Ok(ServerVerdict::Swallow));
    }
    assert_eq!(exchange.on_server(b'S', None), Ok(ServerVerdict::Parameter));
    assert_eq!(exchange.on_server(b'C', None), Ok(ServerVerdict::SwitchDone));
    server(&mut exchange, "TDCi");
    assert!(exchange.is_at_rest());
    exchange.begin_switch(3);
    assert_eq!(exchange.on_server(b'E', None), Ok(ServerVerdict::SwitchFailed));
    exchange.begin_switch(3);
    assert!(exchange.on_server(b'Z', Some(b"I")).is_err(), "a switch has no Sync to answer");
}

#[test]
fn copy_data_that_belongs_to_no_copy_is_discarded() {
    let mut exchange = Exchange::default();
    for tag in *b"dcf" {
        assert_eq!(exchange.on_client(tag, Names::Unnamed), ClientVerdict::Discard);
    }
    assert_eq!(exchange.on_client(b'X', Names::Unnamed), ClientVerdict::Terminate);
    for tag in [b'p', b'?', 0, 255] {
        assert_eq!(exchange.on_client(tag, Names::Unnamed), ClientVerdict::Unknown);
    }
}

#[test]
fn an_unnamed_statement_that_nobody_bound_waits_for_its_bind() {
    for (sent, came, waits) in [
        ("PDS", "1tTi", true),
        ("PBES", "12Ci", false),
        ("PS", "Ei", false),
        ("PSQ", "1iCi", true),
        ("PCS", "13i", false),
    ] {
        let mut exchange = Exchange::default();
        client(&mut exchange, sent);
        server(&mut exchange, came);
        assert_eq!(exchange.unnamed_statement_waits(), waits, "{sent}");
    }
}

#[test]
fn a_refused_unit_is_answered_as_postgresql_would() {
    for (sent, want) in [
        ("Q", Refusal::Ready),
        ("PBES", Refusal::Ready),
        ("F", Refusal::Ready),
        ("PBEH", Refusal::SkipToSync),
    ] {
        let mut exchange = Exchange::default();
        client(&mut exchange, sent);
        assert_eq!(exchange.refuse(), want, "{sent}");
        assert_eq!(exchange.skips_to_sync(), want == Refusal::SkipToSync);
    }
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    bytes.extend(body);
    bytes
}

/// All events of a stream that arrives in pieces of `step` bytes; a whole message as two.
fn events(stream: &[u8], step: usize) -> Vec<ClientEvent> {
    let (mut scan, mut events, mut done, mut end) = (ClientScan::new(), Vec::new(), 0, 0);
    loop {
        let (consumed, event) = scan.next(&stream[done..end]).unwrap();
        done += consumed;
        match event {
            Some(ClientEvent::Whole { tag, names, flags }) => {
                events
                    .extend([ClientEvent::Begins { tag, names }, ClientEvent::Ends { tag, flags }]);
            }
            event => events.extend(event),
        }
        if event.is_none() && consumed == 0 {
            if end == stream.len() {
                assert_eq!(done, end);
                return events;
            }
            end = (end + step).min(stream.len());
        }
    }
}

#[test]
fn messages_are_found_however_the_stream_is_cut() {
    let stream = [
        message(b'Q', b"set x = 1\0"),
        message(b'P', b"\0select 1\0\0\0"),
        message(b'P', b"name\0reset all\0\0\0"),
        message(b'B', b"portal\0name\0\0\0\0\0"),
        message(b'B', b""),
        message(b'C', b"S\0"),
        message(b'C', b"Sname\0"),
        message(b'C', b"P\0"),
        message(b'F', b"\0\0\x03\xb8\0\0\0\0\0\0"),
        message(b'F', b"\0\0\x08\x1e\0\0\0\0\0\0"),
        message(b'S', b""),
        message(b'd', &[7; 300]),
    ]
    .concat();
    let begins = |tag, names| ClientEvent::Begins { tag, names };
    let ends = |tag, flags| ClientEvent::Ends { tag, flags };
    let want = vec![
        begins(b'Q', Names::Other),
        ends(b'Q', Flags::one(Flag::Set)),
        begins(b'P', Names::Unnamed),
        ends(b'P', Flags::NONE),
        begins(b'P', Names::Statement),
        ends(b'P', Flags::one(Flag::Reset)),
        begins(b'B', Names::Statement),
        ends(b'B', Flags::NONE),
        begins(b'B', Names::Other),
        ends(b'B', Flags::NONE),
        begins(b'C', Names::Unnamed),
        ends(b'C', Flags::NONE),
        begins(b'C', Names::Statement),
        ends(b'C', Flags::NONE),
        begins(b'C', Names::Other),
        ends(b'C', Flags::NONE),
        begins(b'F', Names::Other),
        ends(b'F', Flags::NONE), // lo_open
        begins(b'F', Names::Other),
        ends(b'F', Flags::one(Flag::FunctionCall)), // set_config
        begins(b'S', Names::Other),
        ends(b'S', Flags::NONE),
        begins(b'd', Names::Other),
        ends(b'd', Flags::NONE),
    ];
    for step in [1, 2, 3, 5, 7, 11, 64, stream.len()] {
        assert_eq!(events(&stream, step), want, "in pieces of {step}");
    }
}

#[test]
fn a_server_stream_is_found_however_it_is_cut() {
    let stream = [
        message(b'S', b"TimeZone\0UTC\0"),
        message(b'D', &[1; 100]),
        message(b'S', &[b'x'; 5000]),
        message(b'E', b"SERROR\0\0"),
        message(b'Z', b"I"),
    ]
    .concat();
    for step in [1, 2, 3, 5, 64, stream.len()] {
        let (mut scan, mut seen, mut done, mut end) = (ServerScan::default(), Vec::new(), 0, 0);
        while done < stream.len() {
            let skipped = scan.skip_body(&stream[done..end]);
            done += skipped;
            match scan.next(&stream[done..end]).unwrap() {
                Some(message) => {
                    done += message.consumed;
                    assert_eq!(message.is_whole, scan.at_boundary());
                    seen.push((message.tag, message.body.map(<[u8]>::len)));
                }
                _ if skipped == 0 => end = (end + step).min(stream.len()),
                _ => {}
            }
        }
        let want =
            [(b'S', Some(13)), (b'D', None), (b'S', Some(4096)), (b'E', Some(8)), (b'Z', Some(1))];
        assert_eq!(seen, want, "in pieces of {step}");
    }
}

proptest! {
    #[test]
    fn no_stream_makes_a_scanner_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut scan = ClientScan::new();
        let mut rest = &bytes[..];
        while let Ok((consumed, event)) = scan.next(rest) {
            rest = &rest[consumed..];
            if consumed == 0 && event.is_none() { break; }
        }
        let mut scan = ServerScan::default();
        let mut rest = &bytes[..];
        loop {
            rest = &rest[scan.skip_body(rest)..];
            match scan.next(rest) {
                Ok(Some(message)) => rest = &rest[message.consumed..],
                _ => break,
            }
        }
    }
}

#[test]
fn a_run_ends_before_what_is_more_than_passed_on() {
    fn frames(tags: &str) -> Vec<u8> {
        tags.bytes().flat_map(|tag| [tag, 0, 0, 0, 5, b'I']).collect()
    }
    for (sent, replies, but, passed) in [
        ("Q", "TDDCZ", None, 4),
        ("Q", "TDDCZ", Some(b'C'), 3),
        ("Q", "TDEZ", None, 2),
        ("Q", "TNDCZ", None, 1),
        ("Q", "ASZ", None, 0),
        ("QQ", "TDCZTDCZ", None, 3),
        ("PBDES", "12TDDCZ", None, 6),
        // What cannot come is left for who complains about it.
        ("PBDES", "12DZ", None, 2),
        ("", "D", None, 0),
        // Nobody can tell any more what is owed: the rest is looked at with that in mind.
        ("QQ", "GC", None, 1),
    ] {
        let mut exchange = Exchange::default();
        client(&mut exchange, sent);
        let bytes = frames(replies);
        assert_eq!(exchange.pass_run(&bytes, but), passed * 6, "{sent} {replies}");
    }
    // Half a message, an impossible length, and replies to a switch.
    let mut exchange = Exchange::default();
    client(&mut exchange, "Q");
    assert_eq!(exchange.pass_run(&frames("TD")[..11], None), 6);
    assert_eq!(exchange.pass_run(b"D\0\0\0\x03", None), 0);
    exchange.begin_switch(1);
    assert_eq!(exchange.pass_run(&frames("C"), None), 0);
}
