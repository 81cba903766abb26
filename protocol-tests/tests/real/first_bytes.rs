//! Whatever comes first on a connection is answered as PostgreSQL answers it: by an error with the same SQLSTATE, by a
//! letter, or by nothing but the end.

use std::time::Duration;

use protocol_tests::pooler::BY_SCHEMA;
use protocol_tests::wire::{V3_0, message, query, startup};
use protocol_tests::{Database, Pooler, on_both};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const SSL: i32 = 80_877_103;
const GSS: i32 = 80_877_104;
const CANCEL: i32 = 80_877_102;

fn packet(len: i32, code: i32, rest: &[u8]) -> Vec<u8> {
    [&len.to_be_bytes()[..], &code.to_be_bytes(), rest].concat()
}

/// All that comes back until the end: single letters, and of errors the SQLSTATE.
async fn answers(port: u16, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    // It may be closed before all is written.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut back = Vec::new();
    let end = timeout(Duration::from_secs(20), stream.read_to_end(&mut back)).await;
    let _ = end.expect("the end comes");
    let mut told = String::new();
    let mut rest = &back[..];
    while let [first, after @ ..] = rest {
        told.push(char::from(*first));
        rest = after;
        if *first != b'E' {
            continue;
        }
        // As protocol 2 has it: a text, no length.
        if after.starts_with(b"FATAL:") {
            assert_eq!(after.last(), Some(&0), "{after:?}");
            return told + " in protocol 2";
        }
        let len = usize::try_from(u32::from_be_bytes(after[..4].try_into().unwrap())).unwrap();
        let mut fields = after[4..len].split(|byte| *byte == 0);
        let code = fields.find_map(|field| field.strip_prefix(b"C"));
        told += &String::from_utf8_lossy(code.unwrap_or_default());
        rest = &after[len..];
    }
    told
}

fn cases() -> Vec<(&'static str, Vec<u8>)> {
    let (ssl, gss) = (packet(8, SSL, &[]), packet(8, GSS, &[]));
    let mut unterminated = startup(V3_0, &[("user", "app.acme")]);
    unterminated.pop();
    let len = i32::try_from(unterminated.len()).unwrap();
    unterminated[..4].copy_from_slice(&len.to_be_bytes());
    let terminate = message('X', b"");
    vec![
        ("nothing", vec![]),
        ("a byte", vec![0]),
        ("a length, cut", vec![0, 0, 0]),
        ("connect and end at once, as node-postgres", terminate.clone()),
        ("a query", query("select 1")),
        ("a password", message('p', b"secret\0")),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("SSH", b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()),
        ("length 0", packet(0, 0, &[])),
        ("length 4", packet(4, 0, &[])),
        ("length 7", packet(7, 196_608, &[])),
        ("too long", packet(10_001, 196_608, &[])),
        ("the longest length", packet(i32::MAX, 196_608, &[])),
        ("the least length", packet(i32::MIN, 196_608, &[])),
        ("a negative length", packet(-1, 196_608, &[])),
        ("version 0", packet(8, 0, &[])),
        ("version 2", packet(9, 2 << 16, &[0])),
        ("version 4", packet(9, 4 << 16, &[0])),
        ("a start-up packet, cut", startup(V3_0, &[("user", "app.acme")])[..12].to_vec()),
        ("no terminator", unterminated),
        ("no user", startup(V3_0, &[("database", "acme")])),
        ("SSL, then nothing", ssl.clone()),
        ("SSL, then the end", [&ssl[..], &terminate].concat()),
        ("GSS, then nothing", gss.clone()),
        ("a cancel request without a key", packet(12, CANCEL, &[0, 0, 0, 1])),
        ("a cancel request, nothing else", packet(8, CANCEL, &[])),
        ("a cancel request for nobody", packet(16, CANCEL, &[0, 0, 0, 1, 0, 0, 0, 2])),
    ]
}

on_both! {
    async fn first_bytes_are_answered_as_postgresql_answers_them(db: &Database) {
        let pooler = Pooler::start(&format!("{}{BY_SCHEMA}", db.toml(1))).await;
        let mut differ = Vec::new();
        for (what, bytes) in cases() {
            // A PostgreSQL that was built with GSSAPI takes it.
            let want = answers(db.port, &bytes).await.replace('G', "N");
            let got = answers(pooler.port, &bytes).await;
            if want != got {
                differ.push(format!("{what}: {got:?}, PostgreSQL {want:?}"));
            }
        }
        assert!(differ.is_empty(), "{differ:#?}");
    }
}
