//! The images of one host: names found, listed, set and removed. Content is the image store's, shared by all hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use droste_image::Image;
use droste_model::digest::Digest;
use droste_model::event::EventType;
use droste_model::platform::Platform;
use droste_model::reference::Reference;
use droste_model::time::Timestamp;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::options::{RemoveImage, Removed};
use crate::tags::{self, Tagged};
use crate::view::{HistoryView, ImageView};

/// How long whoever was refused an image, or has just removed its last container, may hold its content on.
const LET_GO: Duration = Duration::from_millis(500);

impl Host {
    /// The image that a client's word means on this host: a name, an id, or a unique prefix of an id.
    pub(crate) fn find_image(&self, typed: &str) -> Result<Image> {
        let id = self.find_image_id(typed)?;
        self.engine.images.image(id).map_err(|_| no_such(typed))
    }

    pub(crate) fn find_image_id(&self, typed: &str) -> Result<Digest> {
        if let Some(id) = self.by_full_id(typed) {
            return Ok(id);
        }
        if let Some(tagged) = self.by_reference(typed) {
            return tagged.image.parse().map_err(|_| no_such(typed));
        }
        if let Some(id) = self.by_prefix(typed)? {
            return Ok(id);
        }
        typed.parse::<Reference>().map_err(|error| Error::invalid(error.to_string()))?;
        Err(no_such(typed))
    }

    fn by_full_id(&self, typed: &str) -> Option<Digest> {
        let hex = typed.strip_prefix("sha256:").unwrap_or(typed);
        let id: Digest = format!("sha256:{hex}").parse().ok()?;
        self.sees(&id).then_some(id)
    }

    /// Whether this host sees an image under any name, or its id.
    fn sees(&self, id: &Digest) -> bool {
        let text = id.to_string();
        self.state.tags.get(&text).is_some() || self.state.tags.visible().values().any(|tagged| tagged.image == text)
    }

    fn by_reference(&self, typed: &str) -> Option<Tagged> {
        let reference = typed.parse::<Reference>().ok()?.or_latest();
        // A name with tag and digest is found by its digest, as in Docker.
        let key = match reference.digest() {
            Some(digest) => reference.with_digest(digest).to_string(),
            None => reference.to_string(),
        };
        self.state.tags.get(&key)
    }

    fn by_prefix(&self, typed: &str) -> Result<Option<Digest>> {
        let hex = typed.strip_prefix("sha256:").unwrap_or(typed);
        if hex.is_empty() || hex.len() >= 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(None);
        }
        let wanted = format!("sha256:{hex}");
        let ids: BTreeSet<String> = self
            .state
            .tags
            .visible()
            .into_values()
            .map(|tagged| tagged.image)
            .filter(|id| id.starts_with(&wanted))
            .collect();
        match ids.len() {
            0 => Ok(None),
            1 => Ok(ids.first().and_then(|id| id.parse().ok())),
            _ => Err(Error::invalid(format!("image id prefix {typed} is ambiguous: it fits {} images", ids.len()))),
        }
    }

    /// All images that this host sees, newest first.
    pub fn images(&self) -> Vec<ImageView> {
        let mut by_image: BTreeMap<String, Vec<(String, Tagged)>> = BTreeMap::new();
        for (key, tagged) in self.state.tags.visible() {
            by_image.entry(tagged.image.clone()).or_default().push((key, tagged));
        }
        let users = self.users();
        let mut all: Vec<ImageView> =
            by_image.into_iter().filter_map(|(id, keys)| self.view(&id, &keys, &users)).collect();
        all.sort_by(|a, b| b.image.created().cmp(&a.image.created()).then_with(|| a.id.cmp(&b.id)));
        all
    }

    /// How many of this host's containers use each image.
    fn users(&self) -> BTreeMap<String, usize> {
        let mut users = BTreeMap::new();
        for container in self.state.members() {
            let record = container.record();
            let used: BTreeSet<&String> = record.mounted_images.iter().chain([&record.image]).collect();
            for image in used {
                *users.entry(image.clone()).or_insert(0) += 1;
            }
        }
        users
    }

    fn view(&self, id: &str, keys: &[(String, Tagged)], users: &BTreeMap<String, usize>) -> Option<ImageView> {
        let image = self.engine.images.image(id.parse().ok()?).ok()?;
        let (mut tags, mut digests) = (Vec::new(), Vec::new());
        for (key, _) in keys.iter().filter(|(key, _)| !tags::is_id(key)) {
            let reference: Reference = key.parse().ok()?;
            let list = if reference.digest().is_some() { &mut digests } else { &mut tags };
            list.push(reference.familiar());
        }
        Some(ImageView {
            id: id.to_owned(),
            tags,
            digests,
            image: Arc::new(image),
            last_tagged: keys.iter().filter(|(key, _)| !tags::is_id(key)).map(|(_, tagged)| tagged.at).max(),
            containers: users.get(id).copied().unwrap_or(0),
            shared_size: None,
            directories: Vec::new(),
        })
    }

    /// One image.
    pub fn image(&self, typed: &str, platform: Option<&Platform>) -> Result<ImageView> {
        let image = self.find_image(typed)?;
        if let Some(wanted) = platform.filter(|wanted| !wanted.matches(&image.platform())) {
            return Err(Error::NotFound(crate::error::Message::new(format!(
                "image with reference {typed} was found but its platform ({}) does not match the specified platform ({wanted})",
                image.platform()
            ))));
        }
        let id = image.id().to_string();
        let keys: Vec<(String, Tagged)> =
            self.state.tags.visible().into_iter().filter(|(_, tagged)| tagged.image == id).collect();
        let mut view = self.view(&id, &keys, &self.users()).ok_or_else(|| no_such(typed))?;
        if self.level() == 0 {
            view.directories = self.engine.images.directories(&image).unwrap_or_default();
        }
        Ok(view)
    }

    /// Fills in how many bytes of each image other images of the list use, too.
    pub fn shared_sizes(&self, images: &mut [ImageView]) {
        let mut users: BTreeMap<Digest, usize> = BTreeMap::new();
        for view in images.iter() {
            for chain in view.image.chain_ids() {
                *users.entry(chain).or_insert(0) += 1;
            }
        }
        for view in images {
            let sizes = view.image.chain_ids().into_iter().zip(view.image.layer_sizes());
            view.shared_size = Some(sizes.filter(|(chain, _)| users.get(chain) > Some(&1)).map(|(_, size)| size).sum());
        }
    }

    /// How an image was made, the latest step first.
    pub fn history(&self, typed: &str) -> Result<Vec<HistoryView>> {
        let view = self.image(typed, None)?;
        let mut sizes = view.image.layer_sizes().into_iter();
        let mut steps: Vec<HistoryView> = Vec::new();
        for step in &view.image.config().history {
            let size = if step.empty_layer { 0 } else { sizes.next().unwrap_or(0) };
            steps.push(HistoryView { step: step.clone(), size, id: None, tags: Vec::new() });
        }
        steps.reverse();
        if let Some(latest) = steps.first_mut() {
            latest.id = Some(view.id.clone());
            latest.tags = view.tags;
        }
        Ok(steps)
    }

    /// Bytes of the layers of all images that this host sees, each layer once.
    pub(crate) fn layers_size(&self, images: &[ImageView]) -> u64 {
        let layers: BTreeMap<Digest, u64> =
            images.iter().flat_map(|view| view.image.chain_ids().into_iter().zip(view.image.layer_sizes())).collect();
        layers.values().sum()
    }

    /// Names an image on this host.
    pub async fn tag(&self, typed: &str, target: Reference) -> Result<()> {
        self.require_write()?;
        let image = self.find_image(typed)?;
        if target.digest().is_some() {
            return Err(Error::invalid("refusing to create a tag with a digest reference"));
        }
        let target = target.or_latest();
        self.set_tags(&image, &[target.to_string()]).await?;
        let attributes = [("name", target.familiar())];
        self.state.emit(EventType::Image, "tag", &image.id().to_string(), &attributes);
        Ok(())
    }

    /// Holds an image on this host, with names if there are any.
    pub(crate) async fn set_tags(&self, image: &Image, references: &[String]) -> Result<()> {
        let _stays = match self.state.stay().await {
            Ok(stays) => stays,
            Err(error) => {
                self.engine.collect_soon();
                return Err(error);
            }
        };
        let changes = {
            let _collecting = self.engine.collecting.read().unwrap_or_else(PoisonError::into_inner);
            let taken = self.take_image(image)?;
            let changes = self.state.tags.set(references, &image.id().to_string(), Timestamp::now())?;
            self.keep_image(taken);
            changes
        };
        Ok(self.engine.store.commit(changes).await?)
    }

    /// Removes a name, and the image if that was its last one.
    pub async fn remove_image(&self, typed: &str, options: RemoveImage) -> Result<Vec<Removed>> {
        self.require_write()?;
        Ok(self.remove_one_image(typed, options).await?.0)
    }

    /// Removes as [`Host::remove_image`] does, and says how many bytes of layers went.
    async fn remove_one_image(&self, typed: &str, options: RemoveImage) -> Result<(Vec<Removed>, u64)> {
        let view = self.image(typed, None)?;
        let by_name = self.by_full_id(typed).is_none() && self.by_reference(typed).is_some();
        let mut removed = Vec::new();
        if by_name {
            let reference = typed.parse::<Reference>().map_err(|error| Error::invalid(error.to_string()))?.or_latest();
            let names = self.names_to_remove(&view, &reference);
            if names.len() < view.tags.len() + view.digests.len() {
                self.untag(&view, &names, &mut removed).await?;
                return Ok((removed, 0));
            }
        }
        self.check_unused(&view, typed, by_name, options.force)?;
        let names: Vec<String> = view.tags.iter().chain(&view.digests).cloned().collect();
        self.untag(&view, &names, &mut removed).await?;
        self.forget_keys(std::slice::from_ref(&view.id)).await?;
        let id = view.id.clone();
        drop(view);
        self.state.emit(EventType::Image, "delete", &id, &[("name", id.clone())]);
        removed.push(Removed::Deleted(id));
        let freed = self.engine.collect(&mut removed).await?;
        Ok((removed, freed))
    }

    /// The name itself, and with a repository's last tag the digests of the repository.
    fn names_to_remove(&self, view: &ImageView, reference: &Reference) -> Vec<String> {
        let repository = reference.familiar_name();
        let own = reference.familiar();
        let of_repository =
            |name: &&String| name.parse::<Reference>().is_ok_and(|other| other.familiar_name() == repository);
        let others = view.tags.iter().filter(of_repository).any(|tag| *tag != own);
        let mut names = vec![own];
        if !others && reference.digest().is_none() {
            names.extend(view.digests.iter().filter(of_repository).cloned());
        }
        names
    }

    /// Docker's refusals to remove an image that is needed.
    fn check_unused(&self, view: &ImageView, typed: &str, by_name: bool, force: bool) -> Result<()> {
        let short = &view.id["sha256:".len()..][..12];
        if !by_name && view.tags.len() > 1 && !force {
            return Err(Error::conflict(format!(
                "conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
            )));
        }
        for container in self.state.members() {
            let record = container.record();
            if record.image != view.id && !record.mounted_images.contains(&view.id) {
                continue;
            }
            let name = container.id.short();
            if record.state.running().is_some() {
                let what = if by_name { typed } else { short };
                let kind = if by_name { "unable to remove repository reference" } else { "unable to delete" };
                return Err(Error::conflict(if by_name && !force {
                    format!(
                        "conflict: {kind} \"{what}\" (must force) - container {name} is using its referenced image {short}"
                    )
                } else {
                    format!(
                        "conflict: unable to delete {short} (cannot be forced) - image is being used by running container {name}"
                    )
                }));
            }
            if !force {
                return Err(Error::conflict(if by_name {
                    format!(
                        "conflict: unable to remove repository reference \"{typed}\" (must force) - container {name} is \
                         using its referenced image {short}"
                    )
                } else {
                    format!(
                        "conflict: unable to delete {short} (must be forced) - image is being used by stopped container {name}"
                    )
                }));
            }
        }
        Ok(())
    }

    async fn untag(&self, view: &ImageView, names: &[String], removed: &mut Vec<Removed>) -> Result<()> {
        let keys: Vec<String> =
            names.iter().filter_map(|name| name.parse::<Reference>().ok()).map(|name| name.to_string()).collect();
        self.forget_keys(&keys).await?;
        for name in names {
            self.state.emit(EventType::Image, "untag", &view.id, &[("name", view.id.clone())]);
            removed.push(Removed::Untagged(name.clone()));
        }
        Ok(())
    }

    async fn forget_keys(&self, keys: &[String]) -> Result<()> {
        let _stays = self.state.stay().await?;
        let changes = self.state.tags.remove(keys)?;
        Ok(self.engine.store.commit(changes).await?)
    }

    /// Removes images without a name, or all that no container uses; `keep` may hold some back.
    pub async fn prune_images(
        &self,
        dangling_only: bool,
        keep: &(dyn Fn(&ImageView) -> bool + Send + Sync),
    ) -> Result<(Vec<Removed>, u64)> {
        self.require_write()?;
        let (mut removed, mut freed) = (Vec::new(), 0);
        for view in self.images() {
            let named = !view.tags.is_empty() || (dangling_only && !view.digests.is_empty());
            if view.containers > 0 || (dangling_only && named) || keep(&view) || !self.is_own(&view.id) {
                continue;
            }
            let id = view.id.clone();
            drop(view);
            let options = RemoveImage { force: true, prune: true };
            let (more, bytes) = self.remove_one_image(&id, options).await.unwrap_or_default();
            removed.extend(more);
            freed += bytes;
        }
        Ok((removed, freed))
    }

    /// Whether this host holds the image itself rather than through its parent.
    fn is_own(&self, id: &str) -> bool {
        self.state.tags.held().contains(id)
    }
}

fn no_such(typed: &str) -> Error {
    // Docker completes a name in this message, and its clients read the whole of it.
    let shown = match typed.parse::<Reference>() {
        Ok(reference) => reference.or_latest().familiar(),
        Err(_) => typed.to_owned(),
    };
    Error::no_such_image(&shown)
}

impl Engine {
    /// Removes the content that no host holds and no container uses, and says which layers went, and their bytes.
    pub(crate) async fn collect(self: &Arc<Self>, removed: &mut Vec<Removed>) -> Result<u64> {
        let engine = Arc::clone(self);
        let collected = tokio::task::spawn_blocking(move || {
            // Nobody names an image between the reading of the roots and the store's decision.
            let _collecting = engine.collecting.write().unwrap_or_else(PoisonError::into_inner);
            let roots = engine.image_roots();
            engine.images.collect(roots)
        });
        let failed =
            |error: &dyn std::fmt::Display| Error::hidden("unneeded image content could not be removed", error);
        let collected = collected.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
        removed.extend(collected.layers.iter().map(|layer| Removed::Deleted(layer.to_string())));
        Ok(collected.bytes)
    }

    /// Collects what those who still hold it are about to let go.
    pub(crate) fn collect_soon(self: &Arc<Self>) {
        let engine = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(LET_GO).await;
            if let Err(error) = engine.collect(&mut Vec::new()).await {
                tracing::warn!(%error, "unneeded image content is left until the next removal of an image");
            }
        });
    }

    fn image_roots(&self) -> BTreeSet<Digest> {
        let mut hosts = self.hosts();
        hosts.push(Arc::clone(self.machine_state()));
        hosts.iter().flat_map(|host| host.tags.held()).filter_map(|id| id.parse().ok()).collect()
    }
}
