//! The loaded rows of a batch: which rows exist, and which may be changed. [`load`](super::load) fills it in;
//! [`save`](super::save) decides by it between insert and update.

use std::collections::HashSet;

use shared::id::{CustomerId, EndpointId, OrderId, Sku};

use crate::{domain::working_set::ChangeSet, store::StoreError};

/// The existing rows. All others are inserted, so two workers can't both create a row.
#[derive(Default)]
pub(in crate::store) struct LoadedRows {
    pub(in crate::store) orders: HashSet<OrderId>,
    pub(in crate::store) products: HashSet<Sku>,
    pub(in crate::store) customers: HashSet<CustomerId>,
    pub(in crate::store) endpoints: HashSet<EndpointId>,
    pub(in crate::store) idempotency_keys: HashSet<String>,
    pub(in crate::store) unlocked: UnlockedRead,
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
    pub(in crate::store) fn check_locked(&self, changed: &ChangeSet) -> Result<(), StoreError> {
        let UnlockedRead { orders, products } = &self.unlocked;
        let order = changed.orders.iter().find(|id| orders.contains(id));
        let stock_level = changed
            .stock_levels
            .iter()
            .find(|(sku, _)| products.contains(sku));
        let customer = changed
            .customers
            .iter()
            .find(|id| self.customers.contains(id) && !self.locked_customers.contains(id));
        let what = match (order, stock_level, customer) {
            (Some(id), ..) => format!("order {id}"),
            (None, Some((sku, _)), _) => format!("stock levels of {sku}"),
            (None, None, Some(id)) => format!("customer {id}"),
            (None, None, None) => return Ok(()),
        };
        Err(StoreError::Failed(format!(
            "{what} would be changed without a lock; the load set of a command is incomplete"
        )))
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use crate::store::transaction::loaded::*;

    #[test]
    fn changes_to_rows_that_were_not_locked_are_refused() {
        let (locked, unlocked) = (OrderId::from(Uuid::now_v7()), OrderId::from(Uuid::now_v7()));
        let erased = CustomerId::from(Uuid::now_v7());
        let blocked = CustomerId::from(Uuid::now_v7());
        let stock_level = |sku: &str| (sku.parse().unwrap(), "main".parse().unwrap());
        let loaded = LoadedRows {
            orders: HashSet::from([locked, unlocked]),
            customers: HashSet::from([blocked, erased]),
            unlocked: UnlockedRead {
                orders: HashSet::from([unlocked]),
                products: HashSet::from(["B".parse().unwrap()]),
            },
            locked_customers: HashSet::from([blocked]),
            ..LoadedRows::default()
        };
        let mut changed = ChangeSet::default();
        changed.orders.insert(locked);
        changed.stock_levels.insert(stock_level("A"));
        changed.customers.insert(blocked);
        assert!(loaded.check_locked(&changed).is_ok());
        let refused = |changed: ChangeSet| loaded.check_locked(&changed).unwrap_err().to_string();
        let mut with_order = changed.clone();
        with_order.orders.insert(unlocked);
        assert!(refused(with_order).contains(&unlocked.to_string()));
        let mut with_customer = changed.clone();
        with_customer.customers.insert(erased);
        assert!(refused(with_customer).contains(&erased.to_string()));
        changed.stock_levels.insert(stock_level("B"));
        assert!(refused(changed).contains("stock levels of B"));
    }
}
