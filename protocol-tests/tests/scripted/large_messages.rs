//! Messages of a gibibyte: PostgreSQL's limit. They pass through; nothing gathers them.

use protocol_tests::scripted::{Scripted, answer_switch};
use protocol_tests::wire::message;
use protocol_tests::{Pooler, Wire, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The longest message PostgreSQL takes, in bytes behind its tag.
const LENGTH_MAX: u32 = 0x3fff_ffff;
/// More than the pooler needs for anything else, in kB.
const MEMORY_MAX_KB: u64 = 100_000;

/// Sends a message of the full length: `head`, filling, `last`.
async fn send(wire: &mut Wire, tag: char, head: &[u8], last: &[u8]) {
    let mut start = vec![tag as u8];
    start.extend(LENGTH_MAX.to_be_bytes());
    start.extend(head);
    wire.send(&start).await;
    let mut left = LENGTH_MAX as usize - 4 - head.len() - last.len();
    let filling = vec![b'x'; 1 << 20];
    while left > 0 {
        let len = left.min(filling.len());
        wire.socket.write_all(&filling[..len]).await.unwrap();
        left -= len;
    }
    wire.send(last).await;
}

/// Reads that many bytes and returns the first five of them and the last two.
async fn read(wire: &mut Wire, mut left: usize) -> (Vec<u8>, Vec<u8>) {
    let (mut buffer, mut first, mut last) = (vec![0; 1 << 20], Vec::new(), Vec::new());
    while left > 0 {
        let len = left.min(buffer.len());
        let count = wire.socket.read(&mut buffer[..len]).await.unwrap();
        assert_ne!(count, 0, "{left} bytes are missing");
        first.extend(&buffer[..count.min(5 - first.len().min(5))]);
        last.extend(&buffer[count.saturating_sub(2)..count]);
        last.drain(..last.len().saturating_sub(2));
        left -= count;
    }
    (first, last)
}

/// Most memory the process ever had, in kB.
fn peak_kb(pooler: &Pooler) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pooler.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_gibibyte_passes_both_ways_and_is_never_gathered() {
    let mut scripted = Scripted::start().await;
    let pooler = Pooler::start(&scripted.toml(1)).await;
    let server = async {
        let mut server = scripted.accept().await;
        answer_switch(&mut server).await;
        server.send(&[message('I', b""), message('Z', b"I")].concat()).await;
        server
    };
    let login = Wire::login(pooler.port, &[("user", "app.acme")]);
    let (mut server, mut client) = tokio::join!(server, login);
    let whole = LENGTH_MAX as usize + 1;
    let ((first, last), ()) = soon("a gibibyte to the server", async {
        tokio::join!(read(&mut server, whole), send(&mut client, 'Q', b"select '", b"'\0"))
    })
    .await;
    assert_eq!((first.as_slice(), last.as_slice()), (&b"Q\x3f\xff\xff\xff"[..], &b"'\0"[..]));
    let ((first, last), ()) = soon("a gibibyte to the client", async {
        tokio::join!(read(&mut client, whole), send(&mut server, 'D', b"\0\x01", b"!?"))
    })
    .await;
    assert_eq!((first.as_slice(), last.as_slice()), (&b"D\x3f\xff\xff\xff"[..], &b"!?"[..]));
    server.send(&[message('C', b"SELECT 1\0"), message('Z', b"I")].concat()).await;
    assert_eq!(client.tags().await, "CZI");
    let peak = peak_kb(&pooler);
    assert!(peak < MEMORY_MAX_KB, "{peak} kB");
}
