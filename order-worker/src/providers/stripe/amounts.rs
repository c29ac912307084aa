//! Amounts as Stripe has them. Ours are in minor units of ISO 4217; Stripe's differ for some currencies, and not every
//! amount can be charged. Source: <https://docs.stripe.com/currencies> (read in 2026), sections *Supported presentment
//! currencies*, *Zero-decimal currencies*, *Three-decimal currencies*, *Special cases*, *Minimum and maximum charge
//! amounts*.
//!
//! Minimum amounts are not checked: they are those of the currency that the account is paid out in, converted.

use shared::money::{Currency, Money};

/// How an amount in minor units becomes Stripe's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// The same.
    Same,
    /// The same, and the last of three decimals must be 0.
    MultipleOfTen,
    /// Has no decimals, but Stripe wants two.
    TimesHundred,
    /// Has two decimals by ISO 4217 and none at Stripe: whole units only.
    DividedByHundred,
}

/// Three decimals at Stripe, of which the last must be 0. ISO 4217 has three for IQD and LYD too, which Stripe does not
/// take.
const THREE_DECIMALS: &str = "BHD JOD KWD OMR TND";
/// Without decimals by ISO 4217; for the sake of older integrations Stripe takes them with two, which must be 00.
const TWO_DECIMALS_OF_ZERO: &str = "ISK UGX";
/// Two decimals by ISO 4217 (an ariary has five iraimbilanja), none at Stripe.
const NO_DECIMALS_AT_STRIPE: &str = "MGA";
/// Two decimals, or none by ISO 4217 and at Stripe alike. HUF and TWD are without decimals in payouts only.
const SAME: &str = "
    AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BIF BMD BND BOB BRL BSD BWP BYN BZD CAD CDF CHF CLP CNY COP
    CRC CVE CZK DJF DKK DOP DZD EGP ETB EUR FJD FKP GBP GEL GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR JMD JPY
    KES KGS KHR KMF KRW KYD KZT LAK LBP LKR LRD LSL MAD MDL MKD MMK MNT MOP MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK
    NPR NZD PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SEK SGD SHP SLE SOS SRD SVC SZL THB TJS TOP
    TRY TTD TWD TZS UAH USD UYU UZS VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW";

/// The largest amount, in Stripe's units.
const MAX: i64 = 99_999_999;
/// Currencies of little worth have more digits.
const MAX_LARGE: i64 = 999_999_999_999;
const LARGE: &str = "CLP COP GNF HUF IDR INR JPY KHR KRW LAK LBP PYG UGX UZS VND";

fn unit(currency: Currency) -> Option<Unit> {
    [
        (THREE_DECIMALS, Unit::MultipleOfTen),
        (TWO_DECIMALS_OF_ZERO, Unit::TimesHundred),
        (NO_DECIMALS_AT_STRIPE, Unit::DividedByHundred),
        (SAME, Unit::Same),
    ]
    .into_iter()
    .find_map(|(codes, unit)| lists(codes, currency).then_some(unit))
}

fn lists(codes: &str, currency: Currency) -> bool {
    codes
        .split_whitespace()
        .any(|code| code == currency.as_str())
}

/// The amount in Stripe's units.
///
/// # Errors
/// Says why Stripe can't charge or refund it.
pub(super) fn to_stripe(Money { amount, currency }: Money) -> Result<i64, String> {
    let unit = unit(currency)
        .ok_or_else(|| format!("{currency} is not a currency that Stripe charges"))?;
    let at_stripe = match unit {
        Unit::Same => amount,
        Unit::MultipleOfTen if amount % 10 == 0 => amount,
        Unit::MultipleOfTen => {
            return Err(format!(
                "{amount} minor units of {currency} can't be charged by Stripe: they must be a multiple of 10"
            ));
        }
        Unit::TimesHundred => amount.saturating_mul(100),
        Unit::DividedByHundred if amount % 100 == 0 => amount / 100,
        Unit::DividedByHundred => {
            return Err(format!(
                "{amount} minor units of {currency} can't be charged by Stripe: they must be a multiple of 100"
            ));
        }
    };
    let max = if lists(LARGE, currency) {
        MAX_LARGE
    } else {
        MAX
    };
    if at_stripe > max {
        return Err(format!(
            "{amount} minor units of {currency} are more than Stripe charges at once"
        ));
    }
    Ok(at_stripe)
}

/// The largest amount up to `amount` that Stripe can charge.
pub(super) fn chargeable(Money { amount, currency }: Money) -> i64 {
    match unit(currency) {
        Some(Unit::MultipleOfTen) => amount - amount % 10,
        Some(Unit::DividedByHundred) => amount - amount % 100,
        Some(Unit::Same | Unit::TimesHundred) | None => amount,
    }
}

/// Minor units of what Stripe tells.
pub(super) fn from_stripe(amount: i64, currency: Currency) -> i64 {
    match unit(currency) {
        Some(Unit::TimesHundred) => amount / 100,
        Some(Unit::DividedByHundred) => amount.saturating_mul(100),
        Some(Unit::Same | Unit::MultipleOfTen) | None => amount,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Minor units that make one unit of the currency, by ISO 4217.
    fn minor_units(currency: Currency) -> i64 {
        const NONE: &str = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF";
        const THREE: &str = "BHD IQD JOD KWD LYD OMR TND";
        match (lists(NONE, currency), lists(THREE, currency)) {
            (true, _) => 1,
            (_, true) => 1000,
            _ => 100,
        }
    }

    /// Stripe's units that make one unit of the currency, as its page lists them: zero-decimal currencies, but for the
    /// special cases; three-decimal ones; two decimals elsewhere.
    fn stripes_units(currency: Currency) -> i64 {
        const ZERO: &str = "BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF";
        match (lists(ZERO, currency), lists(THREE_DECIMALS, currency)) {
            (true, _) => 1,
            (_, true) => 1000,
            _ => 100,
        }
    }

    #[test]
    fn amounts_of_every_currency_are_converted_or_refused() {
        let mut refused = Vec::new();
        for currency in Currency::all() {
            let amount = 50 * minor_units(currency);
            match to_stripe(Money { amount, currency }) {
                Ok(at_stripe) => {
                    assert_eq!(at_stripe, 50 * stripes_units(currency), "{currency}");
                    assert_eq!(from_stripe(at_stripe, currency), amount, "{currency}");
                }
                Err(why) => {
                    assert!(why.contains(currency.as_str()), "{why}");
                    refused.push(currency.to_string());
                }
            }
        }
        // Of all that ISO 4217 lists, those that are not on Stripe's page.
        let not_at_stripe =
            "BTN CUP ERN GHS IQD IRR KPW LYD MRU SDG SSP STN SYP TMT VED VES XTS ZWG";
        assert_eq!(refused.join(" "), not_at_stripe);
    }

    #[test]
    fn amounts_that_stripe_cannot_represent_are_refused() {
        let at_stripe = |amount, currency: &str| {
            let currency = currency.parse().unwrap();
            to_stripe(Money { amount, currency }).ok()
        };
        assert_eq!(at_stripe(18605, "KWD"), None);
        assert_eq!(at_stripe(18610, "KWD"), Some(18610));
        assert_eq!(at_stripe(150, "MGA"), None);
        assert_eq!(at_stripe(200, "MGA"), Some(2));
        assert_eq!(at_stripe(5, "ISK"), Some(500));
        assert_eq!(at_stripe(5, "UGX"), Some(500));
        assert_eq!(at_stripe(1999, "HUF"), Some(1999));
        assert_eq!(at_stripe(99_999_999, "EUR"), Some(99_999_999));
        assert_eq!(at_stripe(100_000_000, "EUR"), None);
        assert_eq!(at_stripe(100_000_000, "IDR"), Some(100_000_000));
    }

    #[test]
    fn partial_amount_is_rounded_down_to_a_chargeable_one() {
        let part = |amount, currency: &str| {
            let currency = currency.parse().unwrap();
            chargeable(Money { amount, currency })
        };
        assert_eq!(part(18605, "KWD"), 18600);
        assert_eq!(part(150, "MGA"), 100);
        assert_eq!(part(1999, "EUR"), 1999);
    }
}
