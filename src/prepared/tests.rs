use std::sync::Arc;

use super::{Description, Evicted, Held, Key, Names, Op, Statements};
use crate::sql::Flags;

fn key(statement: u64) -> Key {
    Key { statement, class: 0 }
}

fn gone(number: u32, statement: u64) -> Evicted {
    Evicted { number, statement }
}

#[test]
fn the_same_text_is_one_statement_as_long_as_somebody_has_it() {
    let statements = Statements::default();
    let get = |tail: &[u8]| statements.of("acme").get(tail, Flags::NONE).unwrap();
    let (a, b) = (get(b"select 1\0\0\0"), get(b"select 1\0\0\0"));
    assert!(Arc::ptr_eq(&a, &b) && a.text() == b"select 1");
    assert_ne!(a.id, get(b"select 1\0\0\x01\0\0\0\x17").id, "other types are another statement");
    let id = a.id;
    drop((a, b));
    assert_ne!(get(b"select 1\0\0\0").id, id);
}

#[test]
fn the_least_recently_used_statement_makes_room() {
    let mut held = Held::default();
    for statement in 0..3 {
        let (slot, evicted) = held.take(key(statement), 3);
        assert!(slot.is_new && evicted.is_none());
    }
    assert!(!held.take(key(0), 3).0.is_new);
    let (slot, evicted) = held.take(key(3), 3);
    assert!(slot.is_new && evicted == Some(gone(1, 1)), "0 was used later");
    assert!(held.has(key(0)) && !held.has(key(1)) && held.has(key(2)));
    let other_class = Key { statement: 0, class: 1 };
    assert!(held.take(other_class, 9).0.is_new, "parsed in another state");
}

#[test]
fn what_is_forgotten_is_closed_later_and_no_number_comes_twice() {
    let mut held = Held::default();
    let first = held.take(key(0), 9).0.number;
    held.forget_all();
    let (slot, evicted) = held.take(key(0), 9);
    assert!(slot.is_new && slot.number != first);
    assert_eq!((evicted, held.take_dead()), (None, Some(gone(first, 0))));
    let (old, number) = held.renew(key(0));
    assert_eq!(old, Some(gone(slot.number, 0)));
    assert!(number > slot.number);
    held.bury([gone(slot.number, 0)]);
    held.clear();
    assert_eq!(
        (held.take(key(0), 9).1, held.take_dead()),
        (None, None),
        "a scrub has closed them all"
    );
}

#[test]
fn an_error_is_told_by_name_though_the_statement_has_gone_since() {
    let mut held = Held::default();
    let number = |held: &mut Held, statement| held.take(key(statement), 3).0.number;
    let numbers: Vec<u32> = (0..3).map(|statement| number(&mut held, statement)).collect();
    let evicted = held.take(key(3), 3).1.unwrap();
    let (renewed, _) = held.renew(key(1));
    held.forget(key(2));
    assert_eq!((evicted.statement, renewed.unwrap().number), (0, numbers[1]));
    for (statement, number) in numbers.iter().enumerate() {
        assert_eq!(held.of_number(*number), Some(statement as u64));
    }
    let last = held.take(key(4), 9).0.number;
    held.deallocate_all();
    assert_eq!((held.of_number(last), held.take_dead()), (Some(4), None));
    held.clear();
    assert_eq!(held.of_number(last), None, "nobody waits any more");

    let (statements, mut names) = (Statements::default(), Names::default());
    let statement = statements.of("acme").get(b"select 1\0\0\0", Flags::NONE).unwrap();
    let id = statement.id;
    names.insert(b"a", statement, None);
    names.answered();
    names.remove(b"a");
    assert_eq!(names.name_of(id), Some(&b"a"[..]), "its close is not answered");
    names.answered();
    assert_eq!(names.name_of(id), None);
}

#[test]
fn what_the_server_skipped_has_not_happened() {
    let statements = Statements::default();
    let statement = |text: &[u8]| statements.of("acme").get(text, Flags::NONE).unwrap();
    let mut names = Names::default();
    names.insert(b"a", statement(b"1\0"), Some(key(1)));
    assert!(matches!(names.answered(), Some(Op::Named { .. })));
    // Close a, prepare another a, something of the pooler's: all skipped.
    names.remove(b"a");
    names.insert(b"a", statement(b"2\0"), Some(key(2)));
    names.push(Op::Evicts(gone(7, 9)));
    names.push(Op::Parse(key(3)));
    names.push(Op::ParsesUnnamed);
    let undone = names.skipped(5);
    assert_eq!(
        (undone.lacks, undone.stay, undone.unnamed),
        (vec![key(3), key(2)], vec![gone(7, 9)], true)
    );
    assert_eq!(names.get(b"a").unwrap().text(), b"1");
    assert!(names.is_settled());
}

#[test]
fn a_later_unit_waits_for_what_an_earlier_one_comes_to() {
    let statements = Statements::default();
    let mut names = Names::default();
    names.insert(b"a", statements.of("acme").get(b"1\0", Flags::NONE).unwrap(), None);
    assert!(!names.must_wait(), "the same unit");
    names.seal();
    assert!(names.must_wait());
    names.answered();
    assert!(!names.must_wait());
    names.seal();
    assert!(!names.must_wait(), "nothing is open");
}

#[test]
fn what_was_asked_of_a_name_is_told_of_what_it_meant() {
    let statements = Statements::default();
    let statement = |text: &[u8]| statements.of("acme").get(text, Flags::NONE).unwrap();
    let mut names = Names::default();
    let told = Description::no_data();
    names.insert(b"a", statement(b"1\0"), None);
    names.answered();
    // Asked, then closed and given to another one, then answered.
    let of = names.meaning(b"a");
    names.remove(b"a");
    names.insert(b"a", statement(b"2\0"), None);
    names.tell(b"a", of, told.clone());
    assert_eq!(names.told(b"a"), None);
    // What took the name away is skipped after all: the client was told of the first one.
    names.skipped(2);
    assert_eq!(names.told(b"a"), Some(&told));
    // What was told goes with the name, and comes back with it.
    names.remove(b"a");
    assert_eq!(names.told(b"a"), None);
    names.skipped(1);
    assert_eq!(names.told(b"a"), Some(&told));
    // The unnamed one is another one each time.
    names.use_unnamed(b"1\0");
    let of = names.meaning(b"");
    names.use_unnamed(b"2\0");
    names.tell(b"", of, told.clone());
    assert_eq!(names.told(b""), None);
    names.tell(b"", names.meaning(b""), told.clone());
    names.begin_unit();
    names.use_unnamed(b"3\0");
    assert_eq!(names.told(b""), None);
    names.rewind();
    assert_eq!(names.told(b""), Some(&told), "the unit is read once more");
}

#[test]
fn long_texts_that_nobody_has_any_more_are_not_kept() {
    let statements = Statements::default();
    for number in 0..200 {
        let text = format!("select {number} {}\0\0\0", "x".repeat(900_000));
        assert!(statements.of("acme").get(text.as_bytes(), Flags::NONE).is_some());
        assert!(statements.texts() <= 8 * 1024 * 1024, "{number}: {}", statements.texts());
    }
}

#[test]
fn texts_of_one_tenant_leave_room_for_the_others() {
    let statements = Statements::default();
    let make = |tenant: &str, number: usize| {
        let text = format!("select {number} {}\0\0\0", "x".repeat(1_000_000));
        statements.of(tenant).get(text.as_bytes(), Flags::NONE)
    };
    let mut kept: Vec<_> = (0..100).map_while(|number| make("acme", number)).collect();
    assert_eq!(kept.len(), 67, "a quarter of 256 MB");
    let others = make("umbra", 1000).expect("there is room");
    // What another tenant prepared first costs nothing.
    assert!(make("acme", 1000).is_some_and(|it| Arc::ptr_eq(&it, &others)));
    assert!(statements.of("acme").get_unnamed(b"select 'mine'\0\0\0", Flags::NONE).is_some());
    assert!(make("acme", 1001).is_none());
    kept.truncate(60);
    assert!(make("acme", 1001).is_some());
}

#[test]
fn long_statements_of_one_client_leave_room_for_the_others() {
    let statements = Statements::default();
    let mut names = Names::default();
    let mut count = 0;
    while names.has_room(1_000_000) && count < 100 {
        let text = format!("select {count} {}\0\0\0", "x".repeat(1_000_000));
        let statement = statements.of("acme").get(text.as_bytes(), Flags::NONE).unwrap();
        names.insert(format!("s{count}").as_bytes(), statement, None);
        count += 1;
    }
    assert_eq!(count, 33, "of 1 MB each");
    assert!(names.has_room(1000) && !names.has_room(20_000_000));
    names.remove(b"s0");
    assert!(names.has_room(1_000_000));
}
