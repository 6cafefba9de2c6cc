//! `docker cp` and `docker export`.

use std::io;

use droste_api::path_stat;
use droste_engine::{Download, PathStat, WriteArchive};
use futures_util::stream;
use hyper::StatusCode;
use hyper::header::HeaderValue;

use crate::call::Call;
use crate::error::{Failure, Result};
use crate::http::{Bytes, Reply};
use crate::reply;

/// The path of a query. The missing space is Docker's.
fn path(call: &Call) -> Result<&str> {
    match call.query.get("path") {
        "" => Err(Failure::new(StatusCode::BAD_REQUEST, "bad parameter: pathcannot be empty")),
        path => Ok(path),
    }
}

fn set_stat(reply: &mut Reply, stat: PathStat) {
    let wire = droste_api::wire::PathStat {
        name: stat.name,
        size: stat.size,
        mode: path_stat::go_mode(stat.mode),
        mtime: stat.mtime.to_string(),
        link_target: stat.link_target,
    };
    if let Ok(value) = HeaderValue::from_str(&path_stat::encode(&wire)) {
        reply.headers_mut().insert("x-docker-container-path-stat", value);
    }
}

pub(crate) async fn stat(call: Call) -> Result<Reply> {
    let stat = call.host.stat_path(&call.parameter, path(&call)?).await?;
    let mut reply = reply::empty(StatusCode::OK);
    set_stat(&mut reply, stat);
    Ok(reply)
}

pub(crate) async fn get(call: Call) -> Result<Reply> {
    let (stat, download) = call.host.read_archive(&call.parameter, path(&call)?).await?;
    let mut reply = downloaded("application/x-tar", download).await?;
    set_stat(&mut reply, stat);
    Ok(reply)
}

pub(crate) async fn put(mut call: Call) -> Result<Reply> {
    let options = WriteArchive {
        no_overwrite_dir_non_dir: call.query.flag("noOverwriteDirNonDir"),
        copy_uid_gid: call.query.flag("copyUIDGID"),
    };
    let (upload, feed) = call.take_upload()?;
    let write = call.host.write_archive(&call.parameter, path(&call)?, options, Box::new(upload));
    fed(feed, write).await?;
    Ok(reply::empty(StatusCode::OK))
}

pub(crate) async fn export(call: Call) -> Result<Reply> {
    downloaded("application/octet-stream", call.host.export(&call.parameter).await?).await
}

/// Runs work that reads an upload, and feeds it meanwhile.
pub(crate) async fn fed<T>(feed: impl Future<Output = ()>, work: impl Future<Output = T>) -> T {
    let mut feed = std::pin::pin!(feed);
    let mut work = std::pin::pin!(work);
    tokio::select! {
        done = &mut work => return done,
        () = &mut feed => {}
    }
    work.await
}

/// A reply with the bytes of a download. One that fails before its first byte is answered with what failed; a failure in
/// its midst cuts the connection, so that the client sees it.
pub(crate) async fn downloaded(media_type: &'static str, mut download: Download) -> Result<Reply> {
    let first = download.recv().await.transpose()?;
    let body = stream::unfold(Some((first, download)), |state| async move {
        let (first, mut download) = state?;
        let piece = match first {
            Some(bytes) => Ok(bytes),
            None => download.recv().await?,
        };
        match piece {
            Ok(bytes) => Some((Ok::<Bytes, io::Error>(bytes), Some((None, download)))),
            Err(error) => {
                tracing::warn!(%error, "a download broke off");
                Some((Err(io::Error::other("the download broke off")), None))
            }
        }
    });
    Ok(reply::stream(media_type, body))
}
