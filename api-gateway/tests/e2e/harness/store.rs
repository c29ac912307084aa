//! The database of a test: SQLite or PostgreSQL, as `TEST_STORE` says.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::setting;

/// The database of one test.
#[derive(Clone)]
pub(crate) enum Store {
    /// Files in the test's folder.
    Sqlite { folder: PathBuf },
    /// A database on the shared server.
    Postgres { port: u16, database_name: String },
}

/// Selects the tables to run SQL on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tables {
    /// The worker's own tables: orders, events, products, customers and all others.
    Worker,
    /// The tables of the sandbox providers.
    Ledger,
}

impl Store {
    pub(crate) fn new(folder: &Path) -> Self {
        match setting("TEST_STORE").as_str() {
            "sqlite" => Self::Sqlite {
                folder: folder.to_owned(),
            },
            "postgres" => {
                let port = setting("TEST_POSTGRES_PORT").parse().unwrap();
                let database_name = format!("t{}", uuid::Uuid::now_v7().simple());
                let default_database = Self::postgres_at(port, "postgres");
                default_database.run(Tables::Worker, &format!("CREATE DATABASE {database_name}"));
                Self::postgres_at(port, &database_name)
            }
            unknown_store => panic!("TEST_STORE={unknown_store}: must be sqlite or postgres"),
        }
    }

    /// The database with this name on the PostgreSQL server at this port.
    pub(crate) fn postgres_at(port: u16, database_name: &str) -> Self {
        Self::Postgres {
            port,
            database_name: database_name.to_owned(),
        }
    }

    pub(crate) fn is_sqlite(&self) -> bool {
        matches!(self, Self::Sqlite { .. })
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::Sqlite { folder } => format!("sqlite://{}/orders.db", folder.display()),
            Self::Postgres {
                port,
                database_name,
            } => {
                format!("postgres://orders@127.0.0.1:{port}/{database_name}")
            }
        }
    }

    /// Runs SQL directly on the database. Returns one line per row, with columns separated by blanks.
    pub(crate) fn run(&self, tables: Tables, sql: &str) -> String {
        match self {
            Self::Sqlite { folder } => {
                // A single statement returns rows; several are executed as a script.
                let python_script = "import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
if ';' in sys.argv[2]: db.executescript(sys.argv[2])
else:
    for row in db.execute(sys.argv[2]): print(*row)";
                let database_file = match tables {
                    Tables::Worker => "orders.db",
                    Tables::Ledger => "orders.sandbox.db",
                };
                let mut python_command = Command::new("python3");
                python_command
                    .args(["-c", python_script])
                    .arg(folder.join(database_file))
                    .arg(sql);
                run_command(python_command)
            }
            Self::Postgres { .. } => {
                let search_path = match tables {
                    Tables::Worker => "-csearch_path=public",
                    Tables::Ledger => "-csearch_path=sandbox",
                };
                let mut psql_command =
                    Command::new(Path::new(&setting("TEST_POSTGRES_BIN")).join("psql"));
                psql_command
                    .args(["-qAtX", "-F", " ", "-v", "ON_ERROR_STOP=1", "-c", sql])
                    .arg(self.url())
                    .env("PGOPTIONS", search_path);
                run_command(psql_command)
            }
        }
    }

    /// The names of all tables.
    pub(crate) fn tables(&self) -> Vec<String> {
        let sql = match self {
            Self::Sqlite { .. } => {
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
            }
            Self::Postgres { .. } => "SELECT tablename FROM pg_tables WHERE schemaname = 'public'",
        };
        let table_names = self.run(Tables::Worker, sql);
        table_names.lines().map(str::to_owned).collect()
    }

    /// All rows of a table, one a line.
    pub(crate) fn all_rows(&self, table_name: &str) -> String {
        self.run(Tables::Worker, &format!("SELECT * FROM {table_name}"))
    }

    /// Opens a write transaction that blocks other writers until it is dropped.
    pub(crate) fn lock_writes(&self) -> OpenTransaction {
        let (lock_command, lock_script) = match self {
            Self::Sqlite { folder } => {
                let lock_script = "import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute('BEGIN IMMEDIATE')
print('held', flush=True)
sys.stdin.read()";
                let mut python_command = Command::new("python3");
                python_command
                    .args(["-c", lock_script])
                    .arg(folder.join("orders.db"));
                (python_command, "")
            }
            Self::Postgres { .. } => {
                let psql_path = Path::new(&setting("TEST_POSTGRES_BIN")).join("psql");
                let mut psql_command = Command::new(psql_path);
                psql_command.args(["-qAtX"]).arg(self.url());
                let lock_script = "BEGIN;
LOCK TABLE orders, idempotency IN SHARE ROW EXCLUSIVE MODE;
\\echo held
";
                (psql_command, lock_script)
            }
        };
        wait_for_lock(lock_command, lock_script)
    }

    /// Opens a PostgreSQL transaction that has executed `sql`, and leaves it open.
    pub(crate) fn begin_transaction(&self, sql: &str) -> OpenTransaction {
        let mut psql_command = Command::new(Path::new(&setting("TEST_POSTGRES_BIN")).join("psql"));
        psql_command
            .args(["-qAtX", "-v", "ON_ERROR_STOP=1"])
            .arg(self.url());
        wait_for_lock(psql_command, &format!("BEGIN;\n{sql};\n\\echo held\n"))
    }

    /// Copies the database as a backup. It must not be in use.
    pub(crate) fn copy(&self, folder: &Path) -> Self {
        match self {
            Self::Sqlite {
                folder: original_folder,
            } => {
                let folder = folder.join(format!("copy-{}", uuid::Uuid::now_v7()));
                fs::create_dir(&folder).unwrap();
                for folder_entry in fs::read_dir(original_folder).unwrap().map(Result::unwrap) {
                    let file_name = folder_entry.file_name();
                    if file_name.to_string_lossy().starts_with("orders.") {
                        fs::copy(folder_entry.path(), folder.join(file_name)).unwrap();
                    }
                }
                Self::Sqlite { folder }
            }
            Self::Postgres {
                port,
                database_name: original_name,
            } => {
                let database_name = format!("t{}", uuid::Uuid::now_v7().simple());
                let default_database = Self::postgres_at(*port, "postgres");
                default_database.run(
                    Tables::Worker,
                    &format!("CREATE DATABASE {database_name} TEMPLATE {original_name}"),
                );
                Self::postgres_at(*port, &database_name)
            }
        }
    }
}

/// Starts a process that runs `lock_script`, and waits until it reports that it holds its lock.
fn wait_for_lock(mut lock_command: Command, lock_script: &str) -> OpenTransaction {
    let mut child = lock_command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdin = child.stdin.as_mut().unwrap();
    stdin.write_all(lock_script.as_bytes()).unwrap();
    stdin.flush().unwrap();
    let mut first_line = String::new();
    let stdout = child.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut first_line).unwrap();
    assert_eq!(first_line, "held\n");
    OpenTransaction(child)
}

/// An open write transaction, rolled back when dropped.
pub(crate) struct OpenTransaction(Child);

impl OpenTransaction {
    /// Commits the transaction.
    pub(crate) fn commit(mut self) {
        let mut stdin = self.0.stdin.take().unwrap();
        stdin.write_all(b"COMMIT;\n").unwrap();
        drop(stdin);
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for OpenTransaction {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run_command(mut command: Command) -> String {
    let command_output = command.output().unwrap();
    assert!(
        command_output.status.success(),
        "{}",
        String::from_utf8_lossy(&command_output.stderr)
    );
    String::from_utf8(command_output.stdout)
        .unwrap()
        .trim()
        .to_owned()
}
