//! What is wrong with the text of a query, before it is planned: its shape, and the names in it, each at its place.
//!
//! All of it is found in one pass. What is left to the planner is types.

use std::collections::BTreeSet;
use std::ops::{ControlFlow, Range};

use datafusion::sql::sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArgumentClause, FunctionArguments, GroupByExpr, Ident, Query, Select,
    SelectItem, SetExpr, Spanned, Statement, TableFactor, Visit, visit_expressions,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Location, Span};

use super::functions::{allowed, is_allowed, takes_distinct, takes_within_group};
use super::{TABLE, VALUE};
use crate::config::model::{Kind, Model};
use crate::config::nearest::{nearest, suggest};
use crate::config::segment;

/// A mistake in a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlProblem {
    pub code: &'static str,
    pub message: String,
    pub help: Option<String>,
    /// Bytes of the query; `None`: all of it.
    pub at: Option<Range<usize>>,
    /// The query can be planned: what it computes is doubtful.
    pub is_warning: bool,
}

impl SqlProblem {
    pub(super) fn new(code: &'static str, at: Option<Range<usize>>, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), help: None, at, is_warning: false }
    }

    pub(super) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

/// The shape that a query has, for help.
pub(super) const SHAPE: &str = "write `SELECT avg(amount) AS value FROM events WHERE ...`";

/// Names that the planner knows.
pub(super) struct Known {
    pub columns: Vec<String>,
    /// Functions of one row.
    pub scalars: BTreeSet<String>,
    /// Of these, those that give another value each time.
    pub volatile: BTreeSet<String>,
    /// Aggregates, with other names that they go by.
    pub aggregates: Vec<(String, Vec<String>)>,
}

impl Known {
    /// DataFusion's own name of the aggregate that is called so.
    fn aggregate(&self, called: &str) -> Option<&str> {
        let is_called = |(name, others): &&(String, Vec<String>)| name == called || others.iter().any(|o| o == called);
        self.aggregates.iter().find(is_called).map(|(name, _)| name.as_str())
    }
}

/// A query whose shape is right.
pub(super) struct Checked {
    pub statement: Statement,
    /// Name of the segment that it is grouped by, as results name it.
    pub segment: Option<String>,
    /// Place of `value` among the columns of `SELECT`.
    pub value_index: usize,
}

pub(super) fn read(sql: &str, model: &Model, known: &Known) -> Result<Checked, Vec<SqlProblem>> {
    let statements = Parser::parse_sql(&GenericDialect {}, sql).map_err(|error| vec![syntax(sql, &error)])?;
    let mut reader = Reader { sql, model, known, found: Vec::new(), grouped: Vec::new() };
    let wrong_shape = |message: &str| vec![SqlProblem::new("sql-shape", None, message).help(SHAPE)];
    let mut statements = statements.into_iter();
    let Some(statement) = statements.next() else { return Err(wrong_shape("the query is empty")) };
    if statements.next().is_some() {
        return Err(wrong_shape("a metric is one query, and there are several here"));
    }
    let Statement::Query(query) = &statement else { return Err(wrong_shape("this is not a `SELECT`")) };
    let SetExpr::Select(select) = &*query.body else {
        return Err(wrong_shape("a metric is one `SELECT`, without `UNION` and the like"));
    };
    reader.clauses(query, select);
    reader.table(select);
    let segment = reader.group_by(select);
    let value_index = reader.columns_of_select(select);
    reader.names(select);
    reader.found.sort_by_key(|problem| problem.at.as_ref().map(|at| at.start));
    reader.found.dedup();
    match reader.found.is_empty() {
        true => Ok(Checked { statement, segment, value_index }),
        false => Err(reader.found),
    }
}

/// The parser says where in words: "... at Line: 1, Column: 8".
fn syntax(sql: &str, error: &ParserError) -> SqlProblem {
    let said = match error {
        ParserError::TokenizerError(said) | ParserError::ParserError(said) => said.clone(),
        ParserError::RecursionLimitExceeded => "nested too deeply".into(),
    };
    let (message, place) = said.rsplit_once(" at Line: ").unwrap_or((&said, ""));
    let mut numbers = place.split(", Column: ").map(|number| number.trim().parse::<u64>().ok());
    let location = numbers.next().flatten().zip(numbers.next().flatten());
    let at = location.map(|(line, column)| {
        let start = byte_at(sql, Location { line, column });
        let word = sql[start..].find(|c: char| c.is_whitespace() || "(),".contains(c));
        start..start + word.unwrap_or(sql.len() - start)
    });
    // Errors of ours begin in lower case.
    let message = match message.split_once(':') {
        Some(("Expected", rest)) => format!("not SQL: expected{rest}"),
        _ => format!("not SQL: {}", lower_first(message)),
    };
    let at_end = at.as_ref().is_none_or(|at| at.is_empty());
    SqlProblem::new("sql", at.filter(|_| !at_end), message.replace("found: EOF", "found its end")).help(SHAPE)
}

pub(super) fn lower_first(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_lowercase().chain(characters).collect())
}

/// The byte at a place that counts lines and characters from 1.
fn byte_at(sql: &str, place: Location) -> usize {
    let line_start = match place.line {
        0 | 1 => 0,
        line => sql.match_indices('\n').nth(line as usize - 2).map_or(sql.len(), |(newline, _)| newline + 1),
    };
    let mut characters = sql[line_start..].char_indices();
    let within = characters.nth(place.column.saturating_sub(1) as usize);
    within.map_or(sql.len(), |(offset, _)| line_start + offset)
}

/// Bytes of a stretch that the parser names; `None`: it names none.
pub(super) fn bytes(sql: &str, span: Span) -> Option<Range<usize>> {
    let known = span.start.line > 0 && span.end.line > 0;
    let range = byte_at(sql, span.start)..byte_at(sql, span.end);
    (known && range.start < range.end).then_some(range)
}

/// Where a function is called: `avg`, or `avg(Utf8)` as the planner writes it.
pub(super) fn call_of(sql: &str, written: &str) -> Option<Range<usize>> {
    let name = written.split('(').next()?.to_lowercase();
    let start = sql.to_lowercase().find(&format!("{name}(")).filter(|_| !name.is_empty())?;
    // Lower case may be longer: then the place would be another.
    sql.get(start..start + name.len())
        .filter(|found| found.eq_ignore_ascii_case(&name))
        .map(|_| start..start + name.len())
}

/// Names that people know from elsewhere, and what it is called here.
const CALLED_OTHERWISE: [(&str, &str); 6] = [
    ("average", "avg"),
    ("std", "stddev"),
    ("variance", "var"),
    ("quantile", "percentile_cont"),
    ("nunique", "approx_distinct"),
    ("log", "ln"),
];

struct Reader<'a> {
    sql: &'a str,
    model: &'a Model,
    known: &'a Known,
    found: Vec<SqlProblem>,
    /// Columns of `GROUP BY`.
    grouped: Vec<String>,
}

impl Reader<'_> {
    fn at(&self, spanned: &impl Spanned) -> Option<Range<usize>> {
        bytes(self.sql, spanned.span())
    }

    fn at_name(&self, ident: &Ident) -> Option<Range<usize>> {
        bytes(self.sql, ident.span)
    }

    fn report(&mut self, problem: SqlProblem) {
        self.found.push(problem);
    }

    fn refuse(&mut self, what: &str, at: Option<Range<usize>>, help: &str) {
        self.report(SqlProblem::new("sql-shape", at, format!("a metric has no {what}")).help(help));
    }

    fn clauses(&mut self, query: &Query, select: &Select) {
        let one_number = "it is one number for all events of a window, or for each value of a segment";
        if let Some(with) = &query.with {
            self.refuse("`WITH`", self.at(with), "write one `SELECT` over `events`");
        }
        if let Some(order_by) = &query.order_by {
            self.refuse("`ORDER BY`", self.at(order_by), one_number);
        }
        if query.limit_clause.is_some() || query.fetch.is_some() || select.top.is_some() {
            self.refuse("`LIMIT`", None, one_number);
        }
        if select.distinct.is_some() {
            self.refuse("`SELECT DISTINCT`", None, "write `count(DISTINCT country) AS value`");
        }
        if let Some(having) = &select.having {
            let help = "write the condition under `when:`, or make it NULL: `CASE WHEN count(*) >= 100 THEN ... END`";
            self.refuse("`HAVING`", self.at(having), help);
        }
        if let Some(qualify) = &select.qualify {
            self.refuse("`QUALIFY`", self.at(qualify), one_number);
        }
        if !select.named_window.is_empty() {
            self.refuse("`WINDOW`", None, "the rule's `window:` says which events it is of");
        }
        let others = !query.locks.is_empty()
            || query.for_clause.is_some()
            || query.settings.is_some()
            || query.format_clause.is_some()
            || !query.pipe_operators.is_empty()
            || select.into.is_some()
            || select.prewhere.is_some()
            || !select.lateral_views.is_empty()
            || !select.connect_by.is_empty()
            || !select.cluster_by.is_empty()
            || !select.distribute_by.is_empty()
            || !select.sort_by.is_empty();
        if others {
            self.refuse("clause but `SELECT`, `FROM`, `WHERE` and `GROUP BY`", None, SHAPE);
        }
    }

    fn table(&mut self, select: &Select) {
        let [from] = select.from.as_slice() else {
            let message = match select.from.len() {
                0 => "the query reads no table",
                _ => "the query reads several tables: there is one, `events`",
            };
            return self.report(SqlProblem::new("sql-shape", None, message).help("write `FROM events`"));
        };
        if let Some(join) = from.joins.first() {
            self.refuse("join", self.at(join), "the one table is `events`: predictions with their features");
        }
        let TableFactor::Table { name, args: None, sample: None, .. } = &from.relation else {
            let at = self.at(&from.relation);
            return self
                .report(SqlProblem::new("sql-shape", at, "the one table is `events`").help("write `FROM events`"));
        };
        if name.to_string() != TABLE {
            let message = format!("there is no table `{name}`");
            let help = format!("the one table is `{TABLE}`: predictions with their features");
            self.report(SqlProblem::new("unknown-table", self.at(name), message).help(help));
        }
    }

    /// Name of the segment.
    fn group_by(&mut self, select: &Select) -> Option<String> {
        let columns = match &select.group_by {
            GroupByExpr::Expressions(columns, modifiers) if modifiers.is_empty() => columns,
            _ => {
                self.refuse("`GROUP BY ALL` and no grouping sets", None, "write `GROUP BY country`");
                return None;
            }
        };
        let mut names = Vec::new();
        for column in columns {
            match column_of(column) {
                Some(name) if self.known.columns.contains(&name.value) => names.push(name.value.clone()),
                // Reported with the other names.
                Some(_) => return None,
                None => {
                    let message = "`GROUP BY` takes the columns of a segment";
                    let help = "write `GROUP BY country`; what else splits events is a segment of the model file first";
                    self.report(SqlProblem::new("sql-shape", self.at(column), message).help(help));
                    return None;
                }
            }
        }
        self.grouped = names.clone();
        names.sort_unstable();
        let segment = match names.as_slice() {
            [] => return None,
            [one] => one.clone(),
            [first, second] => segment::join(first, second),
            _ => {
                let message = "events are split by one segment column, or by two together";
                self.report(SqlProblem::new("unknown-segment", self.at(&columns[2]), message));
                return None;
            }
        };
        if !self.model.has_segment(&segment) {
            let (message, help) = self.no_segment(&names);
            let span = Span::union_iter(columns.iter().map(Spanned::span));
            let problem = SqlProblem::new("unknown-segment", bytes(self.sql, span), message);
            self.report(SqlProblem { help, ..problem });
        }
        Some(segment)
    }

    fn no_segment(&self, names: &[String]) -> (String, Option<String>) {
        let written = if let [one] = names { one.clone() } else { format!("[{}]", names.join(", ")) };
        if names.iter().any(|name| name == crate::event::VERSION) {
            let help = "take `version` out of `GROUP BY`".to_string();
            return ("each version is judged apart anyway".into(), Some(help));
        }
        let kind = |name: &String| self.model.features.get(name).map(|feature| feature.kind());
        let other = names.iter().find(|name| kind(name) != Some(Kind::Categorical));
        if let Some(name) = other {
            let what = kind(name).map_or("no feature", Kind::predicate);
            return (format!("`{name}` is {what}: events are split by categorical features"), None);
        }
        let help = format!("add `{written}` to `segments:` in the model file");
        (format!("`{written}` is not a segment of model `{}`", self.model.model), Some(help))
    }

    /// Place of `value`.
    fn columns_of_select(&mut self, select: &Select) -> usize {
        let (mut value, mut others) = (None, Vec::new());
        for (index, item) in select.projection.iter().enumerate() {
            let (expression, alias) = match item {
                SelectItem::UnnamedExpr(expression) => (expression, None),
                SelectItem::ExprWithAlias { expr, alias } => (expr, Some(alias)),
                other => {
                    let problem = SqlProblem::new("sql-shape", self.at(other), "`*` is not one number");
                    self.report(problem.help(SHAPE));
                    return 0;
                }
            };
            match alias {
                Some(alias) if alias.value.eq_ignore_ascii_case(VALUE) => {
                    if value.is_some() {
                        let at = self.at_name(alias);
                        self.report(SqlProblem::new("sql-shape", at, "a metric has one `value`").help(SHAPE));
                    }
                    value.get_or_insert(index);
                    self.value(expression);
                }
                alias => {
                    let is_grouped = column_of(expression).is_some_and(|column| self.grouped.contains(&column.value));
                    if !is_grouped {
                        others.push((index, expression, alias));
                    }
                }
            }
        }
        match (value, others.as_slice()) {
            (None, [(index, expression, None)]) => {
                let problem = SqlProblem::new("sql-no-value", self.at(*expression), "the number has no name");
                self.report(problem.help("write `AS value` after it"));
                self.value(expression);
                return *index;
            }
            (None, [(index, expression, Some(alias))]) => {
                let message = format!("`{}` is not the name of the number", alias.value);
                self.report(SqlProblem::new("sql-no-value", self.at_name(alias), message).help("write `AS value`"));
                self.value(expression);
                return *index;
            }
            (None, []) => {
                self.report(SqlProblem::new("sql-no-value", None, "no column is named `value`").help(SHAPE));
            }
            (None, _) | (Some(_), [_, ..]) => {
                for (_, expression, _) in &others {
                    let message = "beside `value` there are only the columns of `GROUP BY`";
                    self.report(SqlProblem::new("sql-shape", self.at(*expression), message).help(SHAPE));
                }
            }
            (Some(_), []) => {}
        }
        value.unwrap_or(0)
    }

    /// An expression over aggregates, with nothing of a single event outside of them.
    fn value(&mut self, expression: &Expr) {
        let mut aggregates = Vec::new();
        each(expression, |part| {
            if let Expr::Function(function) = part
                && self.known.aggregate(&called(function)).is_some()
            {
                aggregates.push(function.clone());
            }
        });
        if aggregates.is_empty() {
            let written = self.at(expression).map_or("this", |at| self.sql[at].trim());
            let message = format!("`{written}` is of one event: a metric is one number for all events of a window");
            let help = "put it into an aggregate, such as `avg(...)`, `sum(...)` or `count(*)`".to_string();
            // Of a misspelt aggregate its name says enough.
            let unknown = self.unknown_functions(expression);
            if !unknown {
                self.report(SqlProblem::new("sql-no-aggregate", self.at(expression), message).help(help));
            }
            return;
        }
        let mut inside: BTreeSet<(u64, u64)> = BTreeSet::new();
        for function in &aggregates {
            let mut first = true;
            let mut nested = None;
            each(&Expr::Function(function.clone()), |part| {
                match part {
                    Expr::Function(inner) if !first && self.known.aggregate(&called(inner)).is_some() => {
                        nested.get_or_insert(inner.name.span());
                    }
                    Expr::Identifier(ident) => drop(inside.insert(place(ident))),
                    Expr::CompoundIdentifier(idents) => inside.extend(idents.last().map(place)),
                    _ => {}
                }
                first = false;
            });
            if let Some(span) = nested {
                let message = "an aggregate of an aggregate";
                let help = "aggregate the events once, and compute with the results: `sum(a) / count(*)`";
                self.report(SqlProblem::new("sql-shape", bytes(self.sql, span), message).help(help));
            }
        }
        let mut outside = Vec::new();
        each(expression, |part| {
            if let Some(ident) = column_of(part).filter(|ident| !inside.contains(&place(ident))) {
                outside.push(ident.clone());
            }
        });
        for ident in outside.iter().filter(|ident| self.known.columns.contains(&ident.value)) {
            let message = format!("`{}` is of one event, and stands outside of an aggregate", ident.value);
            let help = format!("write `avg({0})` or `max({0})`", ident.value);
            self.report(SqlProblem::new("sql-no-aggregate", self.at_name(ident), message).help(help));
        }
    }

    fn unknown_functions(&self, expression: &Expr) -> bool {
        let mut unknown = false;
        each(expression, |part| {
            if let Expr::Function(function) = part {
                let name = called(function);
                unknown |= !self.known.scalars.contains(&name);
            }
        });
        unknown
    }

    /// Every column and function, wherever it stands.
    fn names(&mut self, select: &Select) {
        let mut parts = Vec::new();
        each(select, |part| parts.push(part.clone()));
        for part in parts {
            match &part {
                Expr::Function(function) => self.function(function),
                Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => {
                    self.refuse("query within", self.at(&part), "the one table is `events`, read once");
                }
                _ => {
                    if let Some(ident) = column_of(&part) {
                        self.column(ident);
                    }
                }
            }
        }
        let selection = select.selection.as_ref().filter(|selection| !has_query(selection));
        if let Some(at) = selection.and_then(|selection| self.aggregate_in(selection)) {
            let help = "write the condition under `when:`, or `count(*) FILTER (WHERE ...)`";
            self.report(SqlProblem::new("sql-shape", Some(at), "`WHERE` is asked of each event").help(help));
        }
    }

    fn aggregate_in(&self, expression: &Expr) -> Option<Range<usize>> {
        let mut found = None;
        each(expression, |part| {
            if let Expr::Function(function) = part
                && self.known.aggregate(&called(function)).is_some()
            {
                found = found.clone().or(bytes(self.sql, function.name.span()));
            }
        });
        found
    }

    fn column(&mut self, ident: &Ident) {
        if self.known.columns.contains(&ident.value) {
            return;
        }
        let message = format!("there is no column `{}`", ident.value);
        let columns = self.known.columns.iter().map(String::as_str);
        let near = nearest(&ident.value, columns.clone());
        let help = match (ident.quote_style, near) {
            (Some('"'), None) => Some(format!("text stands in single quotes: `'{}'`", ident.value)),
            _ => suggest(&ident.value, columns),
        };
        let listed = || Some("columns are the model's features, and those of docs/sql-metrics.md".to_string());
        let problem = SqlProblem::new("unknown-column", self.at_name(ident), message);
        self.report(SqlProblem { help: help.or_else(listed), ..problem });
    }

    fn function(&mut self, function: &Function) {
        let name = called(function);
        let at = bytes(self.sql, function.name.span());
        if function.over.is_some() {
            return self.refuse("window function", at, "the rule's `window:` says which events it is of");
        }
        let Some(aggregate) = self.known.aggregate(&name) else {
            if self.known.volatile.contains(&name) {
                let message = format!("`{name}` gives another value each time: a replay would not come to the same");
                let help = "use `event_time`, the time of the event";
                self.report(SqlProblem::new("sql-volatile", at, message).help(help));
            } else if !self.known.scalars.contains(&name) {
                let known = self.known.scalars.iter().map(String::as_str).chain(allowed().map(|name| -> &str { name }));
                let otherwise = CALLED_OTHERWISE.iter().find(|(other, _)| *other == name);
                let help = match otherwise {
                    Some((_, here)) => format!("it is called `{here}` here"),
                    None => suggest(&name, known).unwrap_or("docs/sql-metrics.md lists them".to_string()),
                };
                let problem = SqlProblem::new("unknown-function", at, format!("there is no function `{name}`"));
                self.report(problem.help(help));
            }
            return;
        };
        let aggregate = aggregate.to_string();
        if !is_allowed(&aggregate) {
            let message = format!("`{name}` depends on the order of events, or on how they are put together");
            let names: Vec<String> = allowed().map(|name| format!("`{name}`")).collect();
            let help = format!("these do not: {}", names.join(", "));
            return self.report(SqlProblem::new("sql-order", at, message).help(help));
        }
        let FunctionArguments::List(arguments) = &function.args else { return };
        if arguments.duplicate_treatment == Some(DuplicateTreatment::Distinct) && !takes_distinct(&aggregate) {
            let message = format!("`{name}` of distinct values adds them up in no known order");
            let help = "`count(DISTINCT ...)` is possible";
            self.report(SqlProblem::new("sql-order", at.clone(), message).help(help));
        }
        let ordered = arguments.clauses.iter().any(|clause| matches!(clause, FunctionArgumentClause::OrderBy(_)));
        if ordered || (!function.within_group.is_empty() && !takes_within_group(&aggregate)) {
            let message = format!("`{name}` does not depend on an order");
            self.report(SqlProblem::new("sql-order", at, message).help("take `ORDER BY` out"));
        }
    }
}

fn each(node: &impl Visit, mut visit: impl FnMut(&Expr)) {
    let _ = visit_expressions(node, |expression| {
        visit(expression);
        ControlFlow::<()>::Continue(())
    });
}

fn has_query(expression: &Expr) -> bool {
    let mut found = false;
    each(expression, |part| {
        found |= matches!(part, Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. });
    });
    found
}

fn column_of(expression: &Expr) -> Option<&Ident> {
    match expression {
        Expr::Identifier(ident) => Some(ident),
        Expr::CompoundIdentifier(idents) => idents.last(),
        _ => None,
    }
}

fn place(ident: &Ident) -> (u64, u64) {
    (ident.span.start.line, ident.span.start.column)
}

/// Functions are found whatever their case.
fn called(function: &Function) -> String {
    function.name.to_string().to_lowercase()
}
