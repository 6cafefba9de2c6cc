//! What the daemon remembers: the keys of all its records, read while it is away.

use std::collections::BTreeSet;

use droste_test_support::Engine;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableHandle};

/// Every record's table and key. The daemon must not run.
pub(super) fn all(e: &Engine) -> BTreeSet<String> {
    // A copy: the daemon was killed, and opening the store puts it in order.
    let copy = tempfile::NamedTempFile::new().unwrap();
    std::fs::copy(e.dir().join("data/records"), copy.path()).unwrap();
    let database = Database::create(copy.path()).unwrap();
    let transaction = database.begin_read().unwrap();
    let mut found = BTreeSet::new();
    for table in transaction.list_tables().unwrap() {
        let name = table.name().to_owned();
        let table: TableDefinition<'_, &str, &[u8]> = TableDefinition::new(&name);
        for entry in transaction.open_table(table).unwrap().iter().unwrap() {
            found.insert(format!("{name} {}", entry.unwrap().0.value().replace('\n', " ")));
        }
    }
    found
}
