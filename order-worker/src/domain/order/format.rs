//! The format of a stored state, which protects it from workers of earlier versions: they would read an order
//! without the parts that they do not know, and remove these when they change the order.

use shared::order::{LineItem, Shipment};

use super::Order;

impl Order {
    /// The lowest format that has all parts of this order: 0, or 1 for parts that workers without formats do not
    /// know. The database refuses to replace a state of format 1 with one that has no format.
    pub fn format(&self) -> u8 {
        // All fields are named, so that a new one can't be forgotten here.
        let Self {
            id: _,
            number: _,
            storefront: _,
            customer_id: _,
            external_id: _,
            status: _,
            cancel_reason: _,
            currency: _,
            total: _,
            items,
            shipping,
            discounts,
            tax_included,
            awaits_approval: _,
            awaits_stock: _,
            reserved_items: _,
            shipping_address: _,
            payment_method: _,
            return_url,
            payment: _,
            // Summarized again if a worker without formats has removed them.
            transactions: _,
            total_refund_due: _,
            refund_written_off,
            goodwill,
            refunded_units,
            item_refunds,
            shipping_refunded,
            written_off_by_shipment,
            shipments,
            returns,
            replaced_labels,
            awaited_labels,
            last_edit_number,
            pending_edit,
            authorized_edit_number,
            open_authorizations,
            edit_refunds,
            metadata: _,
            note,
            tags,
            version: _,
            is_deleted: _,
            created_at: _,
            updated_at: _,
            deleted_at: _,
        } = self;
        let has_charges_or_discounts = shipping.is_some()
            || !discounts.is_empty()
            || *tax_included
            || items.iter().any(has_discounts_or_taxes);
        let has_refunds = [*refund_written_off, *goodwill, *item_refunds, *edit_refunds]
            .iter()
            .any(|amount| *amount != 0)
            || !refunded_units.is_empty()
            || *shipping_refunded
            || !written_off_by_shipment.is_empty();
        let has_labels = !replaced_labels.is_empty()
            || !awaited_labels.is_empty()
            || shipments.iter().any(has_url);
        let has_edits = *last_edit_number != 0
            || pending_edit.is_some()
            || *authorized_edit_number != 0
            || !open_authorizations.is_empty();
        let has_texts = return_url.is_some() || note.is_some() || !tags.is_empty();
        let has_new_parts = has_charges_or_discounts
            || has_refunds
            || has_labels
            || has_edits
            || has_texts
            || !returns.is_empty()
            || self.is_paid_manually();
        u8::from(has_new_parts)
    }
}

fn has_discounts_or_taxes(line: &LineItem) -> bool {
    !line.discounts.is_empty() || line.order_discount != 0 || !line.taxes.is_empty()
}

fn has_url(shipment: &Shipment) -> bool {
    shipment.tracking_url.is_some() || shipment.label_url.is_some()
}
