//! A room uses only rooms above it in `lib.rs`. This reads the sources and fails otherwise.

use std::path::Path;

/// Rooms in their order, as `lib.rs` declares them.
fn rooms() -> Vec<String> {
    let lib =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    lib.lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .map(str::to_owned)
        .collect()
}

fn sources(directory: &Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
        }
    }
}

/// Rooms that a source names behind `crate::`, comments aside.
fn used<'a>(source: &str, rooms: &'a [String]) -> Vec<&'a String> {
    let code: Vec<&str> =
        source.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let names = |room: &&String| {
        code.match_indices("crate::").any(|(at, prefix)| {
            let rest = &code[at + prefix.len()..];
            rest.strip_prefix(room.as_str())
                .is_some_and(|r| !r.starts_with(|c: char| c == '_' || c.is_alphanumeric()))
        })
    };
    rooms.iter().filter(names).collect()
}

#[test]
fn a_room_uses_only_rooms_above_it() {
    let rooms = rooms();
    assert!(rooms.len() > 10, "lib.rs lists the rooms: {rooms:?}");
    for (floor, room) in rooms.iter().enumerate() {
        let mut files = Vec::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(room), &mut files);
        assert!(!files.is_empty(), "{room} has no sources");
        for (path, source) in files {
            assert!(!source.contains("use crate::{"), "{path}: one room a line");
            for other in used(&source, &rooms) {
                let below = rooms.iter().position(|r| r == other) > Some(floor);
                assert!(!below, "{path} uses `{other}`, which is below `{room}` in lib.rs");
            }
        }
    }
}

#[test]
fn a_room_below_is_noticed() {
    let rooms = ["wire".to_owned(), "pool".to_owned()];
    assert_eq!(used("use crate::pool::Seat;", &rooms), [&rooms[1]]);
    assert!(used("use crate::pooler::X; // crate::pool", &rooms[..1]).is_empty());
    assert!(used("//! [`crate::pool`]", &rooms).is_empty());
}
