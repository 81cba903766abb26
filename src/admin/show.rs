//! What `SHOW` gives.

use bytes::BytesMut;

use super::columns::{self, Column};
use super::command::KNOWN;
use super::rows::{self, Rows};
use crate::client::Shared;
use crate::wire::build::{self, Format};

/// What is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Show {
    /// `SHOW VERSION`.
    Version,
    /// `SHOW HELP`.
    Help,
    /// `SHOW STATE`: whether it serves.
    State,
    /// `SHOW LISTS`: how many of what there are.
    Lists,
    /// `SHOW POOLS`: a row for each database and login role that is in use.
    Pools,
    /// `SHOW DATABASES`: the same, by their limits.
    Databases,
    /// `SHOW USERS`: a row for each user that has a secret here.
    Users,
    /// `SHOW CLIENTS`: a row for each client.
    Clients,
    /// `SHOW SERVERS`: a row for each server.
    Servers,
    /// `SHOW STATS`: a row for each database, what its clients did.
    Stats,
    /// `SHOW STATS_TOTALS`: since the start.
    StatsTotals,
    /// `SHOW STATS_AVERAGES`: lately.
    StatsAverages,
    /// `SHOW TOTALS`: of all databases together, a row for each number.
    Totals,
    /// `SHOW CONFIG`: every setting.
    Config,
    /// `SHOW TENANTS`: a row for each tenant that has clients.
    Tenants,
    /// `SHOW TENANT x`: every setting of one, and the rule that decides it.
    Tenant(String),
    /// `SHOW PINS`: a row for each session that keeps its server.
    Pins,
    /// `SHOW OVERRIDES`: what was set here.
    Overrides,
}

/// Words behind `SHOW`.
const WORDS: [(&str, Show); 17] = [
    ("version", Show::Version),
    ("help", Show::Help),
    ("state", Show::State),
    ("lists", Show::Lists),
    ("pools", Show::Pools),
    ("databases", Show::Databases),
    ("users", Show::Users),
    ("clients", Show::Clients),
    ("servers", Show::Servers),
    ("stats", Show::Stats),
    ("stats_totals", Show::StatsTotals),
    ("stats_averages", Show::StatsAverages),
    ("totals", Show::Totals),
    ("config", Show::Config),
    ("tenants", Show::Tenants),
    ("pins", Show::Pins),
    ("overrides", Show::Overrides),
];

impl Show {
    pub(super) fn parse(word: &str) -> Option<Self> {
        let known = WORDS.iter().find(|(name, _)| word.eq_ignore_ascii_case(name));
        known.map(|(_, show)| show.clone())
    }

    pub(super) const fn columns(&self) -> &'static [Column] {
        match self {
            Self::Version => columns::VERSION,
            Self::Help => columns::HELP,
            Self::State => columns::STATE,
            Self::Lists => columns::LISTS,
            Self::Pools => columns::POOLS,
            Self::Databases => columns::DATABASES,
            Self::Users => columns::USERS,
            Self::Clients => columns::CLIENTS,
            Self::Servers => columns::SERVERS,
            Self::Stats => columns::STATS,
            Self::StatsTotals => columns::STATS_TOTALS,
            Self::StatsAverages => columns::STATS_AVERAGES,
            Self::Totals => columns::TOTALS,
            Self::Config => columns::CONFIG,
            Self::Tenants => columns::TENANTS,
            Self::Tenant(_) => columns::TENANT,
            Self::Pins => columns::PINS,
            Self::Overrides => columns::OVERRIDES,
        }
    }

    fn rows(&self, shared: &Shared) -> Option<Rows> {
        let access = shared.access();
        Some(match self {
            Self::Version => vec![vec![concat!("Tenantry ", env!("CARGO_PKG_VERSION")).into()]],
            Self::Help => KNOWN.iter().map(|command| vec![(*command).into()]).collect(),
            Self::State => rows::state(&access, shared),
            Self::Lists => rows::lists(&access, shared),
            Self::Pools => rows::pools(&access),
            Self::Databases => rows::databases(&access),
            Self::Users => rows::users(&access, shared),
            Self::Clients => rows::clients(&access, shared),
            Self::Servers => rows::servers(&access, shared),
            Self::Stats => rows::stats(&access, &shared.stats),
            Self::StatsTotals => rows::totals(&access, &shared.stats),
            Self::StatsAverages => rows::averages(&access, &shared.stats),
            Self::Totals => rows::totals_by_name(&shared.stats),
            Self::Config => rows::config(&access),
            Self::Tenants => rows::tenants(&access, shared),
            Self::Tenant(name) => rows::tenant(name, &access)?,
            Self::Pins => rows::pins(shared),
            Self::Overrides => rows::overrides(&access),
        })
    }

    /// Writes the rows, and the end of the command. `None`: there is no such tenant, and nothing was written.
    pub(super) fn write(
        &self,
        shared: &Shared,
        format: impl Fn(usize) -> Format,
        out: &mut BytesMut,
    ) -> Option<()> {
        let rows = self.rows(shared)?;
        for row in rows {
            let cells = row.iter().enumerate().map(|(at, cell)| cell.encode(format(at)));
            let cells: Vec<_> = cells.collect();
            build::data_row(cells.iter().map(Option::as_deref), out);
        }
        build::command_complete("SHOW", out);
        Some(())
    }
}
