//! Who may use content that the store has: whoever has shown its bytes, or may have them.
//!
//! The store is shared by all hosts, and a digest is no secret: it stands in manifests, logs and other people's
//! registries. So a digest alone gives nothing. A layer is held for someone only against a [`Shown`], which can be made
//! here alone: from an image that they hold already, from the bytes themselves, or from the word of a registry that is
//! known to have the layer, proves who it is, and lets them read it.

use std::collections::BTreeSet;

use droste_model::digest::Digest;

use crate::forms::Form;
use crate::store::{Image, Store};

/// What someone has already, before they show anything. Nothing by default.
#[derive(Debug, Clone, Default)]
pub struct Possession {
    everything: bool,
    images: BTreeSet<Digest>,
    repositories: BTreeSet<String>,
}

/// Evidence that someone may use a layer.
#[derive(Debug)]
pub(crate) struct Shown {
    diff_id: Digest,
}

impl Possession {
    /// The machine's own: no boundary lies between it and the store.
    pub fn everything() -> Self {
        Self { everything: true, ..Self::default() }
    }

    /// Images by id, and the names of repositories (`docker.io/library/alpine`) that its owner knows.
    pub fn of(images: impl IntoIterator<Item = Digest>, repositories: impl IntoIterator<Item = String>) -> Self {
        let (images, repositories) = (images.into_iter().collect(), repositories.into_iter().collect());
        Self { everything: false, images, repositories }
    }

    /// The image, if its owner has it and the store as well.
    pub(crate) fn image(&self, store: &Store, id: Digest) -> Option<Image> {
        (self.everything || self.images.contains(&id)).then(|| store.image(id).ok()).flatten()
    }

    /// The layers that its owner has.
    pub(crate) fn layers(&self, store: &Store) -> HeldLayers {
        if self.everything {
            return HeldLayers { everything: true, layers: BTreeSet::new() };
        }
        let images = self.images.iter().filter_map(|id| store.image(*id).ok());
        HeldLayers { everything: false, layers: images.flat_map(|image| image.layers().to_vec()).collect() }
    }

    /// Whether its owner knows a repository by name.
    pub(crate) fn knows(&self, registry: &str, repository: &str) -> bool {
        self.everything || self.repositories.contains(&format!("{registry}/{repository}"))
    }
}

/// The layers of a [`Possession`], looked up once.
#[derive(Debug)]
pub(crate) struct HeldLayers {
    everything: bool,
    layers: BTreeSet<Digest>,
}

impl HeldLayers {
    pub(crate) fn shown(&self, diff_id: Digest) -> Option<Shown> {
        (self.everything || self.layers.contains(&diff_id)).then_some(Shown { diff_id })
    }
}

impl Shown {
    /// The plain tar was read from one end to the other, and this is its digest.
    pub(crate) fn by_bytes(read: Digest) -> Self {
        Self { diff_id: read }
    }

    /// The compressed form was read, and has this digest; what it unpacks to was found out before.
    pub(crate) fn by_form(form: &Form, read: Digest) -> Option<Self> {
        (form.digest == read).then_some(Self { diff_id: form.diff_id })
    }

    /// A registry that proved to be `registry` by its certificate, and that the store has this form from, lets us read
    /// the form of this digest.
    pub(crate) fn by_registry(form: &Form, registry: &str, readable: Digest) -> Option<Self> {
        (form.registry == registry && form.digest == readable).then_some(Self { diff_id: form.diff_id })
    }

    pub(crate) fn diff_id(&self) -> Digest {
        self.diff_id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(byte: u8) -> Digest {
        Digest::from_bytes([byte; 32])
    }

    #[test]
    fn a_digest_alone_shows_nothing() {
        let form = Form {
            diff_id: digest(1),
            registry: "r.example".to_owned(),
            repository: "a".to_owned(),
            digest: digest(2),
            size: 3,
        };
        assert!(Shown::by_form(&form, digest(3)).is_none());
        assert_eq!(Shown::by_form(&form, digest(2)).unwrap().diff_id(), digest(1));
        assert!(Shown::by_registry(&form, "evil.example", digest(2)).is_none());
        assert!(Shown::by_registry(&form, "r.example", digest(3)).is_none());
        assert_eq!(Shown::by_registry(&form, "r.example", digest(2)).unwrap().diff_id(), digest(1));
        let nothing = Possession::default();
        assert!(!nothing.knows("r.example", "a"));
        assert!(Possession::of([], ["r.example/a".to_owned()]).knows("r.example", "a"));
    }
}
