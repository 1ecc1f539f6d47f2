//! How tests went: as text that people read, as JSON, and as JUnit XML, which CI systems show.

use serde_json::{Value, json};
use similar::TextDiff;

use super::expect::Failure;
use super::run::Ran;

/// One test of one file.
#[derive(Debug, Clone, PartialEq)]
pub struct Tested {
    pub file: String,
    pub name: String,
    pub seconds: f64,
    /// The error: why it could not run.
    pub result: Result<Ran, String>,
}

impl Tested {
    pub fn passed(&self) -> bool {
        self.result.as_ref().is_ok_and(|ran| ran.failures.is_empty())
    }

    /// What went wrong, if anything did, as lines.
    pub fn wrong(&self) -> String {
        match &self.result {
            Err(reason) => format!("could not run: {reason}\n"),
            Ok(ran) => ran.failures.iter().map(failure).collect::<Vec<_>>().join("\n"),
        }
    }
}

fn instant(ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(ms)
        .map_or_else(|| format!("{ms} ms"), |time| time.format("%Y-%m-%d %H:%M:%S UTC").to_string())
}

/// The time, both sides as a unified diff, and what else is known of the moment.
fn failure(failure: &Failure) -> String {
    let window = failure.at.window;
    let (start, end) = (instant(window.start_ms), instant(window.end_ms));
    let mut text = format!("at window {} ({} to {})\n", failure.window, start.trim_end_matches(" UTC"), end);
    text.push_str(&diff(&failure.expected, &failure.got));
    if failure.alerts.is_empty() {
        text.push_str("there was no alert\n");
    } else {
        text.push_str("alerts then\n");
        failure.alerts.iter().for_each(|line| text.push_str(&format!("  {line}\n")));
    }
    if !failure.said.is_empty() {
        text.push_str("rules said of this window\n");
        failure.said.iter().for_each(|line| text.push_str(&format!("  {line}\n")));
    }
    text
}

/// More than a diff has.
const MOST_LINES: usize = 1_000;

fn diff(expected: &[String], got: &[String]) -> String {
    let lines = |lines: &[String]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let (expected, got) = (lines(expected), lines(got));
    let diff = TextDiff::from_lines(&expected, &got);
    // Everything that was expected is shown: there is no other place to see it.
    let mut unified = diff.unified_diff();
    unified.context_radius(MOST_LINES).header("expected", "got").to_string()
}

/// The line of one test, and below it what went wrong.
pub fn line(tested: &Tested, colour: bool) -> String {
    let paint =
        |text: &str, code: &str| if colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_string() };
    let verdict = match tested.passed() {
        true => paint("ok", "32"),
        false => paint("FAILED", "31"),
    };
    let mut text = format!("{}: {} ... {verdict} ({:.2} s)\n", tested.file, tested.name, tested.seconds);
    let indented = |text: &str| -> String {
        text.lines().map(|line| if line.is_empty() { "\n".to_string() } else { format!("    {line}\n") }).collect()
    };
    if !tested.passed() {
        text.push_str(&indented(&tested.wrong()));
    }
    if let Ok(ran) = &tested.result {
        ran.notes.iter().for_each(|note| text.push_str(&indented(&format!("note: {note}"))));
    }
    text
}

/// `12 tests: 11 passed, 1 failed (0.84 s)`.
pub fn totals(tested: &[Tested], seconds: f64) -> String {
    let failed = tested.iter().filter(|tested| !tested.passed()).count();
    let tests = if tested.len() == 1 { "1 test".into() } else { format!("{} tests", tested.len()) };
    format!("{tests}: {} passed, {failed} failed ({seconds:.2} s)\n", tested.len() - failed)
}

pub fn json(tested: &[Tested], seconds: f64) -> Value {
    let test = |tested: &Tested| {
        let failures: Vec<Value> = match &tested.result {
            Err(_) => Vec::new(),
            Ok(ran) => ran
                .failures
                .iter()
                .map(|failure| {
                    json!({
                        "window": failure.window,
                        "start_ms": failure.at.window.start_ms,
                        "end_ms": failure.at.window.end_ms,
                        "expected": failure.expected,
                        "got": failure.got,
                        "alerts": failure.alerts,
                        "rules_said": failure.said,
                        "diff": diff(&failure.expected, &failure.got),
                    })
                })
                .collect(),
        };
        json!({
            "file": tested.file,
            "name": tested.name,
            "passed": tested.passed(),
            "seconds": tested.seconds,
            "error": tested.result.as_ref().err(),
            "failures": failures,
            "notes": tested.result.as_ref().map(|ran| ran.notes.clone()).unwrap_or_default(),
        })
    };
    let failed = tested.iter().filter(|tested| !tested.passed()).count();
    json!({
        "passed": tested.len() - failed,
        "failed": failed,
        "seconds": seconds,
        "tests": tested.iter().map(test).collect::<Vec<_>>(),
    })
}

/// One `testsuite` a file.
pub fn junit(tested: &[Tested], seconds: f64) -> String {
    let wrong = |tested: &[&Tested]| {
        let errors = tested.iter().filter(|tested| tested.result.is_err()).count();
        let failures = tested.iter().filter(|tested| !tested.passed()).count() - errors;
        format!("tests=\"{}\" failures=\"{failures}\" errors=\"{errors}\"", tested.len())
    };
    let all: Vec<&Tested> = tested.iter().collect();
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    xml.push_str(&format!("<testsuites name=\"driftline test\" {} time=\"{seconds:.3}\">\n", wrong(&all)));
    let mut files: Vec<&str> = Vec::new();
    tested.iter().for_each(|tested| {
        if !files.contains(&tested.file.as_str()) {
            files.push(&tested.file);
        }
    });
    for file in files {
        let of_file: Vec<&Tested> = tested.iter().filter(|tested| tested.file == file).collect();
        let time: f64 = of_file.iter().map(|tested| tested.seconds).sum();
        xml.push_str(&format!("  <testsuite name=\"{}\" {} time=\"{time:.3}\">\n", escape(file), wrong(&of_file)));
        for tested in of_file {
            let head = format!(
                "    <testcase classname=\"{}\" name=\"{}\" time=\"{:.3}\"",
                escape(file),
                escape(&tested.name),
                tested.seconds
            );
            let element = if tested.result.is_err() { "error" } else { "failure" };
            let (text, passed) = (tested.wrong(), tested.passed());
            let message = text.lines().next().unwrap_or_default();
            xml.push_str(&match passed {
                true => format!("{head}/>\n"),
                false => format!(
                    "{head}>\n      <{element} message=\"{}\">{}</{element}>\n    </testcase>\n",
                    escape(message),
                    escape(&text)
                ),
            });
        }
        xml.push_str("  </testsuite>\n");
    }
    xml.push_str("</testsuites>\n");
    xml
}

/// Text as XML has it; characters that XML cannot have are left out.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(character),
            control if control < ' ' || control == '\u{fffe}' || control == '\u{ffff}' => {}
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule_test::observed::Asked;
    use crate::windows::result::Window;

    fn tested(name: &str, result: Result<Ran, String>) -> Tested {
        Tested { file: "rules/a.test.yaml".into(), name: name.into(), seconds: 0.25, result }
    }

    fn failed() -> Ran {
        let failure = Failure {
            window: 6,
            at: Asked { window: Window { start_ms: 18_000_000, end_ms: 21_600_000 }, at_ms: 21_605_000 },
            expected: vec!["rule: feature-drift".into(), "severity: critical".into()],
            got: vec!["rule: feature-drift".into(), "severity: warn".into()],
            alerts: vec!["feature-drift warn, firing: amount".into()],
            said: vec!["feature-drift: breached; 1000 rows; psi of amount 0.16".into()],
        };
        Ran { failures: vec![failure], notes: vec!["2 events were rejected: wrong_type".into()] }
    }

    #[test]
    fn a_failure_shows_both_sides_and_why() {
        let text = line(&tested("drift <pages>", Ok(failed())), false);
        let expected = "rules/a.test.yaml: drift <pages> ... FAILED (0.25 s)
    at window 6 (1970-01-01 05:00:00 to 1970-01-01 06:00:00 UTC)
    --- expected
    +++ got
    @@ -1,2 +1,2 @@
     rule: feature-drift
    -severity: critical
    +severity: warn
    alerts then
      feature-drift warn, firing: amount
    rules said of this window
      feature-drift: breached; 1000 rows; psi of amount 0.16
    note: 2 events were rejected: wrong_type
";
        assert_eq!(text, expected);
    }

    #[test]
    fn junit_is_xml_that_counts_failures_and_errors_apart() {
        let all = [
            tested("drift <pages> & \"more\"", Ok(failed())),
            tested("quiet", Ok(Ran { failures: Vec::new(), notes: Vec::new() })),
            tested("lost", Err("no file\u{1}".into())),
        ];
        let xml = junit(&all, 0.75);
        assert!(xml.contains("<testsuites name=\"driftline test\" tests=\"3\" failures=\"1\" errors=\"1\""), "{xml}");
        assert!(xml.contains("name=\"drift &lt;pages&gt; &amp; &quot;more&quot;\""), "{xml}");
        assert!(xml.contains("<error message=\"could not run: no file\">could not run: no file\n</error>"), "{xml}");
        assert!(xml.contains("name=\"quiet\" time=\"0.250\"/>"), "{xml}");
    }
}
