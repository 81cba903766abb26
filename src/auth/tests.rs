use std::path::PathBuf;

use pgwire::api::auth::sasl::scram::ScramServerAuth;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use proptest::prelude::*;

use super::Credentials;
use super::credentials::{Challenge, md5_answer};
use crate::config::Config;

fn credentials(auth: &str) -> Credentials {
    let text = format!(
        "[clusters.main]\nuser = \"u\"\n[auth]\ntype = \"{auth}\"\n\
         [users.app]\npassword = \"pw\"\n[users.stored]\npassword = \"{STORED}\"\n"
    );
    Credentials::new(&Config::parse(&text, PathBuf::new()).unwrap().users)
}

/// The verifier PostgreSQL 15 made of the password `pencil` with the salt of RFC 7677.
const STORED: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==\
$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

/// Without a query nothing is waited for.
fn challenge(credentials: &Credentials, user: &str) -> Challenge {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(credentials.challenge(user)).unwrap()
}

fn scram(credentials: &Credentials, user: &str, password: &str) -> bool {
    let Challenge::Scram(verifier) = challenge(credentials, user) else {
        panic!("not asked by SCRAM")
    };
    let mut client = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
    let server = ScramServerAuth::new();
    let (first, waiting) =
        server.on_client_first_message_with_secret(client.message(), verifier.secret()).unwrap();
    client.update(first.as_bytes()).unwrap();
    match waiting.on_client_final_message(client.message()) {
        Ok(signature) => client.finish(signature.as_bytes()).is_ok(),
        Err(_) => false,
    }
}

#[test]
fn scram_lets_in_who_knows_the_password_and_nobody_else() {
    let credentials = credentials("scram-sha-256");
    assert!(scram(&credentials, "app", "pw"));
    assert!(scram(&credentials, "stored", "pencil"));
    for (user, password) in [("app", "wrong"), ("app", ""), ("stored", STORED), ("nobody", "pw")] {
        assert!(!scram(&credentials, user, password), "{user} {password}");
    }
}

#[test]
fn a_user_that_does_not_exist_is_asked_the_same_way_each_time() {
    let credentials = credentials("scram-sha-256");
    let first = |user: &str| {
        let Challenge::Scram(verifier) = challenge(&credentials, user) else { panic!("not SCRAM") };
        let server = ScramServerAuth::new();
        let (first, _) = server
            .on_client_first_message_with_secret(b"n,,n=,r=nonce", verifier.secret())
            .unwrap();
        first.split_once(",s=").unwrap().1.to_owned()
    };
    assert_eq!(first("nobody"), first("nobody"), "a salt that changes would tell");
    assert_ne!(first("nobody"), first("nobody2"));
    assert!(first("nobody").ends_with(",i=4096") && first("app").ends_with(",i=4096"));
}

#[test]
fn md5_is_postgresqls() {
    let credentials = credentials("md5");
    let digits = |user: &str, given: &str| match challenge(&credentials, user) {
        Challenge::Md5(secret) => secret.digits(given),
        Challenge::Scram(_) => panic!("not md5"),
    };
    for given in ["app", "app.acme"] {
        let answer = md5_answer(&digits("app", given), *b"salt");
        assert_eq!(answer, md5_hash(given.as_bytes(), b"pw", *b"salt"));
    }
    assert_eq!(
        digits("nobody", "nobody").len(),
        64,
        "no md5 of anything has so many digits: nobody can answer right"
    );
    assert!(matches!(challenge(&credentials, "stored"), Challenge::Scram(_)));
}

proptest! {
    /// pgwire's parsers see a client's bytes before it is authenticated.
    #[test]
    fn no_scram_message_panics(
        first in proptest::collection::vec(any::<u8>(), 0..80),
        almost in "[npy],[,a=x]{0,4}(m=x,)?n=[a-z,=]{0,5},r=[!-~]{0,10}(,x=y)?",
        last in "(c=[a-zA-Z=,]{0,8},)?(r=[!-~]{0,30})?(,p=[a-zA-Z0-9+/=]{0,50})?",
    ) {
        let credentials = credentials_once();
        for message in [&first[..], almost.as_bytes()] {
            let Challenge::Scram(verifier) = challenge(credentials, "x") else { unreachable!() };
            let server = ScramServerAuth::new();
            if let Ok((_, waiting)) = server.on_client_first_message_with_secret(message, verifier.secret()) {
                let _ = waiting.on_client_final_message(last.as_bytes());
                let _ = waiting.on_client_final_message(&first);
            }
        }
    }
}

fn credentials_once() -> &'static Credentials {
    static ONCE: std::sync::OnceLock<Credentials> = std::sync::OnceLock::new();
    ONCE.get_or_init(|| credentials("scram-sha-256"))
}
