//! References: what a model's features looked like when all was well.
//!
//! `table` reads the files that references (and reports) are made from. To add a file format: one file in `table/`
//! with a function from a path to a `Table`, and its extension in `table::Format`.

pub mod table;
