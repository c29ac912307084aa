//! Parses JSON that this system has written itself: rows of the database and messages.
//!
//! Earlier versions may have nested it deeper than `serde_json` accepts by default. Bodies of clients are
//! parsed by [`super::parse`], which is stricter.

use serde::de::DeserializeOwned;
use serde_json::{Deserializer, Error};

/// Maximum nesting of stored JSON, in levels: earlier versions accepted 127 levels from a client, and each
/// stored representation adds a few. Deeper JSON could exhaust the stack.
const MAX_STORED_NESTING: usize = 256;

/// Parses JSON that this system has written itself, nested up to 256 levels.
///
/// # Errors
/// When it is not JSON, not a `T`, or nested deeper than 256 levels.
pub fn from_stored<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    serde_json::from_str(text).or_else(|error| {
        // A second attempt helps only if the nesting limit caused the error.
        let depth = nesting_depth(text);
        if !(depth > super::MAX_NESTING && depth <= MAX_STORED_NESTING) {
            return Err(error);
        }
        let mut deserializer = Deserializer::from_str(text);
        deserializer.disable_recursion_limit();
        let value = T::deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(value)
    })
}

/// Nesting of the JSON `text`, in levels.
fn nesting_depth(text: &str) -> usize {
    let (mut current_depth, mut max_depth) = (0_usize, 0);
    let (mut is_in_string, mut is_escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_in_string => is_escaped = true,
            b'"' => is_in_string = !is_in_string,
            _ if is_in_string => {}
            b'[' | b'{' => {
                current_depth += 1;
                max_depth = max_depth.max(current_depth);
            }
            b']' | b'}' => current_depth = current_depth.saturating_sub(1),
            _ => {}
        }
    }
    max_depth
}
