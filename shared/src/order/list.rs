//! Lists of orders: their order, the filter by payment, and the number of orders by status.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Maximum number of orders that are counted for each entry of [`OrderCount`].
pub const MAX_COUNT: u32 = 10_000;

/// The order of a list of orders. Totals are no order: amounts of different currencies can't be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub enum OrderSort {
    /// By time of creation, newest first.
    #[default]
    #[serde(rename = "-created_at")]
    NewestFirst,
    /// By time of creation, oldest first.
    #[serde(rename = "created_at")]
    OldestFirst,
}

impl OrderSort {
    /// The order as in requests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NewestFirst => "-created_at",
            Self::OldestFirst => "created_at",
        }
    }

    /// Whether it is the order of lists without `sort`.
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference"
    )]
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl FromStr for OrderSort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::NewestFirst, Self::OldestFirst]
            .into_iter()
            .find(|sort| sort.as_str() == text)
            .ok_or_else(|| "must be -created_at or created_at".to_owned())
    }
}

/// A filter by payment: the status of the payment, or `outstanding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PaymentFilter {
    /// Not authorized yet.
    Pending,
    /// Pending orders with a manual payment that was not received in full.
    Outstanding,
    /// Authorized.
    Authorized,
    /// Captured.
    Captured,
    /// The authorization was voided.
    Voided,
    /// Partially refunded.
    PartiallyRefunded,
    /// Fully refunded.
    Refunded,
    /// Declined.
    Failed,
}

impl PaymentFilter {
    const ALL: [Self; 8] = [
        Self::Pending,
        Self::Outstanding,
        Self::Authorized,
        Self::Captured,
        Self::Voided,
        Self::PartiallyRefunded,
        Self::Refunded,
        Self::Failed,
    ];

    /// The filter as in requests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Outstanding => "outstanding",
            Self::Authorized => "authorized",
            Self::Captured => "captured",
            Self::Voided => "voided",
            Self::PartiallyRefunded => "partially_refunded",
            Self::Refunded => "refunded",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for PaymentFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for PaymentFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let matching_filter = Self::ALL.into_iter().find(|filter| filter.as_str() == text);
        matching_filter
            .ok_or_else(|| format!("must be one of {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}

/// A number of orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct BoundedCount {
    /// Number of orders; at least this many if `has_more` is set.
    #[schema(minimum = 0, maximum = 10_000)]
    pub count: u32,
    /// Whether there may be more orders, which are not counted.
    pub has_more: bool,
}

/// The number of orders by status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct OrderCount {
    /// Orders of any status.
    pub all: BoundedCount,
    /// Pending orders, including those that wait for approval.
    pub pending: BoundedCount,
    /// Pending orders that wait for approval.
    pub awaiting_approval: BoundedCount,
    /// Processing orders.
    pub processing: BoundedCount,
    /// Shipped orders.
    pub shipped: BoundedCount,
    /// Delivered orders.
    pub delivered: BoundedCount,
    /// Cancelled orders.
    pub cancelled: BoundedCount,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_filters_and_orders_are_those_of_json() {
        for filter in PaymentFilter::ALL {
            assert_eq!(filter.as_str().parse(), Ok(filter));
            assert_eq!(serde_json::to_value(filter).unwrap(), filter.as_str());
        }
        for sort in [OrderSort::NewestFirst, OrderSort::OldestFirst] {
            assert_eq!(sort.as_str().parse(), Ok(sort));
            assert_eq!(serde_json::to_value(sort).unwrap(), sort.as_str());
        }
        assert!("total".parse::<OrderSort>().is_err());
        assert!("paid".parse::<PaymentFilter>().is_err());
    }
}
