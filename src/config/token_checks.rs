//! `http.tokens` of the service file, `admin.tokens` of the scorer's.

use super::diagnostic::Problem;
use super::receiver_checks::secret;
use super::service::Token;

pub fn tokens(tokens: &[Token]) -> Vec<Problem> {
    tokens_at("/http/tokens", tokens)
}

/// `list` is the pointer to the list in its file.
pub fn tokens_at(list: &str, tokens: &[Token]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let pointer = format!("{list}/{index}");
        let name = token.name.trim();
        if name.is_empty() {
            let problem = Problem::error("bad-name", format!("{pointer}/name"), "a token needs a name");
            problems.push(problem.help("say who uses it: `name: ana`, `name: ci`"));
        }
        if tokens[..index].iter().any(|earlier| earlier.name.trim() == name) {
            let message = format!("another token is named `{name}`");
            let problem = Problem::error("duplicate-token", format!("{pointer}/name"), message);
            problems.push(problem.help("what was done with a token is known by its name: give each its own"));
        }
        let same_place = tokens[..index].iter().find(|earlier| earlier.token == token.token);
        if let Some(earlier) = same_place {
            let message = format!("this is the token of `{}`", earlier.name);
            let problem = Problem::error("duplicate-token", format!("{pointer}/token"), message);
            problems.push(problem.help("give each user a token of its own"));
        }
        secret(&mut problems, &format!("{pointer}/token"), Some(&token.token));
    }
    problems
}
