//! `order-worker backup`: copies a SQLite database, and the sandbox ledger beside it, while a worker is using
//! them. The copy is consistent: both files show the same moment. A file appears under its name only when it
//! is complete. PostgreSQL has its own tools (`pg_dump`, `pg_basebackup`). [`export`](super::export) writes
//! the same data as JSON.

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

/// Copies all pages in one step.
const ALL_PAGES: i32 = -1;

/// Result of a backup.
#[derive(Debug)]
pub struct BackupFiles {
    /// The written files and their sizes in bytes.
    pub files: Vec<(PathBuf, u64)>,
}

/// Copies the database of `database_url` to `target_file`, and the sandbox's ledger to a file beside it, both
/// as of the same moment. The files are synced to disk when this returns.
///
/// # Errors
/// When the database is a PostgreSQL database, when `target_file` exists, or when a file can't be read or
/// written. No incomplete file is left behind.
pub fn backup(database_url: &str, target_file: &Path) -> anyhow::Result<BackupFiles> {
    if is_postgres(database_url) {
        bail!(
            "DATABASE_URL names a PostgreSQL database: back it up with pg_dump or pg_basebackup; \
             it contains the sandbox's ledger too"
        );
    }
    let database_file = sqlite_path(database_url)?;
    let sources_and_targets = [
        (
            LedgerLocation::path(&database_file),
            LedgerLocation::path(target_file),
        ),
        (database_file, target_file.to_owned()),
    ];
    for (_, target_path) in &sources_and_targets {
        ensure!(
            !target_path.exists(),
            "{} already exists: choose another path",
            target_path.display()
        );
    }
    let source_connections = begin_snapshots(&sources_and_targets[0].0, &sources_and_targets[1].0)?;
    let mut written_files: Vec<(PathBuf, u64)> = Vec::new();
    for (source_connection, (source_file, target_file)) in
        source_connections.iter().zip(&sources_and_targets)
    {
        match copy(source_connection, target_file) {
            Ok(file_size) => written_files.push((target_file.clone(), file_size)),
            Err(error) => {
                // Removes an incomplete backup.
                for (backup_file, _) in written_files {
                    let _ = fs::remove_file(backup_file);
                }
                let (source_file, target_file) = (source_file.display(), target_file.display());
                return Err(error.context(format!("can't copy {source_file} to {target_file}")));
            }
        }
    }
    written_files.reverse();
    Ok(BackupFiles {
        files: written_files,
    })
}

/// Opens read transactions on both databases as of the same moment. A payment is written to the ledger before
/// the order records its result, and an order is stored before the ledger knows of it. So the copies match if
/// the ledger is not written between the two snapshots: it is locked meanwhile.
fn begin_snapshots(ledger_file: &Path, orders_file: &Path) -> anyhow::Result<[Connection; 2]> {
    let open_database = |path: &Path, open_flags| {
        ensure!(path.exists(), "{} does not exist", path.display());
        Connection::open_with_flags(path, open_flags)
            .with_context(|| format!("can't open {}", path.display()))
    };
    let ledger_lock = open_database(ledger_file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    ledger_lock
        .execute_batch("BEGIN IMMEDIATE")
        .with_context(|| format!("can't lock {}", ledger_file.display()))?;
    let begin_snapshot = |path: &Path| {
        let connection = open_database(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        // The first read takes the snapshot.
        connection
            .execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema")
            .with_context(|| format!("can't read {}", path.display()))?;
        Ok::<_, anyhow::Error>(connection)
    };
    let snapshots = [begin_snapshot(ledger_file)?, begin_snapshot(orders_file)?];
    ledger_lock.execute_batch("ROLLBACK")?;
    Ok(snapshots)
}

/// Writes a snapshot of `source` to `target_file` and returns its size. The file appears only when it is
/// complete.
fn copy(source: &Connection, target_file: &Path) -> anyhow::Result<u64> {
    let partial_file = with_suffix(target_file, ".part");
    let _ = fs::remove_file(&partial_file);
    let write_result = write(source, &partial_file).and_then(|file_size| {
        fs::rename(&partial_file, target_file)?;
        if let Some(folder) = target_file
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            File::open(folder)?.sync_all()?;
        }
        Ok(file_size)
    });
    if write_result.is_err() {
        let _ = fs::remove_file(&partial_file);
    }
    write_result
}

fn write(source: &Connection, partial_file: &Path) -> anyhow::Result<u64> {
    let mut target_connection = Connection::open(partial_file)?;
    let step_result = Backup::new(source, &mut target_connection)?.step(ALL_PAGES)?;
    ensure!(
        step_result == StepResult::Done,
        "the copy is incomplete: {step_result:?}"
    );
    let check_result: String =
        target_connection.query_one("PRAGMA quick_check", [], |row| row.get(0))?;
    ensure!(
        check_result == "ok",
        "the integrity check of the copy failed: {check_result}"
    );
    target_connection.close().map_err(|(_, error)| error)?;
    let opened_file = File::open(partial_file)?;
    opened_file.sync_all()?;
    Ok(opened_file.metadata()?.len())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut suffixed_path = OsString::from(path);
    suffixed_path.push(suffix);
    PathBuf::from(suffixed_path)
}
