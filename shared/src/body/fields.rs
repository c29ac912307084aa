//! The fields of a JSON object, taken one after another with all errors collected.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::failure::Violation;

/// The fields of a JSON object that have not been read yet.
pub struct Fields<'a> {
    pointer: String,
    members: Map<String, Value>,
    violations: &'a mut Vec<Violation>,
}

impl Fields<'_> {
    /// Takes a required field.
    pub fn required<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(Value) -> Result<T, String>,
    ) -> Option<T> {
        if let Some(member_value) = self.take_member(name) {
            return self.parse(name, member_value, parse);
        }
        self.report(name, "is required");
        None
    }

    /// Takes an optional field.
    pub fn optional<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(Value) -> Result<T, String>,
    ) -> Option<T> {
        let member_value = self.take_member(name)?;
        self.parse(name, member_value, parse)
    }

    /// Takes a field of a JSON Merge Patch (RFC 7396) whose value can be removed. Returns `None` if the field
    /// is absent (no change), and `Some(None)` if it is `null` (the value is removed).
    pub fn patch_nullable<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(Value) -> Result<T, String>,
    ) -> Option<Option<T>> {
        match self.members.remove(name)? {
            Value::Null => Some(None),
            member_value => self.parse(name, member_value, parse).map(Some),
        }
    }

    /// Takes a field of a JSON Merge Patch whose value can't be removed. Returns `None` if the field is
    /// absent (no change); `null` is refused.
    pub fn patch<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(Value) -> Result<T, String>,
    ) -> Option<T> {
        match self.members.remove(name)? {
            Value::Null => {
                self.report(
                    name,
                    "must not be null: this value can be changed, but not removed",
                );
                None
            }
            member_value => self.parse(name, member_value, parse),
        }
    }

    /// Takes a list of objects, each read by `read_entry`.
    pub fn list<T>(
        &mut self,
        name: &str,
        allowed_length: RangeInclusive<usize>,
        mut read_entry: impl FnMut(&mut Fields<'_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let entries = match self.take_member(name) {
            Some(Value::Array(entries)) if allowed_length.contains(&entries.len()) => entries,
            Some(Value::Array(_)) => {
                let rule = format!(
                    "must have {} to {} entries",
                    allowed_length.start(),
                    allowed_length.end()
                );
                self.report(name, rule);
                return None;
            }
            Some(_) => {
                self.report(name, "must be a list");
                return None;
            }
            None => {
                self.report(name, "is required");
                return None;
            }
        };
        let list_pointer = self.pointer_to(name);
        let read_entries: Vec<Option<T>> = entries
            .into_iter()
            .enumerate()
            .map(|(index, entry)| {
                read_object(
                    format!("{list_pointer}/{index}"),
                    entry,
                    self.violations,
                    &mut read_entry,
                )
            })
            .collect();
        read_entries.into_iter().collect()
    }

    /// Takes an optional list; the outer `None` means that the list contains an error.
    pub fn optional_list<T>(
        &mut self,
        name: &str,
        allowed_length: RangeInclusive<usize>,
        read: impl FnMut(&mut Fields<'_>) -> Option<T>,
    ) -> Option<Option<Vec<T>>> {
        match self.members.get(name) {
            None | Some(Value::Null) => {
                self.members.remove(name);
                Some(None)
            }
            Some(_) => self.list(name, allowed_length, read).map(Some),
        }
    }

    /// Takes a list that replaces the present one; `null` is an empty list. The outer `None` means that the list
    /// contains an error, the inner one that it is absent.
    pub fn patch_list<T>(
        &mut self,
        name: &str,
        allowed_length: RangeInclusive<usize>,
        read: impl FnMut(&mut Fields<'_>) -> Option<T>,
    ) -> Option<Option<Vec<T>>> {
        let is_given = self.contains(name);
        let list = self.optional_list(name, allowed_length, read)?;
        Some(list.or_else(|| is_given.then(Vec::new)))
    }

    /// Takes an optional object; the outer `None` means that the object contains an error.
    pub fn optional_object<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&mut Fields<'_>) -> Option<T>,
    ) -> Option<Option<T>> {
        let Some(member_value) = self.take_member(name) else {
            return Some(None);
        };
        let pointer = self.pointer_to(name);
        read_object(pointer, member_value, self.violations, read).map(Some)
    }

    /// Takes an object that can be removed. The outer `None` means that the object contains an error, the middle
    /// one that the field is absent (no change), and the inner one that it is `null` (the object is removed).
    pub fn patch_nullable_object<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&mut Fields<'_>) -> Option<T>,
    ) -> Option<Option<Option<T>>> {
        if self.contains(name) {
            self.optional_object(name, read).map(Some)
        } else {
            Some(None)
        }
    }

    /// Whether the field is present and was not taken yet; also if it is `null`.
    pub fn contains(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// Takes an optional field that is an object, read by `read`, or another value, parsed by `parse`; the
    /// outer `None` means that it contains an error.
    pub fn optional_object_or<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(Value) -> Result<T, String>,
        read: impl FnOnce(&mut Fields<'_>) -> Option<T>,
    ) -> Option<Option<T>> {
        if matches!(self.members.get(name), Some(Value::Object(_)) | None) {
            return self.optional_object(name, read);
        }
        match self.take_member(name) {
            Some(member_value) => self.parse(name, member_value, parse).map(Some),
            None => Some(None),
        }
    }

    /// Reports a violation at `name`, for rules that involve several fields.
    pub fn report(&mut self, name: &str, rule: impl Into<String>) {
        let pointer = self.pointer_to(name);
        self.violations.push(Violation::new(pointer, rule));
    }

    fn take_member(&mut self, name: &str) -> Option<Value> {
        self.members
            .remove(name)
            .filter(|member_value| !member_value.is_null())
    }

    fn parse<T>(
        &mut self,
        name: &str,
        member_value: Value,
        parse: impl FnOnce(Value) -> Result<T, String>,
    ) -> Option<T> {
        parse(member_value)
            .map_err(|detail| self.report(name, detail))
            .ok()
    }

    fn pointer_to(&self, name: &str) -> String {
        format!(
            "{}/{}",
            self.pointer,
            name.replace('~', "~0").replace('/', "~1")
        )
    }

    fn report_unknown_fields(&mut self) {
        for member_name in std::mem::take(&mut self.members).keys() {
            self.report(member_name, "is not a known field");
        }
    }
}

/// Takes the fields of an object with `read`, and reports those that are left as unknown.
pub(super) fn read_object<T>(
    pointer: String,
    member_value: Value,
    violations: &mut Vec<Violation>,
    read: impl FnOnce(&mut Fields<'_>) -> Option<T>,
) -> Option<T> {
    let Value::Object(members) = member_value else {
        violations.push(Violation::new(pointer, "must be an object"));
        return None;
    };
    let mut fields = Fields {
        pointer,
        members,
        violations,
    };
    let read_result = read(&mut fields);
    fields.report_unknown_fields();
    read_result
}
