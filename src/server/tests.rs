use std::sync::Arc;

use super::switch::Fit;
use super::{Class, Frames, Known, Parameters, Switch, Target};
use crate::config::Scrub;
use crate::tenant::{GucName, NamePattern, SessionState, Value};
use crate::wire::frame::Header;

fn target(tenant: &str, value: &str) -> Arc<Target> {
    let id = NamePattern::new("[a-z]+").unwrap().parse(tenant).unwrap();
    let value = Value::Text(value.as_bytes().into());
    let session = SessionState::default().with(GucName::new("app.x").unwrap(), value);
    Arc::new(Target::new(id, session, Arc::new(Class::new())))
}

/// The statements in the frames, and how many messages there are.
fn sql(frames: &Frames) -> (Vec<String>, u32) {
    let (mut rest, mut statements, mut messages) = (&frames.bytes[..], Vec::new(), 0);
    while let Some(header) = Header::read(rest).unwrap() {
        let body = &rest[5..header.frame_len()];
        if header.tag == b'P' {
            let text = body[1..].split(|b| *b == 0).next().unwrap();
            statements.push(String::from_utf8(text.to_vec()).unwrap());
        }
        messages += 1;
        rest = &rest[header.frame_len()..];
    }
    (statements, messages)
}

fn statements(known: &Known, to: &Arc<Target>, scrub: Scrub) -> Option<Vec<String>> {
    match known.switch_to(to, scrub) {
        Switch::None => None,
        Switch::Frames { frames, scrubs } => {
            let (statements, messages) = sql(&frames);
            assert_eq!(messages, frames.replies, "every message is answered once");
            assert_eq!(scrubs, statements.contains(&"RESET ALL".to_owned()));
            assert!(
                !frames.bytes.iter().any(|b| *b == b'S' && frames.bytes.ends_with(b"S\0\0\0\x04"))
            );
            Some(statements)
        }
    }
}

#[test]
fn a_switch_does_no_more_than_the_handover_needs() {
    let (a, b, other) = (target("acme", "1"), target("acme", "2"), target("umbra", "1"));
    let known = Known::Exactly(Arc::clone(&a));
    assert_eq!(statements(&known, &a, Scrub::Tenant), None);
    assert_eq!(statements(&known, &target("acme", "1"), Scrub::Tenant), None);
    let differing = statements(&known, &b, Scrub::Tenant).unwrap();
    assert_eq!(differing[1..], ["SET \"app\".\"x\" TO E'2'", "COMMIT"]);
    let full = statements(&known, &other, Scrub::Tenant).unwrap();
    assert!(full[0].starts_with("BEGIN ISOLATION LEVEL READ COMMITTED"));
    assert_eq!(full[1], "SET SESSION AUTHORIZATION DEFAULT");
    assert_eq!(full[full.len() - 2..], ["SET \"app\".\"x\" TO E'1'", "COMMIT"]);
    assert_eq!(statements(&Known::Neutral, &a, Scrub::Tenant).unwrap().len(), 3);
}

#[test]
fn another_tenant_or_an_unsure_state_is_always_scrubbed() {
    let (a, other) = (target("acme", "1"), target("umbra", "1"));
    for (known, to, scrub) in [
        (Known::Exactly(Arc::clone(&a)), &other, Scrub::Tenant),
        (Known::Exactly(Arc::clone(&a)), &a, Scrub::Client),
        (Known::Unsure, &a, Scrub::Tenant),
    ] {
        let all = statements(&known, to, scrub).unwrap();
        for sql in super::switch::SCRUB {
            assert!(all.iter().any(|s| s == sql), "{sql} is missing");
        }
    }
}

#[test]
fn the_same_state_fits_best() {
    let (a, b, other) = (target("acme", "1"), target("acme", "2"), target("umbra", "1"));
    let known = Known::Exactly(Arc::clone(&a));
    assert_eq!(known.fit(&a), Fit::SameState);
    assert_eq!(known.fit(&b), Fit::SameTenant);
    assert_eq!(known.fit(&other), Fit::OtherTenant);
    assert_eq!(Known::Unsure.fit(&a), Fit::OtherTenant);
}

#[test]
fn a_parameter_is_news_once() {
    let mut parameters = Parameters::default();
    assert!(parameters.set(b"TimeZone", b"UTC"));
    assert!(!parameters.set(b"TimeZone", b"UTC"));
    assert!(parameters.set(b"TimeZone", b"GMT"));
    assert!(parameters.knows(b"TimeZone", b"GMT") && !parameters.knows(b"x", b"GMT"));
    for n in 0..1000 {
        parameters.set(format!("p{n}").as_bytes(), b"");
    }
    assert_eq!(parameters.iter().count(), 64, "a server cannot make it grow for ever");
}
