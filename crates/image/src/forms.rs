//! The compressed forms of layers that registries have: what makes a push short, and a pull one question.
//!
//! A note says two things, and both were seen to be true by whoever wrote it: bytes with the form's digest unpacked to
//! the layer (or were made of it here), and the registry gave or took those bytes.

use std::fs;

use droste_model::digest::Digest;
use serde::{Deserialize, Serialize};

use crate::error::{Context as _, Error, Result};
use crate::store::Store;

const FILE: &str = "forms.json";
/// Older notes than so many are forgotten.
const MOST: usize = 32;

/// A gzip form of a layer that a registry has or had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Form {
    /// The layer; not written, because the note lies in its directory.
    #[serde(skip, default = "nothing")]
    pub(crate) diff_id: Digest,
    pub(crate) registry: String,
    pub(crate) repository: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

fn nothing() -> Digest {
    Digest::from_bytes([0; 32])
}

impl Store {
    /// The known forms of a layer, latest first.
    pub(crate) fn forms(&self, diff_id: Digest) -> Vec<Form> {
        let path = self.layer_path(diff_id).map(|path| path.join(FILE));
        let raw = path.ok().and_then(|path| fs::read(path).ok());
        // Only a help: what can't be read is as good as not known.
        let forms: Vec<Form> = raw.and_then(|raw| serde_json::from_slice(&raw).ok()).unwrap_or_default();
        forms.into_iter().map(|form| Form { diff_id, ..form }).collect()
    }

    /// Notes a form of its layer.
    pub(crate) fn note_form(&self, form: Form) -> Result<()> {
        let place = self.layer_path(form.diff_id)?.join(FILE);
        let mut all = self.forms(form.diff_id);
        all.retain(|other| *other != form);
        all.insert(0, form);
        all.truncate(MOST);
        let text = serde_json::to_vec(&all).map_err(|error| Error::json("layer notes", &error))?;
        let fresh = self.write_unfinished(&text)?;
        fs::rename(&fresh, &place).at("rename into", &place)
    }
}
