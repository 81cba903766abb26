//! The start-up parameter `options`, by PostgreSQL's own rules.
//!
//! It is a command line: words separated by white space, `\` protects the next byte. Settings come
//! as `-c name=value`, `-cname=value` or `--name=value`; a dash in the *name* stands for an underscore.
//! `-c+name=value` is tolerated because some drivers encode a blank as `+`.
//!
//! <https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-OPTIONS>

/// A word of `options` that sets nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// A switch of the postgres command line that the pooler does not carry, such as `-B`.
    #[error("unsupported switch in startup parameter \"options\": {word}")]
    Switch {
        /// The word as the client wrote it.
        word: String,
    },
    /// `-c` or `--name` without `=value`.
    #[error("-c {word} requires a value")]
    NoValue {
        /// The word as the client wrote it.
        word: String,
    },
    /// Not UTF-8: no setting has such a name, and PostgreSQL's answer would depend on its encoding.
    #[error("startup parameter \"options\" is not valid UTF-8")]
    Encoding,
}

/// The settings in `options`, in order; a later one overrides an earlier one of the same name.
///
/// # Errors
/// The first word that is not a setting.
pub fn parse(options: &[u8]) -> Result<Vec<(String, String)>, OptionsError> {
    let mut settings = Vec::new();
    let mut words = split(options)?.into_iter();
    while let Some(word) = words.next() {
        let assignment = if let Some(long) = word.strip_prefix("--") {
            long.to_owned()
        } else if word == "-c" {
            words.next().ok_or(OptionsError::NoValue { word })?
        } else if let Some(short) = word.strip_prefix("-c") {
            short.strip_prefix('+').unwrap_or(short).to_owned()
        } else {
            return Err(OptionsError::Switch { word });
        };
        match assignment.split_once('=') {
            Some((name, value)) if !name.is_empty() => {
                settings.push((name.replace('-', "_"), value.to_owned()));
            }
            _ => return Err(OptionsError::NoValue { word: assignment }),
        }
    }
    Ok(settings)
}

/// Words as `pg_split_opts` makes them: split at white space, `\x` is `x`.
fn split(options: &[u8]) -> Result<Vec<String>, OptionsError> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut bytes = options.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r' => words.extend(word.take()),
            b'\\' => word.get_or_insert_default().extend(bytes.next()),
            _ => word.get_or_insert_default().push(byte),
        }
    }
    words.extend(word);
    words.into_iter().map(|w| String::from_utf8(w).map_err(|_| OptionsError::Encoding)).collect()
}
