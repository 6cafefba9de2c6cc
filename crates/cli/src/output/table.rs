//! Columns that line up, with Go's `tabwriter` rules: three spaces between, a least width, nothing after the last.

/// Lines whose cells are separated by tabs, as aligned text.
pub(crate) fn align(text: &str, least: usize, padding: usize) -> String {
    let lines: Vec<Vec<&str>> = text.split('\n').map(|line| line.split('\t').collect()).collect();
    let mut widths: Vec<Vec<usize>> = lines.iter().map(|cells| vec![0; cells.len()]).collect();
    let most = lines.iter().map(Vec::len).max().unwrap_or(0);
    for column in 0..most {
        measure(&lines, &mut widths, column, least, padding);
    }
    let mut out = String::with_capacity(text.len() * 2);
    for (at, (cells, widths)) in lines.iter().zip(&widths).enumerate() {
        if at > 0 {
            out.push('\n');
        }
        for (cell, width) in cells.iter().zip(widths) {
            out.push_str(cell);
            let missing = width.saturating_sub(cell.chars().count());
            out.extend(std::iter::repeat_n(' ', missing));
        }
    }
    out
}

/// A column is a run of neighbouring lines that have a cell ended by a tab there.
fn measure(lines: &[Vec<&str>], widths: &mut [Vec<usize>], column: usize, least: usize, padding: usize) {
    let mut start = 0;
    while start < lines.len() {
        let in_column = |cells: &Vec<&str>| column + 1 < cells.len();
        if !in_column(&lines[start]) {
            start += 1;
            continue;
        }
        let end = lines[start..].iter().position(|l| !in_column(l)).map_or(lines.len(), |n| start + n);
        let widest = lines[start..end].iter().map(|cells| cells[column].chars().count()).max().unwrap_or(0);
        let width = (widest + padding).max(least);
        for line in &mut widths[start..end] {
            line[column] = width;
        }
        start = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_s_columns() {
        let text = "REPOSITORY\tTAG\tIMAGE ID\ncli-bb\t1\t136a72106ca5\n";
        assert_eq!(align(text, 10, 3), "REPOSITORY   TAG       IMAGE ID\ncli-bb       1         136a72106ca5\n");
    }

    #[test]
    fn columns_end_where_lines_are_shorter() {
        assert_eq!(align("a\tb\n\nlonger\tc\n", 0, 1), "a b\n\nlonger c\n");
    }
}
