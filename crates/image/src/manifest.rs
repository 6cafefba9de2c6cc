//! The documents that tie images together: OCI and Docker manifests, indexes, and `docker save`'s `manifest.json`.

use std::collections::BTreeMap;

use droste_model::digest::Digest;
use droste_model::platform::Platform;
use serde::{Deserialize, Serialize};

use crate::config::null_is_default;
use crate::error::{Error, Result};

pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
pub(crate) const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
pub(crate) const DOCKER_FOREIGN_LAYER: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";

/// Name, size and kind of a piece of content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What kind of document it is.
    #[serde(default)]
    pub media_type: String,
    /// Its length in bytes.
    pub size: u64,
    /// Its digest.
    pub digest: Digest,
    /// Where else it may be had.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub urls: Vec<String>,
    /// Notes of its maker.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
    /// The platform of what it names, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<PlatformNote>,
}

impl Descriptor {
    pub(crate) fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        let (media_type, urls) = (media_type.to_owned(), Vec::new());
        Self { media_type, digest, size, urls, annotations: BTreeMap::new(), platform: None }
    }

    /// Whether this is an attestation beside the images of an index.
    fn is_attestation(&self) -> bool {
        self.annotations.contains_key("vnd.docker.reference.type")
            || self.platform.as_ref().is_some_and(|platform| platform.os == "unknown")
    }
}

/// A platform as an index writes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlatformNote {
    /// Processor in Go's words.
    pub architecture: String,
    /// Operating system in Go's words.
    pub os: String,
    /// Version of the operating system.
    #[serde(rename = "os.version", skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    /// Features of the operating system.
    #[serde(rename = "os.features", skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub os_features: Vec<String>,
    /// Variant of the processor.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

impl PlatformNote {
    /// The platform in normal form.
    pub fn platform(&self) -> Platform {
        Platform::new(&self.os, &self.architecture, &self.variant)
    }
}

/// One image: its configuration and its layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) media_type: String,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

impl Manifest {
    /// The bytes that Docker writes for the same manifest, so that the same image has the same digest.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let format = serde_json::ser::PrettyFormatter::with_indent(b"   ");
        self.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, format))
            .map_err(|error| Error::json("manifest", &error))?;
        Ok(bytes)
    }
}

/// One name for the images of several platforms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) media_type: String,
    pub(crate) manifests: Vec<Descriptor>,
}

impl Index {
    /// The images of the index, without attestations.
    pub(crate) fn images(&self) -> impl Iterator<Item = &Descriptor> {
        self.manifests.iter().filter(|item| !item.is_attestation())
    }

    /// The image that serves a platform best.
    pub(crate) fn choose(&self, wanted: &Platform) -> Option<&Descriptor> {
        let ranked = self.images().filter_map(|item| {
            let rank = item.platform.as_ref().map_or(Some(u32::MAX), |note| note.platform().rank_for(wanted));
            rank.map(|rank| (rank, item))
        });
        ranked.min_by_key(|(rank, _)| *rank).map(|(_, item)| item)
    }
}

/// Either, as told by media type and content.
#[derive(Debug, Clone)]
pub(crate) enum Document {
    Manifest(Box<Manifest>),
    Index(Index),
}

impl Document {
    /// Reads a document; `media_type` may be empty or that of a careless registry.
    pub(crate) fn parse(media_type: &str, raw: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Shape {
            #[serde(default)]
            schema_version: u32,
            #[serde(default)]
            media_type: String,
            #[serde(default)]
            manifests: serde::de::IgnoredAny,
            config: Option<serde::de::IgnoredAny>,
        }
        let error = |error: &serde_json::Error| Error::json("manifest", error);
        let shape: Shape = serde_json::from_slice(raw).map_err(|e| error(&e))?;
        let _ = shape.manifests;
        if shape.schema_version == 1 {
            let reason = "schema version 1 is no longer in use; push the image again with a newer client".to_owned();
            return Err(Error::InvalidJson { what: "manifest".to_owned(), reason });
        }
        let stated = if shape.media_type.is_empty() { media_type } else { &shape.media_type };
        let is_index = match stated {
            OCI_INDEX | DOCKER_LIST => true,
            OCI_MANIFEST | DOCKER_MANIFEST => false,
            _ => shape.config.is_none(),
        };
        if is_index {
            serde_json::from_slice(raw).map(Self::Index).map_err(|e| error(&e))
        } else {
            serde_json::from_slice(raw).map(|manifest| Self::Manifest(Box::new(manifest))).map_err(|e| error(&e))
        }
    }
}

/// An item of `docker save`'s `manifest.json`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct SavedImage {
    pub(crate) config: String,
    pub(crate) repo_tags: Option<Vec<String>>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) layers: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub(crate) layer_sources: BTreeMap<Digest, Descriptor>,
}
