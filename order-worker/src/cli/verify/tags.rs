//! Check of `verify` that orders are found by their tags.

use std::collections::BTreeSet;

use shared::order::Tag;

use super::Report;
use crate::{domain::order::Order, store::Audit};

/// Checks that each of `orders` is listed by exactly its tags.
pub(super) async fn check_tags(
    audit: &mut Audit,
    orders: &[Order],
    report: &mut Report,
) -> anyhow::Result<()> {
    let order_numbers: Vec<_> = orders.iter().map(|order| order.number).collect();
    let mut tags_by_order = audit.order_tags(&order_numbers).await?;
    for order in orders {
        let tags: BTreeSet<_> = order.tags.iter().map(Tag::key).collect();
        let listed_tags = tags_by_order.remove(&order.number).unwrap_or_default();
        if listed_tags != tags {
            report.violations.push(format!(
                "order {}: has the tags {tags:?}, but is listed by {listed_tags:?}",
                order.id
            ));
        }
    }
    Ok(())
}
