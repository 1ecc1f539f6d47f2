//! Names of bins for people.

/// Fewest significant digits of an edge.
const DIGITS: usize = 4;
/// Digits that tell any two doubles apart.
const ALL_DIGITS: usize = 17;

/// `< 12.5`, `12.5 to 14`, `>= 14` for the bins between ascending `edges`; four significant digits, more where two
/// edges would read the same. One bin without edges is `all`.
pub fn bin_labels(edges: &[f64]) -> Vec<String> {
    let Some(last) = edges.len().checked_sub(1) else { return vec!["all".into()] };
    let names = distinct_names(edges);
    let mut labels = vec![format!("< {}", names[0])];
    labels.extend(names.windows(2).map(|pair| format!("{} to {}", pair[0], pair[1])));
    labels.push(format!(">= {}", names[last]));
    labels
}

fn distinct_names(edges: &[f64]) -> Vec<String> {
    let mut names = Vec::new();
    for digits in DIGITS..=ALL_DIGITS {
        names = edges.iter().map(|edge| significant(*edge, digits)).collect();
        if names.windows(2).all(|pair| pair[0] != pair[1]) {
            break;
        }
    }
    names
}

/// `value` rounded to so many significant digits, without needless zeros; powers of ten outside 1e-4 to 1e9.
pub fn significant(value: f64, digits: usize) -> String {
    let rounded: f64 = format!("{value:.*e}", digits.saturating_sub(1)).parse().unwrap_or(value);
    let magnitude = rounded.abs();
    if magnitude == 0.0 || (1e-4..1e9).contains(&magnitude) { format!("{rounded}") } else { format!("{rounded:e}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_read_as_a_person_would_write_them() {
        assert_eq!(bin_labels(&[12.5, 13.99999, 1e12]), ["< 12.5", "12.5 to 14", "14 to 1e12", ">= 1e12"]);
        assert_eq!(bin_labels(&[-0.123456, 0.0]), ["< -0.1235", "-0.1235 to 0", ">= 0"]);
        assert_eq!(bin_labels(&[0.00001234567]), ["< 1.235e-5", ">= 1.235e-5"]);
        assert_eq!(bin_labels(&[]), ["all"]);
    }

    #[test]
    fn edges_that_lie_close_get_the_digits_that_tell_them_apart() {
        assert_eq!(bin_labels(&[1000.01, 1000.02]), ["< 1000.01", "1000.01 to 1000.02", ">= 1000.02"]);
    }
}
