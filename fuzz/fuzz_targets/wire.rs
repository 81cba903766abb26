//! Any bytes, as a client's stream: every message is found, and none makes a reader panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tenantry::flow::{ClientScan, Exchange, ServerScan};
use tenantry::wire::frontend::bound_text;
use tenantry::wire::{backend, options, startup};

fuzz_target!(|bytes: &[u8]| {
    let (mut scan, mut exchange, mut done) = (ClientScan::new(), Exchange::default(), 0);
    while let Ok((count, event)) = scan.next(&bytes[done..]) {
        done += count;
        if count == 0 && event.is_none() {
            break;
        }
    }
    let (mut scan, mut rest) = (ServerScan::default(), bytes);
    loop {
        rest = &rest[scan.skip_body(rest)..];
        match scan.next(rest) {
            Ok(Some(message)) if scan.at_boundary() || message.consumed > 0 => {
                let _ = exchange.on_server(message.tag, message.body);
                rest = &rest[message.consumed..];
            }
            _ => break,
        }
    }
    let _ = (startup::packet_len(bytes), startup::packet(bytes), options::parse(bytes));
    let _ = (backend::data_row(bytes), backend::parameter_status(bytes), backend::authentication(bytes));
    for number in 0..3 {
        let _ = bound_text(bytes, number);
    }
});
