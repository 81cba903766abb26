//! `include`: more files, as if they stood in the first one.

use std::path::PathBuf;

use toml::{Table, Value};

use super::read::Context;

/// Adds what the files have that `include` names. A key that is given twice is a fault; tables add up.
pub(super) fn merge(mut table: Table, context: &Context) -> Table {
    let Some(value) = table.remove("include") else { return table };
    let patterns: Option<Vec<String>> = value
        .as_array()
        .and_then(|list| list.iter().map(|item| item.as_str().map(str::to_owned)).collect());
    let Some(patterns) = patterns else {
        context
            .faults
            .add("include", "expected a list of file names, such as [\"tenants.d/*.toml\"]");
        return table;
    };
    for pattern in patterns {
        let pattern = context.directory.join(pattern);
        for file in matches(&pattern.to_string_lossy(), context) {
            if let Some(included) = read(&file, context) {
                add(&mut table, included, "", &file.display().to_string(), context);
            }
        }
        context.patterns.borrow_mut().push(pattern);
    }
    table
}

/// Files that match, in the order of their names. A name without a wildcard must exist.
fn matches(pattern: &str, context: &Context) -> Vec<PathBuf> {
    match glob::glob(pattern) {
        Ok(paths) => {
            let files: Vec<PathBuf> = paths.filter_map(Result::ok).collect();
            if files.is_empty() && !pattern.contains(['*', '?', '[']) {
                context.faults.add("include", format!("{pattern}: no such file"));
            }
            files
        }
        Err(error) => {
            context.faults.add("include", format!("{pattern}: {error}"));
            Vec::new()
        }
    }
}

fn read(file: &PathBuf, context: &Context) -> Option<Table> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string());
    let table = text.and_then(|text| text.parse::<Table>().map_err(|error| error.to_string()));
    context.files.borrow_mut().insert(file.clone());
    match table {
        Ok(table) if !table.contains_key("include") => Some(table),
        Ok(_) => {
            let problem = format!("{}: an included file includes no others", file.display());
            context.faults.add("include", problem);
            None
        }
        Err(error) => {
            context.faults.add("include", format!("{}: {error}", file.display()));
            None
        }
    }
}

fn add(to: &mut Table, from: Table, path: &str, file: &str, context: &Context) {
    for (key, value) in from {
        let at = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match (to.get_mut(&key), value) {
            (None, value) => drop(to.insert(key, value)),
            (Some(Value::Table(known)), Value::Table(more)) => add(known, more, &at, file, context),
            (Some(_), _) => context.faults.add(at, format!("given already; once more in {file}")),
        }
    }
}
