//! Money: integer amounts in minor units with a currency.
//!
//! Sums are checked: amounts in different currencies can't be added, and no sum overflows silently.
//! [`Currency`] is any three capital letters; requests accept only codes that ISO 4217 lists
//! ([`Currency::is_listed`]).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Largest amount accepted anywhere, in minor units: far above any order, far below overflow, and exact as a
/// JSON number in every client (below 2^53).
pub const MAX_AMOUNT: i64 = 1_000_000_000_000;

/// Codes of ISO 4217 (list one, 2026), without funds and metals; XTS is for tests.
const ISO_4217_CODES: &str = "
    AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD
    CDF CHF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD
    GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD
    KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO
    NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE
    SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VED VES VND
    VUV WST XAF XCD XCG XOF XPF XTS YER ZAR ZMW ZWG BGN";

/// An ISO 4217 currency code: three capital letters.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[schema(value_type = String, pattern = "^[A-Z]{3}$", example = "EUR")]
#[serde(try_from = "String", into = "String")]
pub struct Currency([u8; 3]);

impl Currency {
    /// All currencies in use according to ISO 4217, and `XTS`.
    pub fn all() -> impl Iterator<Item = Self> {
        ISO_4217_CODES
            .split_whitespace()
            .filter_map(|currency_code| currency_code.parse().ok())
    }

    /// Whether ISO 4217 lists the code as a currency in use, or it is `XTS`.
    pub fn is_listed(&self) -> bool {
        ISO_4217_CODES
            .split_whitespace()
            .any(|currency_code| currency_code == self.as_str())
    }

    /// Number of decimal places of the currency, by ISO 4217: 2 for EUR, 0 for JPY.
    pub fn decimals(&self) -> u32 {
        const WITHOUT_DECIMALS: &str =
            "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF";
        const WITH_THREE_DECIMALS: &str = "BHD IQD JOD KWD LYD OMR TND";
        let is_among = |codes: &str| {
            codes
                .split(' ')
                .any(|currency_code| currency_code == self.as_str())
        };
        if is_among(WITHOUT_DECIMALS) {
            0
        } else if is_among(WITH_THREE_DECIMALS) {
            3
        } else {
            2
        }
    }

    /// The code as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XXX")
    }
}

impl FromStr for Currency {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.as_bytes() {
            &[a, b, c] if [a, b, c].iter().all(u8::is_ascii_uppercase) => Ok(Self([a, b, c])),
            _ => Err("must be an ISO 4217 code such as EUR".to_owned()),
        }
    }
}

impl TryFrom<String> for Currency {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> Self {
        currency.as_str().to_owned()
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An amount in minor units of a currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Money {
    /// Minor units: cents for EUR, yen for JPY.
    pub amount: i64,
    /// The currency.
    pub currency: Currency,
}

impl Money {
    /// Zero in `currency`.
    pub fn zero(currency: Currency) -> Self {
        Self {
            amount: 0,
            currency,
        }
    }

    /// `self + price × quantity`.
    ///
    /// # Errors
    /// When the currencies differ or the sum exceeds [`MAX_AMOUNT`].
    pub fn plus(self, price: Money, quantity: u32) -> Result<Self, String> {
        if self.currency != price.currency {
            return Err(format!(
                "has a price in {}, but the order is in {}",
                price.currency, self.currency
            ));
        }
        price
            .amount
            .checked_mul(i64::from(quantity))
            .and_then(|line_amount| self.amount.checked_add(line_amount))
            .filter(|sum| *sum <= MAX_AMOUNT)
            .map(|amount| Self { amount, ..self })
            .ok_or_else(|| format!("makes the total exceed {MAX_AMOUNT} minor units"))
    }
}

impl Money {
    /// The amount in units of the currency: `1,234.50` for 123450 EUR, with `group_separator` instead of the comma and
    /// `decimal_separator` instead of the point.
    pub fn to_decimal(self, group_separator: &str, decimal_separator: &str) -> String {
        let decimals = self.currency.decimals() as usize;
        let digits = format!(
            "{:0>width$}",
            self.amount.unsigned_abs(),
            width = decimals + 1
        );
        let (integer_digits, fraction_digits) = digits.split_at(digits.len() - decimals);
        let mut decimal_text = String::new();
        if self.amount < 0 {
            decimal_text.push('-');
        }
        for (index, digit) in integer_digits.chars().enumerate() {
            if index > 0 && (integer_digits.len() - index).is_multiple_of(3) {
                decimal_text.push_str(group_separator);
            }
            decimal_text.push(digit);
        }
        if !fraction_digits.is_empty() {
            decimal_text.push_str(decimal_separator);
            decimal_text.push_str(fraction_digits);
        }
        decimal_text
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} minor units", self.amount, self.currency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eur(amount: i64) -> Money {
        Money {
            amount,
            currency: "EUR".parse().unwrap(),
        }
    }

    #[test]
    fn amounts_in_two_currencies_cannot_be_added() {
        let one_dollar = Money {
            amount: 1,
            currency: "USD".parse().unwrap(),
        };
        assert!(eur(1).plus(one_dollar, 1).is_err());
        assert_eq!(eur(1).plus(eur(250), 3), Ok(eur(751)));
    }

    #[test]
    fn amounts_are_written_with_the_decimals_of_their_currency() {
        let written_amount = |amount, currency_code: &str| {
            let currency = currency_code.parse().unwrap();
            Money { amount, currency }.to_decimal(",", ".")
        };
        assert_eq!(written_amount(123_450, "EUR"), "1,234.50");
        assert_eq!(written_amount(5, "EUR"), "0.05");
        assert_eq!(written_amount(-1_999, "USD"), "-19.99");
        assert_eq!(written_amount(1_000_000, "JPY"), "1,000,000");
        assert_eq!(written_amount(999, "KWD"), "0.999");
        assert_eq!(written_amount(0, "JPY"), "0");
        assert_eq!(eur(1_234_567).to_decimal(".", ","), "12.345,67");
    }

    #[test]
    fn only_iso_4217_currencies_are_listed() {
        let is_listed =
            |currency_code: &str| currency_code.parse::<Currency>().unwrap().is_listed();
        assert!(is_listed("EUR") && is_listed("JPY") && is_listed("XTS"));
        assert!(!is_listed("EUX") && !is_listed("AAA") && !is_listed("XAU"));
    }

    #[test]
    fn overflowing_sum_is_an_error() {
        assert!(eur(0).plus(eur(i64::MAX), 2).is_err());
        assert!(eur(MAX_AMOUNT).plus(eur(1), 1).is_err());
    }
}
