//! References: what a model's features looked like when all was well.
