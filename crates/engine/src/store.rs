//! The record store: what the engine must remember over a `kill -9` or a power cut.
//!
//! One transactional file. All records are read at the start and kept by their owners in memory; afterwards the store
//! only takes changes. A thread of its own commits them, as many at a time as have gathered, so that forty creations
//! at once cost a few fsyncs and not forty.

use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;

use droste_model::host::HostId;
use droste_model::id::{ContainerId, NetworkId};
use droste_model::name::VolumeName;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

type Table = TableDefinition<'static, &'static str, &'static [u8]>;
const TABLES: [Table; 5] = [CONTAINERS, HOSTS, TAGS, VOLUMES, NETWORKS];
const CONTAINERS: Table = TableDefinition::new("containers");
const HOSTS: Table = TableDefinition::new("hosts");
const TAGS: Table = TableDefinition::new("tags");
const VOLUMES: Table = TableDefinition::new("volumes");
const NETWORKS: Table = TableDefinition::new("networks");

/// Memory for the store's pages in bytes: records are read once, so a small cache serves.
const CACHE: usize = 512 << 10;

/// Separates the host from the reference or name in a tag's or volume's key; neither can contain it.
const SEPARATOR: char = '\n';

/// The store can't be opened, read or written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The file can't be opened.
    #[error("open the record store {path}: {cause}")]
    Open {
        /// The file.
        path: String,
        /// Why.
        cause: String,
    },
    /// A record can't be read.
    #[error("read record {key:?} of the record store: {cause}")]
    Read {
        /// The record's key.
        key: String,
        /// Why.
        cause: String,
    },
    /// A change can't be made durable.
    #[error("write the record store: {0}")]
    Write(String),
}

/// Which record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// A container's.
    Container(ContainerId),
    /// A host's.
    Host(HostId),
    /// An image tag's on a host.
    Tag(HostId, String),
    /// A volume's on a host.
    Volume(HostId, VolumeName),
    /// A network's on a host.
    Network(HostId, NetworkId),
}

impl Key {
    fn table(&self) -> Table {
        match self {
            Key::Container(_) => CONTAINERS,
            Key::Host(_) => HOSTS,
            Key::Tag(..) => TAGS,
            Key::Volume(..) => VOLUMES,
            Key::Network(..) => NETWORKS,
        }
    }

    fn text(&self) -> String {
        match self {
            Key::Container(id) => id.to_string(),
            Key::Host(host) => host.to_string(),
            Key::Tag(host, reference) => format!("{host}{SEPARATOR}{reference}"),
            Key::Volume(host, name) => format!("{host}{SEPARATOR}{name}"),
            Key::Network(host, id) => format!("{host}{SEPARATOR}{id}"),
        }
    }
}

/// One change of one record.
#[derive(Debug)]
pub(crate) struct Change {
    key: Key,
    value: Option<Vec<u8>>,
    only_known: bool,
}

impl Change {
    /// Writes a record, new or old.
    pub(crate) fn put(key: Key, record: &impl Serialize) -> Result<Self, StoreError> {
        let value = serde_json::to_vec(record).map_err(|error| StoreError::Write(error.to_string()))?;
        Ok(Self { key, value: Some(value), only_known: false })
    }

    /// Writes a record anew if there is one: what was removed meanwhile does not come back.
    pub(crate) fn update(key: Key, record: &impl Serialize) -> Result<Self, StoreError> {
        Ok(Self { only_known: true, ..Self::put(key, record)? })
    }

    /// How many bytes the record has.
    pub(crate) fn size(&self) -> usize {
        self.value.as_ref().map_or(0, Vec::len)
    }

    /// Removes a record, if it is there.
    pub(crate) fn remove(key: Key) -> Self {
        Self { key, value: None, only_known: false }
    }
}

struct Commit {
    changes: Vec<Change>,
    done: Option<oneshot::Sender<Result<(), StoreError>>>,
}

/// The store. Dropping it waits until every queued change is committed.
pub(crate) struct Store {
    commits: Option<mpsc::Sender<Commit>>,
    writer: Option<JoinHandle<()>>,
}

/// Every record, read when the store is opened.
pub(crate) struct Records<C, H, T, V, N> {
    /// Containers.
    pub containers: Vec<C>,
    /// Hosts by the text of their id.
    pub hosts: Vec<(String, H)>,
    /// Tags: host, reference, record.
    pub tags: Vec<(String, String, T)>,
    /// Volumes: host, record.
    pub volumes: Vec<(String, V)>,
    /// Networks that clients made.
    pub networks: Vec<N>,
}

/// A store that is open, and what it held.
pub(crate) type Opened<C, H, T, V, N> = Result<(Store, Records<C, H, T, V, N>), StoreError>;

impl Store {
    /// Opens the store, making it if need be, and reads all that it holds.
    pub(crate) fn open<C, H, T, V, N>(path: &Path) -> Opened<C, H, T, V, N>
    where
        C: DeserializeOwned,
        H: DeserializeOwned,
        T: DeserializeOwned,
        V: DeserializeOwned,
        N: DeserializeOwned,
    {
        let failed =
            |cause: redb::Error| StoreError::Open { path: path.display().to_string(), cause: cause.to_string() };
        let database = Database::builder().set_cache_size(CACHE).create(path).map_err(|error| failed(error.into()))?;
        make_tables(&database).map_err(failed)?;
        let records = Records {
            containers: read(&database, CONTAINERS)?.into_iter().map(|(_, record)| record).collect(),
            hosts: read(&database, HOSTS)?,
            tags: read(&database, TAGS)?.into_iter().filter_map(split_tag).collect(),
            volumes: read(&database, VOLUMES)?
                .into_iter()
                .filter_map(split_tag)
                .map(|(host, _, record)| (host, record))
                .collect(),
            networks: read(&database, NETWORKS)?.into_iter().map(|(_, record)| record).collect(),
        };
        let (commits, queue) = mpsc::channel();
        let writer =
            std::thread::Builder::new()
                .name("store".to_owned())
                .spawn(move || write_all(&database, &queue))
                .map_err(|error| StoreError::Open { path: path.display().to_string(), cause: error.to_string() })?;
        Ok((Self { commits: Some(commits), writer: Some(writer) }, records))
    }

    /// Makes changes durable, all or none of them; returns when they are.
    pub(crate) async fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let (done, committed) = oneshot::channel();
        self.send(Commit { changes, done: Some(done) })?;
        committed.await.unwrap_or_else(|_| Err(StoreError::Write("the writer has ended".to_owned())))
    }

    /// Makes changes durable soon, without waiting: for what the shim's own files tell as well.
    pub(crate) fn queue(&self, changes: Vec<Change>) {
        if let Err(error) = self.send(Commit { changes, done: None }) {
            tracing::error!(%error, "a record was lost");
        }
    }

    fn send(&self, commit: Commit) -> Result<(), StoreError> {
        let ended = || StoreError::Write("the writer has ended".to_owned());
        self.commits.as_ref().ok_or_else(ended)?.send(commit).map_err(|_| ended())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        drop(self.commits.take());
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

fn make_tables(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    for table in TABLES {
        transaction.open_table(table)?;
    }
    transaction.commit()?;
    Ok(())
}

fn read<R: DeserializeOwned>(database: &Database, table: Table) -> Result<Vec<(String, R)>, StoreError> {
    let failed = |key: &str, cause: String| StoreError::Read { key: key.to_owned(), cause };
    let whole = |error: redb::Error| failed("", error.to_string());
    let transaction = database.begin_read().map_err(|error| whole(error.into()))?;
    let table = transaction.open_table(table).map_err(|error| whole(error.into()))?;
    let mut records = Vec::new();
    for entry in table.iter().map_err(|error| whole(error.into()))? {
        let (key, value) = entry.map_err(|error| whole(error.into()))?;
        let record = serde_json::from_slice(value.value()).map_err(|error| failed(key.value(), error.to_string()))?;
        records.push((key.value().to_owned(), record));
    }
    Ok(records)
}

fn split_tag<T>((key, record): (String, T)) -> Option<(String, String, T)> {
    let (host, reference) = key.split_once(SEPARATOR)?;
    Some((host.to_owned(), reference.to_owned(), record))
}

/// Takes commits until the store is dropped; whatever gathered during one commit goes into the next together.
fn write_all(database: &Database, queue: &mpsc::Receiver<Commit>) {
    while let Ok(first) = queue.recv() {
        let mut batch = vec![first];
        batch.extend(queue.try_iter());
        let outcome = write(database, &batch).map_err(|error| StoreError::Write(error.to_string()));
        for commit in batch {
            match (commit.done, &outcome) {
                (Some(done), _) => drop(done.send(outcome.clone())),
                (None, Err(error)) => tracing::error!(%error, "a record was lost"),
                (None, Ok(())) => {}
            }
        }
    }
}

fn write(database: &Database, batch: &[Commit]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    for change in batch.iter().flat_map(|commit| &commit.changes) {
        let mut table = transaction.open_table(change.key.table())?;
        let key = change.key.text();
        let stays_away = change.only_known && table.get(key.as_str())?.is_none();
        match &change.value {
            Some(_) if stays_away => {}
            Some(value) => drop(table.insert(key.as_str(), value.as_slice())?),
            None => drop(table.remove(key.as_str())?),
        }
    }
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Open = (Store, Records<String, u32, bool, bool, bool>);

    fn open(path: &Path) -> Open {
        Store::open(path).unwrap()
    }

    #[tokio::test]
    async fn remembers_what_was_committed_and_queued() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let id = ContainerId::from_bytes([1; 32]);
        let tag = |reference: &str| Key::Tag(HostId::Container(id.clone()), reference.to_owned());
        {
            let (store, records) = open(&path);
            assert!(records.containers.is_empty());
            let put = |key, record| Change::put(key, record).unwrap();
            store.commit(vec![put(Key::Container(id.clone()), &"one")]).await.unwrap();
            store
                .commit(vec![Change::put(tag("a:1"), &true).unwrap(), Change::put(tag("b"), &true).unwrap()])
                .await
                .unwrap();
            store.queue(vec![Change::put(Key::Host(HostId::Machine), &7u32).unwrap(), Change::remove(tag("b"))]);
        }
        let (_store, records) = open(&path);
        assert_eq!(records.containers, ["one"]);
        assert_eq!(records.hosts, [("machine".to_owned(), 7)]);
        assert_eq!(records.tags, [(id.to_string(), "a:1".to_owned(), true)]);
    }

    #[tokio::test]
    async fn an_update_does_not_bring_back_what_was_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let [known, removed] = [1, 2].map(|number| Key::Container(ContainerId::from_bytes([number; 32])));
        {
            let (store, _) = open(&path);
            let put = |key: &Key| Change::put(key.clone(), &"old").unwrap();
            store.commit(vec![put(&known), put(&removed), Change::remove(removed.clone())]).await.unwrap();
            let update = |key: &Key| Change::update(key.clone(), &"new").unwrap();
            store.commit(vec![update(&known), update(&removed)]).await.unwrap();
        }
        assert_eq!(open(&path).1.containers, ["new"]);
    }

    #[tokio::test]
    async fn a_damaged_record_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        {
            let (store, _) = open(&path);
            store.commit(vec![Change::put(Key::Host(HostId::Machine), &"no number").unwrap()]).await.unwrap();
        }
        let error = Store::open::<String, u32, bool, bool, bool>(&path).err().unwrap();
        assert!(error.to_string().contains("\"machine\""), "{error}");
    }
}
