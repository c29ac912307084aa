//! Strict JSON parser for bodies of clients, used by [`super::parse`].
//!
//! Like that of `serde_json::Value`, but duplicate member names are an error, the nesting is limited, and no
//! member name has a special meaning.

use std::{cell::Cell, fmt};

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

/// Parses `bytes` with at most `max_nesting` levels. Also returns whether any number was parsed as a float.
pub(super) fn parse(bytes: &[u8], max_nesting: usize) -> Result<(Value, bool), serde_json::Error> {
    let has_floats = Cell::new(false);
    let reader = StrictReader {
        remaining_levels: max_nesting,
        max_nesting,
        has_floats: &has_floats,
    };
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    // The reader counts the levels itself.
    deserializer.disable_recursion_limit();
    let value = reader.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok((value, has_floats.get()))
}

#[derive(Clone, Copy)]
struct StrictReader<'a> {
    /// Number of further levels that are allowed.
    remaining_levels: usize,
    max_nesting: usize,
    has_floats: &'a Cell<bool>,
}

impl StrictReader<'_> {
    fn one_level_deeper<E: Error>(self) -> Result<Self, E> {
        match self.remaining_levels.checked_sub(1) {
            Some(remaining_levels) => Ok(Self {
                remaining_levels,
                ..self
            }),
            None => Err(E::custom(format!(
                "nested deeper than {} levels",
                self.max_nesting
            ))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for StrictReader<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for StrictReader<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        self.has_floats.set(true);
        let number = Number::from_f64(value).map(Value::Number);
        number.ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let nested_reader = self.one_level_deeper()?;
        let mut elements = Vec::new();
        while let Some(value) = access.next_element_seed(nested_reader)? {
            elements.push(value);
        }
        Ok(Value::Array(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let nested_reader = self.one_level_deeper()?;
        let mut members = Map::new();
        while let Some(member_name) = access.next_key::<String>()? {
            if members.contains_key(&member_name) {
                return Err(A::Error::custom(format!(
                    "member {member_name:?} appears twice"
                )));
            }
            let value = access.next_value_seed(nested_reader)?;
            members.insert(member_name, value);
        }
        Ok(Value::Object(members))
    }
}
