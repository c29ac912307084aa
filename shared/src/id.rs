//! Identifiers: one type per kind, so that they can't be confused, parsed and validated where requests
//! arrive.
//!
//! UUIDs identify orders, customers, shipments, returns, transactions, events, messages, webhook endpoints,
//! deliveries, API keys and photos. Names identify products ([`Sku`]), warehouses and storefronts.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
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
        #[schema(value_type = String, format = Uuid)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                // Only the hyphenated form is accepted, so that an id has one spelling.
                match Uuid::try_parse(text) {
                    Ok(id) if text.len() == 36 => Ok(Self(id)),
                    _ => Err("is not a UUID".to_owned()),
                }
            }
        }
    };
}

uuid_id!(
    /// Id of an order, UUIDv7.
    OrderId
);
uuid_id!(
    /// Id of a customer, UUIDv7.
    CustomerId
);
uuid_id!(
    /// Id of a shipment, UUIDv7.
    ShipmentId
);
uuid_id!(
    /// Id of a return, UUIDv7.
    ReturnId
);
uuid_id!(
    /// Id of an event, UUIDv7: unique and sortable by time.
    EventId
);

uuid_id!(
    /// Id of a transaction of an order's payment, `UUIDv8`.
    TransactionId
);

uuid_id!(
    /// Id of a message to a customer, UUIDv7.
    MessageId
);
uuid_id!(
    /// Id of a webhook endpoint, UUIDv7.
    EndpointId
);
uuid_id!(
    /// Id of a webhook delivery, UUIDv7.
    DeliveryId
);
uuid_id!(
    /// Id of an API key, UUIDv7.
    ApiKeyId
);

uuid_id!(
    /// Id of a photo, `UUIDv4`: it can't be guessed, because photos are served without a credential.
    ImageId
);

macro_rules! name_id {
    ($(#[$doc:meta])* $name:ident, $max:literal) => {
        $(#[$doc])*
        #[derive(
            Debug,
            Clone,
            PartialEq,
            Eq,
            Hash,
            PartialOrd,
            Ord,
            Serialize,
            Deserialize,
            utoipa::ToSchema,
        )]
        #[schema(value_type = String, min_length = 1, max_length = 64, pattern = "^(?!\\.+$)[A-Za-z0-9._-]{1,64}$")]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                check_name(text, $max)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                check_name(&text, $max)?;
                Ok(Self(text))
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_id!(
    /// A stock keeping unit: 1 to 64 characters of `A-Z a-z 0-9 . _ -`.
    Sku,
    64
);
name_id!(
    /// Name of a warehouse; a warehouse exists once it has a stock level.
    Warehouse,
    64
);
name_id!(
    /// Name of a storefront. A storefront's credentials see only its own data.
    Storefront,
    64
);

impl Default for Storefront {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

/// Checks that a name has 1 to `max_chars` characters that are safe in URLs, headers and logs.
fn check_name(text: &str, max_chars: usize) -> Result<(), String> {
    let is_safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if text.is_empty() || text.len() > max_chars {
        return Err(format!("must have 1 to {max_chars} characters"));
    }
    // `.` and `..` have a special meaning in paths.
    if !text.chars().all(is_safe) || text.chars().all(|c| c == '.') {
        return Err("may only contain the letters a-z and A-Z, digits, '.', '_' and '-', and must not consist of dots only".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_parsed_in_one_spelling_only() {
        assert!(
            "0192f0c1-2345-7abc-8def-0123456789ab"
                .parse::<OrderId>()
                .is_ok()
        );
        for other_text in [
            "",
            "42",
            "0192f0c123457abc8def0123456789ab",
            "{0192f0c1-2345-7abc-8def-0123456789ab}",
        ] {
            assert!(other_text.parse::<OrderId>().is_err(), "{other_text}");
        }
    }

    #[test]
    fn names_are_safe_in_urls_headers_and_logs() {
        assert!("TSHIRT-black_M.2".parse::<Sku>().is_ok());
        for invalid_name in ["", "a b", "a/b", "..", "a\nb", "ä", &"x".repeat(65)] {
            assert!(invalid_name.parse::<Sku>().is_err(), "{invalid_name:?}");
        }
    }
}
