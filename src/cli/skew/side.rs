//! One side's rows: a file, or all files of a folder, as feature logs are written.

use std::path::{Path, PathBuf};

use datafusion::arrow::array::{ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Float64Type, Int64Type};

use super::SkewError;
use crate::reference::table::{CategoryIndex, ColumnKind, MISSING, Table, TableError, TableFile};
use crate::stats::skew::Value;

/// Folders within folders that are looked into, such as one a day.
const MOST_DEPTH: usize = 8;

/// Rows of one or several files, in the order of their paths.
#[derive(Debug)]
pub struct Side {
    /// `online` or `offline`.
    pub name: &'static str,
    pub path: PathBuf,
    pub rows: usize,
    files: Vec<TableFile>,
}

/// How a column's values are held: one type for all files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    Empty,
    Integers,
    Numbers,
    Times,
    Texts,
    Vectors,
    /// Structures and binary values.
    Other,
}

/// One column's values, row by row.
#[derive(Debug)]
pub enum Column {
    /// No value in any row.
    Empty,
    Integers {
        values: Vec<i64>,
        present: Vec<bool>,
    },
    /// NaN is missing.
    Numbers(Vec<f64>),
    Texts {
        codes: Vec<u32>,
        index: CategoryIndex,
    },
    /// Row i holds `values[ends[i - 1]..ends[i]]`.
    Vectors {
        values: Vec<f64>,
        ends: Vec<usize>,
        present: Vec<bool>,
    },
}

impl Side {
    /// Rows of a topic, named as it was on the command line.
    pub fn of_table(name: &'static str, path: &Path, table: Table) -> Self {
        let file = TableFile::of_table(path.to_path_buf(), table);
        Self { name, path: path.to_path_buf(), rows: file.rows, files: vec![file] }
    }

    pub fn open(name: &'static str, path: &Path) -> Result<Self, SkewError> {
        let at = |source: TableError| SkewError::File { side: name, source };
        let files = if path.is_dir() {
            let mut paths = Vec::new();
            collect(path, 0, &mut paths).map_err(|reason| {
                at(TableError::Unreadable { path: path.to_path_buf(), reason: reason.to_string() })
            })?;
            paths.sort();
            let opened = paths.iter().map(|file| TableFile::open(file)).filter(|file| {
                // A logger that had nothing to write left an empty file.
                !matches!(file, Err(TableError::NoRows { .. }))
            });
            opened.collect::<Result<Vec<_>, _>>().map_err(at)?
        } else {
            vec![TableFile::open(path).map_err(at)?]
        };
        let rows = files.iter().map(|file| file.rows).sum();
        if rows == 0 {
            return Err(at(TableError::NoRows { path: path.to_path_buf() }));
        }
        if u32::try_from(rows).is_err() {
            let reason = format!("holds {rows} rows, more than this command numbers (4 294 967 295); compare by parts");
            return Err(at(TableError::Unreadable { path: path.to_path_buf(), reason }));
        }
        Ok(Self { name, path: path.to_path_buf(), rows, files })
    }

    /// Names of all columns of any file, in order of first appearance.
    pub fn columns(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for name in self.files.iter().flat_map(TableFile::column_names) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    pub fn has(&self, name: &str) -> bool {
        self.files.iter().any(|file| file.kind(name).is_ok())
    }

    /// Files that lack the column: its rows are missing values there.
    pub fn files_without(&self, name: &str) -> usize {
        self.files.iter().filter(|file| file.kind(name).is_err()).count()
    }

    /// The error of a column that no file has, with the nearest name.
    pub fn no_such_column(&self, name: &str) -> SkewError {
        let source = match self.files.first().map(|file| file.kind(name)) {
            Some(Err(source)) => source,
            _ => TableError::NoSuchColumn { name: name.to_string(), nearest: None, columns: Vec::new() },
        };
        SkewError::Column { side: self.name, path: self.path.clone(), source }
    }

    fn column_error(&self, source: TableError) -> SkewError {
        SkewError::Column { side: self.name, path: self.path.clone(), source }
    }

    /// Whether the column is of a kind that is compared: not a structure or binary values.
    pub fn is_comparable(&self, name: &str) -> bool {
        self.form(name) != Form::Other
    }

    /// A column as epoch milliseconds, rounded down.
    pub fn epoch_ms(&self, name: &str) -> Result<Vec<Option<i64>>, SkewError> {
        let mut times = Vec::with_capacity(self.rows);
        for file in &self.files {
            match file.kind(name) {
                Err(_) => times.resize(times.len() + file.rows, None),
                Ok(_) => {
                    let column = file.columns(&[name]).and_then(|table| table.epoch_ms(name));
                    times.extend(column.map_err(|source| self.column_error(source))?);
                }
            }
        }
        Ok(times)
    }

    /// A column as texts: numbers as written, whole ones without decimals, so that `7` and `7.0` are one key.
    pub fn texts(&self, name: &str) -> Result<(Vec<u32>, CategoryIndex), SkewError> {
        let mut codes = Vec::with_capacity(self.rows);
        let mut index = CategoryIndex::default();
        for file in &self.files {
            match file.kind(name) {
                Err(_) => codes.resize(codes.len() + file.rows, MISSING),
                Ok(_) => {
                    let column = file.columns(&[name]).and_then(|table| table.encode(name, &mut index));
                    codes.extend(column.map_err(|source| self.column_error(source))?);
                }
            }
        }
        Ok((codes, index))
    }

    pub fn column(&self, name: &str) -> Result<Column, SkewError> {
        match self.form(name) {
            Form::Empty | Form::Other => Ok(Column::Empty),
            Form::Times => {
                let times = self.epoch_ms(name)?;
                let present = times.iter().map(Option::is_some).collect();
                Ok(Column::Integers { values: times.into_iter().map(Option::unwrap_or_default).collect(), present })
            }
            Form::Texts => self.texts(name).map(|(codes, index)| Column::Texts { codes, index }),
            Form::Integers => {
                let (mut values, mut present) = (Vec::with_capacity(self.rows), Vec::with_capacity(self.rows));
                self.each_array(name, &DataType::Int64, |array| {
                    for value in array.as_primitive::<Int64Type>() {
                        present.push(value.is_some());
                        values.push(value.unwrap_or_default());
                    }
                })?;
                Ok(Column::Integers { values, present })
            }
            Form::Numbers => {
                let mut values = Vec::with_capacity(self.rows);
                self.each_array(name, &DataType::Float64, |array| {
                    values.extend(array.as_primitive::<Float64Type>().iter().map(|value| value.unwrap_or(f64::NAN)));
                })?;
                Ok(Column::Numbers(values))
            }
            Form::Vectors => {
                let (mut values, mut ends, mut present) = (Vec::new(), Vec::new(), Vec::new());
                let list = DataType::LargeList(Field::new_list_field(DataType::Float64, true).into());
                self.each_array(name, &list, |array| {
                    for row in array.as_list::<i64>().iter() {
                        present.push(row.is_some());
                        if let Some(row) = row {
                            let numbers = row.as_primitive::<Float64Type>();
                            values.extend(numbers.iter().map(|value| value.unwrap_or(f64::NAN)));
                        }
                        ends.push(values.len());
                    }
                })?;
                Ok(Column::Vectors { values, ends, present })
            }
        }
    }

    /// The column's batches as `wanted`; rows of files that lack it are nulls.
    fn each_array(&self, name: &str, wanted: &DataType, mut each: impl FnMut(&ArrayRef)) -> Result<(), SkewError> {
        for file in &self.files {
            if file.kind(name).is_err() {
                each(&datafusion::arrow::array::new_null_array(wanted, file.rows));
                continue;
            }
            let table: Table = file.columns(&[name]).map_err(|source| self.column_error(source))?;
            for batch in &table.batches {
                let array = cast(batch.column(0), wanted).map_err(|error| {
                    let reason = format!("column `{name}`: {error}");
                    self.column_error(TableError::Unreadable { path: self.path.clone(), reason })
                })?;
                each(&array);
            }
        }
        Ok(())
    }

    /// The form that holds the values of all files.
    fn form(&self, name: &str) -> Form {
        let of_file = |file: &TableFile| match (file.kind(name), file.schema.field_with_name(name)) {
            (Ok(kind), Ok(field)) => form_of(kind, field.data_type()),
            _ => Form::Empty,
        };
        let forms: Vec<Form> = self.files.iter().map(of_file).filter(|form| *form != Form::Empty).collect();
        let widest = forms.iter().max().copied().unwrap_or(Form::Empty);
        let mixes = forms.iter().any(|form| *form != widest);
        match widest {
            // Times and lists do not mix with anything.
            Form::Times | Form::Vectors if mixes => Form::Other,
            widest => widest,
        }
    }
}

/// Files of a folder that may be tables; names that start with `.` or `_` are other programs' marks (`_SUCCESS`).
fn collect(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let is_table = ["parquet", "pq", "csv", "jsonl", "ndjson", "json"]
            .iter()
            .any(|extension| path.extension().is_some_and(|found| found.eq_ignore_ascii_case(extension)));
        if path.is_dir() && depth < MOST_DEPTH && !name.starts_with('.') {
            collect(&path, depth + 1, found)?;
        } else if is_table && !name.starts_with(['.', '_']) {
            found.push(path);
        }
    }
    Ok(())
}

fn form_of(kind: ColumnKind, data_type: &DataType) -> Form {
    match (kind, data_type) {
        (ColumnKind::Empty, _) => Form::Empty,
        (ColumnKind::Time, _) => Form::Times,
        (_, DataType::Boolean) => Form::Integers,
        (ColumnKind::Categorical, _) => Form::Texts,
        (ColumnKind::Numeric, DataType::UInt64) => Form::Numbers,
        (ColumnKind::Numeric, numeric) if numeric.is_integer() => Form::Integers,
        (ColumnKind::Numeric, _) => Form::Numbers,
        (_, DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _))
            if item.data_type().is_numeric() =>
        {
            Form::Vectors
        }
        _ => Form::Other,
    }
}

impl Column {
    pub fn value(&self, row: usize) -> Value<'_> {
        match self {
            Column::Empty => Value::Missing,
            Column::Integers { values, present } if present[row] => Value::Integer(values[row]),
            Column::Numbers(values) if !values[row].is_nan() => Value::Number(values[row]),
            Column::Texts { codes, index } => {
                index.names().get(codes[row] as usize).map_or(Value::Missing, |text| Value::Text(text))
            }
            Column::Vectors { values, ends, present } if present[row] => {
                let start = row.checked_sub(1).map_or(0, |before| ends[before]);
                Value::Vector(&values[start..ends[row]])
            }
            _ => Value::Missing,
        }
    }
}
