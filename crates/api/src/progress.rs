//! Lines of a progress stream: one JSON object each, ended by CR LF.

use crate::wire::{ErrorDetail, Progress, ProgressDetail};

/// A line as bytes.
pub fn line(progress: &Progress) -> Vec<u8> {
    // A `Progress` has string keys only and always serialises.
    let mut bytes = serde_json::to_vec(progress).unwrap_or_default();
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// A plain status.
pub fn status(text: impl Into<String>) -> Progress {
    Progress { status: text.into(), ..Progress::default() }
}

/// A status about one part of the whole, such as a layer.
pub fn part(id: impl Into<String>, text: impl Into<String>) -> Progress {
    Progress {
        status: text.into(),
        id: id.into(),
        progress_detail: Some(ProgressDetail::default()),
        ..Progress::default()
    }
}

/// How far one part is, with the bar that Docker's server draws for its clients.
pub fn part_at(id: impl Into<String>, text: impl Into<String>, current: i64, total: i64) -> Progress {
    Progress {
        progress: bar(current, total),
        progress_detail: Some(ProgressDetail { current, total }),
        ..part(id, text)
    }
}

/// Text that a client prints as it is.
pub fn stream(text: impl Into<String>) -> Progress {
    Progress { stream: text.into(), ..Progress::default() }
}

/// A value for programs.
pub fn aux(value: serde_json::Value) -> Progress {
    Progress { aux: Some(value), ..Progress::default() }
}

/// The end of a stream that failed after it began.
pub fn failure(message: impl Into<String>) -> Progress {
    let message = message.into();
    let detail = ErrorDetail { code: 0, message: message.clone() };
    Progress { error_detail: Some(detail), error: message, ..Progress::default() }
}

/// The bar and the amounts, as Docker's server draws them for a client whose width it does not know.
fn bar(current: i64, total: i64) -> String {
    if current <= 0 && total <= 0 {
        return String::new();
    }
    let done = crate::human::size(current);
    if total <= 0 || current > total {
        return format!("{done:>8}");
    }
    let half = usize::try_from(i128::from(current) * 50 / i128::from(total)).unwrap_or(50).min(50);
    let rest = " ".repeat(50 - half);
    let arrows = "=".repeat(half);
    format!("[{arrows}>{rest}] {done:>8}/{}", crate::human::size(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_dockers() {
        let text = |progress: &Progress| String::from_utf8(line(progress)).unwrap();
        assert_eq!(text(&status("Pulling from library/x")), "{\"status\":\"Pulling from library/x\"}\r\n");
        assert_eq!(
            text(&part("ab", "Pull complete")),
            "{\"status\":\"Pull complete\",\"progressDetail\":{},\"id\":\"ab\"}\r\n"
        );
        assert_eq!(text(&stream("Loaded image: a:b\n")), "{\"stream\":\"Loaded image: a:b\\n\"}\r\n");
        assert_eq!(text(&failure("no")), "{\"errorDetail\":{\"message\":\"no\"},\"error\":\"no\"}\r\n");
        let half = part_at("ab", "Extracting", 1024, 2048);
        assert_eq!(half.progress, format!("[{}>{}]  1.024kB/2.048kB", "=".repeat(25), " ".repeat(25)));
    }
}
