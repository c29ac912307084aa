//! Limits of fields that several resources have, and that the schemas of the API document.

/// Maximum number of addresses of a customer.
pub const MAX_ADDRESSES: usize = 10;
/// Maximum size of metadata as JSON.
pub const MAX_METADATA_BYTES: usize = 16 * 1024;
/// Maximum length of an order's note.
pub const MAX_NOTE_CHARS: usize = 5_000;
