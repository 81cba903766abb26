//! How many instructions the parts of the hot path take, exactly, and whether that has grown.
//!
//! ```text
//! scripts/counts            # beside the baseline: fails if one has grown by 3 %
//! scripts/counts --write    # what is counted now is the baseline
//! ```
//!
//! Each case runs in a process of its own under callgrind, which counts the same whatever else the
//! machine is doing. Where the compiler or the processor is another one than the baseline's, all is
//! shown and nothing judged. Needs valgrind.

#![allow(clippy::print_stdout, reason = "its table is for a terminal")]

mod cases;

use std::collections::BTreeMap;
use std::process::{Command, ExitCode};

use serde_json::{Value, json};

/// How often a case is run in its process.
const TIMES: u32 = 100;
/// Growth that fails, in percent.
const GROWTH_MAX: f64 = 3.0;

type Counts = BTreeMap<String, f64>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, name] = &arguments[..]
        && flag == "--case"
    {
        cases::run(name, TIMES);
        return ExitCode::SUCCESS;
    }
    let counts: Counts = cases::names()
        .map(|name| (name.to_owned(), f64::from(count(name)) / f64::from(TIMES)))
        .collect();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/counts/baseline.json");
    if arguments.iter().any(|argument| argument == "--write") {
        let baseline = json!({ "counted_on": counted_on(), "instructions": counts });
        let text = serde_json::to_string_pretty(&baseline).expect("numbers and names");
        std::fs::write(path, text + "\n").expect("the baseline can be written");
        return ExitCode::SUCCESS;
    }
    let baseline = std::fs::read_to_string(path).expect("there is a baseline");
    compare(&counts, &serde_json::from_str(&baseline).expect("the baseline is JSON"))
}

/// Instructions of all runs of a case, without what prepares it.
fn count(name: &str) -> u32 {
    let this = std::env::current_exe().expect("this program has a path");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .arg(format!("--toggle-collect=*{}*", cases::COUNTED))
        .arg(this)
        .args(["--case", name])
        .output()
        .expect("valgrind is installed");
    let log = String::from_utf8_lossy(&output.stderr);
    let collected = log.lines().find_map(|line| line.split_once("Collected : "));
    let (_, collected) =
        collected.unwrap_or_else(|| panic!("nothing was counted of {name}: {log}"));
    collected.trim().parse().expect("a number")
}

/// The compiler and the kind of processor: memchr looks at the latter.
fn counted_on() -> Value {
    let rustc = Command::new("rustc").arg("-V").output().expect("rustc is installed");
    let rustc = String::from_utf8_lossy(&rustc.stdout).trim().to_owned();
    json!({ "rustc": rustc, "target": std::env::consts::ARCH, "avx2": cases::has_avx2() })
}

fn compare(counts: &Counts, baseline: &Value) -> ExitCode {
    let is_same = baseline["counted_on"] == counted_on();
    let mut failures = 0;
    println!("{:<44}{:>14}{:>14}{:>9}", "instructions", "baseline", "now", "%");
    for (name, now) in counts {
        let Some(before) = baseline["instructions"][name].as_f64() else {
            println!("{name:<44}{:>14}{now:>14.0}", "-");
            failures += u32::from(is_same);
            continue;
        };
        let growth = (now / before - 1.0) * 100.0;
        let is_too_much = growth > GROWTH_MAX;
        failures += u32::from(is_too_much && is_same);
        println!(
            "{name:<44}{before:>14.0}{now:>14.0}{growth:>+9.1}{}",
            if is_too_much { " !" } else { "" }
        );
    }
    if !is_same {
        println!("the baseline is of {}: not judged", baseline["counted_on"]);
    }
    // As a test runner says it.
    let passed = counts.len() - usize::try_from(failures).expect("as many as there are");
    println!("{passed} passed, {failures} failed");
    if failures > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
