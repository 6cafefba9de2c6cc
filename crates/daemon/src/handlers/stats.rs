//! Statistics: one sample, or one each second.

use std::io;
use std::time::Duration;

use droste_api::wire::Stats;
use droste_engine::{Host, StatsSample};
use futures_util::stream;
use hyper::StatusCode;
use tokio::time::{Instant, sleep_until};

use crate::call::Call;
use crate::dress;
use crate::error::{Failure, Result};
use crate::http::{Bytes, Reply};
use crate::reply;

const SECOND: Duration = Duration::from_secs(1);

pub(crate) async fn stats(call: Call) -> Result<Reply> {
    let stream = call.query.flag_or("stream", true);
    // 1.41: "GET /containers/{id}/stats now accepts a query parameter one-shot".
    let one_shot = call.version.at_least(41) && call.query.flag("one-shot");
    if stream && one_shot {
        return Err(Failure::new(StatusCode::BAD_REQUEST, "cannot have stream=true and one-shot=true"));
    }
    let first = call.host.stats(&call.parameter).await?;
    if stream {
        return Ok(each_second(call.host, first));
    }
    if !first.running {
        return Ok(reply::json(&dress::stats::stats(&first, None)));
    }
    if one_shot {
        return Ok(reply::json(&dress::stats::one_shot(&first)));
    }
    tokio::time::sleep(SECOND).await;
    let second = call.host.stats(first.id.as_str()).await?;
    Ok(reply::json(&dress::stats::stats(&second, Some(&first))))
}

/// The state of a stream of samples.
struct Series {
    host: Host,
    id: String,
    before: Option<StatsSample>,
    next: Option<StatsSample>,
    due: Instant,
}

fn each_second(host: Host, first: StatsSample) -> Reply {
    let series = Series { host, id: first.id.to_string(), before: None, next: Some(first), due: Instant::now() };
    let body = stream::unfold(series, |mut series| async move {
        let sample = match series.next.take() {
            Some(first) => first,
            None => {
                sleep_until(series.due).await;
                // A container that is gone ends the stream.
                series.host.stats(&series.id).await.ok()?
            }
        };
        series.due = Instant::now() + SECOND;
        let line = line(&dress::stats::stats(&sample, series.before.as_ref()));
        series.before = Some(sample);
        Some((Ok::<_, io::Error>(line), series))
    });
    reply::stream("application/json", body)
}

fn line(stats: &Stats) -> Bytes {
    let mut bytes = serde_json::to_vec(stats).unwrap_or_default();
    bytes.push(b'\n');
    bytes.into()
}
