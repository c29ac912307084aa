//! Serializes values whose JSON has an expected length.

use serde::{Serialize, ser::Error as _};

/// The JSON text of `value`, written into a buffer of `expected_length` bytes, which grows if the text is longer.
/// [`serde_json::to_string`] begins with 128 bytes and copies the text each time it doubles them.
///
/// # Errors
/// When the value can't be serialized.
pub fn json_text(
    value: &impl Serialize,
    expected_length: usize,
) -> Result<String, serde_json::Error> {
    let mut json_bytes = Vec::with_capacity(expected_length);
    serde_json::to_writer(&mut json_bytes, value)?;
    String::from_utf8(json_bytes).map_err(serde_json::Error::custom)
}
