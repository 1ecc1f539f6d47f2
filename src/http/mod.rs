//! What people and Prometheus look at: pages, the JSON API, `/metrics`, health.
//!
//! `view` is the read model, pure and bounded; `follow` feeds it from the log; `server` routes requests to
//! `pages`, `api` and `metrics`, which are functions of the view. `access` says who may do what, `write` takes commands, `openapi`
//! describes the API. `dashboards` writes what
//! Grafana is provisioned with. To add a page: a file in `pages`, a route in `server`. To add a gauge: a
//! family in `metrics`, and a panel in `dashboards`.

pub mod access;
pub mod api;
pub mod api_actions;
pub mod dashboards;
pub mod follow;
pub mod metrics;
pub mod openapi;
pub mod pages;
pub mod performance;
pub mod problem;
pub mod readiness;
pub mod runs;
pub mod server;
pub mod view;
pub mod write;
pub mod write_actions;

pub use crate::chart;
pub use crate::chart::wording;
