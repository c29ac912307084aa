//! Converts between our amounts, in minor units of ISO 4217, and Stripe's, whose unit differs for some
//! currencies. Refuses amounts that Stripe can't charge.
//!
//! Source: Stripe's page *Supported currencies*, <https://docs.stripe.com/currencies>: its list of presentment
//! currencies and the sections *Zero-decimal currencies*, *Special cases* and *Minimum and maximum charge
//! amounts*. The rule for three decimals is from the section *Three-decimal currencies*, which only some
//! versions of the page have.
//!
//! Minimum amounts are not checked: they depend on the currency of the account's payouts and on its exchange
//! rate.

use shared::money::{Currency, Money};

/// Conversion from minor units of ISO 4217 to Stripe's unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UnitConversion {
    /// Both units are equal.
    Same,
    /// Both units are equal; the amount must be a multiple of 10.
    MultipleOfTen,
    /// No decimals by ISO 4217; Stripe expects two.
    TimesHundred,
    /// Two decimals by ISO 4217, none at Stripe: only whole units of the currency.
    DividedByHundred,
}

/// Three decimals at Stripe, of which the last must be 0. IQD and LYD have three by ISO 4217 too; Stripe does
/// not charge them.
const THREE_DECIMAL_CURRENCIES: &str = "BHD JOD KWD OMR TND";
/// No decimals by ISO 4217; for compatibility Stripe expects two, which must be 00. UGX is also on Stripe's
/// list of zero-decimal currencies; the special case applies to charges.
const TWO_DECIMALS_OF_ZERO: &str = "ISK UGX";
/// Two decimals by ISO 4217, though an ariary has only five iraimbilanja; none at Stripe.
const NO_DECIMALS_AT_STRIPE: &str = "MGA";
/// Two decimals, or none, both by ISO 4217 and at Stripe. HUF and TWD have two in charges; Stripe treats them
/// as zero-decimal currencies in payouts only.
const SAME_UNIT_CURRENCIES: &str = "
    AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BIF BMD BND BOB BRL BSD BWP BYN BZD CAD CDF CHF CLP CNY COP
    CRC CVE CZK DJF DKK DOP DZD EGP ETB EUR FJD FKP GBP GEL GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR JMD JPY
    KES KGS KHR KMF KRW KYD KZT LAK LBP LKR LRD LSL MAD MDL MKD MMK MNT MOP MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK
    NPR NZD PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SEK SGD SHP SLE SOS SRD SVC SZL THB TJS TOP
    TRY TTD TWD TZS UAH USD UYU UZS VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW";

/// Largest amount, in Stripe's unit, that is sent for most currencies: eight digits. Stripe documents this limit
/// for payment methods other than cards; for cards it documents up to twelve digits, and nine for American
/// Express.
const MAX_AMOUNT: i64 = 99_999_999;
/// Largest amount of the currencies in [`LARGE_AMOUNT_CURRENCIES`]: the twelve digits that Stripe documents for
/// most cards, since one unit of these currencies is worth little.
const MAX_AMOUNT_LARGE: i64 = 999_999_999_999;
const LARGE_AMOUNT_CURRENCIES: &str = "CLP COP GNF HUF IDR INR JPY KHR KRW LAK LBP PYG UGX UZS VND";

fn conversion(currency: Currency) -> Option<UnitConversion> {
    [
        (THREE_DECIMAL_CURRENCIES, UnitConversion::MultipleOfTen),
        (TWO_DECIMALS_OF_ZERO, UnitConversion::TimesHundred),
        (NO_DECIMALS_AT_STRIPE, UnitConversion::DividedByHundred),
        (SAME_UNIT_CURRENCIES, UnitConversion::Same),
    ]
    .into_iter()
    .find_map(|(currency_codes, conversion)| {
        list_contains(currency_codes, currency).then_some(conversion)
    })
}

fn list_contains(currency_codes: &str, currency: Currency) -> bool {
    currency_codes
        .split_whitespace()
        .any(|currency_code| currency_code == currency.as_str())
}

/// Converts an amount in minor units to Stripe's unit.
///
/// # Errors
/// The reason why Stripe can't charge or refund the amount.
pub(super) fn to_stripe(Money { amount, currency }: Money) -> Result<i64, String> {
    let conversion = conversion(currency)
        .ok_or_else(|| format!("{currency} is not a currency that Stripe supports"))?;
    let converted_amount = match conversion {
        UnitConversion::Same => amount,
        UnitConversion::MultipleOfTen if amount % 10 == 0 => amount,
        UnitConversion::MultipleOfTen => {
            return Err(format!(
                "{amount} minor units of {currency} can't be charged by Stripe: they must be a multiple of 10"
            ));
        }
        UnitConversion::TimesHundred => amount.saturating_mul(100),
        UnitConversion::DividedByHundred if amount % 100 == 0 => amount / 100,
        UnitConversion::DividedByHundred => {
            return Err(format!(
                "{amount} minor units of {currency} can't be charged by Stripe: they must be a multiple of 100"
            ));
        }
    };
    let max_amount = if list_contains(LARGE_AMOUNT_CURRENCIES, currency) {
        MAX_AMOUNT_LARGE
    } else {
        MAX_AMOUNT
    };
    if converted_amount > max_amount {
        return Err(format!(
            "{amount} minor units of {currency} exceed the largest amount of a payment with Stripe"
        ));
    }
    Ok(converted_amount)
}

/// The largest amount, in minor units, that Stripe can charge and that does not exceed `amount`.
pub(super) fn chargeable_part(Money { amount, currency }: Money) -> i64 {
    match conversion(currency) {
        Some(UnitConversion::MultipleOfTen) => amount - amount % 10,
        Some(UnitConversion::DividedByHundred) => amount - amount % 100,
        Some(UnitConversion::Same | UnitConversion::TimesHundred) | None => amount,
    }
}

/// Converts an amount in Stripe's unit to minor units.
pub(super) fn from_stripe(amount: i64, currency: Currency) -> i64 {
    match conversion(currency) {
        Some(UnitConversion::TimesHundred) => amount / 100,
        Some(UnitConversion::DividedByHundred) => amount.saturating_mul(100),
        Some(UnitConversion::Same | UnitConversion::MultipleOfTen) | None => amount,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Number of minor units in one unit of the currency, by ISO 4217.
    fn minor_units(currency: Currency) -> i64 {
        const NO_DECIMALS: &str = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF";
        const THREE_DECIMALS: &str = "BHD IQD JOD KWD LYD OMR TND";
        match (
            list_contains(NO_DECIMALS, currency),
            list_contains(THREE_DECIMALS, currency),
        ) {
            (true, _) => 1,
            (_, true) => 1000,
            _ => 100,
        }
    }

    /// Number of Stripe's units in one unit of the currency, from Stripe's page: zero-decimal currencies
    /// except the special cases, three-decimal currencies, and two decimals for all others.
    fn stripe_units(currency: Currency) -> i64 {
        const ZERO_DECIMAL_CURRENCIES: &str =
            "BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF";
        match (
            list_contains(ZERO_DECIMAL_CURRENCIES, currency),
            list_contains(THREE_DECIMAL_CURRENCIES, currency),
        ) {
            (true, _) => 1,
            (_, true) => 1000,
            _ => 100,
        }
    }

    #[test]
    fn amounts_of_every_currency_are_converted_or_refused() {
        let mut refused_currencies = Vec::new();
        for currency in Currency::all() {
            let amount = 50 * minor_units(currency);
            match to_stripe(Money { amount, currency }) {
                Ok(stripe_amount) => {
                    assert_eq!(stripe_amount, 50 * stripe_units(currency), "{currency}");
                    assert_eq!(from_stripe(stripe_amount, currency), amount, "{currency}");
                }
                Err(refusal_reason) => {
                    assert!(
                        refusal_reason.contains(currency.as_str()),
                        "{refusal_reason}"
                    );
                    refused_currencies.push(currency.to_string());
                }
            }
        }
        // All currencies of ISO 4217 that Stripe's page does not list.
        let unsupported_currencies =
            "BTN CUP ERN GHS IQD IRR KPW LYD MRU SDG SSP STN SYP TMT VED VES XTS ZWG";
        assert_eq!(refused_currencies.join(" "), unsupported_currencies);
    }

    #[test]
    fn amounts_that_stripe_cannot_represent_are_refused() {
        let convert = |amount, currency: &str| {
            let currency = currency.parse().unwrap();
            to_stripe(Money { amount, currency }).ok()
        };
        assert_eq!(convert(18605, "KWD"), None);
        assert_eq!(convert(18610, "KWD"), Some(18610));
        assert_eq!(convert(150, "MGA"), None);
        assert_eq!(convert(200, "MGA"), Some(2));
        assert_eq!(convert(5, "ISK"), Some(500));
        assert_eq!(convert(5, "UGX"), Some(500));
        assert_eq!(convert(1999, "HUF"), Some(1999));
        assert_eq!(convert(99_999_999, "EUR"), Some(99_999_999));
        assert_eq!(convert(100_000_000, "EUR"), None);
        assert_eq!(convert(100_000_000, "IDR"), Some(100_000_000));
    }

    #[test]
    fn partial_amount_is_rounded_down_to_a_chargeable_one() {
        let chargeable_amount = |amount, currency: &str| {
            let currency = currency.parse().unwrap();
            chargeable_part(Money { amount, currency })
        };
        assert_eq!(chargeable_amount(18605, "KWD"), 18600);
        assert_eq!(chargeable_amount(150, "MGA"), 100);
        assert_eq!(chargeable_amount(1999, "EUR"), 1999);
    }
}
