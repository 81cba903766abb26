//! What a run has found, for the tables in `docs/compatibility.md` (`scripts/compatibility`).

use std::fmt::Write;

use crate::pooler::binary;

/// Writes one column of a table: its heading, then a line for each row.
///
/// Each column is a file of its own, because tests run side by side in processes of their own.
pub fn report(table: &str, column: &str, rows: &[(String, String)]) {
    let directory = binary().parent().unwrap().join("compatibility").join(table);
    std::fs::create_dir_all(&directory).unwrap();
    let mut text = format!("{column}\n");
    for (name, cell) in rows {
        writeln!(text, "{name}\t{cell}").unwrap();
    }
    std::fs::write(directory.join(format!("{column}.tsv")), text).unwrap();
}
