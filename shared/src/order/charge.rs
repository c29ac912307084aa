//! The parts of an order's total beside the prices of its items: discounts, taxes and the shipping charge.
//!
//! They are given by the caller and stored unchanged. All amounts are integers in minor units. The worker's
//! domain module `amounts` adds them up.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    body::{self, Fields},
    money::MAX_AMOUNT,
};

/// Maximum number of discounts or taxes in one list.
pub(crate) const MAX_DISCOUNTS_OR_TAXES: usize = 20;

/// A discount on a line item, on the shipping charge or on the whole order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"code": "WELCOME", "label": "10 % off", "amount": 200}))]
pub struct Discount {
    /// Code with which the customer received the discount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 100)]
    pub code: Option<String>,
    /// Text for people.
    #[schema(min_length = 1, max_length = 200)]
    pub label: String,
    /// Amount in minor units by which the price is reduced.
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    pub amount: i64,
}

impl Discount {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let code = fields.optional("code", body::text(1..=100));
        let label = fields.required("label", body::text(1..=200));
        let amount = fields.required("amount", body::integer(0..=MAX_AMOUNT));
        Some(Self {
            code,
            label: label?,
            amount: amount?,
        })
    }
}

/// A tax on a line item or on the shipping charge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"label": "VAT", "rate": "0.19", "amount": 380}))]
pub struct Tax {
    /// Text for people.
    #[schema(min_length = 1, max_length = 200)]
    pub label: String,
    /// Rate as a decimal fraction, for information: `0.19` is 19 %.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<TaxRate>,
    /// Amount of the tax in minor units.
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    pub amount: i64,
}

impl Tax {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let label = fields.required("label", body::text(1..=200));
        let rate = fields.optional("rate", body::parsed);
        let amount = fields.required("amount", body::integer(0..=MAX_AMOUNT));
        Some(Self {
            label: label?,
            rate,
            amount: amount?,
        })
    }
}

/// A tax rate as a decimal fraction, as written by the caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(value_type = String, pattern = r"^[0-9]{1,3}(\.[0-9]{1,8})?$", example = "0.19")]
#[serde(try_from = "String", into = "String")]
pub struct TaxRate(String);

impl FromStr for TaxRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (integer_digits, fraction_digits) = text.split_once('.').unwrap_or((text, "0"));
        let has_digits = |digits: &str, max_digits: usize| {
            (1..=max_digits).contains(&digits.len())
                && digits.bytes().all(|byte| byte.is_ascii_digit())
        };
        if has_digits(integer_digits, 3) && has_digits(fraction_digits, 8) {
            Ok(Self(text.to_owned()))
        } else {
            Err("must be a decimal fraction with at most 8 places such as 0.19".to_owned())
        }
    }
}

impl TryFrom<String> for TaxRate {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<TaxRate> for String {
    fn from(rate: TaxRate) -> Self {
        rate.0
    }
}

impl fmt::Display for TaxRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The shipping charge of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"label": "Standard", "amount": 490}))]
pub struct ShippingCharge {
    /// Text for people.
    #[schema(min_length = 1, max_length = 200)]
    pub label: String,
    /// Amount in minor units, before discounts.
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    pub amount: i64,
    /// Discounts on the shipping charge.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 20, required = false)]
    pub discounts: Vec<Discount>,
    /// Taxes on the shipping charge.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 20, required = false)]
    pub taxes: Vec<Tax>,
}

impl ShippingCharge {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let label = fields.required("label", body::text(1..=200));
        let amount = fields.required("amount", body::integer(0..=MAX_AMOUNT));
        let discounts = discounts(fields);
        let taxes = taxes(fields);
        Some(Self {
            label: label?,
            amount: amount?,
            discounts: discounts?,
            taxes: taxes?,
        })
    }
}

/// Takes the optional list `discounts`.
pub(crate) fn discounts(fields: &mut Fields<'_>) -> Option<Vec<Discount>> {
    let list = fields.optional_list("discounts", 0..=MAX_DISCOUNTS_OR_TAXES, Discount::read)?;
    Some(list.unwrap_or_default())
}

/// Takes the optional list `taxes`.
pub(crate) fn taxes(fields: &mut Fields<'_>) -> Option<Vec<Tax>> {
    let list = fields.optional_list("taxes", 0..=MAX_DISCOUNTS_OR_TAXES, Tax::read)?;
    Some(list.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tax_rates_are_decimal_fractions() {
        for valid_rate in ["0", "0.19", "0.077", "1", "12.5", "0.00000001"] {
            assert_eq!(
                valid_rate.parse::<TaxRate>().unwrap().to_string(),
                valid_rate
            );
        }
        for invalid_rate in [
            "",
            ".19",
            "0.",
            "19%",
            "-0.1",
            "0,19",
            "1e-2",
            "0.123456789",
            "1234",
        ] {
            assert!(invalid_rate.parse::<TaxRate>().is_err(), "{invalid_rate}");
        }
    }
}
