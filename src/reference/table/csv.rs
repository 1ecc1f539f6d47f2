//! CSV with a header line; types are inferred from all rows.

use std::fs::File;
use std::io::{BufReader, Seek};
use std::path::Path;
use std::sync::Arc;

use arrow_csv::ReaderBuilder;
use arrow_csv::reader::Format;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::arrow::error::ArrowError;

use super::{Table, TableError};

const BATCH_ROWS: usize = 65_536;

/// Cells that mean "no value", beside the empty one, as pandas and R have it.
const MISSING_TOKENS: [&str; 10] = ["NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NULL", "null", "None", "<NA>"];

/// Narrowest type that holds every value of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Inferred {
    Nothing,
    Boolean,
    Integer,
    Float,
    Text,
}

pub fn read(path: &Path) -> Result<Table, TableError> {
    let malformed = |error: ArrowError| TableError::Malformed {
        path: path.to_path_buf(),
        place: String::new(),
        reason: format!("not a CSV table with a header line: {}", without_prefix(&error)),
    };
    let mut file = File::open(path).map_err(|error| super::io_error(path, &error))?;
    let (header, _) =
        Format::default().with_header(true).infer_schema(BufReader::new(&file), Some(0)).map_err(malformed)?;
    reject_duplicates(path, &header)?;
    file.rewind().map_err(|error| super::io_error(path, &error))?;
    // as text first: parsing with the standard library rounds correctly, and decides the type from all rows
    let text = Arc::new(Schema::new(
        header.fields().iter().map(|field| Field::new(field.name(), DataType::Utf8, true)).collect::<Vec<_>>(),
    ));
    let reader = ReaderBuilder::new(text)
        .with_header(true)
        .with_batch_size(BATCH_ROWS)
        .build(BufReader::with_capacity(1 << 20, file))
        .map_err(malformed)?;
    let batches: Vec<RecordBatch> = reader.collect::<Result<_, _>>().map_err(malformed)?;
    let columns: Vec<(Field, Vec<ArrayRef>)> = header
        .fields()
        .iter()
        .enumerate()
        .map(|(position, field)| {
            let arrays: Vec<&StringArray> = batches.iter().map(|batch| batch.column(position).as_string()).collect();
            let inferred = arrays.iter().flat_map(|array| cells(array)).map(infer).max().unwrap_or(Inferred::Nothing);
            let converted: Vec<ArrayRef> = arrays.iter().map(|array| convert(array, inferred)).collect();
            let data_type = converted.first().map_or(DataType::Null, |array| array.data_type().clone());
            (Field::new(field.name(), data_type, true), converted)
        })
        .collect();
    let schema = Arc::new(Schema::new(columns.iter().map(|(field, _)| field.clone()).collect::<Vec<_>>()));
    let typed: Result<Vec<RecordBatch>, ArrowError> = (0..batches.len())
        .map(|batch| {
            let arrays = columns.iter().map(|(_, arrays)| arrays[batch].clone()).collect();
            RecordBatch::try_new(schema.clone(), arrays)
        })
        .collect();
    Ok(Table { schema, batches: typed.map_err(malformed)? })
}

fn without_prefix(error: &ArrowError) -> String {
    let text = error.to_string();
    text.strip_prefix("Csv error: ").unwrap_or(&text).to_string()
}

fn reject_duplicates(path: &Path, header: &Schema) -> Result<(), TableError> {
    let mut seen = std::collections::HashSet::new();
    match header.fields().iter().find(|field| !seen.insert(field.name())) {
        None => Ok(()),
        Some(field) => Err(TableError::Malformed {
            path: path.to_path_buf(),
            place: "line 1: ".into(),
            reason: format!("the header names column `{}` twice; rename one", field.name()),
        }),
    }
}

fn cells(array: &StringArray) -> impl Iterator<Item = Option<&str>> {
    array.iter().map(|cell| cell.map(str::trim).filter(|text| !text.is_empty() && !MISSING_TOKENS.contains(text)))
}

fn infer(cell: Option<&str>) -> Inferred {
    match cell {
        None => Inferred::Nothing,
        Some(text) if boolean(text).is_some() => Inferred::Boolean,
        Some(text) if text.parse::<i64>().is_ok() => Inferred::Integer,
        Some(text) if text.parse::<f64>().is_ok() => Inferred::Float,
        Some(_) => Inferred::Text,
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

fn convert(array: &StringArray, inferred: Inferred) -> ArrayRef {
    let number = |cell: Option<&str>| cell.and_then(|text| text.parse().ok());
    match inferred {
        Inferred::Nothing => Arc::new(datafusion::arrow::array::NullArray::new(array.len())),
        Inferred::Boolean => Arc::new(BooleanArray::from_iter(cells(array).map(|cell| cell.and_then(boolean)))),
        Inferred::Integer => {
            Arc::new(Int64Array::from_iter(cells(array).map(|cell| cell.and_then(|text| text.parse::<i64>().ok()))))
        }
        Inferred::Float => Arc::new(Float64Array::from_iter(cells(array).map(number))),
        Inferred::Text => Arc::new(StringArray::from_iter(cells(array))),
    }
}
