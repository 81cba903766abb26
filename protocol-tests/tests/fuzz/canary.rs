//! A client that does what it should, and must not notice the others.

use std::time::{Duration, Instant};

use protocol_tests::Wire;
use protocol_tests::wire::{bind, execute, parse, sync};
use tokio::time::timeout;

use crate::settings::Config;

/// What a tenant's session is, in one text.
const STATE: &str = "select concat_ws('|', current_setting('search_path'), current_setting('work_mem'), \
    current_setting('TimeZone'), current_setting('DateStyle'), coalesce(current_setting('app.x', true), ''), \
    current_setting('client_encoding'), current_user, (select string_agg(distinct name, ',') from who), \
    pg_my_temp_schema() = 0 or not exists (select from pg_class where relnamespace = pg_my_temp_schema()), \
    (select count(*) from pg_listening_channels()), (select count(*) from pg_cursors where is_holdable))";

/// Longest a tenant with a server of its own may wait for an answer.
const PROMPT: Duration = Duration::from_secs(8);
/// Longest anybody may.
const PATIENT: Duration = Duration::from_secs(40);

async fn login(port: u16, tenant: &str) -> Wire {
    Wire::login(port, &[("user", &format!("app.{tenant}"))]).await
}

/// The tenant is served.
pub(crate) async fn once(port: u16, tenant: &str) -> Result<(), String> {
    let served = async {
        let mut wire = login(port, tenant).await;
        wire.run("select distinct name from who").await
    };
    match timeout(PATIENT, served).await {
        Ok(Ok(rows)) if rows == [tenant] => Ok(()),
        Ok(other) => Err(format!("{tenant}: {other:?}")),
        Err(_) => Err(format!("{tenant} is not served")),
    }
}

/// Looks at its own state, time and again.
pub(crate) async fn sing(
    port: u16,
    tenant: &str,
    config: &Config,
    until: Instant,
) -> Result<(), String> {
    let prompt = config.apart && tenant == "umbra";
    let limit = if prompt { PROMPT } else { PATIENT };
    let mut wire = login(port, tenant).await;
    let mut first: Option<String> = None;
    while Instant::now() < until {
        for extended in [false, true] {
            let looked = async {
                if extended {
                    wire.send(&[parse("", STATE), bind("", ""), execute("", 0), sync()].concat())
                        .await;
                } else {
                    wire.send(&protocol_tests::wire::query(STATE)).await;
                }
                wire.until_ready().await
            };
            let Ok((messages, status)) = timeout(limit, looked).await else {
                return Err(format!("{tenant} was not answered within {limit:?}"));
            };
            if let Some(error) = messages.iter().find(|m| m.tag == 'E') {
                // Others of its tenant, or all others where servers are shared, may hold what it waits for.
                if !prompt && error.field('C') == "53300" {
                    continue;
                }
                return Err(format!("{tenant}: {} {}", error.field('C'), error.field('M')));
            }
            let seen =
                messages.iter().find(|m| m.tag == 'D').map(protocol_tests::wire::Message::text);
            let seen = seen.unwrap_or_default();
            let known = first.get_or_insert_with(|| seen.clone());
            let own = format!("|{tenant}|");
            if *known != seen || status != 'I' || !seen.contains(&own) {
                return Err(format!("{tenant} saw {seen:?} ({status}), and before {known:?}"));
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await; // its pace
    }
    Ok(())
}
