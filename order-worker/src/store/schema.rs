//! Versions of the schema: two versions of the program may use a database at once, or one after the
//! other in either direction, as long as the database says that the older one knows enough.

use anyhow::bail;

/// What the database says of its schema.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schema {
    /// How far it has come.
    pub(super) version: i64,
    /// What a program has to know to work on it; databases that do not say are not ahead of anybody.
    pub(super) needs: i64,
}

impl Schema {
    /// Whether it is ahead of a program that knows its versions up to `known`, and may be used by it as it
    /// is.
    ///
    /// # Errors
    /// When it is ahead and may not.
    pub(super) fn is_ahead_of(self, known: i64) -> anyhow::Result<bool> {
        let Self { version, needs } = self;
        if version <= known {
            return Ok(false);
        }
        if needs > known {
            bail!(
                "its schema is of version {version} and needs an order-worker that knows version {needs}; \
                 this one knows versions up to {known}: it must be updated"
            );
        }
        tracing::warn!(
            version,
            known,
            "the database's schema is newer than this order-worker, which may work on it all the same"
        );
        Ok(true)
    }

    /// Whether a program that knows its versions up to `known` can read it as it is.
    ///
    /// # Errors
    /// When it can't, and what to do.
    pub(super) fn must_be_readable(self, known: i64) -> anyhow::Result<()> {
        let Self { version, .. } = self;
        if version < known {
            bail!(
                "its schema is of version {version}, and this order-worker reads version {known}: start it on \
                 this database, which brings the schema up to date, or use the order-worker that made it"
            );
        }
        self.is_ahead_of(known).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_schema_may_be_used_unless_it_says_otherwise() {
        let schema = |version, needs| Schema { version, needs };
        assert!(!schema(5, 5).is_ahead_of(7).unwrap());
        assert!(!schema(7, 7).is_ahead_of(7).unwrap());
        assert!(schema(9, 7).is_ahead_of(7).unwrap());
        assert!(schema(9, 6).is_ahead_of(7).unwrap());
        let refused = schema(9, 8).is_ahead_of(7).unwrap_err().to_string();
        assert!(refused.contains("version 8"), "{refused}");
    }

    #[test]
    fn an_earlier_schema_is_not_read_but_named() {
        let schema = |version, needs| Schema { version, needs };
        assert!(schema(7, 7).must_be_readable(7).is_ok());
        assert!(schema(8, 7).must_be_readable(7).is_ok());
        assert!(schema(9, 8).must_be_readable(7).is_err());
        let refused = schema(6, 6).must_be_readable(7).unwrap_err().to_string();
        assert!(
            refused.contains("version 6") && refused.contains("version 7"),
            "{refused}"
        );
    }
}
