//! The innermost cause of an error, for messages about failed HTTP requests to providers, carriers, lists and webhook
//! endpoints: the outer errors contain the URL, which may contain a secret.

use std::error::Error;

/// The message of the innermost cause of `error`.
pub(crate) fn innermost_message(error: &dyn Error) -> String {
    let mut source_error = error;
    while let Some(source) = source_error.source() {
        source_error = source;
    }
    source_error.to_string()
}
