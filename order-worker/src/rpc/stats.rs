//! Statistics of orders; for operators also the state of the system.

use jiff::Timestamp;
use shared::{
    outcome::{Failure, Json},
    request::{Caller, Role},
    stats::GetStats,
};

use super::{Rpc, read_failure, visible_storefront};
use crate::background::stats::{MAX_UNCOUNTED_EVENTS, add_up, first_day, read_system_stats};

impl Rpc {
    /// Order statistics; for operators also the state of the system.
    pub(super) async fn stats(&self, caller: &Caller, query: GetStats) -> Result<Json, Failure> {
        let first_day = first_day(Timestamp::now(), query.days);
        let storefront = visible_storefront(caller, query.storefront);
        let figures_future =
            self.store
                .figures(storefront.as_ref(), first_day, MAX_UNCOUNTED_EVENTS);
        let (figures, position) = figures_future.await.map_err(read_failure)?;
        let mut stats = add_up(&figures, first_day, query.days, position);
        match caller.role {
            Role::Storefront => {}
            Role::Operator | Role::Admin => {
                let attention = self.store.attention(storefront.as_ref()).await;
                stats.attention = Some(attention.map_err(read_failure)?);
                let system_stats = read_system_stats(&self.store, &self.worker_stats).await;
                stats.system = Some(system_stats.map_err(read_failure)?);
            }
        }
        Json::of(&stats)
    }
}
