//! A client that says anything.

use std::time::{Duration, Instant};

use protocol_tests::wire::{V3_0, startup};
use rand::Rng;
use rand::rngs::StdRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::messages::{legal, malformed, way_out};

/// Longest an answer may take. Every limit of the configurations is shorter.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(25);

/// What the pooler has said so far, as messages.
#[derive(Default)]
struct Heard {
    bytes: Vec<u8>,
    ready: usize,
}

impl Heard {
    /// Takes whole messages off. Each must be one that a server may send.
    fn take(&mut self, more: &[u8]) -> Result<(), String> {
        self.bytes.extend_from_slice(more);
        let mut rest = &self.bytes[..];
        while let Some((head, body)) = rest.split_first_chunk::<5>() {
            let len = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
            if !(4..=1 << 20).contains(&len) || !b"RSKZ123CDEGHINTntsAVcdv".contains(&head[0]) {
                return Err(format!("no message: {head:?}"));
            }
            let Some(body) = body.get(..len - 4) else { break };
            match head[0] {
                b'Z' if !matches!(body, b"I" | b"T" | b"E") => {
                    return Err(format!("ready: {body:?}"));
                }
                b'Z' => self.ready += 1,
                // Every error has a severity, a SQLSTATE and a text.
                b'E' if !body
                    .split(|b| *b == 0)
                    .any(|f| f.first() == Some(&b'C') && f.len() == 6) =>
                {
                    return Err(format!(
                        "an error without SQLSTATE: {}",
                        String::from_utf8_lossy(body)
                    ));
                }
                _ => {}
            }
            rest = &rest[len + 1..];
        }
        self.bytes = rest.to_vec();
        Ok(())
    }
}

/// Sends bytes cut anywhere, while what comes is read.
async fn say(
    tcp: &mut TcpStream,
    heard: &mut Heard,
    rng: &mut StdRng,
    bytes: &[u8],
) -> Result<bool, String> {
    let (mut reader, mut writer) = tcp.split();
    let mut rest = bytes;
    let mut buffer = vec![0; 32 * 1024];
    while !rest.is_empty() {
        let len = if rng.random_bool(0.5) { rest.len() } else { rng.random_range(1..=rest.len()) };
        tokio::select! {
            biased;
            read = reader.read(&mut buffer) => match read {
                Ok(0) | Err(_) => return Ok(false),
                Ok(count) => heard.take(&buffer[..count])?,
            },
            written = writer.write(&rest[..len]) => match written {
                Ok(count) => rest = &rest[count..],
                Err(_) => return Ok(false),
            },
        }
        match rng.random_range(0..60) {
            0 => sleep(Duration::from_millis(rng.random_range(0..30))).await, // the pace is a part of what is tried
            1..8 => tokio::task::yield_now().await,
            _ => {}
        }
    }
    Ok(true)
}

async fn answered(tcp: &mut TcpStream, heard: &mut Heard, ready: usize) -> Result<bool, String> {
    let mut buffer = vec![0; 32 * 1024];
    while heard.ready < ready {
        match tcp.read(&mut buffer).await {
            Ok(0) | Err(_) => return Ok(false),
            Ok(count) => heard.take(&buffer[..count])?,
        }
    }
    Ok(true)
}

/// Bytes for who reads why a run failed: what is long and dull is left out.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let mut parts = text.split("yyyyyyyyyy").filter(|part| !part.is_empty());
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| all + "[y...]" + part)
}

async fn converse(port: u16, rng: &mut StdRng) -> Result<(), String> {
    let Ok(mut tcp) = TcpStream::connect(("127.0.0.1", port)).await else {
        return Err("nobody listens".to_owned());
    };
    tcp.set_nodelay(true).unwrap();
    let mut heard = Heard::default();
    let mode = ["session", "transaction", ""][rng.random_range(0..3)];
    let options =
        if mode.is_empty() { String::new() } else { format!("-c tenantry.pool_mode={mode}") };
    let hello = startup(V3_0, &[("user", "app.acme"), ("options", &options)]);
    if !say(&mut tcp, &mut heard, rng, &hello).await? {
        return Ok(());
    }
    let login = timeout(ANSWER_TIME_MAX, answered(&mut tcp, &mut heard, 1)).await;
    if !login.map_err(|_| "a login was not answered".to_owned())?? {
        return Ok(());
    }
    let wild = [0.0, 0.0, 0.02, 0.2][rng.random_range(0..4)];
    let mut log = Vec::new();
    for _ in 0..rng.random_range(1..10) {
        let mut bytes = Vec::new();
        let mut is_wild = false;
        for _ in 0..rng.random_range(1..12) {
            let strange = rng.random_bool(wild);
            is_wild |= strange;
            bytes.extend(if strange { malformed(rng) } else { legal(rng) });
        }
        log.push(shown(&bytes));
        if !say(&mut tcp, &mut heard, rng, &bytes).await? {
            return Ok(());
        }
        if rng.random_bool(0.5) {
            continue;
        }
        if is_wild || wild > 0.0 {
            // Nobody can tell whether an answer is to come: the client leaves, or asks and does not insist.
            let _ = say(&mut tcp, &mut heard, rng, &way_out()).await?;
            break;
        }
        let ready = heard.ready;
        if !say(&mut tcp, &mut heard, rng, &way_out()).await? {
            return Ok(());
        }
        let answer = timeout(ANSWER_TIME_MAX, answered(&mut tcp, &mut heard, ready + 1)).await;
        if !answer.map_err(|_| format!("no answer to {log:#?}"))?? {
            return Ok(());
        }
    }
    if rng.random_bool(0.3) {
        let _ = tcp.write_all(b"X\0\0\0\x04").await;
    }
    Ok(())
}

/// One conversation after another.
pub(crate) async fn talk(port: u16, mut rng: StdRng, until: Instant) -> Result<(), String> {
    while Instant::now() < until {
        converse(port, &mut rng).await?;
    }
    Ok(())
}
