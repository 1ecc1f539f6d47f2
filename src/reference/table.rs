//! Tables from files: Parquet, CSV and JSON Lines, with columns as numbers, categories or times.

mod columns;
mod csv;
pub(super) mod jsonl;
mod nearest;
mod parquet;

use std::path::{Path, PathBuf};

use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::datatypes::{DataType, SchemaRef};

pub(super) use columns::append_times;
pub use columns::{CategoryIndex, MISSING, category_text, epoch_ms_of_number, parse_epoch_ms};

/// A file's rows, in file order.
#[derive(Debug, Clone)]
pub struct Table {
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
}

/// What a column is good for, by its type in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    Numeric,
    /// Text, booleans, dictionaries.
    Categorical,
    /// Dates and timestamps.
    Time,
    /// No value in any row: either kind.
    Empty,
    /// Lists, structs, binary.
    Other,
}

#[derive(Debug, thiserror::Error)]
pub enum TableError {
    #[error("{}: no such file; give the path of a Parquet, CSV or JSONL file", path.display())]
    Missing { path: PathBuf },
    #[error("{}: cannot be read: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
    #[error("{}: unknown kind of file; name it .parquet, .csv or .jsonl after what it holds", path.display())]
    UnknownFormat { path: PathBuf },
    /// The content is not what the extension says; `place` is a line or empty.
    #[error("{}: {place}{reason}", path.display())]
    Malformed { path: PathBuf, place: String, reason: String },
    #[error("{}: holds no rows", path.display())]
    NoRows { path: PathBuf },
    #[error("no column `{name}`{}; the columns are: {}", did_you_mean(nearest), columns.join(", "))]
    NoSuchColumn { name: String, nearest: Option<String>, columns: Vec<String> },
    #[error("column `{column}` is {found}, not {wanted}")]
    WrongType { column: String, found: String, wanted: &'static str },
    #[error(
        "column `{column}` is infinite in row {row} (the first is 1): no statistic is defined then; make it missing \
         (null) or finite"
    )]
    Infinite { column: String, row: usize },
    #[error(
        "column `{column}` holds `{value}` in row {row} (the first is 1), which is not a time; write RFC 3339 \
         (2026-01-31T08:00:00Z) or a number of seconds, ms or µs since 1970"
    )]
    NotATime { column: String, row: usize, value: String },
}

fn did_you_mean(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default()
}

/// How a file is written, by its extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Parquet,
    Csv,
    JsonLines,
}

impl Format {
    fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "parquet" | "pq" => Some(Self::Parquet),
            "csv" => Some(Self::Csv),
            "jsonl" | "ndjson" | "json" => Some(Self::JsonLines),
            _ => None,
        }
    }
}

/// An opened file: Parquet columns are read when asked for, the other formats at once.
#[derive(Debug)]
pub struct TableFile {
    pub path: PathBuf,
    pub schema: SchemaRef,
    pub rows: usize,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Parquet(parquet::Source),
    Memory(Table),
}

impl TableFile {
    /// Fails where the file is missing, not what its extension says, or has no rows.
    pub fn open(path: &Path) -> Result<Self, TableError> {
        let format = Format::of(path).ok_or_else(|| TableError::UnknownFormat { path: path.to_path_buf() })?;
        let (schema, rows, content) = match format {
            Format::Parquet => {
                let source = parquet::Source::open(path)?;
                (source.schema(), source.rows(), Content::Parquet(source))
            }
            Format::Csv => Self::in_memory(csv::read(path)?),
            Format::JsonLines => Self::in_memory(jsonl::read(path)?),
        };
        if rows == 0 {
            return Err(TableError::NoRows { path: path.to_path_buf() });
        }
        Ok(Self { path: path.to_path_buf(), schema, rows, content })
    }

    /// Rows that are there already; `path` is what messages call them.
    pub fn of_table(path: PathBuf, table: Table) -> Self {
        let (schema, rows, content) = Self::in_memory(table);
        Self { path, schema, rows, content }
    }

    fn in_memory(table: Table) -> (SchemaRef, usize, Content) {
        (table.schema.clone(), table.num_rows(), Content::Memory(table))
    }

    /// The columns named, in that order.
    pub fn columns(&self, names: &[&str]) -> Result<Table, TableError> {
        for name in names {
            self.kind(name)?;
        }
        match &self.content {
            Content::Parquet(source) => source.read(names),
            Content::Memory(table) => table.project(names),
        }
    }

    /// The columns named, batch by batch, in that order: a Parquet file is never in memory as a whole.
    pub fn stream(&self, names: &[&str]) -> Result<TableBatches, TableError> {
        for name in names {
            self.kind(name)?;
        }
        match &self.content {
            Content::Parquet(source) => {
                let (_, batches) = source.stream(names)?;
                let names: Vec<String> = names.iter().map(ToString::to_string).collect();
                let path = self.path.clone();
                Ok(Box::new(batches.map(move |batch| in_order(&batch?, &names, &path))))
            }
            Content::Memory(table) => Ok(Box::new(table.project(names)?.batches.into_iter().map(Ok))),
        }
    }

    pub fn all(&self) -> Result<Table, TableError> {
        let names: Vec<&str> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
        self.columns(&names)
    }

    pub fn kind(&self, name: &str) -> Result<ColumnKind, TableError> {
        column_kind(&self.schema, name)
    }

    pub fn column_names(&self) -> Vec<&str> {
        self.schema.fields().iter().map(|field| field.name().as_str()).collect()
    }
}

impl Table {
    /// Reads a whole file. For some columns of a large Parquet file, see `TableFile`.
    pub fn read(path: &Path) -> Result<Self, TableError> {
        TableFile::open(path)?.all()
    }

    pub fn num_rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    pub fn kind(&self, name: &str) -> Result<ColumnKind, TableError> {
        column_kind(&self.schema, name)
    }

    /// A column as numbers, missing values (null or NaN) as NaN; booleans are 0 and 1. Fails on text and on infinity.
    pub fn numeric(&self, name: &str) -> Result<Vec<f64>, TableError> {
        let mut values = Vec::with_capacity(self.num_rows());
        for array in self.arrays(name)? {
            columns::append_numbers(&mut values, array, name)?;
        }
        Ok(values)
    }

    /// A column as categories in their string form (`category_text`); `None` is a missing value.
    pub fn categories(&self, name: &str) -> Result<Vec<Option<String>>, TableError> {
        let mut index = CategoryIndex::default();
        let codes = self.encode(name, &mut index)?;
        Ok(codes.into_iter().map(|code| index.names().get(code as usize).cloned()).collect())
    }

    /// A column as positions in `index`, which grows by the categories it does not hold yet; `MISSING` is a missing
    /// value.
    pub fn encode(&self, name: &str, index: &mut CategoryIndex) -> Result<Vec<u32>, TableError> {
        let mut codes = Vec::with_capacity(self.num_rows());
        for array in self.arrays(name)? {
            index.append_codes(&mut codes, array, name)?;
        }
        Ok(codes)
    }

    /// A column as epoch milliseconds, rounded down; `None` is a missing value. Times without a zone are UTC;
    /// numbers are seconds, ms, µs or ns by their size.
    pub fn epoch_ms(&self, name: &str) -> Result<Vec<Option<i64>>, TableError> {
        let mut times = Vec::with_capacity(self.num_rows());
        for array in self.arrays(name)? {
            columns::append_times(&mut times, array, name)?;
        }
        Ok(times)
    }

    fn project(&self, names: &[&str]) -> Result<Table, TableError> {
        let indices: Vec<usize> = names.iter().filter_map(|name| self.schema.index_of(name).ok()).collect();
        let projected = self.schema.project(&indices).and_then(|schema| {
            let batches: Result<_, _> = self.batches.iter().map(|batch| batch.project(&indices)).collect();
            Ok(Table { schema: schema.into(), batches: batches? })
        });
        projected.map_err(|error| TableError::Malformed {
            path: PathBuf::new(),
            place: String::new(),
            reason: error.to_string(),
        })
    }

    fn arrays<'a>(&'a self, name: &str) -> Result<impl Iterator<Item = &'a ArrayRef> + use<'a>, TableError> {
        column_kind(&self.schema, name)?;
        let position = self.schema.index_of(name).unwrap_or_default();
        Ok(self.batches.iter().map(move |batch| batch.column(position)))
    }
}

/// Batches of a table, one after the other.
pub type TableBatches = Box<dyn Iterator<Item = Result<RecordBatch, TableError>>>;

fn in_order(batch: &RecordBatch, names: &[String], path: &Path) -> Result<RecordBatch, TableError> {
    let indices: Result<Vec<usize>, _> = names.iter().map(|name| batch.schema().index_of(name)).collect();
    indices.and_then(|indices| batch.project(&indices)).map_err(|error| TableError::Malformed {
        path: path.to_path_buf(),
        place: String::new(),
        reason: error.to_string(),
    })
}

fn column_kind(schema: &SchemaRef, name: &str) -> Result<ColumnKind, TableError> {
    match schema.field_with_name(name) {
        Ok(field) => Ok(kind_of(field.data_type())),
        Err(_) => {
            let columns: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
            let nearest = nearest::nearest(name, &columns);
            Err(TableError::NoSuchColumn { name: name.to_string(), nearest, columns })
        }
    }
}

fn kind_of(data_type: &DataType) -> ColumnKind {
    match data_type {
        DataType::Null => ColumnKind::Empty,
        DataType::Boolean | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => ColumnKind::Categorical,
        DataType::Dictionary(_, values) => match kind_of(values) {
            ColumnKind::Numeric | ColumnKind::Categorical => ColumnKind::Categorical,
            other => other,
        },
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(_, _) => ColumnKind::Time,
        numeric if numeric.is_numeric() => ColumnKind::Numeric,
        _ => ColumnKind::Other,
    }
}

fn io_error(path: &Path, error: &std::io::Error) -> TableError {
    let path = path.to_path_buf();
    match error.kind() {
        std::io::ErrorKind::NotFound => TableError::Missing { path },
        _ => TableError::Unreadable { path, reason: error.to_string() },
    }
}

#[cfg(test)]
mod tests;
