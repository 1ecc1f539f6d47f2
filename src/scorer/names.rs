//! Names of models, versions and experiments. They become paths, metric labels and keys of topics, so little is allowed.

/// Longest name, in bytes.
pub const MAX_NAME_BYTES: usize = 128;

/// A name that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{shown}` is not allowed: use 1 to 128 of A-Z a-z 0-9 _ . - and neither `.` nor `..`")]
pub struct BadName {
    pub what: &'static str,
    /// The name, shortened and escaped for a log line.
    pub shown: String,
}

/// Checks a name; `what` says in the error what it names ("model", "version").
///
/// # Errors
/// The name is empty, too long, has another character, or is `.` or `..`.
pub fn check_name(what: &'static str, name: &str) -> Result<(), BadName> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    if (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(allowed) && name != "." && name != ".." {
        return Ok(());
    }
    let shown = name.chars().take(40).flat_map(char::escape_debug).collect();
    Err(BadName { what, shown })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_are_safe_as_one_part_of_a_path_pass() {
        for good in ["fraud", "a.b-c_9", "...", &"x".repeat(128)] {
            assert_eq!(check_name("model", good), Ok(()));
        }
        for bad in ["", ".", "..", "a/b", "../x", "a\\b", "a\0", "ä", "a b", "%2e%2e", &"x".repeat(129)] {
            assert!(check_name("model", bad).is_err(), "{bad}");
        }
    }
}
