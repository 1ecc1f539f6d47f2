//! Parquet: the footer at once, columns when asked for.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};

use super::{Table, TableError};

const BATCH_ROWS: usize = 65_536;

#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    metadata: ArrowReaderMetadata,
}

impl Source {
    pub fn open(path: &Path) -> Result<Self, TableError> {
        let file = open_file(path)?;
        let plain = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new())
            .map_err(|error| malformed(path, &format!("not a Parquet file: {error}")))?;
        // text stays dictionary-encoded as it is in the file: categories are then compared once, not once a row
        let options = ArrowReaderOptions::new().with_schema(with_dictionaries(plain.schema()));
        let metadata = ArrowReaderMetadata::try_new(plain.metadata().clone(), options).unwrap_or(plain);
        Ok(Self { path: path.to_path_buf(), metadata })
    }

    pub fn schema(&self) -> SchemaRef {
        self.metadata.schema().clone()
    }

    pub fn rows(&self) -> usize {
        usize::try_from(self.metadata.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    pub fn read(&self, names: &[&str]) -> Result<Table, TableError> {
        let (stored, batches) = self.stream(names)?;
        let batches: Vec<_> = batches.collect::<Result<_, _>>()?;
        // the file's order of columns, not the caller's, comes out of the reader
        Table { schema: stored, batches }.project(names)
    }

    /// Batches as they are read, their columns in the file's order.
    pub fn stream(
        &self,
        names: &[&str],
    ) -> Result<(SchemaRef, impl Iterator<Item = Result<RecordBatch, TableError>> + use<>), TableError> {
        let file = open_file(&self.path)?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone());
        let roots: Vec<usize> = names.iter().filter_map(|name| self.metadata.schema().index_of(name).ok()).collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
        let path = self.path.clone();
        let error = move |error: String| malformed(&path, &error);
        let reader = builder
            .with_projection(mask)
            .with_batch_size(BATCH_ROWS)
            .build()
            .map_err(|source| error(source.to_string()))?;
        let stored = datafusion::arrow::array::RecordBatchReader::schema(&reader);
        Ok((stored, reader.map(move |batch| batch.map_err(|source| error(source.to_string())))))
    }
}

fn open_file(path: &Path) -> Result<File, TableError> {
    File::open(path).map_err(|error| super::io_error(path, &error))
}

fn malformed(path: &Path, reason: &str) -> TableError {
    TableError::Malformed { path: path.to_path_buf(), place: String::new(), reason: reason.to_string() }
}

fn with_dictionaries(schema: &SchemaRef) -> SchemaRef {
    let fields: Vec<Arc<Field>> = schema
        .fields()
        .iter()
        .map(|field| match field.data_type() {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
                Arc::new(field.as_ref().clone().with_data_type(dictionary))
            }
            _ => field.clone(),
        })
        .collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}
