//! YAML text to a tree that knows where every key and value stands.
//!
//! saphyr's own loader stops at the first duplicate key; the tree here is built from its parser's events and keeps
//! both, so that each duplicate is reported beside everything else. `traps` steps over what people commonly get wrong in
//! the text itself (a tab, a bare `*`), so that the rest of the file is checked as well.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use saphyr::{Scalar, Tag};
use saphyr_parser::{Event, Parser, ScanError, Span};

use super::diagnostic::Problem;

mod traps;

/// A parsed file: plain values, and where each stands, by JSON pointer.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    pub value: serde_json::Value,
    pub places: Places,
}

/// Byte ranges of keys and values by JSON pointer (`/rules/0/when/warn`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Places {
    by_pointer: HashMap<String, Place>,
}

#[derive(Debug, Clone, PartialEq)]
struct Place {
    key: Option<Range<usize>>,
    value: Range<usize>,
}

impl Places {
    /// The place of the value at `pointer`, or of the nearest parent that exists.
    pub fn value(&self, pointer: &str) -> Option<Range<usize>> {
        self.nearest(pointer).map(|place| place.value.clone())
    }

    /// The place of the key at `pointer`; of the value in a list.
    pub fn key(&self, pointer: &str) -> Option<Range<usize>> {
        self.nearest(pointer).map(|place| place.key.clone().unwrap_or_else(|| place.value.clone()))
    }

    fn nearest(&self, pointer: &str) -> Option<&Place> {
        let mut pointer = pointer;
        loop {
            if let Some(place) = self.by_pointer.get(pointer) {
                return Some(place);
            }
            pointer = &pointer[..pointer.rfind('/')?];
        }
    }
}

/// One step down a JSON pointer.
pub fn child(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// An error of the text itself, with its bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct SyntaxError {
    pub at: Range<usize>,
    pub message: String,
    pub help: Option<String>,
}

/// Problems of the tree, each with its bytes.
pub type TreeProblems = Vec<(Range<usize>, Problem)>;

/// Problems of the tree (duplicate keys, tags, traps that could be stepped over) stand beside the document: later layers
/// go on. Otherwise every error of the text that was found before it could be read no further.
pub fn parse(text: &str) -> Result<(Document, TreeProblems), Vec<SyntaxError>> {
    let bytes = ByteOffsets::new(text);
    let (tree, traps) = traps::read(text, &bytes)?;
    let fail = |error: SyntaxError| Err(traps.iter().cloned().chain([error]).collect());
    let mut documents = tree.documents.into_iter();
    let empty = |node: &Node| matches!(node.data, Data::Scalar(serde_json::Value::Null));
    let Some(mut root) = documents.next().filter(|root| !empty(root)) else {
        let help = Some("start with `version: 1`".to_string());
        return fail(SyntaxError { at: 0..0, message: "the file is empty".into(), help });
    };
    if let Some(second) = documents.next() {
        let at = bytes.range(&second);
        let message = "a file holds one YAML document".into();
        return fail(SyntaxError { at, message, help: Some("put what follows `---` in a file of its own".into()) });
    }
    rejoin_arguments(text, &bytes, &mut root, 0);
    let trapped = traps.iter().map(|trap| {
        let problem = Problem::error("yaml", "", trap.message.clone()).help_if(trap.help.clone());
        (trap.at.clone(), problem)
    });
    let mut builder = Builder { bytes: &bytes, places: Places::default(), problems: trapped.collect() };
    let value = builder.build(&root, "", None, 0);
    Ok((Document { value, places: builder.places }, builder.problems))
}

/// Deeper trees than any file needs would only exhaust the stack of what reads them.
const MAX_DEPTH: usize = 32;

struct Builder<'a> {
    bytes: &'a ByteOffsets,
    places: Places,
    problems: TreeProblems,
}

impl Builder<'_> {
    fn problem(&mut self, at: Range<usize>, problem: Problem) {
        self.problems.push((at, problem));
    }

    fn build(&mut self, node: &Node, pointer: &str, key: Option<Range<usize>>, depth: usize) -> serde_json::Value {
        use serde_json::Value;
        let range = self.bytes.range(node);
        self.places.by_pointer.insert(pointer.to_string(), Place { key, value: range.clone() });
        // Aliases within aliases: the text itself is not that deep.
        if depth > MAX_DEPTH {
            self.problem(range, Problem::error("yaml", pointer, "nested too deeply"));
            return Value::Null;
        }
        if node.tagged {
            let problem = Problem::error("yaml-tag", pointer, "YAML tags are not used here");
            self.problem(range.clone(), problem.help("quote the text if it should begin with `!`"));
        }
        match &node.data {
            Data::Scalar(scalar) => scalar.clone(),
            Data::List(items) => {
                let items = items.iter().enumerate();
                let pointer = |index: usize| format!("{pointer}/{index}");
                Value::Array(items.map(|(index, item)| self.build(item, &pointer(index), None, depth + 1)).collect())
            }
            Data::Mapping(entries) => self.mapping(entries, pointer, depth),
            Data::Bad => {
                self.problem(range, Problem::error("yaml", pointer, "this is not a value of its tag's type"));
                Value::Null
            }
        }
    }

    fn mapping(&mut self, entries: &[(Node, Node)], pointer: &str, depth: usize) -> serde_json::Value {
        let mut object = serde_json::Map::new();
        let mut first_places: BTreeMap<String, Range<usize>> = BTreeMap::new();
        for (key, value) in entries {
            let key_range = self.bytes.range(key);
            let name = match &key.data {
                Data::Scalar(serde_json::Value::String(name)) => name.clone(),
                Data::Scalar(scalar) if !scalar.is_null() => scalar.to_string(),
                _ => {
                    self.problem(key_range, Problem::error("yaml", pointer, "a key must be text"));
                    continue;
                }
            };
            if let Some(first) = first_places.get(&name) {
                let line = self.bytes.line(first.start);
                let problem = Problem::error("duplicate-key", pointer, format!("`{name}` stands here twice"));
                self.problem(key_range, problem.help(format!("the first is on line {line}; remove one of them")));
                continue;
            }
            first_places.insert(name.clone(), key_range.clone());
            let value = self.build(value, &child(pointer, &name), Some(key_range), depth + 1);
            object.insert(name, value);
        }
        serde_json::Value::Object(object)
    }
}

/// Within `{...}` a comma ends plain text, so that of `{amount: normal(100, 20)}` YAML makes `normal(100` and a key `20)`
/// without value. People mean one text: an opening bracket binds what follows until it is closed.
fn rejoin_arguments(text: &str, bytes: &ByteOffsets, node: &mut Node, depth: usize) {
    if depth > MAX_DEPTH {
        return;
    }
    match &mut node.data {
        Data::List(items) => items.iter_mut().for_each(|item| rejoin_arguments(text, bytes, item, depth + 1)),
        Data::Mapping(entries) => {
            let mut index = 0;
            while index < entries.len() {
                if let Some((last, joined)) = whole_call(text, bytes, &entries[index..]) {
                    entries[index].1 = joined;
                    entries.drain(index + 1..=index + last);
                }
                rejoin_arguments(text, bytes, &mut entries[index].1, depth + 1);
                index += 1;
            }
        }
        Data::Scalar(_) | Data::Bad => {}
    }
}

/// Arguments that a bracket may bind; each is read together with those before it.
const MAX_ARGUMENTS: usize = 64;

/// The value of the first entry with the keys after it that belong to its open bracket, and how many these are.
fn whole_call(text: &str, bytes: &ByteOffsets, entries: &[(Node, Node)]) -> Option<(usize, Node)> {
    let is_open = |written: &str| written.matches('(').count() > written.matches(')').count();
    let (_, first) = entries.first()?;
    let Data::Scalar(serde_json::Value::String(begun)) = &first.data else { return None };
    let start = bytes.of(first.start);
    if text.get(start..)?.starts_with(['"', '\'']) || !is_open(begun) {
        return None;
    }
    for (position, (key, nothing)) in entries.iter().enumerate().take(MAX_ARGUMENTS).skip(1) {
        let value = text.get(bytes.range(nothing)).unwrap_or_default();
        let is_named = ["null", "~"].iter().any(|name| value.trim().eq_ignore_ascii_case(name));
        let is_bare = matches!(nothing.data, Data::Scalar(serde_json::Value::Null)) && !is_named;
        if !is_bare {
            return None;
        }
        let written = text.get(start..bytes.of(key.end))?.trim_end();
        if !is_open(written) {
            let data = Data::Scalar(written.into());
            return Some((position, Node { end: key.end, data, ..first.clone() }));
        }
    }
    None
}

/// saphyr counts characters; everything else here counts bytes.
struct ByteOffsets {
    offsets: Vec<usize>,
    newlines: Vec<usize>,
}

impl ByteOffsets {
    fn new(text: &str) -> Self {
        let offsets = text.char_indices().map(|(offset, _)| offset).chain([text.len()]).collect();
        Self { offsets, newlines: text.match_indices('\n').map(|(offset, _)| offset).collect() }
    }

    fn of(&self, character: usize) -> usize {
        self.offsets.get(character).or(self.offsets.last()).copied().unwrap_or(0)
    }

    fn range(&self, node: &Node) -> Range<usize> {
        let start = self.of(node.start);
        start..self.of(node.end).max(start)
    }

    /// Line from 1.
    fn line(&self, byte: usize) -> usize {
        self.newlines.partition_point(|newline| *newline < byte) + 1
    }
}

/// A node and the characters it spans.
#[derive(Debug, Clone)]
struct Node {
    start: usize,
    end: usize,
    tagged: bool,
    data: Data,
}

#[derive(Debug, Clone)]
enum Data {
    Scalar(serde_json::Value),
    List(Vec<Node>),
    /// In the file's order, equal keys included.
    Mapping(Vec<(Node, Node)>),
    /// Not a value of the type that its tag names, or an alias of nothing.
    Bad,
}

/// Builds the tree from the parser's events, one after the other: the parser's own loader calls itself for each level,
/// and a file of a hundred thousand brackets would exhaust the stack.
#[derive(Default)]
struct TreeBuilder {
    /// Open collections, outermost first, with the id of their anchor (0: none).
    open: Vec<(Node, usize, Option<Node>)>,
    anchors: HashMap<usize, Node>,
    documents: Vec<Node>,
    aliased_nodes: usize,
    /// Aliases that would have made the tree too large.
    too_large: bool,
}

/// Why a text has no tree.
enum Unreadable {
    Scan(ScanError),
    /// At this character.
    TooDeep(usize),
    TooManyAliases(usize),
}

impl TreeBuilder {
    fn of(text: &str) -> Result<Self, Unreadable> {
        let mut tree = Self::default();
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(Unreadable::Scan)?;
            tree.on_event(event, span);
            if tree.open.len() > MAX_DEPTH {
                return Err(Unreadable::TooDeep(span.start.index()));
            }
            if tree.too_large {
                return Err(Unreadable::TooManyAliases(span.start.index()));
            }
        }
        Ok(tree)
    }
}

/// Nodes that aliases may add: a handful of nested aliases could otherwise fill the memory.
const MAX_ALIASED_NODES: usize = 10_000;

impl Node {
    fn size(&self) -> usize {
        1 + match &self.data {
            Data::List(items) => items.iter().map(Node::size).sum(),
            Data::Mapping(entries) => entries.iter().map(|(key, value)| key.size() + value.size()).sum(),
            Data::Scalar(_) | Data::Bad => 0,
        }
    }
}

impl TreeBuilder {
    fn on_event(&mut self, event: Event<'_>, span: Span) {
        let (start, end) = (span.start.index(), span.end.index());
        let foreign = |tag: &Option<Cow<'_, Tag>>| tag.as_ref().is_some_and(|tag| !tag.is_yaml_core_schema());
        match event {
            Event::SequenceStart(anchor, tag) => {
                self.open.push((
                    Node { start, end, tagged: foreign(&tag), data: Data::List(Vec::new()) },
                    anchor,
                    None,
                ));
            }
            Event::MappingStart(anchor, tag) => {
                let data = Data::Mapping(Vec::new());
                self.open.push((Node { start, end, tagged: foreign(&tag), data }, anchor, None));
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some((node, anchor, _)) = self.open.pop() {
                    self.insert(Node { end: start.max(node.start), ..node }, anchor);
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                let tagged = foreign(&tag);
                let scalar = Scalar::parse_from_cow_and_metadata(text, style, tag.as_ref());
                let data = scalar.map_or(Data::Bad, |scalar| Data::Scalar(to_json(scalar)));
                self.insert(Node { start, end, tagged, data }, anchor);
            }
            Event::Alias(anchor) => {
                let target = self.anchors.get(&anchor);
                self.aliased_nodes += target.map_or(0, Node::size);
                self.too_large |= self.aliased_nodes > MAX_ALIASED_NODES;
                let data = target.filter(|_| !self.too_large).map_or(Data::Bad, |target| target.data.clone());
                self.insert(Node { start, end, tagged: false, data }, 0);
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {}
        }
    }

    fn insert(&mut self, node: Node, anchor: usize) {
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            None => self.documents.push(node),
            Some((Node { data: Data::List(items), .. }, _, _)) => items.push(node),
            Some((Node { data: Data::Mapping(entries), .. }, _, key)) => match key.take() {
                None => *key = Some(node),
                Some(key) => entries.push((key, node)),
            },
            // Only collections are open.
            Some(_) => {}
        }
    }
}

fn to_json(scalar: Scalar<'_>) -> serde_json::Value {
    match scalar {
        Scalar::Null => serde_json::Value::Null,
        Scalar::Boolean(boolean) => boolean.into(),
        Scalar::Integer(integer) => integer.into(),
        // Infinity and NaN have no place in JSON.
        Scalar::FloatingPoint(float) => float.into_inner().into(),
        Scalar::String(text) => traps::as_written(text.into_owned()).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> serde_json::Value {
        parse(text).unwrap().0.value
    }

    #[test]
    fn a_bracket_binds_its_arguments_within_braces() {
        let drawn =
            value("{rows: 10, amount: normal(100, 20) with 5% nulls, country: choice(DE 1, FR 2, IT 3), last: 1}");
        assert_eq!(drawn["amount"], "normal(100, 20) with 5% nulls", "{drawn}");
        assert_eq!((&drawn["country"], &drawn["last"]), (&"choice(DE 1, FR 2, IT 3)".into(), &1.into()), "{drawn}");
        let (document, _) = parse("{amount: normal(100, 20), rows: 1}").unwrap();
        assert_eq!(document.places.value("/amount"), Some(9..24));
    }

    #[test]
    fn what_no_bracket_binds_stays_as_yaml_has_it() {
        assert_eq!(value("{a: 'x(1', b: , c: ~}"), serde_json::json!({"a": "x(1", "b": null, "c": null}));
        assert_eq!(value("{a: x(1, b: 2)}"), serde_json::json!({"a": "x(1", "b": "2)"}));
        assert_eq!(value("{a: x(1, b: , c: }"), serde_json::json!({"a": "x(1", "b": null, "c": null}));
    }
}
