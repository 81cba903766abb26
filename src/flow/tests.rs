use std::collections::VecDeque;

use proptest::prelude::*;

use super::{ClientEvent, ClientScan, ClientVerdict, Exchange, Refusal, ServerScan, ServerVerdict};
use crate::sql::Flag;
use crate::wire::backend::ready_for_query;
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
            Some(ClientEvent::Whole { tag, names, flag }) => {
                events
                    .extend([ClientEvent::Begins { tag, names }, ClientEvent::Ends { tag, flag }]);
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
    let ends = |tag, flag| ClientEvent::Ends { tag, flag };
    let want = vec![
        begins(b'Q', Names::Other),
        ends(b'Q', Some(Flag::Set)),
        begins(b'P', Names::Unnamed),
        ends(b'P', None),
        begins(b'P', Names::Statement),
        ends(b'P', Some(Flag::Reset)),
        begins(b'B', Names::Statement),
        ends(b'B', None),
        begins(b'B', Names::Other),
        ends(b'B', None),
        begins(b'C', Names::Unnamed),
        ends(b'C', None),
        begins(b'C', Names::Other),
        ends(b'C', None),
        begins(b'C', Names::Other),
        ends(b'C', None),
        begins(b'F', Names::Other),
        ends(b'F', None), // lo_open
        begins(b'F', Names::Other),
        ends(b'F', Some(Flag::FunctionCall)), // set_config
        begins(b'S', Names::Other),
        ends(b'S', None),
        begins(b'd', Names::Other),
        ends(b'd', None),
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
                Some(message) if scan.at_boundary() || message.body.is_none() => {
                    done += message.consumed;
                    seen.push((message.tag, message.body.map(<[u8]>::len)));
                }
                _ if skipped == 0 => end = (end + step).min(stream.len()),
                _ => {}
            }
        }
        let want = [(b'S', Some(13)), (b'D', None), (b'S', None), (b'E', Some(8)), (b'Z', Some(1))];
        assert_eq!(seen, want, "in pieces of {step}");
    }
}

/// PostgreSQL as its manual and `postgres.c` describe it, with errors where `fails` says so.
#[derive(Default)]
struct Model {
    status: u8,
    ignore_till_sync: bool,
    implicit: bool,
    copy_simple: Option<bool>,
}

impl Model {
    fn ready(&mut self, out: &mut VecDeque<(u8, u8)>) {
        self.implicit = false;
        out.push_back((b'Z', self.status));
    }

    fn error(&mut self, extended: bool, out: &mut VecDeque<(u8, u8)>) {
        out.push_back((b'E', 0));
        if self.status == b'T' {
            self.status = b'E';
        }
        self.ignore_till_sync = extended;
        if !extended {
            self.ready(out);
        }
    }

    fn receive(&mut self, tag: u8, kind: u8, fails: bool, out: &mut VecDeque<(u8, u8)>) {
        if let Some(extended) = self.copy_simple {
            match tag {
                b'd' if !fails => return,
                b'S' | b'H' if !fails => return,
                // It failed for another reason, before it could read the Sync.
                b'S' => {
                    self.copy_simple = None;
                    self.error(extended, out);
                    self.ignore_till_sync = false;
                    return self.ready(out);
                }
                b'c' if !fails => {
                    self.copy_simple = None;
                    out.push_back((b'C', 0));
                    if !extended {
                        self.ready(out);
                    }
                    return;
                }
                _ => {
                    self.copy_simple = None;
                    return self.error(extended, out);
                }
            }
        }
        if self.ignore_till_sync && tag != b'S' {
            return;
        }
        match tag {
            b'S' => {
                self.ignore_till_sync = false;
                self.ready(out);
            }
            b'd' | b'c' | b'f' | b'H' => {}
            b'Q' | b'F' if fails => self.error(false, out),
            b'F' => {
                out.push_back((b'V', 0));
                self.ready(out);
            }
            b'Q' if kind == 0 => {
                out.push_back((b'G', 0));
                self.copy_simple = Some(false);
            }
            b'Q' => {
                match (kind, self.status) {
                    (1, b'I') => self.status = b'T',
                    (2, _) => self.status = b'I',
                    _ => {}
                }
                out.extend([(b'T', 0), (b'D', 0), (b'C', 0)]);
                self.ready(out);
            }
            _ if fails => self.error(true, out),
            b'P' => out.push_back((b'1', 0)),
            b'B' => out.push_back((b'2', 0)),
            b'C' => out.push_back((b'3', 0)),
            b'D' => out.push_back((b'T', 0)),
            b'E' if kind == 0 => {
                out.push_back((b'G', 0));
                self.copy_simple = Some(true);
            }
            b'E' => out.extend([(b'D', 0), (b'C', 0)]),
            _ => unreachable!("the generator sends no {tag}"),
        }
        self.implicit |= matches!(tag, b'P' | b'B' | b'C' | b'D' | b'E');
    }
}

#[derive(Debug, Clone)]
struct Step {
    sent: (u8, u8, bool),
    replies_read: usize,
}

/// Well-behaved conversations: a COPY is followed by its data and its end, then by a Sync if extended.
fn conversation() -> impl Strategy<Value = Vec<Step>> {
    let plain = prop::sample::select(b"PBDECHSQF".to_vec());
    let unit = (plain, 1..5u8, prop::bool::weighted(0.15), any::<bool>()).prop_map(
        |(tag, kind, fails, copy)| match (tag, copy) {
            (b'Q', true) if kind == 4 => {
                vec![(b'Q', 0, fails), (b'd', 0, false), (b'c', 0, kind == 3)]
            }
            (b'E', true) if kind == 4 => {
                vec![
                    (b'E', 0, fails),
                    (b'd', 0, false),
                    (b'd', 0, false),
                    (b'c', 0, false),
                    (b'S', 0, false),
                ]
            }
            // The Sync comes early, as libpq's does, and again behind the end.
            (b'E', false) if kind == 4 => {
                vec![
                    (b'E', 0, false),
                    (b'S', 0, fails),
                    (b'd', 0, !fails),
                    (b'c', 0, false),
                    (b'S', 0, false),
                ]
            }
            (b'Q', false) if kind == 3 => vec![(b'Q', 0, fails), (b'd', 0, false), (b'f', 0, true)],
            _ => vec![(tag, kind, fails)],
        },
    );
    let units = prop::collection::vec(unit, 1..12).prop_map(|units| units.concat());
    (units, prop::collection::vec(0..4usize, 80)).prop_map(|(sent, reads)| {
        sent.into_iter()
            .zip(reads)
            .map(|(sent, replies_read)| Step { sent, replies_read })
            .collect()
    })
}

fn receive(exchange: &mut Exchange, reply: (u8, u8)) {
    let body = [reply.1];
    let result = exchange.on_server(reply.0, (reply.0 == b'Z').then_some(&body[..]));
    assert!(result.is_ok(), "{result:?}");
}

proptest! {
    /// Whatever is sent and wherever it fails, the ring agrees with PostgreSQL about whose turn it is.
    #[test]
    fn the_ring_agrees_with_postgresql(steps in conversation()) {
        let mut model = Model { status: b'I', ..Model::default() };
        let mut exchange = Exchange::default();
        let mut wire = VecDeque::new();
        for Step { sent: (tag, kind, fails), replies_read } in steps {
            if exchange.on_client(tag, Names::Unnamed) == ClientVerdict::Forward {
                model.receive(tag, kind, fails, &mut wire);
            }
            for reply in wire.drain(..replies_read.min(wire.len())) {
                receive(&mut exchange, reply);
            }
            // Then a Sync of our own ends nothing, and what is still to come comes before its answer.
            if exchange.can_be_settled() {
                prop_assert!(!model.implicit && !model.ignore_till_sync && model.copy_simple.is_none());
                for reply in wire.drain(..) {
                    receive(&mut exchange, reply);
                }
                exchange.settle(ready_for_query(&[model.status]).unwrap());
            }
            // At rest on our side means: PostgreSQL has nothing more to say and nothing open.
            if exchange.is_at_rest() {
                prop_assert!(wire.is_empty());
                prop_assert_eq!(model.status, b'I');
                prop_assert!(!model.implicit && !model.ignore_till_sync && model.copy_simple.is_none());
            }
        }
        // The client ends what it began; then the server must be free again.
        for (tag, kind) in [(b'S', 0), (b'Q', 2)] {
            exchange.on_client(tag, Names::Unnamed);
            model.receive(tag, kind, false, &mut wire);
        }
        for reply in wire.drain(..) {
            receive(&mut exchange, reply);
        }
        prop_assert!(exchange.is_at_rest() || !exchange.can_drain());
    }

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
