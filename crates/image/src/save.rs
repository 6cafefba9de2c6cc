//! Saves images to one archive that is both `docker save`'s format and an OCI layout, as Docker writes it since 25.
//!
//! The same images always give the same bytes: entries are sorted and carry no time.

use std::collections::BTreeMap;
use std::io::{self, Write};

use droste_model::digest::Digest;
use droste_model::reference::Reference;

use crate::error::{Error, Result};
use crate::hash::digest_of;
use crate::manifest::{Descriptor, Index, Manifest, OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, SavedImage};
use crate::store::Image;
use crate::tar::write::TarWriter;
use crate::tar::{Entry, Kind};

/// Writes the images with the tags that each is to have. Blocking.
pub fn save(images: &[(Image, Vec<Reference>)], out: impl Write) -> Result<()> {
    let mut plan = Plan::default();
    for (image, references) in images {
        plan.add(image, references)?;
    }
    plan.write(out)
}

enum Blob {
    Document(Vec<u8>),
    Layer(Image, u64),
}

#[derive(Default)]
struct Plan {
    blobs: BTreeMap<String, (Digest, Blob)>,
    saved: Vec<SavedImage>,
    index: Vec<Descriptor>,
    repositories: BTreeMap<String, BTreeMap<String, String>>,
}

impl Plan {
    fn add(&mut self, image: &Image, references: &[Reference]) -> Result<()> {
        let raw = image.raw_config()?;
        let config = Descriptor::new(OCI_CONFIG, image.id(), raw.len() as u64);
        let layers = image.layers().iter().map(|layer| self.add_layer(image, *layer)).collect::<Result<Vec<_>>>()?;
        self.blobs.insert(image.id().hex(), (image.id(), Blob::Document(raw)));
        self.add_manifest(config, layers.clone(), references)?;
        let familiar: Vec<String> =
            references.iter().filter(|name| name.tag().is_some()).map(Reference::familiar).collect();
        for reference in references {
            let (Some(tag), Some(top)) = (reference.tag(), image.layers().last()) else { continue };
            let tags = self.repositories.entry(reference.familiar_name()).or_default();
            tags.insert(tag.to_owned(), top.hex());
        }
        self.saved.push(SavedImage {
            config: blob_name(image.id()),
            repo_tags: (!familiar.is_empty()).then_some(familiar),
            layers: layers.iter().map(|layer| blob_name(layer.digest)).collect(),
            layer_sources: layers.into_iter().map(|layer| (layer.digest, layer)).collect(),
        });
        Ok(())
    }

    fn add_layer(&mut self, image: &Image, layer: Digest) -> Result<Descriptor> {
        let size = image.store().tar_size(layer)?;
        self.blobs.entry(layer.hex()).or_insert_with(|| (layer, Blob::Layer(image.clone(), size)));
        Ok(Descriptor::new(OCI_LAYER, layer, size))
    }

    fn add_manifest(&mut self, config: Descriptor, layers: Vec<Descriptor>, names: &[Reference]) -> Result<()> {
        let manifest = Manifest { schema_version: 2, media_type: OCI_MANIFEST.to_owned(), config, layers };
        let raw = to_json(&manifest)?;
        let digest = digest_of(&raw);
        let descriptor = Descriptor::new(OCI_MANIFEST, digest, raw.len() as u64);
        self.blobs.insert(digest.hex(), (digest, Blob::Document(raw)));
        let tagged: Vec<&Reference> = names.iter().filter(|name| name.tag().is_some()).collect();
        for name in &tagged {
            let mut descriptor = descriptor.clone();
            let notes = &mut descriptor.annotations;
            notes.insert("io.containerd.image.name".to_owned(), name.to_string());
            notes.insert("org.opencontainers.image.ref.name".to_owned(), name.tag().unwrap_or_default().to_owned());
            self.index.push(descriptor);
        }
        if tagged.is_empty() {
            self.index.push(descriptor);
        }
        Ok(())
    }

    fn write(self, out: impl Write) -> Result<()> {
        let mut tar = TarWriter::new(out);
        let directory = |name: &str| Entry::new(name.as_bytes().to_vec(), Kind::Directory, 0o755);
        for name in ["blobs/", "blobs/sha256/"] {
            tar.begin(&directory(name)).map_err(Error::WriteStream)?;
        }
        for (digest, blob) in self.blobs.values() {
            write_blob(&mut tar, *digest, blob)?;
        }
        let index = Index { schema_version: 2, media_type: OCI_INDEX.to_owned(), manifests: self.index };
        let mut documents = vec![
            ("index.json", to_json(&index)?),
            ("manifest.json", to_json(&self.saved)?),
            ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        ];
        if !self.repositories.is_empty() {
            documents.push(("repositories", to_json(&self.repositories)?));
        }
        for (name, raw) in documents {
            tar.file(&file_entry(name), &raw).map_err(Error::WriteStream)?;
        }
        tar.finish().map_err(Error::WriteStream)?;
        Ok(())
    }
}

fn write_blob<W: Write>(tar: &mut TarWriter<W>, digest: Digest, blob: &Blob) -> Result<()> {
    let mut entry = file_entry(&blob_name(digest));
    match blob {
        Blob::Document(raw) => tar.file(&entry, raw).map_err(Error::WriteStream),
        Blob::Layer(image, size) => {
            entry.size = *size;
            tar.begin(&entry).map_err(Error::WriteStream)?;
            image.store().write_layer(digest, Content(tar))?;
            Ok(())
        }
    }
}

/// Writes into the archive's current entry.
struct Content<'a, W>(&'a mut TarWriter<W>);

impl<W: Write> Write for Content<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn file_entry(name: &str) -> Entry {
    Entry::new(name.as_bytes().to_vec(), Kind::File, 0o644)
}

fn blob_name(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn to_json(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::json("document of an archive", &error))
}
