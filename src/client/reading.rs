//! By which settings a statement's literals were read.
//!
//! PostgreSQL reads them once, when it parses the statement: behind a `SET DateStyle` the old ones stay what they were. So
//! does the pooler, which may have to make the statement again behind that: it makes it under the settings of then.
//! (`search_path` and the role are none of them: PostgreSQL itself looks names up anew when these change.)

use std::sync::Arc;

use super::session::Session;
use crate::prepared::Statement;
use crate::tenant::SessionState;

impl Session {
    /// What the session's literals are read by, if that is not what it was at the log-in.
    #[inline]
    pub(super) fn reads_otherwise(&self) -> Option<&SessionState> {
        let same =
            Arc::ptr_eq(&self.target, &self.home) || self.target.reads() == self.home.reads();
        (!same).then(|| self.target.reads())
    }

    /// The statement that a name of the client's means, as it was read when it was prepared.
    pub(super) fn named(&mut self, name: &[u8]) -> Option<Arc<Statement>> {
        let statement = self.names.as_ref()?.get(name)?;
        if statement.reads.is_some() || self.reads_otherwise().is_none() {
            return Some(Arc::clone(statement));
        }
        // Others may have the same text, and have logged in with other settings.
        let kept = self.shared.statements.of(self.tenant()).read_by(Some(self.home.reads()));
        let Some(statement) = kept.as_read(statement) else { return Some(Arc::clone(statement)) };
        self.names.as_mut()?.read_as(name, Arc::clone(&statement));
        Some(statement)
    }

    /// What leads to the settings by which a statement is read, and back.
    pub(super) fn reading(&self, statement: &Statement) -> (Vec<String>, Vec<String>) {
        match &statement.reads {
            Some(reads) if reads != self.target.reads() => {
                let here = self.target.reads();
                (reads.statements_from(here), here.statements_from(reads))
            }
            _ => (Vec::new(), Vec::new()),
        }
    }
}
