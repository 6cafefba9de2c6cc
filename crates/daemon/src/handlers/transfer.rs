//! Images on their way in and out: pull, push, import, load, save, and what registries say.

use droste_api::decode::decode;
use droste_api::wire::{AuthConfig, AuthResponse, Descriptor, DistributionInspect, OciPlatform};
use droste_api::{RequestError, registry_auth};
use droste_engine::{Auth, ImportOptions};
use droste_model::platform::Platform;
use droste_model::reference::Reference;
use hyper::StatusCode;

use super::archive::{downloaded, fed};
use super::images::reference;
use crate::call::Call;
use crate::error::{Failure, Result};
use crate::http::Reply;
use crate::{progress, reply};

const DEFAULT_REGISTRY: &str = "https://index.docker.io/v1/";

fn credentials(auth: AuthConfig) -> Auth {
    Auth {
        username: auth.username,
        password: auth.password,
        identity_token: auth.identitytoken,
        registry_token: auth.registrytoken,
    }
}

/// The credentials of the header.
fn auth_of(call: &Call) -> Result<Auth> {
    let decoded = registry_auth::decode(call.header("x-registry-auth"))?;
    Ok(decoded.map(credentials).unwrap_or_default())
}

/// A platform as text, `linux/arm64`.
fn platform(text: &str) -> Result<Option<Platform>> {
    if text.is_empty() {
        return Ok(None);
    }
    let invalid = |error: droste_model::platform::PlatformError| RequestError::invalid(error.to_string());
    Ok(Some(text.parse().map_err(invalid)?))
}

/// A platform as OCI's JSON, which newer parameters use.
fn json_platform(text: &str) -> Result<Option<Platform>> {
    if !text.starts_with('{') {
        return platform(text);
    }
    let oci: OciPlatform = decode(text.as_bytes())?;
    Ok(Some(Platform::new(&oci.os, &oci.architecture, &oci.variant)))
}

pub(crate) async fn create(call: Call) -> Result<Reply> {
    match (call.query.get("fromImage"), call.query.get("fromSrc")) {
        ("", "") => Err(Failure::new(StatusCode::BAD_REQUEST, "invalid reference format: fromImage is empty")),
        ("", "-") => import(call).await,
        ("", _) => import_url(call).await,
        _ => pull(call).await,
    }
}

async fn pull(call: Call) -> Result<Reply> {
    let invalid = |error: droste_model::reference::ReferenceError| RequestError::invalid(error.to_string());
    let image = call.query.get("fromImage");
    let name: Reference = image.parse().map_err(invalid)?;
    let wanted = match call.query.get("tag") {
        "" => name,
        digest if digest.contains(':') => format!("{}@{digest}", name.name()).parse().map_err(invalid)?,
        tag => name.with_tag(tag).map_err(invalid)?,
    };
    let (platform, auth) = (platform(call.query.get("platform"))?, auth_of(&call)?);
    let (sink, messages) = progress::channel();
    let host = call.host.clone();
    let work = async move { host.pull(wanted, platform, auth, sink).await };
    progress::reply(work, messages, progress::plain).await
}

fn import_options(call: &Call) -> Result<ImportOptions> {
    Ok(ImportOptions {
        reference: reference(call.query.get("repo"), call.query.get("tag"))?,
        message: call.query.get("message").to_owned(),
        changes: call.query.all("changes").filter(|text| !text.is_empty()).map(str::to_owned).collect(),
        platform: platform(call.query.get("platform"))?,
    })
}

async fn import(mut call: Call) -> Result<Reply> {
    let options = import_options(&call)?;
    let (upload, feed) = call.take_upload()?;
    let (sink, messages) = progress::channel();
    let host = call.host.clone();
    let work = async move { fed(feed, host.import(Box::new(upload), options, sink)).await };
    progress::reply(work, messages, progress::plain).await
}

async fn import_url(call: Call) -> Result<Reply> {
    let (options, source) = (import_options(&call)?, call.query.get("fromSrc").to_owned());
    let (sink, messages) = progress::channel();
    let host = call.host.clone();
    let work = async move { host.import_url(&source, options, sink).await };
    progress::reply(work, messages, progress::plain).await
}

pub(crate) async fn load(mut call: Call) -> Result<Reply> {
    let platform = json_platform(call.query.get("platform"))?;
    let tell = if call.query.flag("quiet") { progress::of_quiet_load } else { progress::of_load };
    let (upload, feed) = call.take_upload()?;
    let (sink, messages) = progress::channel();
    let host = call.host.clone();
    let work = async move { fed(feed, host.load(Box::new(upload), platform, sink)).await };
    Ok(progress::reply_at_once(work, messages, tell))
}

pub(crate) async fn push(call: Call) -> Result<Reply> {
    let invalid = |error: droste_model::reference::ReferenceError| RequestError::invalid(error.to_string());
    let name: Reference = call.parameter.parse().map_err(invalid)?;
    let tag = call.query.get("tag");
    let all_tags = tag.is_empty() && name.tag().is_none();
    let wanted = if tag.is_empty() { name } else { name.with_tag(tag).map_err(invalid)? };
    let auth = auth_of(&call)?;
    let (sink, messages) = progress::channel();
    let host = call.host.clone();
    let work = async move { host.push(wanted, all_tags, auth, sink).await };
    // Docker has sent its first line before it looks at anything.
    Ok(progress::reply_at_once(work, messages, progress::plain))
}

pub(crate) async fn save_one(call: Call) -> Result<Reply> {
    let names = vec![call.parameter.clone()];
    save(call, names).await
}

pub(crate) async fn save_many(call: Call) -> Result<Reply> {
    let names = call.query.all("names").map(str::to_owned).collect();
    save(call, names).await
}

async fn save(call: Call, names: Vec<String>) -> Result<Reply> {
    let platform = json_platform(call.query.get("platform"))?;
    downloaded("application/x-tar", call.host.save(names, platform).await?).await
}

pub(crate) async fn distribution(call: Call) -> Result<Reply> {
    let invalid = |error: droste_model::reference::ReferenceError| RequestError::invalid(error.to_string());
    let reference: Reference = call.parameter.parse().map_err(invalid)?;
    let found = call.host.distribution(reference, auth_of(&call)?).await?;
    let platform = |platform: &Platform| OciPlatform {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        os_version: String::new(),
        variant: platform.variant.clone(),
    };
    let descriptor = Descriptor {
        media_type: found.descriptor.media_type,
        digest: found.descriptor.digest.to_string(),
        size: i64::try_from(found.descriptor.size).unwrap_or(i64::MAX),
        annotations: None,
        platform: None,
    };
    let platforms: Vec<_> = found.platforms.iter().map(platform).collect();
    Ok(reply::json(&DistributionInspect { descriptor, platforms: Some(platforms).filter(|list| !list.is_empty()) }))
}

pub(crate) async fn auth(mut call: Call) -> Result<Reply> {
    let auth: AuthConfig = decode(&call.take_json().await?)?;
    let server = match auth.serveraddress.as_str() {
        "" => DEFAULT_REGISTRY.to_owned(),
        server => server.to_owned(),
    };
    let checked = call.host.check_auth(&server, credentials(auth)).await?;
    Ok(reply::json(&AuthResponse { identity_token: checked.identity_token, status: "Login Succeeded".to_owned() }))
}
