//! The demo's clients: each asks who it is, over and over, and checks every row.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use tokio::net::TcpStream;

use super::{DemoError, say};
use crate::engine::Socket;
use crate::net::{Conversation, Stream, Tasks};
use crate::pooler::Pooler;
use crate::wire::backend::{ServerError, tag};
use crate::wire::build;

/// Longest answer of the demo, in bytes.
const MESSAGE_LEN_MAX: usize = 8192;
/// How often progress is shown.
const PROGRESS_PERIOD: Duration = Duration::from_millis(500);

/// What one tenant's clients saw.
#[derive(Default)]
pub(super) struct Measured {
    pub(super) tenant: String,
    /// Of each statement, in microseconds.
    pub(super) latencies: Vec<u32>,
    pub(super) waits: u64,
    pub(super) wrong_rows: u64,
}

struct Run {
    stop: AtomicBool,
    statements: AtomicU64,
    tenants: Vec<Mutex<Measured>>,
}

/// Drives the clients for `time`.
pub(super) async fn drive(
    pooler: &Pooler,
    port: u16,
    tenants: &[String],
    clients: usize,
    time: Duration,
) -> Result<Vec<Measured>, DemoError> {
    let of =
        |tenant: &String| Mutex::new(Measured { tenant: tenant.clone(), ..Measured::default() });
    let run = Arc::new(Run {
        stop: AtomicBool::new(false),
        statements: AtomicU64::new(0),
        tenants: tenants.iter().map(of).collect(),
    });
    let tasks = Tasks::default();
    for number in 0..clients {
        let mut client = connect(port, &tenants[number % tenants.len()]).await?;
        let (run, place) = (Arc::clone(&run), number % tenants.len());
        tasks.spawn(async move {
            if let Err(error) = ask_on(&mut client, &run, place, number).await {
                say(&format!("a client failed: {error}"));
                run.tenants[place].lock().wrong_rows += 1;
            }
        });
    }
    progress(pooler, &run, time).await;
    // While the clients are still there: with the last one, its tenant is forgotten.
    for measured in &run.tenants {
        let mut measured = measured.lock();
        measured.waits = pooler.waits(&measured.tenant);
    }
    run.stop.store(true, Ordering::Relaxed);
    tasks.wait().await;
    Ok(run.tenants.iter().map(|measured| std::mem::take(&mut *measured.lock())).collect())
}

async fn progress(pooler: &Pooler, run: &Run, time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        tokio::time::sleep(PROGRESS_PERIOD.min(time)).await;
        let wrong: u64 = run.tenants.iter().map(|tenant| tenant.lock().wrong_rows).sum();
        say(&format!(
            "{:>5.1} s  {:>8} statements  {} server connections  {} switches  {wrong} wrong rows",
            start.elapsed().as_secs_f32(),
            run.statements.load(Ordering::Relaxed),
            pooler.server_connections(),
            pooler.stats().switches.get(),
        ));
    }
}

pub(super) async fn connect(port: u16, tenant: &str) -> Result<Conversation, DemoError> {
    let tcp = TcpStream::connect(("127.0.0.1", port)).await?;
    tcp.set_nodelay(true)?;
    let stream = Stream::Tcp(Socket::tcp(tcp.into_std()?)?);
    let mut talk = Conversation::new(stream, MESSAGE_LEN_MAX);
    let mut packet = BytesMut::new();
    build::startup(&[("user", &format!("app.{tenant}")), ("database", "saas")], &mut packet)?;
    talk.send(&packet).await?;
    loop {
        let (tag, body) = talk.receive().await?;
        match tag {
            tag::READY_FOR_QUERY => return Ok(talk),
            tag::ERROR => {
                return Err(std::io::Error::other(ServerError::read(&body).to_string()).into());
            }
            _ => {}
        }
    }
}

async fn ask_on(
    talk: &mut Conversation,
    run: &Run,
    place: usize,
    number: usize,
) -> Result<(), DemoError> {
    let mut statement = BytesMut::new();
    for turn in number.. {
        if run.stop.load(Ordering::Relaxed) {
            break;
        }
        statement.clear();
        // Single statements, and now and then a transaction of two with an error in it.
        let sql = match turn % 10 {
            0 => "BEGIN; SELECT tenant FROM who; ROLLBACK",
            5 => "SELECT 1/0",
            _ => "SELECT tenant FROM who",
        };
        build::query(sql, &mut statement);
        let start = Instant::now();
        talk.send(&statement).await?;
        let wrong = answer(talk, &run.tenants[place]).await?;
        let micros = u32::try_from(start.elapsed().as_micros()).unwrap_or(u32::MAX);
        run.statements.fetch_add(1, Ordering::Relaxed);
        let mut measured = run.tenants[place].lock();
        measured.latencies.push(micros);
        measured.wrong_rows += wrong;
    }
    talk.send(build::TERMINATE).await?;
    Ok(())
}

/// Reads to `ReadyForQuery`; the number of rows that are not the tenant's.
async fn answer(talk: &mut Conversation, of: &Mutex<Measured>) -> Result<u64, DemoError> {
    let mut wrong = 0;
    loop {
        let (tag, mut body) = talk.receive().await?;
        match tag {
            tag::READY_FOR_QUERY => return Ok(wrong),
            tag::DATA_ROW => {
                // Column count and length come before the text.
                body.advance(6.min(body.len()));
                wrong += u64::from(*body != *of.lock().tenant.as_bytes());
            }
            // The division by zero is asked for; anything else is not.
            tag::ERROR if ServerError::read(&body).sqlstate() != "22012" => {
                return Err(std::io::Error::other(ServerError::read(&body).to_string()).into());
            }
            _ => {}
        }
    }
}
