//! Globs: `*` (any characters) and `?` (one) in names, and in the last component of a file path.

use std::path::{Path, PathBuf};

/// Whether all of `name` matches `pattern`.
pub fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut at_pattern, mut at_name) = (0, 0);
    // After a `*`: where it stands, and how much of the name it has taken so far.
    let mut star: Option<(usize, usize)> = None;
    while at_name < name.len() {
        match pattern.get(at_pattern) {
            Some('*') => {
                star = Some((at_pattern, at_name));
                at_pattern += 1;
            }
            Some(wanted) if *wanted == '?' || *wanted == name[at_name] => {
                at_pattern += 1;
                at_name += 1;
            }
            _ => match star {
                Some((star_at, taken_to)) => {
                    star = Some((star_at, taken_to + 1));
                    at_pattern = star_at + 1;
                    at_name = taken_to + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at_pattern..].iter().all(|rest| *rest == '*')
}

pub fn is_glob(pattern: &str) -> bool {
    pattern.contains(['*', '?'])
}

/// Files that match `pattern` relative to `base`, sorted by name; globs stand in the last component only. An
/// existing file without a glob is itself. A directory that is not there holds nothing.
pub fn files(base: &Path, pattern: &str) -> std::io::Result<Vec<PathBuf>> {
    let whole = base.join(pattern);
    let Some(last) = Path::new(pattern).file_name().map(|name| name.to_string_lossy().into_owned()) else {
        return Ok(Vec::new());
    };
    if !is_glob(&last) {
        return Ok(if whole.is_file() { vec![whole] } else { Vec::new() });
    }
    let folder = whole.parent().unwrap_or(base).to_path_buf();
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && matches(&last, &name) && entry.path().is_file() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks_match_whole_names() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("*", "fraud", true),
            ("fraud", "fraud", true),
            ("fraud", "fraud2", false),
            ("*_ts", "created_ts", true),
            ("*_ts", "created_tsx", false),
            ("a*b*c", "aXbYbZc", true),
            ("v?", "v3", true),
            ("v?", "v10", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} against {name}");
        }
    }
}
