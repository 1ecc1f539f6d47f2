//! Columns of text.

use std::io::Write;

/// Rows below a heading, each column as wide as its widest cell; the last one is not padded.
pub fn print(out: &mut dyn Write, heading: &[&str], rows: &[Vec<String>]) -> std::io::Result<()> {
    let mut widths: Vec<usize> = heading.iter().map(|name| name.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let heading: Vec<String> = heading.iter().map(ToString::to_string).collect();
    for row in std::iter::once(&heading).chain(rows) {
        let mut line = String::new();
        for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
            line.push_str(cell);
            if index + 1 < row.len() {
                let padding = width - cell.chars().count() + 2;
                line.extend(std::iter::repeat_n(' ', padding));
            }
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other() {
        let mut out = Vec::new();
        let rows = [vec!["a".to_string(), "long".into()], vec!["longer".into(), String::new()]];
        print(&mut out, &["ID", "WHAT"], &rows).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "ID      WHAT\na       long\nlonger\n");
    }
}
