//! Images: lists, inspection, names, removal.

use droste_api::filters::Filters;
use droste_api::query::moment_before;
use droste_api::wire::{HistoryItem, IdResponse, ImageDeleted, ImagesPruned};
use droste_api::{RequestError, parse, shape};
use droste_engine::view::ImageView;
use droste_engine::{CommitOptions, Host, RemoveImage, Removed};
use droste_model::reference::Reference;
use droste_model::time::Timestamp;
use hyper::StatusCode;

use crate::call::Call;
use crate::dress;
use crate::error::{Failure, Result};
use crate::glob::Glob;
use crate::http::Reply;
use crate::reply;

const LIST_FILTERS: [&str; 6] = ["dangling", "label", "before", "since", "reference", "until"];

pub(crate) async fn list(call: Call) -> Result<Reply> {
    let mut filters = call.filters(&LIST_FILTERS)?;
    let legacy = call.query.get("filter");
    if call.version.below(41) && !legacy.is_empty() && !filters.has("reference") {
        // 1.41: "the filter parameter of GET /images/json has been removed".
        filters = Filters::parse(&serde_json::json!({ "reference": [legacy] }).to_string())?;
    }
    let wanted = wanted(&call.host, &filters)?;
    let mut images = call.host.images();
    if call.query.flag("shared-size") {
        call.host.shared_sizes(&mut images);
    }
    let summaries: Vec<_> = images
        .iter()
        .filter_map(|image| wanted.shown(image))
        .map(|image| shape::image_summary(dress::image::summary(&image), call.version))
        .collect();
    Ok(reply::json(&summaries))
}

/// What the filters of a list say, checked.
struct Wanted {
    filters: Filters,
    dangling: Option<bool>,
    references: Vec<Glob>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

fn wanted(host: &Host, filters: &Filters) -> Result<Wanted> {
    let created = |name: &str| {
        let last = filters.values(name).last();
        last.map(|typed| host.image(typed, None).map(|view| view.image.created())).transpose()
    };
    let wrong = |_| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "syntax error in pattern");
    let until = filters
        .single("until")?
        .map(|text| moment_before(text, Timestamp::now()).map_err(|error| RequestError::server(error.message)));
    Ok(Wanted {
        dangling: filters.flag("dangling")?,
        references: filters.values("reference").map(Glob::parse).collect::<Result<_, _>>().map_err(wrong)?,
        before: created("before")?,
        since: created("since")?,
        until: until.transpose()?,
        filters: filters.clone(),
    })
}

impl Wanted {
    /// The image with the names that are asked for; `None` if it is not asked for.
    fn shown(&self, image: &ImageView) -> Option<ImageView> {
        let created = image.image.created();
        let fits = self.before.is_none_or(|before| created < before)
            && self.since.is_none_or(|since| created > since)
            && self.until.is_none_or(|until| created <= until)
            && self.filters.labels("label", &image.image.config().config.labels)
            && self.dangling.is_none_or(|dangling| dangling == image.tags.is_empty());
        if !fits {
            return None;
        }
        let mut shown = image.clone();
        if !self.references.is_empty() {
            shown.tags.retain(|name| self.references.iter().any(|glob| glob.fits_reference(name)));
            shown.digests.retain(|name| self.references.iter().any(|glob| glob.fits_reference(name)));
            if shown.tags.is_empty() && shown.digests.is_empty() {
                return None;
            }
        }
        Some(shown)
    }
}

pub(crate) async fn inspect(call: Call) -> Result<Reply> {
    parse::image_name(&call.parameter)?;
    let view = call.host.image(&call.parameter, None)?;
    Ok(reply::json(&shape::image(dress::image::inspect(&view), call.version)))
}

pub(crate) async fn history(call: Call) -> Result<Reply> {
    let steps = call.host.history(&call.parameter)?;
    let items: Vec<HistoryItem> = steps
        .into_iter()
        .map(|step| HistoryItem {
            comment: step.step.comment,
            created: step.step.created.and_then(|text| text.parse::<Timestamp>().ok()).map_or(0, Timestamp::as_secs),
            created_by: step.step.created_by,
            id: step.id.unwrap_or_else(|| "<missing>".to_owned()),
            size: i64::try_from(step.size).unwrap_or(i64::MAX),
            tags: Some(step.tags).filter(|tags| !tags.is_empty()),
        })
        .collect();
    Ok(reply::json(&items))
}

/// A reference of `repo` and `tag` parameters; `None` if there is no repository.
pub(crate) fn reference(repo: &str, tag: &str) -> Result<Option<Reference>> {
    if repo.is_empty() {
        return Ok(None);
    }
    let invalid = |error: droste_model::reference::ReferenceError| RequestError::invalid(error.to_string());
    let reference: Reference = repo.parse().map_err(invalid)?;
    if tag.is_empty() {
        return Ok(Some(reference.or_latest()));
    }
    Ok(Some(reference.with_tag(tag).map_err(invalid)?))
}

pub(crate) async fn tag(call: Call) -> Result<Reply> {
    let invalid = || Failure::new(StatusCode::BAD_REQUEST, "invalid reference format");
    let target = reference(call.query.get("repo"), call.query.get("tag"))?.ok_or_else(invalid)?;
    call.host.tag(&call.parameter, target).await?;
    Ok(reply::empty(StatusCode::CREATED))
}

fn deleted(removed: Vec<Removed>) -> Vec<ImageDeleted> {
    let item = |removed| match removed {
        Removed::Untagged(name) => ImageDeleted { untagged: Some(name), deleted: None },
        Removed::Deleted(id) => ImageDeleted { untagged: None, deleted: Some(id) },
    };
    removed.into_iter().map(item).collect()
}

pub(crate) async fn delete(call: Call) -> Result<Reply> {
    let options = RemoveImage { force: call.query.flag("force"), prune: !call.query.flag("noprune") };
    Ok(reply::json(&deleted(call.host.remove_image(&call.parameter, options).await?)))
}

pub(crate) async fn prune(call: Call) -> Result<Reply> {
    let filters = call.filters(&["dangling", "label", "label!", "until"])?;
    let dangling_only = filters.flag("dangling")?.unwrap_or(true);
    let until = filters.single("until")?.map(|text| moment_before(text, Timestamp::now())).transpose();
    let until = until.map_err(|error| RequestError::server(error.message))?;
    let keep = move |view: &ImageView| {
        until.is_some_and(|until| view.image.created() > until)
            || !filters.prune_labels(&view.image.config().config.labels)
    };
    let (removed, space_reclaimed) = call.host.prune_images(dangling_only, &keep).await?;
    let images_deleted = Some(deleted(removed)).filter(|list| !list.is_empty());
    Ok(reply::json(&ImagesPruned { images_deleted, space_reclaimed }))
}

pub(crate) async fn commit(mut call: Call) -> Result<Reply> {
    let config = parse::commit_config(&call.take_json().await?)?;
    let query = &call.query;
    let options = CommitOptions {
        reference: reference(query.get("repo"), query.get("tag"))?,
        comment: query.get("comment").to_owned(),
        author: query.get("author").to_owned(),
        pause: query.flag_or("pause", true),
        changes: query.all("changes").filter(|text| !text.is_empty()).map(str::to_owned).collect(),
        config,
    };
    let container = query.get("container");
    if container.is_empty() {
        return Err(Failure::new(StatusCode::BAD_REQUEST, "invalid name or ID supplied: \"\""));
    }
    let id = call.host.commit(container, options).await?;
    Ok(reply::json_with(StatusCode::CREATED, &IdResponse { id }))
}
