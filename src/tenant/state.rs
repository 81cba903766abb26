//! Session state as a value: a role and an ordered map of settings.

use std::collections::BTreeMap;

use super::quote;

/// The schema of temporary objects, whatever its real name.
const TEMP_SCHEMA: &[u8] = b"pg_temp";

/// A setting's name: dotted identifiers, kept in lower case because PostgreSQL ignores the case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GucName(Box<str>);

/// A text that cannot be the name of a setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid configuration parameter name {0:?}")]
pub struct InvalidGucName(pub String);

impl GucName {
    /// Reads a name: ASCII letters, digits, `_` and `$`, in parts joined by dots.
    ///
    /// # Errors
    /// [`InvalidGucName`] for anything else; PostgreSQL knows no such setting.
    pub fn new(name: &str) -> Result<Self, InvalidGucName> {
        let part = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$')
        };
        let part = |text: &str| text.len() <= 63 && part(text);
        if name.len() <= 127 && name.split('.').all(part) {
            Ok(Self(name.to_ascii_lowercase().into()))
        } else {
            Err(InvalidGucName(name.to_owned()))
        }
    }

    /// The name in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether PostgreSQL itself knows nothing of it: a name of two parts.
    #[must_use]
    pub fn is_custom(&self) -> bool {
        self.0.contains('.')
    }

    /// Whether `pg_settings` lists it, with where its value comes from.
    #[must_use]
    pub(super) fn is_listed(&self) -> bool {
        !self.is_custom() && !matches!(self.as_str(), "role" | "session_authorization")
    }

    /// Settings whose text is a list of identifiers: `SET x TO 'a, b'` would make them *one*.
    ///
    /// The list of `pg_dump` (`variable_is_guc_list_quote`); it is closed for extensions.
    fn is_identifier_list(&self) -> bool {
        matches!(
            self.as_str(),
            "search_path"
                | "temp_tablespaces"
                | "local_preload_libraries"
                | "session_preload_libraries"
        )
    }
}

impl std::fmt::Display for GucName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a setting is set to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Value {
    /// The text as a start-up packet would carry it, in the server's encoding.
    Text(Box<[u8]>),
    /// A list of names, each taken as it is written: `search_path` from the configuration.
    Names(Box<[String]>),
}

impl Value {
    /// Whether a server that has this value shows that text. A path that means the same in another spelling is another
    /// value: whoever comes to the server sees how it is spelled.
    #[must_use]
    pub(super) fn reads(&self, shown: &[u8]) -> bool {
        match self {
            Self::Text(text) => **text == *shown,
            Self::Names(names) => quote::is_list(shown, names),
        }
    }
}

impl Value {
    /// The value as `set_config` takes it.
    fn text(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.to_vec(),
            Self::Names(_) => self.shown().unwrap_or_default().into_bytes(),
        }
    }

    /// What a server that is set to this value shows, if that is known.
    #[must_use]
    pub fn shown(&self) -> Option<String> {
        match self {
            Self::Text(text) => String::from_utf8(text.to_vec()).ok(),
            Self::Names(names) if names.is_empty() => Some("\"\"".to_owned()),
            Self::Names(names) => {
                let names: Vec<String> = names.iter().map(|name| quote::shown(name)).collect();
                Some(names.join(", "))
            }
        }
    }
}

/// The names in a text that a list of names is set to, as PostgreSQL reads it.
#[must_use]
pub fn names_in(text: &str) -> Option<Vec<String>> {
    identifiers(text.as_bytes())
}

/// The names in a list as PostgreSQL shows it: `acme, "Other", public`.
pub(super) fn identifiers(shown: &[u8]) -> Option<Vec<String>> {
    let mut rest = std::str::from_utf8(shown).ok()?.trim_start();
    let mut names = Vec::new();
    while !rest.is_empty() {
        let name;
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut text = String::new();
            rest = quoted;
            loop {
                let (part, after) = rest.split_once('"')?;
                text.push_str(part);
                let Some(more) = after.strip_prefix('"') else {
                    rest = after;
                    break;
                };
                text.push('"');
                rest = more;
            }
            name = text;
        } else {
            let end = rest.find(|c: char| c == ',' || c.is_ascii_whitespace());
            let (bare, after) = rest.split_at(end.unwrap_or(rest.len()));
            name = bare.to_ascii_lowercase();
            rest = after;
        }
        names.push(name);
        rest = rest.trim_start();
        if rest.is_empty() {
            break;
        }
        rest = rest.strip_prefix(',')?.trim_start();
        if rest.is_empty() {
            return None;
        }
    }
    Some(names)
}

/// Settings by which literals are read.
const READS: [&str; 11] = [
    "array_nulls",
    "backslash_quote",
    "datestyle",
    "escape_string_warning",
    "intervalstyle",
    "lc_monetary",
    "standard_conforming_strings",
    "timezone",
    "timezone_abbreviations",
    "transform_null_equals",
    "xmloption",
];

/// Role and settings that a server must be in before a client's statement may run on it.
///
/// The tenant's baseline lies under the client's own settings: [`SessionState::overlay`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct SessionState {
    role: Option<String>,
    settings: BTreeMap<GucName, Value>,
}

impl SessionState {
    /// Sets the role; `None` is the login role.
    #[must_use]
    pub fn with_role(mut self, role: Option<String>) -> Self {
        self.role = role;
        self
    }

    /// Sets one setting.
    #[must_use]
    pub fn with(mut self, name: GucName, value: Value) -> Self {
        self.settings.insert(name, value);
        self
    }

    /// Leaves one setting to the server's default.
    #[must_use]
    pub fn without(mut self, name: &GucName) -> Self {
        self.settings.remove(name);
        self
    }

    /// A query that returns a row if the schema exists.
    #[must_use]
    pub fn schema_exists(schema: &str) -> String {
        let mut sql = String::from("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = ");
        quote::literal(schema.as_bytes(), &mut sql);
        sql
    }

    /// Whether tables made in this state may be temporary ones, in the schema `pg_temp`.
    #[must_use]
    pub fn names_temporary_schema(&self) -> bool {
        let is_temporary = |name: &[u8]| {
            name.windows(TEMP_SCHEMA.len()).any(|part| part.eq_ignore_ascii_case(TEMP_SCHEMA))
        };
        match self.get("search_path") {
            Some(Value::Text(text)) => is_temporary(text),
            // The operator's own list names it last, where it hides nothing, or first on purpose.
            Some(Value::Names(names)) => names.first().is_some_and(|n| is_temporary(n.as_bytes())),
            None => false,
        }
    }

    /// Whether it seeds random(), which nothing undoes: a server that was in it is nobody else's.
    #[must_use]
    pub fn seeds(&self) -> bool {
        self.get("seed").is_some()
    }

    /// The role, if it is not the login role.
    #[must_use]
    pub fn role(&self) -> Option<&str> {
        self.role.as_deref()
    }

    pub(super) fn role_owned(&self) -> Option<String> {
        self.role.clone()
    }

    /// Bytes of the client's own names and values, about: a bound on memory asks for it.
    #[must_use]
    pub fn size(&self) -> usize {
        let value = |value: &Value| match value {
            Value::Text(text) => text.len(),
            Value::Names(names) => names.iter().map(String::len).sum(),
        };
        self.settings.iter().map(|(name, v)| name.as_str().len() + value(v)).sum()
    }

    /// Whether a server in this state would report that value, as far as the state says.
    #[must_use]
    pub fn shows(&self, name: &[u8], value: &[u8]) -> bool {
        let same = |(n, _): &(&GucName, &Value)| n.as_str().as_bytes().eq_ignore_ascii_case(name);
        self.settings.iter().find(same).is_some_and(|(_, known)| known.reads(value))
    }

    /// The value of a setting, if this state sets it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.settings.iter().find(|(n, _)| n.as_str() == name).map(|(_, v)| v)
    }

    /// The settings in order of their names.
    pub fn settings(&self) -> impl Iterator<Item = (&GucName, &Value)> {
        self.settings.iter()
    }

    /// Whether all of these stand in the search_path, or are PostgreSQL's own: such a path leads nowhere else.
    #[must_use]
    pub fn has_in_path(&self, names: &[String]) -> bool {
        let own = self.search_path();
        names.iter().all(|name| name.is_empty() || name == "pg_catalog" || own.contains(name))
    }

    /// The names in the search_path.
    #[must_use]
    pub fn search_path(&self) -> Vec<String> {
        match self.get("search_path") {
            Some(Value::Names(names)) => names.to_vec(),
            Some(Value::Text(text)) => identifiers(text).unwrap_or_default(),
            None => Vec::new(),
        }
    }

    /// What this state has over `baseline`.
    #[must_use]
    pub fn beyond(&self, baseline: &Self) -> Self {
        let mut own = self.clone();
        own.role = own.role.filter(|role| baseline.role.as_ref() != Some(role));
        own.settings.retain(|name, value| baseline.settings.get(name) != Some(value));
        own
    }

    /// This state without what does not change what a statement means, nor how it is planned.
    #[must_use]
    pub fn for_plans(&self) -> Self {
        let plans = |name: &GucName| {
            !name.as_str().ends_with("_timeout")
                && !matches!(name.as_str(), "application_name" | "client_min_messages")
        };
        let mut state = self.clone();
        state.settings.retain(|name, _| plans(name));
        state
    }

    /// Of this state, what decides how PostgreSQL reads the literals of a statement when it parses it. What is made of them
    /// stays, whatever is set later.
    #[must_use]
    pub fn for_reading(&self) -> Self {
        let reads = |(name, value): (&GucName, &Value)| {
            READS.contains(&name.as_str()).then(|| (name.clone(), value.clone()))
        };
        Self { role: None, settings: self.settings.iter().filter_map(reads).collect() }
    }

    /// This state under `own`: where both set something, `own` wins.
    #[must_use]
    pub fn overlay(&self, own: &Self) -> Self {
        let mut both = self.clone();
        both.role = own.role.clone().or(both.role);
        both.settings.extend(own.settings.clone());
        both
    }

    /// A query that sets `name` to its value in this state, for the transaction.
    #[must_use]
    pub fn local_query_of(&self, name: &str) -> Option<String> {
        let [name, value] = self.literals_of(name)?;
        Some(format!("SELECT pg_catalog.set_config({name}, {value}, true)"))
    }

    /// A setting's name and its value, as literals.
    fn literals_of(&self, name: &str) -> Option<[String; 2]> {
        let value = if name == "role" {
            self.role.clone()?.into_bytes()
        } else {
            self.settings.iter().find(|(known, _)| known.as_str() == name)?.1.text()
        };
        let mut literals = [String::new(), String::new()];
        quote::literal(name.as_bytes(), &mut literals[0]);
        quote::literal(&value, &mut literals[1]);
        Some(literals)
    }

    /// The statements that lead from a neutral session to this state; the role comes last,
    /// because the login role may set what the tenant's role may not.
    #[must_use]
    pub fn statements(&self) -> Vec<String> {
        self.statements_from(&Self::default())
    }

    /// The statement that sets one setting to what it is in this state; `None`: it is not set there.
    #[must_use]
    pub fn statement_of(&self, name: &str) -> Option<String> {
        if name == "role" {
            let role = self.role.as_ref()?;
            let mut sql = String::from("SET role TO ");
            quote::literal(role.as_bytes(), &mut sql);
            return Some(sql);
        }
        let (name, value) = self.settings.iter().find(|(n, _)| n.as_str() == name)?;
        Some(assignment(name, value))
    }

    /// A query that sets `name` to its value in this state where the session has gone back to the server's own, and leaves
    /// it alone where it has not.
    #[must_use]
    pub fn query_if_reset(&self, name: &str) -> Option<String> {
        let [name_sql, value] = self.literals_of(name)?;
        let if_reset = if name == "role" {
            "WHERE pg_catalog.current_setting('role') OPERATOR(pg_catalog.=) 'none'".to_owned()
        } else if name.contains('.') {
            format!(
                "WHERE coalesce(pg_catalog.current_setting({name_sql}, true), '') OPERATOR(pg_catalog.=) ''"
            )
        } else {
            format!(
                "FROM pg_catalog.pg_settings WHERE pg_catalog.lower(name) OPERATOR(pg_catalog.=) {name_sql} \
                 AND source OPERATOR(pg_catalog.<>) 'session'"
            )
        };
        Some(format!("SELECT pg_catalog.set_config({name_sql}, {value}, false) {if_reset}"))
    }

    /// The statements that lead from `before` to this state.
    #[must_use]
    pub fn statements_from(&self, before: &Self) -> Vec<String> {
        let mut statements = Vec::new();
        let leaves_role = before.role != self.role && before.role.is_some();
        if leaves_role {
            // The role may not be allowed what the session's own settings ask for.
            statements.push("RESET role".to_owned());
        }
        for name in before.settings.keys().filter(|name| !self.settings.contains_key(name)) {
            let mut sql = String::from("SET ");
            quote::guc(name.as_str(), &mut sql);
            sql.push_str(" TO DEFAULT");
            statements.push(sql);
        }
        let differs = |(name, value): &(&GucName, &Value)| before.settings.get(name) != Some(value);
        statements.extend(self.settings.iter().filter(differs).map(|(n, v)| assignment(n, v)));
        if let Some(role) = self.role.as_ref().filter(|_| before.role != self.role) {
            let mut sql = String::from("SET role TO ");
            quote::literal(role.as_bytes(), &mut sql);
            statements.push(sql);
        }
        statements
    }
}

fn assignment(name: &GucName, value: &Value) -> String {
    let mut sql = String::new();
    match value {
        Value::Text(text) if name.is_identifier_list() => {
            sql.push_str("SELECT pg_catalog.set_config(");
            quote::literal(name.as_str().as_bytes(), &mut sql);
            sql.push_str(", ");
            quote::literal(text, &mut sql);
            sql.push_str(", false)");
        }
        Value::Text(text) => {
            sql.push_str("SET ");
            quote::guc(name.as_str(), &mut sql);
            sql.push_str(" TO ");
            quote::literal(text, &mut sql);
        }
        Value::Names(names) => {
            sql.push_str("SET ");
            quote::guc(name.as_str(), &mut sql);
            sql.push_str(" TO ");
            for (at, name) in names.iter().enumerate() {
                if at > 0 {
                    sql.push_str(", ");
                }
                quote::literal(name.as_bytes(), &mut sql);
            }
            if names.is_empty() {
                sql.push_str("''");
            }
        }
    }
    sql
}
