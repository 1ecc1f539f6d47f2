//! The JSON Schema of each file. What breaks it, in words people use, is in `violations`.

use std::ops::Range;

use schemars::JsonSchema;
use serde_json::Value;

pub use super::violations::violations;

/// The schema of `T`, without `null` alternatives: a key that is there has a value.
pub fn of<T: JsonSchema>() -> Value {
    let mut schema = schemars::schema_for!(T).to_value();
    strip_null(&mut schema);
    schema
}

/// Optional Rust fields become "this or null" in schemars; in a file an empty value is a mistake. Alternatives of
/// constants become one `enum`, so that an error can list them.
fn strip_null(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(strip_null),
        Value::Object(object) => {
            if object.get("default").is_some_and(Value::is_null) {
                object.remove("default");
            }
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|kind| kind != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".into(), only);
                }
            }
            if let Some(Value::Array(options)) = object.get_mut("enum") {
                options.retain(|option| !option.is_null());
            }
            if let Some(Value::Array(mut branches)) = object.remove("anyOf") {
                branches.retain(|branch| branch.get("type").is_none_or(|kind| kind != "null"));
                match branches.as_slice() {
                    [Value::Object(only)] => {
                        object.extend(only.clone());
                    }
                    _ => {
                        object.insert("anyOf".into(), Value::Array(branches));
                    }
                }
            }
            if let Some(constants) = object.get("oneOf").and_then(constants) {
                object.remove("oneOf");
                object.insert("type".into(), "string".into());
                object.insert("enum".into(), Value::Array(constants));
            }
            object.values_mut().for_each(strip_null);
        }
        _ => {}
    }
}

/// All values of a `oneOf` whose branches are constants or enumerations.
fn constants(branches: &Value) -> Option<Vec<Value>> {
    let mut values = Vec::new();
    for branch in branches.as_array()? {
        match (branch.get("const"), branch.get("enum")) {
            (Some(constant), _) => values.push(constant.clone()),
            (None, Some(Value::Array(options))) => values.extend(options.iter().cloned()),
            _ => return None,
        }
    }
    Some(values)
}

/// Where in the file a part of a text value stands: `within` counts from the start of the value, the file may
/// have quotes around it, or fold it over several lines. White space is what folding changes, so places are found
/// by counting the rest.
pub fn inside(text: &str, place: &Range<usize>, value: &str, within: &Range<usize>) -> Range<usize> {
    let written = text.get(place.clone()).unwrap_or_default();
    let solid = |text: &str| text.chars().filter(|c| !c.is_whitespace()).count();
    let quotes = usize::from(written.starts_with(['"', '\'']));
    if solid(written) != solid(value) + 2 * quotes {
        return place.clone();
    }
    let byte_after = |solid_before: usize| {
        let mut solids = written.char_indices().filter(|(_, c)| !c.is_whitespace());
        solids.nth(solid_before + quotes).map_or(written.len(), |(offset, _)| offset)
    };
    let start = byte_after(solid(value.get(..within.start).unwrap_or_default()));
    let length = within.end.saturating_sub(within.start);
    let end_of_value = written.trim_end().len() - quotes;
    let start = start.min(end_of_value);
    place.start + start..place.start + (start + length).min(end_of_value.max(start))
}
