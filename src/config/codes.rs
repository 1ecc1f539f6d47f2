//! Everything that `driftline check` can find, by its code: what another program filters by, and a person searches for.
//! To add one: a row, in the order of the alphabet; docs/check.md lists the same.

/// Code and meaning. Codes never change their meaning; one that is found no more is taken out.
pub const CODES: [(&str, &str); 0] = [];

/// What a code stands for.
pub fn meaning(code: &str) -> Option<&'static str> {
    CODES.iter().find(|(known, _)| *known == code).map(|(_, meaning)| *meaning)
}
