//! A server that talks nonsense or goes away, at login and later.

use protocol_tests::scripted::{Scripted, answer_switch};
use protocol_tests::wire::{V3_0, batch, bind, execute, message, parse, query, startup, sync};
use protocol_tests::{Pooler, Wire};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// What a client of `acme` gets from a pooler whose server answers a start-up packet with `bytes`.
async fn refused_with(bytes: &[u8], timeout: &str) -> (String, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let toml = format!(
        "[clusters.main]\nport = {port}\nuser = \"u\"\npassword = \"pw\"\nserver_connect_timeout = \"300ms\"\n\
         [tls.server]\nmode = \"disable\"\n[auth]\ntype = \"trust\"\n[users.app]\ntenants = [\"*\"]\n\
         [tenancy]\ntenant_from = [\"user:.\"]\n[tenants.acme]\nquery_wait_timeout = \"{timeout}\"\n"
    );
    let pooler = Pooler::start(&toml).await;
    let mut client = Wire::open(pooler.port).await;
    client.send(&startup(V3_0, &[("user", "app.acme")])).await;
    let serve = async {
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let mut packet = [0; 1024];
            let _ = tcp.read(&mut packet).await;
            let _ = tcp.write_all(bytes).await;
            let _ = tcp.read(&mut packet).await; // until the pooler gives up
        }
    };
    let answer = async {
        let message = client.receive().await;
        (message.field('C'), message.field('M'))
    };
    tokio::select! {
        answer = answer => answer,
        () = serve => unreachable!("it serves for ever"),
    }
}

#[tokio::test]
async fn nonsense_at_login_is_told_and_nothing_hangs() {
    for bytes in [
        &b""[..],
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"R\x00\x00\x00\x03",
        b"R\x7f\xff\xff\xff",
        b"R\x00\x00\x00\x08\x00\x00\x00\x00Z\x00\x00\x00\x05I",
        b"R\x00\x00\x00\x08\x00\x00\x00\x00K\x00\x00\x00\x05x",
        b"R\x00\x00\x00\x08\x00\x00\x00\x00T\x00\x00\x00\x04",
        b"Z\x00\x00\x00\x05I",
    ] {
        let (code, message) = refused_with(bytes, "1s").await;
        assert_eq!(
            (code.as_str(), message.as_str()),
            ("08006", "could not connect to server"),
            "{bytes:?}"
        );
    }
}

#[tokio::test]
async fn what_will_not_pass_is_told_at_once() {
    let ask_cleartext = b"R\x00\x00\x00\x08\x00\x00\x00\x03";
    let ask_kerberos = b"R\x00\x00\x00\x08\x00\x00\x00\x02";
    let ask_other_sasl = b"R\x00\x00\x00\x0fOTHER\x00\x00";
    for bytes in [&ask_cleartext[..], ask_kerberos, ask_other_sasl] {
        let (code, _) = refused_with(bytes, "1s").await;
        assert_eq!(code, "08006");
    }
    let error = message('E', b"SFATAL\0VFATAL\0C28P01\0Mno such password\0\0");
    assert_eq!(
        refused_with(&error, "1h").await,
        ("28P01".to_owned(), "server login failed: no such password".to_owned())
    );
}

async fn linked(scripted: &mut Scripted, pooler: &Pooler) -> (Wire, Wire) {
    let server = async {
        let mut server = scripted.accept().await;
        answer_switch(&mut server).await;
        server.send(&[message('I', b""), message('Z', b"I")].concat()).await;
        server
    };
    tokio::join!(server, Wire::login(pooler.port, &[("user", "app.acme")]))
}

#[tokio::test]
async fn a_server_that_breaks_the_protocol_is_closed_and_its_client_told() {
    for nonsense in [
        message('1', b""),
        message('Z', b"X"),
        message('Z', b""),
        message('K', b"12345678"),
        message('R', &[0; 4]),
        message('W', &[0, 0, 0]),
        b"Z\x00\x00\x00\x01".to_vec(),
        b"\x00\x00\x00\x00\x00\x00".to_vec(),
    ] {
        let mut scripted = Scripted::start().await;
        let pooler = Pooler::start(&scripted.toml(1)).await;
        let (mut server, mut client) = linked(&mut scripted, &pooler).await;
        client.send(&query("select 1")).await;
        assert_eq!(server.receive().await.tag, 'Q');
        server.send(&nonsense).await;
        let answer = client.receive().await;
        assert_eq!(
            (answer.field('S').as_str(), answer.field('C').as_str()),
            ("FATAL", "08006"),
            "{nonsense:?}"
        );
        assert_eq!(client.next().await, None);
        while let Some(message) = server.next().await {
            panic!("{message:?} sent to a server that talks nonsense");
        }
    }
}

#[tokio::test]
async fn the_last_word_stands_behind_what_was_answered_before() {
    let row = message('D', &[0, 1, 0, 0, 0, 1, b'x']);
    for answered in [row.clone(), row.repeat(3000), message('C', b"SELECT 1\0")] {
        let mut scripted = Scripted::start().await;
        let pooler = Pooler::start(&scripted.toml(1)).await;
        let (mut server, mut client) = linked(&mut scripted, &pooler).await;
        client.send(&query("select 1")).await;
        assert_eq!(server.receive().await.tag, 'Q');
        server.send(&[answered.clone(), message('K', b"12345678")].concat()).await;
        let mut passed = Vec::new();
        while passed.len() < answered.len() {
            let got = client.receive().await;
            passed.extend(message(got.tag, &got.body));
        }
        assert_eq!(passed, answered);
        let last = client.receive().await;
        assert_eq!((last.field('S').as_str(), last.field('C').as_str()), ("FATAL", "08006"));
        assert_eq!(client.next().await, None);
    }
}

/// What speaks the protocol and is not PostgreSQL may leave out what drivers rely on.
#[tokio::test]
async fn an_error_always_has_a_severity_a_sqlstate_and_a_text() {
    for (fields, code, text) in [
        (&b""[..], "XX000", "the server has sent an error without a text"),
        (b"Mno code\0", "XX000", "no code"),
        (b"SERROR\0Cshort\0Mx\0", "short", "x"),
        (b"SERROR\0C1\0Mx\0", "XX000", "x"),
        (b"SERROR\0C42P01\0", "42P01", "the server has sent an error without a text"),
        (b"SERROR\0VERROR\0C42P01\0Mas it is\0Dd\0", "42P01", "as it is"),
    ] {
        let error = message('E', &[fields, b"\0"].concat());
        let mut scripted = Scripted::start().await;
        let pooler = Pooler::start(&scripted.toml(1)).await;
        let (mut server, mut client) = linked(&mut scripted, &pooler).await;
        client.send(&query("select 1")).await;
        assert_eq!(server.receive().await.tag, 'Q');
        server.send(&[&error[..], &message('Z', b"I")].concat()).await;
        let answer = client.receive().await;
        assert_eq!((answer.tag, answer.field('S').as_str()), ('E', "ERROR"), "{fields:?}");
        assert_eq!((answer.field('C').as_str(), answer.field('M').as_str()), (code, text));
        assert_eq!(client.receive().await.tag, 'Z');
        // At a login of the pooler's.
        let (code, _) = refused_with(&error, "100ms").await;
        assert_eq!(code.len(), 5, "{fields:?}: {code}");
    }
}

#[tokio::test]
async fn a_server_that_died_while_idle_is_not_lent() {
    for last_words in [
        &b""[..],
        &message('E', b"SFATAL\0C57P01\0Mgoodbye\0\0"),
        &message('A', b"\0\0\0\x01c\0p\0"),
        b"Z",
    ] {
        let mut scripted = Scripted::start().await;
        let pooler = Pooler::start(&scripted.toml(1)).await;
        let (mut server, mut client) = linked(&mut scripted, &pooler).await;
        server.send_if_open(last_words).await;
        drop(server);
        // Whatever it said, the next statement goes to a new server.
        client.send(&query("select 1")).await;
        let mut fresh = scripted.accept().await;
        answer_switch(&mut fresh).await;
        fresh.send(&[message('C', b"SELECT 1\0"), message('Z', b"I")].concat()).await;
        assert_eq!(client.tags().await, "CZI", "{last_words:?}");
    }
}

#[tokio::test]
async fn a_cancel_request_ends_when_postgresql_has_done_it() {
    let mut scripted = Scripted::start().await;
    let pooler = Pooler::start(&scripted.toml(1)).await;
    let (mut server, mut client) = linked(&mut scripted, &pooler).await;
    scripted.hold_cancels();
    client.send(&query("select pg_sleep(600)")).await;
    assert_eq!(server.receive().await.tag, 'Q');
    let cancel = Wire::cancel(pooler.port, client.pid, &client.key);
    tokio::pin!(cancel);
    let held = tokio::select! {
        held = scripted.held_cancel() => held,
        () = &mut cancel => panic!("the client may go on, and the signal is still to come"),
    };
    // Until PostgreSQL closes, so long may its signal still come.
    assert!(
        tokio::time::timeout(std::time::Duration::from_millis(200), &mut cancel).await.is_err()
    );
    drop(held);
    protocol_tests::soon("the end of the request", cancel).await;
}

#[tokio::test]
async fn a_pinned_session_whose_server_dies_after_a_reset_is_told_and_not_moved() {
    let mut scripted = Scripted::start().await;
    let pooler = Pooler::start(&scripted.toml(2)).await;
    let (mut server, mut client) = linked(&mut scripted, &pooler).await;
    client.send(&query("reset all")).await;
    assert_eq!(server.receive().await.tag, 'Q');
    let back = until_sync(&mut server).await;
    assert_eq!(back, "CCPBECCCCPBECCS", "what leads back goes out with it");
    let back =
        "3312C333312C33".chars().map(|tag| message(tag, if tag == 'C' { b"SET\0" } else { b"" }));
    let back: Vec<u8> = back.flatten().collect();
    let ready = message('Z', b"I");
    server.send(&[&message('C', b"RESET\0"), &ready[..], &back, &ready].concat()).await;
    assert_eq!(client.tags().await, "CZI");
    answer_switch(&mut server).await;
    server.send(&[message('I', b""), message('Z', b"I")].concat()).await;
    drop(server); // without a word, as a crash does
    let last = client.receive().await;
    assert_eq!((last.field('S').as_str(), last.field('C').as_str()), ("FATAL", "08006"));
    assert_eq!(client.next().await, None);
    assert!(scripted.nobody_else(), "its state is gone: no other server can stand in");
}

/// A COPY that fails although its `Sync` came early, told to the client; the pooler has asked what
/// else is owed.
async fn doubtful(scripted: &mut Scripted, pooler: &Pooler) -> (Wire, Wire) {
    let (mut server, mut client) = linked(scripted, pooler).await;
    client.send(&[batch("copy t from stdin"), sync()].concat()).await;
    for tag in "PBES".chars() {
        assert_eq!(server.receive().await.tag, tag);
    }
    server.send(&[message('1', b""), message('2', b""), message('G', &[0, 0, 0])].concat()).await;
    for tag in "12G".chars() {
        assert_eq!(client.receive().await.tag, tag);
    }
    client.send(&[message('d', b"x\n"), message('c', b""), sync()].concat()).await;
    for tag in "dcS".chars() {
        assert_eq!(server.receive().await.tag, tag);
    }
    let failed = message('E', b"SERROR\0C22P04\0Mno\0\0");
    server.send(&[failed, message('Z', b"I")].concat()).await;
    assert_eq!(client.tags().await, "EZI");
    assert_eq!((server.receive().await.tag, server.receive().await.tag), ('C', 'S'));
    (server, client)
}

#[tokio::test]
async fn what_is_owed_after_a_failed_copy_is_found_out_and_passed_on() {
    // PostgreSQL may have failed before or behind the early Sync: two ReadyForQuery, or one.
    for late in [&[][..], &message('Z', b"I")] {
        let mut scripted = Scripted::start().await;
        let pooler = Pooler::start(&scripted.toml(1)).await;
        let (mut server, mut client) = doubtful(&mut scripted, &pooler).await;
        // What comes before the answer is the client's.
        server.send(&[late, &message('3', b""), &message('Z', b"I")].concat()).await;
        if !late.is_empty() {
            assert_eq!(client.tags().await, "ZI");
        }
        let login = Wire::login(pooler.port, &[("user", "app.acme")]);
        let asked = async {
            assert_eq!(server.receive().await.tag, 'Q', "the server is lent again");
            server.send(&[message('I', b""), message('Z', b"I")].concat()).await;
        };
        let (mut other, ()) = tokio::join!(login, asked);
        other.send(&query("select 1")).await;
        assert_eq!(server.receive().await.tag, 'Q');
        server.send(&[message('C', b"SELECT 1\0"), message('Z', b"I")].concat()).await;
        assert_eq!(other.tags().await, "CZI");
    }
}

#[tokio::test]
async fn a_server_that_does_not_say_what_it_owes_is_closed() {
    let mut scripted = Scripted::start().await;
    let pooler = Pooler::start(&scripted.toml(1)).await;
    let (mut server, mut client) = doubtful(&mut scripted, &pooler).await;
    server.send(&[message('3', b""), message('C', b"SELECT 1\0")].concat()).await;
    let last = client.receive().await;
    assert_eq!((last.field('S').as_str(), last.field('C').as_str()), ("FATAL", "08006"));
    assert_eq!(server.next().await, None);
}

/// The types of messages up to the next `Sync`.
async fn until_sync(server: &mut Wire) -> String {
    let mut tags = String::new();
    while !tags.ends_with('S') {
        tags.push(server.receive().await.tag);
    }
    tags
}

#[tokio::test]
async fn a_notice_behind_a_stale_statements_error_does_not_keep_it_from_being_tried_again() {
    let mut scripted = Scripted::start().await;
    let pooler = Pooler::start(&scripted.toml(1)).await;
    let (mut server, mut client) = linked(&mut scripted, &pooler).await;
    let run = [bind("", "s"), execute("", 0), sync()].concat();
    client.send(&[parse("s", "select * from who"), run.clone()].concat()).await;
    assert_eq!(until_sync(&mut server).await, "PBES");
    let done = [message('2', b""), message('C', b"SELECT 0\0"), message('Z', b"I")].concat();
    server.send(&[message('1', b""), done.clone()].concat()).await;
    client.until_ready().await;
    // The table has changed since. What is said behind that is not said by the statement.
    client.send(&run).await;
    assert_eq!(until_sync(&mut server).await, "BES");
    let stale = message(
        'E',
        b"SERROR\0VERROR\0C0A000\0Mcached plan must not change result type\0RRevalidateCachedQuery\0\0",
    );
    let notice = message('N', b"SNOTICE\0VNOTICE\0C00000\0Mby the way\0\0");
    server.send(&[stale, notice, message('Z', b"I")].concat()).await;
    assert_eq!(until_sync(&mut server).await, "CPBES", "it is parsed once more");
    server.send(&[message('3', b""), message('1', b""), done].concat()).await;
    let (messages, _) = client.until_ready().await;
    let tags: String = messages.iter().map(|message| message.tag).collect();
    assert_eq!(tags, "N2C");
}
