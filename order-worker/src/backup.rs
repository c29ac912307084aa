//! `order-worker backup`: a copy of a SQLite database as it is at one moment, while a worker works on it.

use std::{
    ffi::OsString,
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use rusqlite::{
    Connection, OpenFlags,
    backup::{Backup, StepResult},
};

use crate::{
    providers::sandbox::LedgerLocation,
    store::{is_postgres, sqlite_path},
};

/// Pages copied in a step: all that there are.
const ALL_PAGES: i32 = -1;

/// What was written.
#[derive(Debug)]
pub struct Written {
    /// The files, and how many bytes each has.
    pub files: Vec<(PathBuf, u64)>,
}

/// Copies the database that `database_url` names to `file`, and the sandbox's ledger beside it: both as
/// they are at the same moment, whatever is written meanwhile. They are on disk when this returns.
///
/// # Errors
/// When it is a PostgreSQL database, which has tools of its own; when `file` is there already; when a
/// file can't be read or written. Then nothing is left behind.
pub fn backup(database_url: &str, file: &Path) -> anyhow::Result<Written> {
    if is_postgres(database_url) {
        bail!(
            "DATABASE_URL names a PostgreSQL database: back it up with pg_dump or pg_basebackup; \
             all that there is is in it"
        );
    }
    let database = sqlite_path(database_url)?;
    let pairs = [
        (LedgerLocation::path(&database), LedgerLocation::path(file)),
        (database, file.to_owned()),
    ];
    for (_, to) in &pairs {
        ensure!(!to.exists(), "{} is there already", to.display());
    }
    let sources = moment(&pairs[0].0, &pairs[1].0)?;
    let mut files: Vec<(PathBuf, u64)> = Vec::new();
    for (source, (from, to)) in sources.iter().zip(&pairs) {
        match copy(source, to) {
            Ok(size) => files.push((to.clone(), size)),
            Err(error) => {
                // Half a backup is none.
                for (file, _) in files {
                    let _ = fs::remove_file(file);
                }
                let (from, to) = (from.display(), to.display());
                return Err(error.context(format!("can't copy {from} to {to}")));
            }
        }
    }
    files.reverse();
    Ok(Written { files })
}

/// Both databases as they are at one moment. Whatever our books know of a payment was in the ledger
/// before, and whatever the ledger knows is about an order that was in our books before; so it is a moment
/// as soon as nobody writes to the ledger between the two.
fn moment(ledger: &Path, orders: &Path) -> anyhow::Result<[Connection; 2]> {
    let open = |path: &Path, flags| {
        ensure!(path.exists(), "{} is not there", path.display());
        Connection::open_with_flags(path, flags)
            .with_context(|| format!("can't open {}", path.display()))
    };
    let holding = open(ledger, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    holding
        .execute_batch("BEGIN IMMEDIATE")
        .with_context(|| format!("can't hold {}", ledger.display()))?;
    let begin = |path: &Path| {
        let connection = open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        // The moment is that of the first read.
        connection
            .execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema")
            .with_context(|| format!("can't read {}", path.display()))?;
        Ok::<_, anyhow::Error>(connection)
    };
    let both = [begin(ledger)?, begin(orders)?];
    holding.execute_batch("ROLLBACK")?;
    Ok(both)
}

/// Writes what `source` sees to `file`; tells how many bytes. Under its name there is all of it or nothing.
fn copy(source: &Connection, file: &Path) -> anyhow::Result<u64> {
    let part = with_suffix(file, ".part");
    let _ = fs::remove_file(&part);
    let written = write(source, &part).and_then(|size| {
        fs::rename(&part, file)?;
        if let Some(folder) = file
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            File::open(folder)?.sync_all()?;
        }
        Ok(size)
    });
    if written.is_err() {
        let _ = fs::remove_file(&part);
    }
    written
}

fn write(source: &Connection, part: &Path) -> anyhow::Result<u64> {
    let mut copy = Connection::open(part)?;
    let done = Backup::new(source, &mut copy)?.step(ALL_PAGES)?;
    ensure!(
        done == StepResult::Done,
        "not all of it was copied: {done:?}"
    );
    let check: String = copy.query_one("PRAGMA quick_check", [], |row| row.get(0))?;
    ensure!(check == "ok", "the copy is damaged: {check}");
    copy.close().map_err(|(_, error)| error)?;
    let file = File::open(part)?;
    file.sync_all()?;
    Ok(file.metadata()?.len())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}
