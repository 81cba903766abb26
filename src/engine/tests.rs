use std::future::{pending, poll_fn};
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Builder;
use tokio::sync::Notify;

use super::source::{BOTH, Direction, Source};
use super::{Socket, Worker};

/// Longest any of these waits; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// More than the sockets' buffers hold.
const LEN: usize = 32 << 20;

/// A worker, and the thread that drives its timers.
struct Rig {
    worker: Worker,
    threads: Option<(JoinHandle<()>, JoinHandle<()>)>,
    over: Arc<Notify>,
}

impl Rig {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let (worker, thread) = Worker::start("test".to_owned(), runtime.handle().clone()).unwrap();
        let over = Arc::new(Notify::new());
        let until = Arc::clone(&over);
        let timers = std::thread::spawn(move || runtime.block_on(until.notified()));
        Self { worker, threads: Some((thread, timers)), over }
    }

    fn stop(&mut self) {
        self.worker.stop();
        self.over.notify_one();
        if let Some((thread, timers)) = self.threads.take() {
            thread.join().unwrap();
            timers.join().unwrap();
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop();
    }
}

fn channel<T>() -> (SyncSender<T>, Receiver<T>) {
    sync_channel(64)
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (near, listener.accept().unwrap().0)
}

#[test]
fn bytes_that_come_later_wake_the_reader() {
    let rig = Rig::new();
    let (mut near, far) = pair();
    let (sender, receiver) = channel();
    rig.worker.spawn(async move {
        let mut socket = Socket::tcp(far).unwrap();
        let mut bytes = [0; 16];
        loop {
            let count = socket.read(&mut bytes).await.unwrap();
            sender.send(bytes[..count].to_vec()).unwrap();
            if count == 0 {
                return;
            }
        }
    });
    for text in [&b"one"[..], b"two", b"a text that is longer than the buffer"] {
        near.write_all(text).unwrap();
        let mut got = Vec::new();
        while got.len() < text.len() {
            got.extend(receiver.recv_timeout(PATIENCE).unwrap());
        }
        assert_eq!(got, text);
    }
    drop(near);
    assert!(receiver.recv_timeout(PATIENCE).unwrap().is_empty(), "the end is seen too");
}

#[test]
fn a_full_socket_wakes_the_writer_when_there_is_room_again() {
    let rig = Rig::new();
    let (near, far) = pair();
    let (sender, receiver) = channel();

    rig.worker.spawn(async move {
        let mut socket = Socket::tcp(far).unwrap();
        socket.write_all(&vec![7; LEN]).await.unwrap();
        socket.shutdown().await.unwrap();
        sender.send(()).unwrap();
    });
    let read = std::io::copy(&mut &near, &mut std::io::sink()).unwrap();
    assert_eq!(read, LEN as u64);
    receiver.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn timers_and_wakes_from_other_threads_arrive() {
    let rig = Rig::new();
    let (sender, receiver) = channel();
    let bell = Arc::new(Notify::new());
    let heard = Arc::clone(&bell);
    rig.worker.spawn(async move {
        tokio::time::sleep(Duration::from_millis(1)).await;
        sender.send("timer").unwrap();
        let answer = tokio::task::spawn_blocking(|| "blocking").await.unwrap();
        sender.send(answer).unwrap();
        for _ in 0..1000 {
            heard.notified().await;
        }
        sender.send("bell").unwrap();
    });
    assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), "timer");
    assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), "blocking");
    // Each ring may be the one that finds the worker on its way into epoll.
    let end = std::time::Instant::now() + PATIENCE;
    loop {
        bell.notify_one();
        match receiver.try_recv() {
            Ok(word) => return assert_eq!(word, "bell"),
            Err(_) => assert!(std::time::Instant::now() < end, "a wake-up was lost"),
        }
    }
}

#[test]
fn a_panic_ends_its_own_task_only() {
    let rig = Rig::new();
    let (sender, receiver) = channel();
    let guard = sender.clone();
    rig.worker.spawn(async move {
        let _guard = guard;
        panic!("on purpose");
    });
    rig.worker.spawn(async move { sender.send(1).unwrap() });
    assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), 1);
    let end = receiver.recv_timeout(PATIENCE).unwrap_err();
    assert_eq!(end, std::sync::mpsc::RecvTimeoutError::Disconnected, "what it held is dropped");
}

#[test]
fn a_task_that_always_has_something_to_read_lets_others_run() {
    let rig = Rig::new();
    let (near, far) = pair();
    let (sender, receiver) = channel();
    let flood = std::thread::spawn(move || {
        let block = [0; 16384];
        while (&near).write_all(&block).is_ok() {}
    });
    rig.worker.spawn(async move {
        let mut socket = Socket::tcp(far).unwrap();
        let mut byte = [0];
        while socket.read(&mut byte).await.unwrap() > 0 {}
    });
    rig.worker.spawn(async move { sender.send(()).unwrap() });
    receiver.recv_timeout(PATIENCE).unwrap();
    drop(rig);
    flood.join().unwrap();
}

#[test]
fn a_socket_that_becomes_ready_beside_a_flood_is_served_soon() {
    let rig = Rig::new();
    let ((mut flood, flooded), (mut ping, pinged)) = (pair(), pair());
    flood.write_all(&[0; 10_000]).unwrap();
    let (reads, sender_reads) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (count, at) = (Arc::clone(&reads), Arc::clone(&sender_reads));
    let (sender, receiver) = channel();
    rig.worker.spawn(async move {
        let mut socket = Socket::tcp(pinged).unwrap();
        socket.read_exact(&mut [0]).await.unwrap();
        sender.send(count.load(Ordering::SeqCst) - at.load(Ordering::SeqCst)).unwrap();
    });
    rig.worker.spawn(async move {
        let mut socket = Socket::tcp(flooded).unwrap();
        for number in 0..10_000 {
            socket.read_exact(&mut [0]).await.unwrap();
            reads.store(number, Ordering::SeqCst);
            // Not in the task's first turn: by then the other one waits for its socket.
            if number == 1000 {
                ping.write_all(b"!").unwrap();
                sender_reads.store(number, Ordering::SeqCst);
            }
        }
    });
    let between = receiver.recv_timeout(PATIENCE).unwrap();
    assert!(
        i64::try_from(between).unwrap() <= 2 * super::fair::OPERATIONS_MAX,
        "{between} reads came between"
    );
}

#[test]
fn a_stopped_worker_drops_what_has_not_ended() {
    let mut rig = Rig::new();
    let (sender, receiver) = channel();
    let (begun, late) = (sender.clone(), sender.clone());
    rig.worker.spawn(async move {
        begun.send(1).unwrap();
        let _begun = begun;
        pending::<()>().await;
    });
    assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), 1);
    rig.stop();
    rig.worker.spawn(async move { late.send(2).unwrap() });
    drop(sender);
    assert!(receiver.recv_timeout(PATIENCE).is_err(), "no sender is left, and none has sent");
}

#[test]
fn a_socket_is_opened_by_a_workers_task_only() {
    let (_near, far) = pair();
    assert!(Socket::tcp(far).is_err());
    assert!(Worker::current().is_none());
}

#[test]
fn a_socket_dropped_on_another_thread_gives_its_place_back() {
    let rig = Rig::new();
    let (sender, receiver) = channel();
    for _ in 0..100 {
        let (near, far) = pair();
        let sender = sender.clone();
        rig.worker.spawn(async move { sender.send(Socket::tcp(far).unwrap()).unwrap() });
        drop(receiver.recv_timeout(PATIENCE).unwrap());
        drop(near);
    }
    assert_eq!(places_of(&rig), Some(0));
}

/// Places of sockets that the worker knows of.
fn places_of(rig: &Rig) -> Option<usize> {
    let (places, answer) = channel();
    rig.worker.spawn(poll_fn(move |_| {
        let places_left = super::local::with(|local| local.sources.borrow().len());
        places.send(places_left).unwrap();
        Poll::Ready(())
    }));
    answer.recv_timeout(PATIENCE).unwrap()
}

struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn an_event_behind_the_last_look_is_not_taken_back() {
    let (source, count) = (Source::new(), Arc::new(Count(AtomicUsize::new(0))));
    let waker = Waker::from(Arc::clone(&count));
    let context = Context::from_waker(&waker);
    let Poll::Ready(seen) = source.poll_ready(Direction::Read, &context) else { panic!("new") };
    source.set(BOTH);
    source.run_dry(Direction::Read, seen);
    assert!(source.is_ready(Direction::Read), "the event came after the look");
    let Poll::Ready(seen) = source.poll_ready(Direction::Read, &context) else { panic!("set") };
    source.run_dry(Direction::Read, seen);
    assert!(source.poll_ready(Direction::Read, &context).is_pending());
    assert!(source.is_ready(Direction::Write), "the other direction keeps its own");
    assert_eq!(count.0.load(Ordering::SeqCst), 0);
    for rings in 1..4 {
        source.set(BOTH);
        assert_eq!(count.0.load(Ordering::SeqCst), rings, "a waiter stays registered");
        source.set(BOTH);
        let Poll::Ready(seen) = source.poll_ready(Direction::Read, &context) else { panic!("up") };
        source.run_dry(Direction::Read, seen);
        assert_eq!(count.0.load(Ordering::SeqCst), rings, "who does not wait is not woken");
    }
}

const LEGS: usize = 1000;
const BYTES_A_LEG: usize = 7;

/// Reads a few bytes in one worker, and goes on in the other.
fn travel(
    mut socket: Socket<mio::net::TcpStream>,
    legs: usize,
    workers: [Worker; 2],
    end: SyncSender<()>,
) -> BoxFuture {
    Box::pin(async move {
        assert!(legs == 0 || !socket.is_here(), "it is still the other one's");
        socket.move_here().unwrap();
        assert!(socket.is_here());
        let mut bytes = [0; BYTES_A_LEG];
        socket.read_exact(&mut bytes).await.unwrap();
        for (at, byte) in bytes.iter().enumerate() {
            assert_eq!(usize::from(*byte), (legs * BYTES_A_LEG + at) % 251);
        }
        socket.write_all(b"!").await.unwrap();
        if legs + 1 == LEGS {
            return end.send(()).unwrap();
        }
        let [here, there] = workers;
        there.clone().spawn(travel(socket, legs + 1, [there, here], end));
    })
}

type BoxFuture = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

#[test]
fn a_socket_moves_from_worker_to_worker_and_nothing_is_lost() {
    let rigs = [Rig::new(), Rig::new()];
    let (near, far) = pair();
    near.set_nodelay(true).unwrap();
    // One byte at a time: some come while the socket is on its way.
    let writer = std::thread::spawn(move || {
        for number in 0..LEGS * BYTES_A_LEG {
            (&near).write_all(&[u8::try_from(number % 251).unwrap()]).unwrap();
        }
        std::io::copy(&mut &near, &mut Vec::new()).unwrap()
    });
    let (sender, receiver) = channel();
    let workers = [0, 1].map(|at: usize| rigs[at].worker.clone());
    let first = workers[0].clone();
    first.spawn(async move { travel(Socket::tcp(far).unwrap(), 0, workers, sender).await });
    receiver.recv_timeout(PATIENCE).unwrap();
    assert_eq!(writer.join().unwrap(), LEGS as u64);
    for rig in &rigs {
        assert_eq!(places_of(rig), Some(0), "places that were left are free");
    }
}

#[test]
fn a_task_goes_on_in_another_worker_and_is_woken_there() {
    let rigs = [Rig::new(), Rig::new()];
    let (mut near, far) = pair();
    let (sender, receiver) = channel();
    let workers = [0, 1].map(|at: usize| rigs[at].worker.clone());
    let bell = Arc::new(Notify::new());
    let heard = Arc::clone(&bell);
    rigs[0].worker.spawn(async move {
        let mut socket = Socket::tcp(far).unwrap();
        for number in 0..LEGS {
            let worker = &workers[number % 2];
            worker.enter().await;
            assert!(worker.is_current());
            // Without being moved it wakes its task from the other worker.
            if number % 3 == 0 {
                socket.move_here().unwrap();
            }
            socket.read_exact(&mut [0]).await.unwrap();
            heard.notified().await;
            socket.write_all(b"!").await.unwrap();
        }
        sender.send(()).unwrap();
    });
    for _ in 0..LEGS {
        near.write_all(b"?").unwrap();
        bell.notify_one();
        std::io::Read::read_exact(&mut near, &mut [0]).unwrap();
    }
    receiver.recv_timeout(PATIENCE).unwrap();
    assert_eq!((places_of(&rigs[0]), places_of(&rigs[1])), (Some(0), Some(0)));
}

#[test]
fn a_task_that_goes_to_a_worker_that_has_stopped_ends() {
    let (rig, mut stopped) = (Rig::new(), Rig::new());
    stopped.stop();
    let (sender, receiver) = channel::<()>();
    let worker = stopped.worker.clone();
    rig.worker.spawn(async move {
        worker.enter().await;
        sender.send(()).unwrap();
    });
    assert!(receiver.recv_timeout(PATIENCE).is_err(), "it has ended without a word");
}
