//! The protocol by hand: a client that can say anything.

use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

pub trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Socket for T {}

/// One message from the other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub tag: char,
    pub body: Vec<u8>,
}

impl Message {
    /// A field of an error or notice.
    #[must_use]
    pub fn field(&self, code: char) -> String {
        let mut fields = self.body.split(|b| *b == 0);
        let found = fields.find(|f| f.first() == Some(&(code as u8)));
        found.map(|f| String::from_utf8_lossy(&f[1..]).into_owned()).unwrap_or_default()
    }

    /// Text of the first column of a `DataRow`.
    #[must_use]
    pub fn text(&self) -> String {
        assert_eq!(self.tag, 'D', "{self:?}");
        let len = i32::from_be_bytes(self.body[2..6].try_into().unwrap());
        usize::try_from(len)
            .map(|len| String::from_utf8_lossy(&self.body[6..6 + len]).into_owned())
            .unwrap_or_default()
    }
}

/// A connection, spoken to byte by byte.
pub struct Wire {
    pub socket: Box<dyn Socket>,
    buffer: BytesMut,
    pub pid: i32,
    pub key: Vec<u8>,
    pub parameters: Vec<(String, String)>,
}

#[must_use]
pub fn message(tag: char, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag as u8];
    out.put_u32(u32::try_from(body.len() + 4).unwrap());
    out.extend(body);
    out
}

#[must_use]
pub fn query(sql: &str) -> Vec<u8> {
    message('Q', &[sql.as_bytes(), b"\0"].concat())
}

#[must_use]
pub fn parse(name: &str, sql: &str) -> Vec<u8> {
    message('P', &[name.as_bytes(), b"\0", sql.as_bytes(), b"\0\0\0"].concat())
}

#[must_use]
pub fn bind(portal: &str, statement: &str) -> Vec<u8> {
    message('B', &[portal.as_bytes(), b"\0", statement.as_bytes(), b"\0\0\0\0\0\0\0"].concat())
}

#[must_use]
pub fn execute(portal: &str, rows: i32) -> Vec<u8> {
    message('E', &[portal.as_bytes(), b"\0", &rows.to_be_bytes()].concat())
}

#[must_use]
pub fn describe(kind: char, name: &str) -> Vec<u8> {
    message('D', format!("{kind}{name}\0").as_bytes())
}

#[must_use]
pub fn close(kind: char, name: &str) -> Vec<u8> {
    message('C', format!("{kind}{name}\0").as_bytes())
}

#[must_use]
pub fn sync() -> Vec<u8> {
    message('S', b"")
}

#[must_use]
pub fn flush() -> Vec<u8> {
    message('H', b"")
}

/// Parse, Bind, Execute of the unnamed statement.
#[must_use]
pub fn batch(sql: &str) -> Vec<u8> {
    [parse("", sql), bind("", ""), execute("", 0)].concat()
}

#[must_use]
pub fn startup(version: i32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend([name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
    }
    body.push(0);
    let mut out = u32::try_from(body.len() + 4).unwrap().to_be_bytes().to_vec();
    out.extend(body);
    out
}

pub const V3_0: i32 = 196_608;

impl Wire {
    pub async fn open(port: u16) -> Self {
        let tcp = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        Self::over(tcp)
    }

    pub fn over(socket: impl Socket + 'static) -> Self {
        Self {
            socket: Box::new(socket),
            buffer: BytesMut::new(),
            pid: 0,
            key: Vec::new(),
            parameters: Vec::new(),
        }
    }

    /// Logs in with `trust`.
    pub async fn login(port: u16, parameters: &[(&str, &str)]) -> Self {
        let mut wire = Self::open(port).await;
        wire.send(&startup(V3_0, parameters)).await;
        wire.logged_in().await;
        wire
    }

    /// Reads a login to its end.
    pub async fn logged_in(&mut self) {
        let first = self.receive().await;
        self.logged_in_after(first).await;
    }

    /// The same, when its first message was read already.
    pub async fn logged_in_after(&mut self, first: Message) {
        let mut message = first;
        loop {
            match message.tag {
                'K' => {
                    self.pid = i32::from_be_bytes(message.body[..4].try_into().unwrap());
                    self.key = message.body[4..].to_vec();
                }
                'S' => {}
                'Z' => return,
                'R' => assert_eq!(message.body, [0; 4], "asked for a password"),
                'v' => {}
                _ => panic!("{} {}", message.tag, message.field('M')),
            }
            message = self.receive().await;
        }
    }

    /// Keeps what it is told of its settings.
    fn note(&mut self, message: &Message) {
        if message.tag != 'S' {
            return;
        }
        let text = |part: &[u8]| String::from_utf8_lossy(part).into_owned();
        let mut parts = message.body.split(|b| *b == 0).map(text);
        // A client's `Sync` has the same type.
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else { return };
        self.parameters.retain(|(known, _)| *known != name);
        self.parameters.push((name, value));
    }

    /// What it was last told of a setting.
    #[must_use]
    pub fn told(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.unwrap();
        self.socket.flush().await.unwrap();
    }

    /// Sends what may not be taken any more.
    pub async fn send_if_open(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes).await;
        let _ = self.socket.flush().await;
    }

    /// The next byte, which is no message: the answer to a request for encryption.
    pub async fn letter(&mut self) -> Option<u8> {
        crate::soon("a letter", async {
            while self.buffer.is_empty() {
                if self.socket.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                    return None;
                }
            }
            Some(self.buffer.get_u8())
        })
        .await
    }

    /// The next message, or `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<Message> {
        crate::soon("a message", async {
            loop {
                if self.buffer.len() >= 5 {
                    let len =
                        u32::from_be_bytes(self.buffer[1..5].try_into().unwrap()) as usize + 1;
                    if self.buffer.len() >= len {
                        let mut frame = self.buffer.split_to(len);
                        let tag = char::from(frame.get_u8());
                        frame.advance(4);
                        let message = Message { tag, body: frame.to_vec() };
                        self.note(&message);
                        return Some(message);
                    }
                }
                match self.socket.read_buf(&mut self.buffer).await {
                    Ok(0) | Err(_) => return None,
                    Ok(_) => {}
                }
            }
        })
        .await
    }

    /// A message that was received is received again.
    pub fn put_back(&mut self, got: &Message) {
        let rest = self.buffer.split();
        self.buffer.extend_from_slice(&message(got.tag, &got.body));
        self.buffer.unsplit(rest);
    }

    pub async fn receive(&mut self) -> Message {
        self.next().await.expect("the stream ended")
    }

    /// Messages up to `ReadyForQuery`, without it; and its status.
    pub async fn until_ready(&mut self) -> (Vec<Message>, char) {
        let mut messages = Vec::new();
        loop {
            let message = self.receive().await;
            if message.tag == 'Z' {
                return (messages, char::from(message.body[0]));
            }
            messages.push(message);
        }
    }

    /// Tags up to and with `ReadyForQuery`.
    pub async fn tags(&mut self) -> String {
        let (messages, status) = self.until_ready().await;
        messages.iter().map(|m| m.tag).chain(['Z', status]).collect()
    }

    /// Runs a simple query; first column of its rows, or the SQLSTATE.
    pub async fn run(&mut self, sql: &str) -> Result<Vec<String>, String> {
        self.send(&query(sql)).await;
        let (messages, _) = self.until_ready().await;
        match messages.iter().find(|m| m.tag == 'E') {
            Some(error) => Err(error.field('C')),
            None => Ok(messages.iter().filter(|m| m.tag == 'D').map(Message::text).collect()),
        }
    }

    /// Whether nothing comes for a moment. Only for what must *not* come.
    pub async fn is_silent(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(200), self.next()).await.is_err()
    }

    /// Sends a cancel request and waits until it was taken.
    pub async fn cancel(port: u16, pid: i32, key: &[u8]) {
        let mut tcp = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let mut out = u32::try_from(12 + key.len()).unwrap().to_be_bytes().to_vec();
        out.extend(80_877_102_i32.to_be_bytes());
        out.extend(pid.to_be_bytes());
        out.extend(key);
        tcp.write_all(&out).await.unwrap();
        let mut rest = Vec::new();
        let _ = tcp.read_to_end(&mut rest).await;
        assert!(rest.is_empty(), "a cancel request gets no answer");
    }
}

/// Answers a server that asks for SCRAM; its error, if it does not let us in.
#[allow(clippy::must_use_candidate, reason = "whoever is let in goes on reading")]
pub async fn scram(wire: &mut Wire, password: &str) -> Option<Message> {
    use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
    let asked = wire.receive().await;
    assert_eq!((asked.tag, &asked.body[..4]), ('R', &[0, 0, 0, 10][..]), "{}", asked.field('M'));
    let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
    let first = scram.message().to_vec();
    let len = u32::try_from(first.len()).unwrap().to_be_bytes();
    wire.send(&message('p', &[&b"SCRAM-SHA-256\0"[..], &len, &first].concat())).await;
    let next = wire.receive().await;
    assert_eq!(next.tag, 'R', "{}", next.field('M'));
    scram.update(&next.body[4..]).unwrap();
    wire.send(&message('p', scram.message())).await;
    let last = wire.receive().await;
    if last.tag != 'R' {
        return Some(last);
    }
    scram.finish(&last.body[4..]).unwrap();
    None
}
