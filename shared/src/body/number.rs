//! Finds JSON numbers that parsing would change: integers beyond 64 bits, and decimals with more digits than
//! a 64-bit float keeps. Such numbers are refused ([`super::parse`]), so that stored data equals what the
//! client sent.

/// The JSON pointer (RFC 6901) and the text of the first number in `text` that parsing would change.
/// Considers only numbers whose pointer begins with `base_pointer`. `text` must be valid JSON.
pub fn first_inexact(text: &str, base_pointer: &str) -> Option<(String, String)> {
    let bytes = text.as_bytes();
    let mut levels: Vec<Level> = Vec::new();
    let mut position = 0;
    while let Some(byte) = bytes.get(position) {
        match byte {
            b'{' => levels.push(Level::Object { member_name: None }),
            b'[' => levels.push(Level::Array { index: 0 }),
            b'}' | b']' => {
                levels.pop();
            }
            b',' => match levels.last_mut() {
                Some(Level::Array { index }) => *index += 1,
                Some(Level::Object { member_name }) => *member_name = None,
                None => {}
            },
            b'"' => {
                let string_end = position + string_length(&bytes[position..]);
                if let Some(Level::Object {
                    member_name: member_name @ None,
                }) = levels.last_mut()
                {
                    *member_name = Some(&bytes[position..string_end]);
                }
                position = string_end;
                continue;
            }
            b'-' | b'0'..=b'9' => {
                let remaining_text = &bytes[position..];
                let number_length = remaining_text
                    .iter()
                    .position(|byte| !is_number_byte(*byte));
                let number = &remaining_text[..number_length.unwrap_or(remaining_text.len())];
                if let Ok(number) = str::from_utf8(number)
                    && !is_exact(number)
                {
                    let pointer = pointer_to_level(&levels);
                    if pointer.starts_with(base_pointer) {
                        return Some((pointer, number.chars().take(40).collect()));
                    }
                }
                position += number.len();
                continue;
            }
            _ => {}
        }
        position += 1;
    }
    None
}

/// An enclosing array or object of the current position, with the position in it.
enum Level<'a> {
    Object {
        /// The current member's name as JSON text; `None` before the name.
        member_name: Option<&'a [u8]>,
    },
    Array {
        index: usize,
    },
}

fn pointer_to_level(levels: &[Level<'_>]) -> String {
    let mut pointer = String::new();
    for level in levels {
        pointer.push('/');
        match level {
            Level::Array { index } => pointer.push_str(&index.to_string()),
            Level::Object { member_name } => {
                let name: Option<String> =
                    member_name.and_then(|json_text| serde_json::from_slice(json_text).ok());
                let name_text = name.unwrap_or_default();
                pointer.push_str(&name_text.replace('~', "~0").replace('/', "~1"));
            }
        }
    }
    pointer
}

/// Length in bytes of the JSON string at the beginning of `bytes`, including its quotation marks.
fn string_length(bytes: &[u8]) -> usize {
    let mut is_escaped = false;
    for (position, byte) in bytes.iter().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return position + 1,
            _ => {}
        }
    }
    bytes.len()
}

fn is_number_byte(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')
}

/// Whether `number` has the same value after parsing.
fn is_exact(number: &str) -> bool {
    if number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok() {
        return true;
    }
    let Ok(parsed_number) = number.parse::<f64>() else {
        return false;
    };
    match (
        decimal_parts(number),
        decimal_parts(&format!("{parsed_number:e}")),
    ) {
        (Some(sent_decimal), Some(kept_decimal)) => sent_decimal == kept_decimal,
        _ => false,
    }
}

/// The sign, the significant digits and the exponent of the last digit of a number; no digits for zero.
fn decimal_parts(number: &str) -> Option<(bool, String, i64)> {
    let (mantissa, exponent) = match number.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (number, 0),
    };
    let (is_negative, unsigned_mantissa) = match mantissa.strip_prefix('-') {
        Some(unsigned_mantissa) => (true, unsigned_mantissa),
        None => (false, mantissa),
    };
    let (integer_digits, fraction_digits) = unsigned_mantissa
        .split_once('.')
        .unwrap_or((unsigned_mantissa, ""));
    let digits = format!("{integer_digits}{fraction_digits}");
    let significant_digits = digits.trim_start_matches('0').trim_end_matches('0');
    if significant_digits.is_empty() {
        return Some((false, String::new(), 0));
    }
    let trailing_zeros = digits.len() - digits.trim_end_matches('0').len();
    let exponent = exponent
        .checked_sub(i64::try_from(fraction_digits.len()).ok()?)?
        .checked_add(i64::try_from(trailing_zeros).ok()?)?;
    Some((is_negative, significant_digits.to_owned(), exponent))
}
