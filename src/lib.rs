//! Driftline watches machine-learning models whose predictions flow through Kafka.
//!
//! The modules stand in the order in which data flows; an earlier one never imports a later one.

pub mod config;
pub mod telemetry;

pub mod log;

pub mod event;
pub mod stats;

pub mod reference;

pub mod ingest;

pub mod join;

pub mod windows;

pub mod rules;

pub mod chart;

pub mod dispatch;

pub mod backtest;

pub mod rule_test;

pub mod http;

pub mod scorer;

pub mod cli;
