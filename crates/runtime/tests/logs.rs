//! The log: format, partial lines, rotation, compression, reading and following. Needs root and busybox-static.
#![allow(clippy::unwrap_used)]

mod support;
use std::time::{Duration, SystemTime};

use droste_runtime::logs::{Entries, Options, read};
use droste_runtime::plan::*;
use droste_runtime::{Shim, Stream};
use support::*;

async fn all(mut entries: Entries) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some(entry) = entries.next().await.unwrap() {
        lines.push(String::from_utf8(entry.bytes).unwrap());
    }
    lines
}

async fn now(path: &str, options: Options) -> Vec<String> {
    all(read(path, options, std::future::pending())).await
}

async fn logged(place: &Place, script: &str, change: impl FnOnce(&mut LogPlan)) -> (Shim, String) {
    let mut plan = place.plan(&["sh", "-c", script]);
    let mut log = place.log_of(&plan);
    change(&mut log);
    let path = log.path.clone();
    plan.stdio.log = Some(log);
    (place.runtime.launch(plan, vec![]).await.unwrap(), path)
}

#[tokio::test(flavor = "multi_thread")]
async fn dockers_format() {
    let place = Place::new();
    let attrs = vec![("z".into(), "1".into()), ("a".into(), "<2>".into())];
    let (shim, path) = logged(&place, "echo one; echo 'two \"<&>' >&2; echo -n rest", |log| log.attrs = attrs).await;
    exit(&shim).await;
    let text = std::fs::read_to_string(&path).unwrap();
    let start = |log: &str, stream: &str| {
        format!(
            "{{\"log\":\"{log}\",\"stream\":\"{stream}\",\"attrs\":{{\"a\":\"\\u003c2\\u003e\",\"z\":\"1\"}},\"time\":\"20"
        )
    };
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    assert!(lines[0].starts_with(&start("one\\n", "stdout")), "{text}");
    assert!(lines[1].starts_with(&start("rest", "stdout")), "{text}");
    assert!(lines[2].starts_with(&start("two \\\"\\u003c\\u0026\\u003e\\n", "stderr")), "{text}");
    let mut entries = read(&path, Options::default(), std::future::pending());
    let mut seen = Vec::new();
    while let Some(entry) = entries.next().await.unwrap() {
        assert!(entry.time.elapsed().unwrap() < Duration::from_secs(60) && entry.attrs["a"] == "<2>");
        seen.push((entry.stream, entry.bytes, entry.partial));
    }
    seen.sort_by_key(|(stream, ..)| *stream == Stream::Stderr);
    assert_eq!(seen[0], (Stream::Stdout, b"one\n".to_vec(), false));
    assert_eq!(seen[1], (Stream::Stdout, b"rest".to_vec(), true));
    assert_eq!(seen[2], (Stream::Stderr, b"two \"<&>\n".to_vec(), false));
}

#[tokio::test(flavor = "multi_thread")]
async fn long_lines_come_in_parts_of_16_kib() {
    let place = Place::new();
    let (shim, path) = logged(&place, "head -c 40000 /dev/zero | tr '\\0' x; echo; echo end", |_| {}).await;
    exit(&shim).await;
    let lengths: Vec<_> =
        now(&path, Options::default()).await.iter().map(|line| (line.len(), line.ends_with('\n'))).collect();
    assert_eq!(lengths, [(16384, false), (16384, false), (40000 - 32768 + 1, true), (4, true)]);
    let times: Vec<_> = std::fs::read_to_string(&path)
        .unwrap()
        .lines()
        .map(|line| line.rsplit("\"time\"").next().unwrap().to_owned())
        .collect();
    assert!(times[0] == times[1] && times[1] == times[2] && times[2] != times[3], "a line's parts have its time");
}

#[tokio::test(flavor = "multi_thread")]
async fn rotation_compression_tail_and_times() {
    let place = Place::new();
    for compress in [false, true] {
        let (shim, path) = logged(&place, "seq 1 2000", |log| {
            (log.max_size, log.max_file, log.compress) = (Some(20_000), 4, compress);
        })
        .await;
        exit(&shim).await;
        let suffix = if compress { ".gz" } else { "" };
        // The last compression may still be under way.
        while compress && std::fs::metadata(format!("{path}.1")).is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(std::fs::metadata(&path).unwrap().len() <= 20_000);
        for number in 1..4 {
            let metadata = std::fs::metadata(format!("{path}.{number}{suffix}")).unwrap();
            assert!(metadata.len() > 0 && metadata.len() <= 20_000);
        }
        assert!(std::fs::metadata(format!("{path}.4{suffix}")).is_err());
        let lines = now(&path, Options::default()).await;
        let first: usize = lines[0].trim().parse().unwrap();
        assert!(first > 1 && lines.len() == 2001 - first, "the oldest are gone: {first}");
        assert!(lines.iter().enumerate().all(|(index, line)| *line == format!("{}\n", first + index)));
        for count in [0, 1, 5, 300, 5000] {
            let wanted = &lines[lines.len().saturating_sub(count)..];
            assert_eq!(now(&path, Options { tail: Some(count), ..Options::default() }).await, wanted);
        }
        let future = SystemTime::now() + Duration::from_secs(60);
        let past = SystemTime::now() - Duration::from_secs(60);
        let options = Options::default();
        assert!(now(&path, Options { since: Some(future), ..options }).await.is_empty());
        assert!(now(&path, Options { until: Some(past), ..options }).await.is_empty());
        assert_eq!(now(&path, Options { since: Some(past), until: Some(future), ..options }).await, lines);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_file_is_truncated() {
    let place = Place::new();
    let (shim, path) = logged(&place, "seq 1 1000", |log| (log.max_size, log.max_file) = (Some(5_000), 1)).await;
    exit(&shim).await;
    assert!(std::fs::metadata(&path).unwrap().len() <= 5_000 && std::fs::metadata(format!("{path}.1")).is_err());
    assert_eq!(now(&path, Options::default()).await.last().unwrap(), "1000\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn following_loses_nothing_over_rotations_and_at_the_end() {
    let place = Place::new();
    for compress in [false, true] {
        let script =
            "i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo line $i; [ $((i % 10)) = 0 ] && sleep 0.01; done; exit 0";
        let (shim, path) = logged(&place, script, |log| {
            (log.max_size, log.max_file, log.compress) = (Some(4_000), 50, compress);
        })
        .await;
        let stopped = shim.clone();
        let options = Options { follow: true, ..Options::default() };
        let lines = all(read(&path, options, async move {
            stopped.wait().await;
        }))
        .await;
        let wanted: Vec<_> = (1..=300).map(|number| format!("line {number}\n")).collect();
        assert!(std::fs::metadata(format!("{path}.2{}", if compress { ".gz" } else { "" })).is_ok(), "it was rotated");
        assert_eq!(lines, wanted, "compress: {compress}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn following_with_a_tail_goes_on_behind_it() {
    let place = Place::new();
    let mut plan = place.plan(&["sh", "-c", "echo a; echo b; echo ready; read x; echo c"]);
    plan.stdio.open_stdin = true;
    plan.stdio.log = Some(place.log_of(&plan));
    let path = plan.stdio.log.as_ref().unwrap().path.clone();
    let (shim, mut attachment) = place.attached(plan, vec![]).await.unwrap();
    expect(&mut attachment, "ready").await;
    let stopped = shim.clone();
    let options = Options { follow: true, tail: Some(1), ..Options::default() };
    let mut entries = read(&path, options, async move {
        stopped.wait().await;
    });
    assert_eq!(entries.next().await.unwrap().unwrap().bytes, b"ready\n");
    tokio::io::AsyncWriteExt::write_all(&mut attachment.input, b"\n").await.unwrap();
    assert_eq!(entries.next().await.unwrap().unwrap().bytes, b"c\n");
    assert!(entries.next().await.unwrap().is_none());
    exit(&shim).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_lines_are_read_though_the_end_is_told_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let line =
        |text: &str| format!("{{\"log\":\"{text}\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-01T00:00:00.5Z\"}}\n");
    for _ in 0..50 {
        std::fs::write(&path, line("first")).unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let options = Options { follow: true, ..Options::default() };
        let mut entries = read(&path, options, async move { drop(stopped.await) });
        assert_eq!(entries.next().await.unwrap().unwrap().bytes, b"first\n");
        let mut file = std::fs::File::options().append(true).open(&path).unwrap();
        std::io::Write::write_all(&mut file, line("last").as_bytes()).unwrap();
        stop.send(()).unwrap();
        assert_eq!(entries.next().await.unwrap().expect("the last line").bytes, b"last\n");
        assert!(entries.next().await.unwrap().is_none());
    }
}
