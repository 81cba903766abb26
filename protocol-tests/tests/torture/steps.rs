//! What a client does, at random.

use protocol_tests::Wire;
use protocol_tests::wire::{
    batch, bind, close, describe, execute, flush, message, parse, query, sync,
};
use rand::Rng;

use crate::client::{Client, Kind};
use crate::{DEFAULT_TENANT, Run, TENANTS};

const WHO: &str = "select name from who";

impl Client {
    /// One random thing; `false` when the connection is over.
    pub(super) async fn step(&mut self) -> bool {
        match self.rng.random_range(0..36) {
            0..=4 => self.simple(WHO).await,
            5 => self.simple("begin; select name from who; commit").await,
            6 => self.transaction().await,
            7 => self.simple("select 1/0").await,
            8 => self.simple("begin; select 1/0").await && self.simple("rollback").await,
            9 => self.simple("rollback; select name from who").await,
            10 => self.extended(&[batch(WHO), sync()].concat(), 1).await,
            11 => {
                let fails = [batch(WHO), sync(), batch("select 1/0"), sync(), batch(WHO), sync()];
                self.extended(&fails.concat(), 3).await
            }
            12 => self.extended(&[batch(WHO), flush(), batch(WHO), sync()].concat(), 1).await,
            13 => self.simple("update who set name = name; select name from who").await,
            14 => self.copy().await,
            15 => self.part().await,
            16 => {
                self.wire.send_if_open(&query("select name, pg_sleep(0.02) from who")).await;
                let (port, pid, key) = (self.run.port, self.wire.pid, self.wire.key.clone());
                tokio::join!(Wire::cancel(port, pid, &key), self.answers(1)).1
            }
            17..=20 => self.marked().await,
            21 => self.unmarked().await,
            22..=27 => self.prepared().await,
            28..=30 => self.listen().await,
            31..=34 => match self.kind {
                Kind::Wanderer => self.wander().await,
                Kind::Guarded => self.trespass().await,
                Kind::Free => self.simple(WHO).await,
            },
            _ => self.pin().await,
        }
    }

    async fn transaction(&mut self) -> bool {
        let ends = ["commit", "rollback"][self.rng.random_range(0..2)];
        match self.runs("begin").await {
            // Its tenant is suspended, say, and may not be any more in a moment: there is no block to go on in.
            Some(false) => true,
            Some(true) => {
                self.simple(WHO).await
                    && self.simple("savepoint s; set local work_mem = '1MB'; rollback to s").await
                    && self.simple(ends).await
            }
            None => false,
        }
    }

    /// Gone in the middle of something, or with something unsynced.
    async fn part(&mut self) -> bool {
        let parting = [
            query("select pg_sleep(0.05), name from who"),
            batch(WHO),
            [batch(WHO), flush()].concat(),
            query("begin"),
            b"Q\0\0\0\x20sel".to_vec(),
        ];
        let at = self.rng.random_range(0..parting.len());
        self.wire.send_if_open(&parting[at]).await;
        false
    }

    /// What it leaves behind must be nobody else's.
    async fn pin(&mut self) -> bool {
        if self.kind == Kind::Guarded {
            return self.simple("create temp table if not exists mine (a int)").await
                && self.simple(WHO).await
                && self.rng.random_bool(0.5);
        }
        let tenant = self.tenant.clone();
        self.simple(
            "set search_path to public, pg_catalog; create temp table if not exists mine (a int)",
        )
        .await
            && self.simple(&format!("set search_path to {tenant}; select name from who")).await
            && self.rng.random_bool(0.5)
    }

    /// Listens to its own channel for a while, and tells itself. Nobody else hears it.
    async fn listen(&mut self) -> bool {
        let channel = self.channel();
        self.listens = true;
        // Without a server of its own it hears nothing; a cancel may have met the LISTEN.
        let sql = [format!("listen {channel}"), format!("notify {channel}, '{}'", self.tenant)];
        if !(self.simple(&sql[0]).await && self.simple(&sql[1]).await && self.simple(WHO).await) {
            return false;
        }
        match self.rng.random_range(0..4) {
            0 => false,
            1 => self.forget_all().await,
            _ => {
                // A late cancel may have met it.
                let Some(ran) = self.runs("unlisten *").await else { return false };
                self.listens = !ran;
                true
            }
        }
    }

    /// Is as new.
    async fn forget_all(&mut self) -> bool {
        let Some(true) = self.runs("discard all").await else { return false };
        (self.mark, self.last, self.prepared, self.listens) = (0, String::new(), false, false);
        if self.kind == Kind::Wanderer {
            DEFAULT_TENANT.clone_into(&mut self.tenant);
        }
        self.simple(WHO).await && self.unmarked().await
    }

    /// Becomes another tenant.
    pub(super) async fn wander(&mut self) -> bool {
        let next = format!("t{}", self.rng.random_range(0..TENANTS));
        let (sql, moves) = [
            ("set search_path to #", true),
            ("set search_path = '#', public", true),
            ("begin; set search_path to #; commit", true),
            ("select set_config('search_path', '#', false)", true),
            ("begin; set search_path to #; rollback", false),
            ("begin; set local search_path to #; select name from who; commit", false),
        ][self.rng.random_range(0..6)];
        let Some(ran) = self.runs(&sql.replace('#', &next)).await else { return false };
        if moves && ran {
            self.tenant = next;
            Run::count(&self.run.moves);
        }
        self.simple(WHO).await
    }

    /// Tries to become another tenant, and stays what it is.
    async fn trespass(&mut self) -> bool {
        // Not its own: where it has to be anyway, it may go.
        let other = loop {
            let other = format!("t{}", self.rng.random_range(0..TENANTS));
            if other != *self.tenant {
                break other;
            }
        };
        let sql = [
            "set search_path to #",
            "begin; set local search_path to #; select name from who; commit",
            "select set_config('search_path', '#', false)",
            "do $$ begin execute 'set search_path to #'; end $$",
            "select 1; set role pg_monitor",
        ][self.rng.random_range(0..5)]
        .replace('#', &other);
        let extended = [batch(&sql), sync()].concat();
        let sent = if self.rng.random_bool(0.5) { query(&sql) } else { extended };
        self.wire.send_if_open(&sent).await;
        let Some(ran) = self.ran(None).await else { return false };
        assert!(!ran, "{sql} was not refused");
        self.simple("rollback").await && self.simple(WHO).await
    }

    /// A row with the tenant's name, if the mark is what the client set it to.
    async fn unmarked(&mut self) -> bool {
        let Self { tenant, mark, last, .. } = self;
        let set = if *mark == 0 { String::new() } else { format!("m{mark}") };
        let last = last.replace('\'', "");
        let sql = format!(
            "select case when coalesce(current_setting('app.mark', true), '') = '{set}' then '{tenant}' \
             else concat(current_setting('app.mark', true), ', not {mark}: {last}') end"
        );
        self.simple(&sql).await
    }

    /// Sets the mark, in one of many ways, and looks at it.
    async fn marked(&mut self) -> bool {
        let next = self.rng.random_range(1..u32::MAX);
        let (sql, kept) = [
            ("set app.mark = 'm#'", true),
            ("begin; set app.mark = 'm#'; commit", true),
            ("begin; set app.mark = 'm#'; rollback", false),
            ("begin; set local app.mark = 'm#'; commit", false),
            (
                "set app.mark = 'm#'; do $$ begin perform set_config('app.mark', '', true); end $$",
                true,
            ),
            ("do $$ begin execute 'set app.mark = m#'; end $$", true),
        ][self.rng.random_range(0..6)];
        // Whether it ran: a late cancel of its own may have met it.
        let Some(ran) = self.runs(&sql.replace('#', &next.to_string())).await else { return false };
        if kept && ran {
            self.mark = next;
        }
        self.last = format!("{sql} {next}, ran: {ran}");
        self.unmarked().await
    }

    /// Runs a statement by its name, on whichever server; sometimes behind an error, or closes it.
    async fn prepared(&mut self) -> bool {
        let run_it = [bind("", "w"), execute("", 0)].concat();
        let tenant = self.tenant.clone();
        if !self.prepared {
            self.wire.send_if_open(&[parse("w", WHO), run_it, sync()].concat()).await;
            let Some(ran) = self.ran(Some(&tenant)).await else { return false };
            self.prepared = ran;
            return true;
        }
        let (messages, readies) = match self.rng.random_range(0..7) {
            0 => ([batch("select 1/0"), run_it.clone(), sync(), run_it, sync()].concat(), 2),
            1 => ([run_it.clone(), sync(), run_it.clone(), sync(), run_it, sync()].concat(), 3),
            2 => {
                self.wire.send_if_open(&[close('S', "w"), sync()].concat()).await;
                let Some(ran) = self.ran(None).await else { return false };
                self.prepared &= !ran;
                return true;
            }
            3 => ([query("begin"), run_it, sync(), query("rollback")].concat(), 3),
            4 => ([run_it, sync(), query("execute w")].concat(), 2),
            _ => ([describe('S', "w"), run_it, sync()].concat(), 1),
        };
        self.extended(&messages, readies).await
    }

    async fn copy(&mut self) -> bool {
        self.wire.send_if_open(&query("begin; copy who from stdin")).await;
        // An error comes instead, and then it is over.
        match self.ran(None).await {
            Some(true) => {}
            Some(false) => return self.simple("rollback").await,
            None => return false,
        }
        // It never ends well: nothing is left in the table.
        let fails = self.rng.random_bool(0.5);
        let end = if fails { message('f', b"no\0") } else { message('d', b"too\tmany\n") };
        let rest = [message('d', b"row\n"), end, message('c', b"")].concat();
        self.wire.send_if_open(&rest).await;
        self.ran(None).await.is_some() && self.simple("rollback").await
    }
}
