//! What a statement returns, as far as a client decodes rows by it.

use std::sync::Arc;

/// Names, types and type modifiers of the columns; or that there are none. Where a column comes from, and in which
/// format it is asked for, is none of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description(Arc<[u8]>);

impl Description {
    /// Of a statement that returns no rows.
    #[must_use]
    pub fn no_data() -> Self {
        Self(Arc::from([]))
    }

    /// Reads the body of a `RowDescription` (`T`), or the beginning of a long one; `len`: of all of it.
    ///
    /// <https://www.postgresql.org/docs/current/protocol-message-formats.html>
    #[must_use]
    pub fn of_rows(body: &[u8], len: usize) -> Self {
        let mut kept = len.to_be_bytes().to_vec();
        let mut rest = body.get(2..).unwrap_or_default();
        while let Some(end) = memchr::memchr(0, rest) {
            // Name, table (4), column (2), type (4), size (2), modifier (4), format (2).
            let (name, behind) = rest.split_at(end + 1);
            let (Some(of_type), Some(modifier)) = (behind.get(6..10), behind.get(12..16)) else {
                break;
            };
            for part in [name, of_type, modifier] {
                kept.extend_from_slice(part);
            }
            rest = behind.get(18..).unwrap_or_default();
        }
        Self(kept.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, of_type: u32, table: u32, format: u16) -> Vec<u8> {
        let mut column = [name.as_bytes(), b"\0"].concat();
        column.extend(table.to_be_bytes());
        column.extend(1_u16.to_be_bytes());
        column.extend(of_type.to_be_bytes());
        column.extend(4_u16.to_be_bytes());
        column.extend((-1_i32).to_be_bytes());
        column.extend(format.to_be_bytes());
        column
    }

    fn rows(columns: &[Vec<u8>]) -> Description {
        let body = [&[0, u8::try_from(columns.len()).unwrap()][..], &columns.concat()].concat();
        Description::of_rows(&body, body.len())
    }

    #[test]
    fn names_and_types_count_tables_and_formats_do_not() {
        let one = rows(&[column("a", 23, 7, 0), column("b", 25, 7, 0)]);
        assert_eq!(one, rows(&[column("a", 23, 8, 1), column("b", 25, 8, 1)]));
        assert_ne!(one, rows(&[column("b", 25, 7, 0), column("a", 23, 7, 0)]));
        assert_ne!(one, rows(&[column("a", 700, 7, 0), column("b", 25, 7, 0)]));
        assert_ne!(one, rows(&[column("a", 23, 7, 0)]));
        assert_ne!(one, Description::no_data());
        let _ = Description::of_rows(b"\0\x01a", 3);
    }
}
