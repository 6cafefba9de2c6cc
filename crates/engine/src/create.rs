//! Making a container that was admitted: its directories, its volumes, its record, its place in the tables.

use std::path::Path;
use std::sync::Arc;

use droste_image::{Image, Store};
use droste_model::host::HostId;
use droste_model::id::ContainerId;
use droste_model::limit::{Limits, Resource};

use crate::admit::{Admitted, NewContainer};
use crate::container::Container;
use crate::engine::{Engine, new_identity};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::limits::Place;
use crate::record::ContainerRecord;
use crate::store::{Change, Key};

/// Makes the container. Whatever fails, nothing of it is left: the directory goes, anonymous volumes go, the name is
/// given back.
pub(crate) async fn make(host: &Host, admitted: Admitted<NewContainer>) -> Result<ContainerId> {
    let NewContainer { record, image, mounted, name, place, limits } = admitted.into_inner();
    let engine = &host.engine;
    let folder = engine.container_dir(&record.id);
    let (owned, pinned) = (Arc::clone(engine), image.clone());
    let counted_on = if record.is_host() { HostId::Container(record.id.clone()) } else { record.host.clone() };
    let made = tokio::task::spawn_blocking(move || {
        make_folder(&owned, pinned.as_ref(), &folder, &counted_on)
            .inspect_err(|_| remove_folder(&owned.images, &folder))
    });
    made.await.map_err(|error| not_made(&error))??;
    let id = record.id.clone();
    match furnish(host, Furnishing { record, image, mounted, place, limits }).await {
        Ok(container) => {
            name.keep();
            container.emit("create", &[]);
            Ok(id)
        }
        Err(error) => {
            let (images, folder) = (engine.images.clone(), engine.container_dir(&id));
            let _ = tokio::task::spawn_blocking(move || remove_folder(&images, &folder)).await;
            Err(error)
        }
    }
}

fn make_folder(engine: &Engine, image: Option<&Image>, folder: &Path, counted_on: &HostId) -> Result<()> {
    let root = engine.images.prepare_root(image, folder).map_err(|error| not_made(&error))?;
    [&root.upper, &root.work].into_iter().for_each(|directory| engine.quotas.adopt(counted_on, directory));
    Ok(())
}

fn not_made(error: &dyn std::fmt::Display) -> Error {
    Error::hidden("the container's directory could not be made", error)
}

fn remove_folder(images: &Store, folder: &Path) {
    let _ = images.remove_root(folder);
    let _ = std::fs::remove_dir_all(folder);
}

/// What a container is made of once it has a directory.
struct Furnishing {
    record: ContainerRecord,
    image: Option<Image>,
    mounted: Vec<Image>,
    place: Place,
    limits: Limits,
}

/// What comes after the directory: volumes and their first content, then the records, then the tables.
async fn furnish(host: &Host, new: Furnishing) -> Result<Arc<Container>> {
    let engine = &host.engine;
    let Furnishing { record, image, mounted, place, limits } = new;
    let volumes = engine.hold_volumes(&host.state, &record).await?;
    let container = Arc::new(Container::new(record, Arc::clone(&host.state), image));
    container.live().images = mounted;
    let held = volumes.all();
    if !held.is_empty() {
        let (filling, filled) = (Arc::clone(engine), Arc::clone(&container));
        let outcome = tokio::task::spawn_blocking(move || crate::volumes::fill(&filling, &filled, &held)).await;
        outcome.map_err(|error| Error::hidden("failed to populate volume", error))??;
    }
    let record = container.record().clone();
    let identity = if record.is_host() { Some(new_identity(limits)?) } else { None };
    let mut changes = volumes.changes()?;
    let change = Change::put(Key::Container(record.id.clone()), &record)?;
    let remembered = host.state.account.take_much(Resource::Config, change.size() as u64)?;
    changes.push(change);
    if let Some(identity) = &identity {
        changes.push(Change::put(Key::Host(HostId::Container(record.id.clone())), identity)?);
    }
    let stays = host.state.stay().await?;
    engine.store.commit(changes).await?;
    if let Some(inner) = identity.and_then(|identity| engine.add_host(&record, identity)) {
        inner.is_container(&container);
    }
    let kept = volumes.keep();
    host.state.table().insert(Arc::clone(&container), vec![place, remembered]);
    drop((kept, stays));
    Ok(container)
}
