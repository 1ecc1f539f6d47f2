//! The name that was probably meant.

/// The name at the smallest edit distance, if that is at most a third of the length.
pub fn nearest(name: &str, known: &[String]) -> Option<String> {
    let closest = known.iter().map(|candidate| (edit_distance(name, candidate), candidate)).min()?;
    (closest.0 <= name.chars().count().div_ceil(3)).then(|| closest.1.clone())
}

/// Levenshtein's distance, letter case ignored.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.to_lowercase().chars().enumerate() {
        let mut current = vec![i + 1];
        for (j, to) in b.iter().enumerate() {
            let replaced = previous[j] + usize::from(from != *to);
            current.push(replaced.min(previous[j + 1] + 1).min(current[j] + 1));
        }
        previous = current;
    }
    previous[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_is_recognised_and_a_stranger_is_not() {
        let known = ["amount".to_string(), "country".to_string()];
        assert_eq!(nearest("amuont", &known), Some("amount".into()));
        assert_eq!(nearest("Country", &known), Some("country".into()));
        assert_eq!(nearest("latitude", &known), None);
    }
}
