//! The loaded rows of a batch: which exist, and which may be changed.

use std::collections::HashSet;

use shared::id::{CustomerId, EndpointId, OrderId, Sku};

use crate::{domain::working_set::ChangeSet, store::StoreError};

/// Existing rows; others are inserted, so that two workers can't both create one.
#[derive(Default)]
pub(in crate::store) struct Known {
    pub(in crate::store) orders: HashSet<OrderId>,
    pub(in crate::store) products: HashSet<Sku>,
    pub(in crate::store) customers: HashSet<CustomerId>,
    pub(in crate::store) endpoints: HashSet<EndpointId>,
    pub(in crate::store) idempotency_keys: HashSet<String>,
    pub(in crate::store) unlocked: UnlockedRead,
    /// Customers that are locked; others were read for new orders.
    pub(in crate::store) locked_customers: HashSet<CustomerId>,
}

/// Rows that were read without a lock, and must not be changed.
#[derive(Default)]
pub(in crate::store) struct UnlockedRead {
    pub(in crate::store) orders: HashSet<OrderId>,
    /// Products whose stock levels are all loaded.
    pub(in crate::store) products: HashSet<Sku>,
}

impl Known {
    /// Checks that all changed rows were locked. Each command declares what it changes
    /// ([`LoadSet`](crate::domain::load_set::LoadSet)); a batch with an undeclared change is not written.
    ///
    /// # Errors
    /// [`StoreError::Failed`] naming what was not locked.
    pub(in crate::store) fn must_be_locked(&self, changed: &ChangeSet) -> Result<(), StoreError> {
        let UnlockedRead { orders, products } = &self.unlocked;
        let order = changed.orders.iter().find(|id| orders.contains(id));
        let shelf = changed
            .stock_levels
            .iter()
            .find(|(sku, _)| products.contains(sku));
        let customer = changed
            .customers
            .iter()
            .find(|id| self.customers.contains(id) && !self.locked_customers.contains(id));
        let what = match (order, shelf, customer) {
            (Some(id), ..) => format!("order {id}"),
            (None, Some((sku, _)), _) => format!("shelves of {sku}"),
            (None, None, Some(id)) => format!("customer {id}"),
            (None, None, None) => return Ok(()),
        };
        Err(StoreError::Failed(format!(
            "{what} would change without having been locked"
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
        let shelf = |sku: &str| (sku.parse().unwrap(), "main".parse().unwrap());
        let known = Known {
            orders: HashSet::from([locked, unlocked]),
            customers: HashSet::from([blocked, erased]),
            unlocked: UnlockedRead {
                orders: HashSet::from([unlocked]),
                products: HashSet::from(["B".parse().unwrap()]),
            },
            locked_customers: HashSet::from([blocked]),
            ..Known::default()
        };
        let mut changed = ChangeSet::default();
        changed.orders.insert(locked);
        changed.stock_levels.insert(shelf("A"));
        changed.customers.insert(blocked);
        assert!(known.must_be_locked(&changed).is_ok());
        let refused = |changed: ChangeSet| known.must_be_locked(&changed).unwrap_err().to_string();
        let mut with_order = changed.clone();
        with_order.orders.insert(unlocked);
        assert!(refused(with_order).contains(&unlocked.to_string()));
        let mut with_customer = changed.clone();
        with_customer.customers.insert(erased);
        assert!(refused(with_customer).contains(&erased.to_string()));
        changed.stock_levels.insert(shelf("B"));
        assert!(refused(changed).contains("shelves of B"));
    }
}
