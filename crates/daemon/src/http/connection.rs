//! One connection, from its first request to its end or its takeover.

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;

use hyper::Method;
use hyper::body::Body as _;
use hyper::header::UPGRADE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;

use super::body::Body;
use super::io::Socket;
use super::line::Lines;
use super::takeover::{Duplex, Stream, Takeover, TakeoverSender};
use super::{Exchange, Reply};

enum End {
    Served(Result<(), hyper::Error>),
    Taken(Takeover),
    Gone,
}

/// Serves a connection. `stream` is the socket itself or TLS over it; `socket` is watched for the client's end.
pub(crate) async fn serve<H, R>(stream: impl Stream + 'static, socket: Socket, handler: Arc<H>)
where
    H: Fn(Exchange) -> R + Send + Sync + 'static,
    R: Future<Output = Reply> + Send,
{
    let (send, mut takeovers) = mpsc::channel(1);
    let (stream, next) = Lines::new(stream);
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        if is_alone(&request) {
            next.is_a_line();
        }
        let (handler, takeover) = (Arc::clone(&handler), TakeoverSender::new(send.clone()));
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = Body::new(body, &head.headers);
            Ok::<_, Infallible>(handler(Exchange { head, body, takeover }).await)
        })
    });
    let stream: Box<dyn Stream> = Box::new(stream);
    // With half_close, the end of what the client sends does not end what it gets, and bytes that follow a request
    // stay in the socket until somebody wants them.
    let mut connection = http1::Builder::new()
        .half_close(true)
        .max_buf_size(64 << 10)
        .title_case_headers(true)
        .serve_connection(TokioIo::new(stream), service);
    let end = tokio::select! {
        served = poll_fn(|context| connection.poll_without_shutdown(context)) => End::Served(served),
        Some(takeover) = takeovers.recv() => End::Taken(takeover),
        () = socket.gone(true) => End::Gone,
    };
    let parts = connection.into_parts();
    let mut duplex = Duplex::new(parts.io.into_inner(), parts.read_buf, socket);
    match end {
        End::Taken(Takeover { head, run }) => {
            // Whoever made the head wrote all of its fields.
            if duplex.writer.send(&head, &[]).await.is_ok() {
                run(duplex).await;
            }
        }
        End::Served(Ok(())) => drop(duplex.writer.end().await),
        End::Served(Err(error)) => tracing::debug!(%error, "a connection failed"),
        End::Gone => tracing::debug!("a client went away"),
    }
}

/// Whether nothing belongs to a request but its head: no body, and no raw stream afterwards.
fn is_alone(request: &hyper::Request<hyper::body::Incoming>) -> bool {
    *request.method() == Method::GET && request.body().is_end_stream() && !request.headers().contains_key(UPGRADE)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use futures_util::stream;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;
    use tokio::sync::oneshot;

    use super::*;
    use crate::http::ReplyBody;

    /// Starts a server with a handler and gives the client's end.
    fn client<H, R>(handler: H) -> UnixStream
    where
        H: Fn(Exchange) -> R + Send + Sync + 'static,
        R: Future<Output = Reply> + Send + 'static,
    {
        let (near, far) = UnixStream::pair().unwrap();
        let socket = Socket::from(far);
        tokio::spawn(async move { serve(socket.clone(), socket, Arc::new(handler)).await });
        near
    }

    async fn echo(head: &'static str, exchange: Exchange) -> Reply {
        let body = exchange.body.read(100).await.unwrap();
        let never = exchange.takeover.take(head.into(), move |mut duplex: Duplex| async move {
            duplex.writer.send(&body, b"|").await.unwrap();
            loop {
                let bytes = duplex.reader.read(100).await.unwrap();
                if bytes.is_empty() {
                    break;
                }
                duplex.writer.send(&bytes, b"").await.unwrap();
            }
            duplex.writer.send(b"bye", b"").await.unwrap();
            duplex.writer.end().await.unwrap();
        });
        match never.await {}
    }

    async fn rest(client: &mut UnixStream) -> String {
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        text
    }

    const UPGRADED: &str = "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
    const RAW: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n";

    #[tokio::test]
    async fn a_connection_is_taken_over_after_an_upgrade() {
        let mut client = client(|exchange| echo(UPGRADED, exchange));
        // The bytes after the body belong to the raw stream, although they come with the request.
        let request =
            "POST /x HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 2\r\n\r\n{}abc";
        client.write_all(request.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(rest(&mut client).await, format!("{UPGRADED}{{}}|abcbye"));
    }

    #[tokio::test]
    async fn a_connection_is_taken_over_without_an_upgrade_after_another_request() {
        let mut client = client(|exchange| async move {
            if exchange.head.uri.path() == "/plain" {
                return Reply::new(ReplyBody::Whole(Bytes::from_static(b"plain")));
            }
            echo(RAW, exchange).await
        });
        client.write_all(b"GET /plain HTTP/1.1\r\nHost: d\r\n\r\n").await.unwrap();
        let mut first = [0; 200];
        let length = client.read(&mut first).await.unwrap();
        assert!(String::from_utf8_lossy(&first[..length]).ends_with("plain"));
        client.write_all(b"POST /raw HTTP/1.1\r\nHost: d\r\n\r\nabc").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(rest(&mut client).await, format!("{RAW}|abcbye"));
    }

    #[tokio::test]
    async fn output_goes_on_after_the_client_has_half_closed() {
        let (go, went) = oneshot::channel::<()>();
        let went = std::sync::Mutex::new(Some(went));
        let mut client = client(move |exchange: Exchange| {
            let went = went.lock().unwrap().take();
            async move {
                let never = exchange.takeover.take(UPGRADED.into(), move |mut duplex: Duplex| async move {
                    assert!(duplex.reader.read(10).await.unwrap().is_empty());
                    went.unwrap().await.unwrap();
                    duplex.writer.send(b"late", b"").await.unwrap();
                });
                match never.await {}
            }
        });
        client.write_all(b"POST /x HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n").await.unwrap();
        client.shutdown().await.unwrap();
        let mut head = vec![0; UPGRADED.len()];
        client.read_exact(&mut head).await.unwrap();
        go.send(()).unwrap();
        assert_eq!(rest(&mut client).await, "late");
    }

    #[tokio::test]
    async fn the_head_of_a_stream_is_sent_before_its_first_byte() {
        let (go, went) = oneshot::channel::<()>();
        let went = std::sync::Mutex::new(Some(went));
        let mut client = client(move |_| {
            let went = went.lock().unwrap().take().unwrap();
            let body = stream::once(async move {
                went.await.unwrap();
                Ok(Bytes::from_static(b"late"))
            });
            async move { Reply::new(ReplyBody::stream(body)) }
        });
        client.write_all(b"GET /x HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut head = [0; 4096];
        let length = client.read(&mut head).await.unwrap();
        assert!(String::from_utf8_lossy(&head[..length]).starts_with("HTTP/1.1 200 OK\r\n"));
        go.send(()).unwrap();
        assert!(rest(&mut client).await.contains("4\r\nlate\r\n"));
    }

    #[tokio::test]
    async fn a_client_that_goes_away_ends_its_stream() {
        struct Told(Option<oneshot::Sender<()>>);
        impl Drop for Told {
            fn drop(&mut self) {
                let _ = self.0.take().unwrap().send(());
            }
        }
        let (dropped, was_dropped) = oneshot::channel::<()>();
        let told = std::sync::Mutex::new(Some(Told(Some(dropped))));
        let mut client = client(move |_| {
            let told = told.lock().unwrap().take();
            let body = stream::once(async move {
                let _told = told;
                std::future::pending::<std::io::Result<Bytes>>().await
            });
            async move { Reply::new(ReplyBody::stream(body)) }
        });
        client.write_all(b"GET /x HTTP/1.1\r\nHost: d\r\n\r\n").await.unwrap();
        let mut head = [0; 10];
        client.read_exact(&mut head).await.unwrap();
        drop(client);
        tokio::time::timeout(Duration::from_secs(20), was_dropped).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_body_that_nobody_reads_may_come_after_the_answer() {
        let mut client = client(|_| async { Reply::new(ReplyBody::Whole(Bytes::from_static(b"answer"))) });
        for body in ["{}", "[1]"] {
            let head = format!("POST /x HTTP/1.1\r\nHost: d\r\nContent-Length: {}\r\n\r\n", body.len());
            client.write_all(head.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"answer") {
                assert_ne!(client.read_buf(&mut answer).await.unwrap(), 0, "{}", String::from_utf8_lossy(&answer));
            }
            client.write_all(body.as_bytes()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_half_closed_request_is_answered() {
        let mut client = client(|_| async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Reply::new(ReplyBody::Whole(Bytes::from_static(b"answer")))
        });
        client.write_all(b"GET /x HTTP/1.1\r\nHost: d\r\n\r\n").await.unwrap();
        client.shutdown().await.unwrap();
        assert!(rest(&mut client).await.ends_with("answer"));
    }
}
