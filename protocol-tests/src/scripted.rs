//! A PostgreSQL that says what a script makes it say: for faults the real one does not produce.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::database::spawn;
use crate::wire::{Message, Wire, message};

/// A listener that hands out logged-in connections; logins themselves are answered by `trust`.
pub struct Scripted {
    pub port: u16,
    connections: mpsc::Receiver<Wire>,
    cancels: mpsc::Receiver<(i32, Option<TcpStream>)>,
    holds_cancels: Arc<AtomicBool>,
}

impl Scripted {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, connections) = mpsc::channel(64);
        let (cancel_sender, cancels) = mpsc::channel(64);
        let holds_cancels = Arc::new(AtomicBool::new(false));
        let holds = Arc::clone(&holds_cancels);
        spawn(async move {
            let mut pid = 0;
            while let Ok((tcp, _)) = listener.accept().await {
                pid += 1;
                let (sender, cancel_sender) = (sender.clone(), cancel_sender.clone());
                spawn(greet(tcp, pid, sender, cancel_sender, Arc::clone(&holds)));
            }
        });
        Self { port, connections, cancels, holds_cancels }
    }

    /// The next connection the pooler has opened and logged in.
    pub async fn accept(&mut self) -> Wire {
        crate::soon("a connection from the pooler", self.connections.recv()).await.unwrap()
    }

    /// The process id of the next cancel request.
    pub async fn cancelled(&mut self) -> i32 {
        crate::soon("a cancel request", self.cancels.recv()).await.unwrap().0
    }

    /// From now on cancel requests are not answered by the end of their connection.
    pub fn hold_cancels(&self) {
        self.holds_cancels.store(true, Ordering::Relaxed);
    }

    /// The connection of the next cancel request that is held.
    pub async fn held_cancel(&mut self) -> TcpStream {
        crate::soon("a cancel request", self.cancels.recv()).await.unwrap().1.unwrap()
    }

    /// Whether the pooler has opened no further connection.
    #[must_use]
    pub fn nobody_else(&mut self) -> bool {
        self.connections.try_recv().is_err()
    }

    /// A configuration for one tenant `acme` in a schema on this server.
    #[must_use]
    pub fn toml(&self, servers: usize) -> String {
        format!(
            "[clusters.main]\nport = {}\nuser = \"u\"\nmax_server_connections = {servers}\nserver_connect_timeout = \"5s\"\n\
             [tls.server]\nmode = \"disable\"\n[auth]\ntype = \"trust\"\n[users.app]\ntenants = [\"*\"]\n\
             [tenancy]\ntenant_from = [\"user:.\"]\nunknown = \"template\"\nsettings = {{ \"app.tenant\" = \"{{tenant}}\" }}\n[tenants.\"*\"]\n",
            self.port
        )
    }
}

async fn greet(
    tcp: TcpStream,
    pid: i32,
    sender: mpsc::Sender<Wire>,
    cancels: mpsc::Sender<(i32, Option<TcpStream>)>,
    holds_cancels: Arc<AtomicBool>,
) {
    use tokio::io::AsyncReadExt;
    let mut tcp = tcp;
    let Ok(len) = tcp.read_u32().await else { return };
    let mut body = vec![0; len as usize - 4];
    if tcp.read_exact(&mut body).await.is_err() {
        return;
    }
    if body.starts_with(&80_877_102_i32.to_be_bytes()) {
        let pid = i32::from_be_bytes(body[4..8].try_into().unwrap());
        let held = holds_cancels.load(Ordering::Relaxed).then_some(tcp);
        let _ = cancels.send((pid, held)).await;
        return;
    }
    let mut wire = Wire::over(tcp);
    wire.pid = pid;
    let key = [&pid.to_be_bytes()[..], b"key!"].concat();
    let ok = [
        message('R', &[0; 4]),
        message('S', b"server_version\x0015.0\0"),
        message('S', b"client_encoding\0UTF8\0"),
        message('S', b"standard_conforming_strings\0on\0"),
        message('K', &key),
        message('Z', b"I"),
    ];
    wire.send_if_open(&ok.concat()).await;
    let _ = sender.send(wire).await;
}

/// Answers a switch, message by message; returns what comes behind it.
pub async fn answer_switch(server: &mut Wire) -> Message {
    loop {
        let got = server.receive().await;
        match got.tag {
            'P' => server.send(&message('1', b"")).await,
            'B' => server.send(&message('2', b"")).await,
            'E' => server.send(&message('C', b"SET\0")).await,
            'C' => server.send(&message('3', b"")).await,
            _ => return got,
        }
    }
}

/// The SQL of a `Parse` or `Query`.
#[must_use]
pub fn sql(message: &Message) -> String {
    let body = if message.tag == 'P' { &message.body[1..] } else { &message.body[..] };
    String::from_utf8_lossy(body.split(|b| *b == 0).next().unwrap()).into_owned()
}
