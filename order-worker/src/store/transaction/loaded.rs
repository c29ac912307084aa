//! The loaded rows of a batch: which rows exist, and which may be changed. [`load`](super::load) fills it in;
//! [`save`](super::save) decides by it between insert and update.

use std::collections::HashSet;

use shared::id::{ApiKeyId, CustomerId, EndpointId, OrderId, Sku};

use crate::{domain::working_set::ChangeSet, store::StoreError};

/// The existing rows. All others are inserted, so two workers can't both create a row.
#[derive(Default)]
pub(in crate::store) struct LoadedRows {
    pub(in crate::store) orders: HashSet<OrderId>,
    pub(in crate::store) products: HashSet<Sku>,
    pub(in crate::store) customers: HashSet<CustomerId>,
    pub(in crate::store) endpoints: HashSet<EndpointId>,
    pub(in crate::store) api_keys: HashSet<ApiKeyId>,
    pub(in crate::store) idempotency_keys: HashSet<String>,
    pub(in crate::store) unlocked_read: UnlockedRead,
    /// Customers that are locked. The other ones were read for new orders.
    pub(in crate::store) locked_customers: HashSet<CustomerId>,
}

/// Rows that were read without a lock, and must not be changed.
#[derive(Default)]
pub(in crate::store) struct UnlockedRead {
    pub(in crate::store) orders: HashSet<OrderId>,
    /// Products whose stock levels are all loaded.
    pub(in crate::store) products: HashSet<Sku>,
}

impl LoadedRows {
    /// Checks that all changed rows are locked. Each command declares its changes in a
    /// [`LoadSet`](crate::domain::load_set::LoadSet); a batch with an undeclared change is not written.
    ///
    /// # Errors
    /// [`StoreError::Failed`] with the name of the row that is not locked.
    pub(in crate::store) fn check_locked(&self, change_set: &ChangeSet) -> Result<(), StoreError> {
        let UnlockedRead { orders, products } = &self.unlocked_read;
        let changed_order_id = change_set
            .orders
            .iter()
            .find(|order_id| orders.contains(order_id));
        let changed_stock_level = change_set
            .stock_levels
            .iter()
            .find(|(sku, _)| products.contains(sku));
        let changed_customer_id = change_set.customers.iter().find(|customer_id| {
            self.customers.contains(customer_id) && !self.locked_customers.contains(customer_id)
        });
        let unlocked_row = match (changed_order_id, changed_stock_level, changed_customer_id) {
            (Some(order_id), ..) => format!("order {order_id}"),
            (None, Some((sku, _)), _) => format!("stock levels of {sku}"),
            (None, None, Some(customer_id)) => format!("customer {customer_id}"),
            (None, None, None) => return Ok(()),
        };
        Err(StoreError::Failed(format!(
            "{unlocked_row} would be changed without a lock; the load set of a command is incomplete"
        )))
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use crate::store::transaction::loaded::*;

    #[test]
    fn changes_to_rows_that_were_not_locked_are_refused() {
        let (locked_order, unlocked_order) =
            (OrderId::from(Uuid::now_v7()), OrderId::from(Uuid::now_v7()));
        let unlocked_customer_id = CustomerId::from(Uuid::now_v7());
        let locked_customer_id = CustomerId::from(Uuid::now_v7());
        let stock_key = |sku: &str| (sku.parse().unwrap(), "main".parse().unwrap());
        let loaded_rows = LoadedRows {
            orders: HashSet::from([locked_order, unlocked_order]),
            customers: HashSet::from([locked_customer_id, unlocked_customer_id]),
            unlocked_read: UnlockedRead {
                orders: HashSet::from([unlocked_order]),
                products: HashSet::from(["B".parse().unwrap()]),
            },
            locked_customers: HashSet::from([locked_customer_id]),
            ..LoadedRows::default()
        };
        let mut change_set = ChangeSet::default();
        change_set.orders.insert(locked_order);
        change_set.stock_levels.insert(stock_key("A"));
        change_set.customers.insert(locked_customer_id);
        assert!(loaded_rows.check_locked(&change_set).is_ok());
        let refusal = |change_set: ChangeSet| {
            loaded_rows
                .check_locked(&change_set)
                .unwrap_err()
                .to_string()
        };
        let mut set_with_order = change_set.clone();
        set_with_order.orders.insert(unlocked_order);
        assert!(refusal(set_with_order).contains(&unlocked_order.to_string()));
        let mut set_with_customer = change_set.clone();
        set_with_customer.customers.insert(unlocked_customer_id);
        assert!(refusal(set_with_customer).contains(&unlocked_customer_id.to_string()));
        change_set.stock_levels.insert(stock_key("B"));
        assert!(refusal(change_set).contains("stock levels of B"));
    }
}
