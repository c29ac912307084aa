//! Optional requests: reading stored data (`DEBUG_API=1`), and the reset to the initial state (`DEMO=1`).

use jiff::Timestamp;
use serde_json::json;
use shared::{
    order::OrderRef,
    outcome::{Code, Failure, Json},
    request::Caller,
};
use uuid::Uuid;

use super::{Rpc, read_failure};
use crate::domain::{command::origin_of_request, decision_context::DecisionContext};

impl Rpc {
    pub(super) async fn debug_order(
        &self,
        caller: &Caller,
        order_ref: OrderRef,
    ) -> Result<Json, Failure> {
        self.require_debug_mode(caller)?;
        let debug_order = self
            .store
            .debug_order(order_ref.id)
            .await
            .map_err(read_failure)?;
        Json::of(&debug_order.ok_or_else(|| Failure::not_found("order", order_ref.id))?)
    }

    pub(super) async fn debug_tables(&self, caller: &Caller) -> Result<Json, Failure> {
        self.require_debug_mode(caller)?;
        Json::of(&self.store.debug_tables().await.map_err(read_failure)?)
    }

    /// Replies as for an unknown resource if it is disabled.
    fn require_debug_mode(&self, caller: &Caller) -> Result<(), Failure> {
        if !self.features.debug {
            return Err(Failure::new(
                Code::NotFound,
                "the debug API is disabled: set DEBUG_API=1 to enable it",
            ));
        }
        caller.require_admin()
    }

    pub(super) async fn reset(&self, caller: &Caller) -> Result<Json, Failure> {
        let Some(sandbox) = &self.features.demo else {
            return Err(Failure::new(
                Code::NotFound,
                "the demo reset is disabled: set DEMO=1 to enable it",
            ));
        };
        caller.require_operator()?;
        let random_seed = Uuid::now_v7().as_u64_pair().1;
        let context = DecisionContext::new(Timestamp::now(), random_seed);
        let reset_result = self
            .store
            .reset_demo(&origin_of_request(caller), &context)
            .await;
        let restored_products = reset_result.map_err(read_failure)?;
        sandbox.reset().await.map_err(read_failure)?;
        tracing::warn!(
            actor = caller.actor,
            products = restored_products,
            "demo reset: all orders were deleted and the stock levels restored"
        );
        Json::of(&json!({"status": "reset", "products": restored_products}))
    }
}
