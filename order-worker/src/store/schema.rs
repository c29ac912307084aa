//! Compatibility of schema versions: two versions of the program may use a database at the same time, or
//! alternately, as long as the schema declares that the older program is compatible.

use anyhow::bail;

/// The schema version of a database.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schema {
    /// The version.
    pub(super) version: i64,
    /// The oldest program that may use the schema, as the newest version that the program knows. `i64::MAX`
    /// if the database does not declare it.
    pub(super) needed_version: i64,
}

impl Schema {
    /// Whether the schema is newer than `known_version`, the newest version of this program, and compatible
    /// with it.
    ///
    /// # Errors
    /// When it is newer and not compatible.
    pub(super) fn is_ahead_of(self, known_version: i64) -> anyhow::Result<bool> {
        let Self {
            version,
            needed_version,
        } = self;
        if version <= known_version {
            return Ok(false);
        }
        if needed_version > known_version {
            bail!(
                "its schema has version {version} and needs an order-worker that knows version {needed_version}; \
                 this one knows versions up to {known_version}: update this order-worker"
            );
        }
        tracing::warn!(
            version,
            known = known_version,
            "the database schema is newer than this order-worker, but compatible with it"
        );
        Ok(true)
    }

    /// Checks that a program that knows versions up to `known_version` can read the database.
    ///
    /// # Errors
    /// When it can't; the error says what to do.
    pub(super) fn check_readable(self, known_version: i64) -> anyhow::Result<()> {
        let Self { version, .. } = self;
        if version < known_version {
            bail!(
                "its schema has version {version}, and this order-worker reads version {known_version}: bring the schema up to \
                 date with `order-worker migrate`, or use the order-worker that made it"
            );
        }
        self.is_ahead_of(known_version).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_schema_is_accepted_unless_it_requires_a_newer_version() {
        let schema = |version, needed_version| Schema {
            version,
            needed_version,
        };
        assert!(!schema(5, 5).is_ahead_of(7).unwrap());
        assert!(!schema(7, 7).is_ahead_of(7).unwrap());
        assert!(schema(9, 7).is_ahead_of(7).unwrap());
        assert!(schema(9, 6).is_ahead_of(7).unwrap());
        let error_text = schema(9, 8).is_ahead_of(7).unwrap_err().to_string();
        assert!(error_text.contains("version 8"), "{error_text}");
    }

    #[test]
    fn earlier_schema_is_refused_with_its_version() {
        let schema = |version, needed_version| Schema {
            version,
            needed_version,
        };
        assert!(schema(7, 7).check_readable(7).is_ok());
        assert!(schema(8, 7).check_readable(7).is_ok());
        assert!(schema(9, 8).check_readable(7).is_err());
        let schema_error = schema(6, 6).check_readable(7).unwrap_err().to_string();
        assert!(
            schema_error.contains("version 6") && schema_error.contains("version 7"),
            "{schema_error}"
        );
    }
}
