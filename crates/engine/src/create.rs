//! Making a container that was admitted: its directories, its record, its place in the tables.

use std::sync::Arc;

use droste_model::host::HostId;
use droste_model::id::ContainerId;

use crate::admit::{Admitted, NewContainer};
use crate::container::Container;
use crate::engine::new_identity;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::store::{Change, Key};

/// Makes the container. Whatever fails, nothing of it is left: the directory goes, the name is given back.
pub(crate) async fn make(host: &Host, admitted: Admitted<NewContainer>) -> Result<ContainerId> {
    let NewContainer { record, image, name } = admitted.into_inner();
    let engine = &host.engine;
    let folder = engine.container_dir(&record.id);
    let (images, pinned) = (engine.images.clone(), image.clone());
    let made = tokio::task::spawn_blocking(move || {
        images.prepare_root(pinned.as_ref(), &folder).inspect_err(|_| {
            let _ = images.remove_root(&folder);
        })
    });
    let failed = |error: &dyn std::fmt::Display| Error::hidden("the container's directory could not be made", error);
    made.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
    let identity = if record.is_host() { Some(new_identity()?) } else { None };
    let mut changes = vec![Change::put(Key::Container(record.id.clone()), &record)?];
    if let Some(identity) = &identity {
        changes.push(Change::put(Key::Host(HostId::Container(record.id.clone())), identity)?);
    }
    if let Err(error) = engine.store.commit(changes).await {
        let _ = engine.images.remove_root(engine.container_dir(&record.id));
        return Err(error.into());
    }
    let inner = identity.and_then(|identity| engine.add_host(&record, identity));
    let container = Arc::new(Container::new(record, Arc::clone(&host.state), image));
    if let Some(inner) = inner {
        inner.is_container(&container);
    }
    host.state.table().insert(Arc::clone(&container));
    name.keep();
    container.emit("create", &[]);
    Ok(container.id.clone())
}
