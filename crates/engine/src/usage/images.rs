//! Bytes of images that a host has got itself: taken from its limit when they get there.

use std::collections::{BTreeMap, BTreeSet};

use droste_image::{Image, Limits};
use droste_model::digest::Digest;
use droste_model::limit::Resource;

use crate::engine::Engine;
use crate::error::{Error, Result, Scarce};
use crate::host::{Host, HostState};
use crate::limits::{Account, Place};
use crate::tags::Tags;

impl Engine {
    /// Bytes of the layers of images that a host holds itself and that it does not see on its parent.
    pub(super) fn images_of(&self, host: &HostState) -> u64 {
        let above = host.parent.as_ref().map(|parent| self.layers_seen(&parent.tags)).unwrap_or_default();
        let own = host.tags.held().into_iter().filter_map(|id| self.images.image(id.parse().ok()?).ok());
        let layers: BTreeMap<Digest, u64> = own.flat_map(|image| layers(&image)).collect();
        layers.iter().filter(|(layer, _)| !above.contains(layer)).map(|(_, bytes)| bytes).sum()
    }

    fn layers_seen(&self, tags: &Tags) -> BTreeSet<Digest> {
        let ids: BTreeSet<String> = tags.visible().into_values().map(|tagged| tagged.image).collect();
        let images = ids.into_iter().filter_map(|id| self.images.image(id.parse().ok()?).ok());
        images.flat_map(|image| image.layers().to_vec()).collect()
    }
}

impl Host {
    /// Takes the bytes that an image adds to what the host sees from its limit; nothing where there is none.
    pub(crate) fn take_image(&self, image: &Image) -> Result<Option<Place>> {
        if self.state.account.left(Resource::Disk).is_none() {
            return Ok(None);
        }
        let seen = self.engine.layers_seen(&self.state.tags);
        let fresh = layers(image).into_iter().filter(|(layer, _)| !seen.contains(layer)).map(|(_, bytes)| bytes).sum();
        self.state.account.take_much(Resource::Disk, fresh).map(Some).inspect_err(|_| self.engine.collect_soon())
    }

    /// Holds what was taken for an image until the image is found on the host.
    pub(crate) fn keep_image(&self, place: Option<Place>) {
        place.into_iter().for_each(|place| self.state.measured.keep(place));
    }
}

impl Account {
    /// What one archive may unpack to: no more than the host has left.
    pub(crate) fn room(&self) -> Limits {
        let usual = Limits::default();
        Limits { bytes: self.left(Resource::Disk).map_or(usual.bytes, |left| left.min(usual.bytes)), ..usual }
    }

    /// The refusal, in words of the host's, of an archive that did not fit into its room.
    pub(crate) fn no_room(&self, room: Limits, error: &droste_image::Error) -> Option<Error> {
        let usual = Limits::default();
        let is_ours = room.bytes < usual.bytes && matches!(error, droste_image::Error::TooLarge { unit: "bytes", .. });
        if !is_ours {
            return None;
        }
        let (left, label) = (room.bytes, Resource::Disk.label());
        let text = format!(
            "the limit of disk leaves this host {left} bytes, and the archive unpacks to more (label {label}); remove what \
             is not needed, or let the host above raise it"
        );
        Some(Error::exhausted(Scarce::Space, text))
    }
}

fn layers(image: &Image) -> Vec<(Digest, u64)> {
    image.layers().iter().copied().zip(image.layer_sizes()).collect()
}
