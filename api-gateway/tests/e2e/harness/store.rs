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
    Postgres { port: u16, name: String },
}

/// Selects the tables to run SQL on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tables {
    Orders,
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
                let name = format!("t{}", uuid::Uuid::now_v7().simple());
                let server = Self::at(port, "postgres");
                server.run(Tables::Orders, &format!("CREATE DATABASE {name}"));
                Self::at(port, &name)
            }
            other_store => panic!("TEST_STORE={other_store}: must be sqlite or postgres"),
        }
    }

    /// Creates a database on the PostgreSQL server at this port.
    pub(crate) fn at(port: u16, name: &str) -> Self {
        Self::Postgres {
            port,
            name: name.to_owned(),
        }
    }

    pub(crate) fn is_sqlite(&self) -> bool {
        matches!(self, Self::Sqlite { .. })
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::Sqlite { folder } => format!("sqlite://{}/orders.db", folder.display()),
            Self::Postgres { port, name } => {
                format!("postgres://orders@127.0.0.1:{port}/{name}")
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
                let file = match tables {
                    Tables::Orders => "orders.db",
                    Tables::Ledger => "orders.sandbox.db",
                };
                let mut python_command = Command::new("python3");
                python_command
                    .args(["-c", python_script])
                    .arg(folder.join(file))
                    .arg(sql);
                run_command(python_command)
            }
            Self::Postgres { .. } => {
                let search_path = match tables {
                    Tables::Orders => "-csearch_path=public",
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
        let names = self.run(Tables::Orders, sql);
        names.lines().map(str::to_owned).collect()
    }

    /// All rows of a table, one a line.
    pub(crate) fn all_rows(&self, table: &str) -> String {
        self.run(Tables::Orders, &format!("SELECT * FROM {table}"))
    }

    /// Opens a write transaction that blocks other writers until it is dropped.
    pub(crate) fn lock_writes(&self) -> OpenTransaction {
        let (command, script) = match self {
            Self::Sqlite { folder } => {
                let script = "import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute('BEGIN IMMEDIATE')
print('held', flush=True)
sys.stdin.read()";
                let mut python = Command::new("python3");
                python.args(["-c", script]).arg(folder.join("orders.db"));
                (python, "")
            }
            Self::Postgres { .. } => {
                let psql = Path::new(&setting("TEST_POSTGRES_BIN")).join("psql");
                let mut psql = Command::new(psql);
                psql.args(["-qAtX"]).arg(self.url());
                let script = "BEGIN;
LOCK TABLE orders, idempotency IN SHARE ROW EXCLUSIVE MODE;
\\echo held
";
                (psql, script)
            }
        };
        wait_for_lock(command, script)
    }

    /// Opens a PostgreSQL transaction that has executed `sql`, and leaves it open.
    pub(crate) fn begin_transaction(&self, sql: &str) -> OpenTransaction {
        let mut psql = Command::new(Path::new(&setting("TEST_POSTGRES_BIN")).join("psql"));
        psql.args(["-qAtX", "-v", "ON_ERROR_STOP=1"])
            .arg(self.url());
        wait_for_lock(psql, &format!("BEGIN;\n{sql};\n\\echo held\n"))
    }

    /// Copies the database as a backup. It must not be in use.
    pub(crate) fn copy(&self, folder: &Path) -> Self {
        match self {
            Self::Sqlite {
                folder: original_folder,
            } => {
                let folder = folder.join(format!("copy-{}", uuid::Uuid::now_v7()));
                fs::create_dir(&folder).unwrap();
                for entry in fs::read_dir(original_folder).unwrap().map(Result::unwrap) {
                    let name = entry.file_name();
                    if name.to_string_lossy().starts_with("orders.") {
                        fs::copy(entry.path(), folder.join(name)).unwrap();
                    }
                }
                Self::Sqlite { folder }
            }
            Self::Postgres {
                port,
                name: original_name,
            } => {
                let name = format!("t{}", uuid::Uuid::now_v7().simple());
                let server = Self::at(*port, "postgres");
                server.run(
                    Tables::Orders,
                    &format!("CREATE DATABASE {name} TEMPLATE {original_name}"),
                );
                Self::at(*port, &name)
            }
        }
    }
}

/// Starts a process that runs `script`, and waits until it reports that it holds its lock.
fn wait_for_lock(mut command: Command, script: &str) -> OpenTransaction {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdin = child.stdin.as_mut().unwrap();
    stdin.write_all(script.as_bytes()).unwrap();
    stdin.flush().unwrap();
    let mut line = String::new();
    let stdout = child.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    assert_eq!(line, "held\n");
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
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
