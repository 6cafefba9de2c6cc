//! Replies that tell how long work goes on, line by line.

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use droste_api::progress::{failure, line};
use droste_api::wire::{self, ProgressDetail};
use droste_engine::{Progress, ProgressSink};
use futures_util::stream;
use tokio::sync::mpsc;

use crate::error::{Failure, Result};
use crate::http::{Bytes, Reply};
use crate::reply;

/// How many messages wait for a slow client. What comes beyond them is not told.
const WAITING: usize = 4096;

type Work = Pin<Box<dyn Future<Output = droste_engine::Result<()>> + Send>>;

/// How a message is told.
pub(crate) type Tell = fn(Progress) -> Option<wire::Progress>;

/// Work that tells how it goes on.
struct Told {
    work: Option<Work>,
    messages: mpsc::Receiver<Progress>,
    first: Option<Progress>,
    tell: Tell,
}

/// Where the work tells how it goes on, and where that is heard.
pub(crate) fn channel() -> (ProgressSink, mpsc::Receiver<Progress>) {
    let (send, receive) = mpsc::channel(WAITING);
    (Arc::new(move |message| drop(send.try_send(message))), receive)
}

/// The reply of work that tells how it goes on. Work that fails before it told anything is a failure as such; later
/// ones end the stream with a line that says so. A client that goes away ends the work.
pub(crate) async fn reply(
    work: impl Future<Output = droste_engine::Result<()>> + Send + 'static,
    messages: mpsc::Receiver<Progress>,
    tell: Tell,
) -> Result<Reply> {
    let mut told = Told { work: Some(Box::pin(work)), messages, first: None, tell };
    told.first = match told.next().await {
        Some(Ok(message)) => Some(message),
        Some(Err(error)) => return Err(error.into()),
        None => None,
    };
    Ok(told.stream())
}

/// As [`reply`], but a stream whatever happens first.
pub(crate) fn reply_at_once(
    work: impl Future<Output = droste_engine::Result<()>> + Send + 'static,
    messages: mpsc::Receiver<Progress>,
    tell: Tell,
) -> Reply {
    Told { work: Some(Box::pin(work)), messages, first: None, tell }.stream()
}

impl Told {
    /// The next message, or the failure at the end.
    async fn next(&mut self) -> Option<droste_engine::Result<Progress>> {
        if let Some(first) = self.first.take() {
            return Some(Ok(first));
        }
        let Some(work) = &mut self.work else { return self.messages.try_recv().ok().map(Ok) };
        tokio::select! {
            biased;
            Some(message) = self.messages.recv() => Some(Ok(message)),
            outcome = work => {
                self.work = None;
                match (outcome, self.messages.try_recv()) {
                    (Ok(()), message) => message.ok().map(Ok),
                    (Err(error), _) => Some(Err(error)),
                }
            }
        }
    }

    fn stream(self) -> Reply {
        let body = stream::unfold(self, |mut told| async move {
            loop {
                let wire = match told.next().await? {
                    Ok(message) => (told.tell)(message),
                    Err(error) => {
                        let failed = Failure::from(error);
                        tracing::warn!(cause = failed.log.as_deref(), "{}", failed.message);
                        Some(failure(failed.message))
                    }
                };
                if let Some(wire) = wire {
                    return Some((Ok::<Bytes, io::Error>(line(&wire).into()), told));
                }
            }
        });
        reply::stream("application/json", body)
    }
}

/// A message as it is.
pub(crate) fn plain(message: Progress) -> Option<wire::Progress> {
    if let Some(pushed) = message.aux {
        let aux = serde_json::json!({ "Tag": pushed.tag, "Digest": pushed.digest.to_string(), "Size": pushed.size });
        return Some(wire::Progress {
            progress_detail: Some(ProgressDetail::default()),
            ..droste_api::progress::aux(aux)
        });
    }
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    Some(match message.bytes {
        Some((done, total)) => droste_api::progress::part_at(message.id, message.status, signed(done), signed(total)),
        None if message.id.is_empty() => droste_api::progress::status(message.status),
        // Docker says of the line "Pulling from" what is pulled, but not how far it is.
        None if message.status.starts_with("Pulling from ") => {
            wire::Progress { id: message.id, ..droste_api::progress::status(message.status) }
        }
        None => droste_api::progress::part(message.id, message.status),
    })
}

/// A message of a load: what was loaded is text for the client to print.
pub(crate) fn of_load(message: Progress) -> Option<wire::Progress> {
    if message.id.is_empty() && message.status.starts_with("Loaded image") {
        return Some(droste_api::progress::stream(message.status));
    }
    plain(message)
}

/// A message of a quiet load.
pub(crate) fn of_quiet_load(message: Progress) -> Option<wire::Progress> {
    of_load(message).filter(|wire| !wire.stream.is_empty())
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;
    use crate::http::ReplyBody;

    async fn lines(reply: Reply) -> Vec<String> {
        let ReplyBody::Stream(stream) = reply.into_body() else { panic!("not a stream") };
        stream.map(|piece| String::from_utf8(piece.unwrap().to_vec()).unwrap()).collect().await
    }

    fn said(status: &str) -> Progress {
        Progress { status: status.to_owned(), ..Progress::default() }
    }

    #[tokio::test]
    async fn a_failure_before_the_first_word_is_a_failure() {
        let (_sink, messages) = channel();
        let work = async { Err(droste_engine::Error::internal("no route")) };
        assert_eq!(reply(work, messages, plain).await.err().unwrap().message, "no route");
    }

    #[tokio::test]
    async fn a_later_failure_is_the_last_line() {
        let (sink, messages) = channel();
        let work = async move {
            sink(said("Pulling"));
            tokio::task::yield_now().await;
            Err(droste_engine::Error::internal("cut"))
        };
        let reply = reply(work, messages, plain).await.unwrap();
        assert_eq!(
            lines(reply).await,
            ["{\"status\":\"Pulling\"}\r\n", "{\"errorDetail\":{\"message\":\"cut\"},\"error\":\"cut\"}\r\n"]
        );
    }

    #[tokio::test]
    async fn all_is_told_although_the_work_is_done_first() {
        let (sink, messages) = channel();
        let work = async move {
            for word in ["a", "b", "Loaded image: x\n"] {
                sink(said(word));
            }
            Ok(())
        };
        let told = lines(reply_at_once(work, messages, of_load)).await;
        assert_eq!(told.len(), 3);
        assert_eq!(told[2], "{\"stream\":\"Loaded image: x\\n\"}\r\n");
    }
}
