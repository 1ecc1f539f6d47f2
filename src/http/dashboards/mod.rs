//! Grafana dashboards as code: one file per dashboard, each a list of panels.
//!
//! `driftline dashboards export` writes them; `grafana/` holds the same files for docker compose, and a test
//! keeps the two equal. To add a panel: a `Panel` in the dashboard's list. To add a dashboard: a file here and
//! a line in `files`. Every process exports the same gauges of drift and alerts, so panels take their `max` over
//! instances and only `sum` what each process counts for itself. A metric that no panel shows stands in `EXEMPT` with its reason.

mod actions;
mod delivery;
mod feature;
mod overview;
mod performance;
mod scorer;

use serde_json::{Value, json};

/// Exported metrics that no panel shows, and why.
pub const EXEMPT: [(&str, &str); 5] = [
    (
        "driftline_config_last_reload_successful",
        "for an alert: a process that has not been reloaded has nothing to show",
    ),
    ("driftline_config_last_reload_success_timestamp_seconds", "as above"),
    ("driftline_build_info", "shown by `driftline --version` and on joins only"),
    ("driftline_scorer_build_info", "shown by `driftline-scorer --version` and on joins only"),
    ("driftline_heartbeat_time_seconds", "there only with a `heartbeat`, and meant for an alert of somebody else"),
];

/// Paths and contents of everything Grafana is provisioned with.
pub fn files() -> Vec<(String, String)> {
    vec![
        ("dashboards/driftline-overview.json".into(), pretty(&overview::dashboard())),
        ("dashboards/driftline-delivery.json".into(), pretty(&delivery::dashboard())),
        ("dashboards/driftline-feature.json".into(), pretty(&feature::dashboard())),
        ("dashboards/driftline-performance.json".into(), pretty(&performance::dashboard())),
        ("dashboards/driftline-scorer.json".into(), pretty(&scorer::dashboard())),
        ("provisioning/datasources/prometheus.yaml".into(), DATASOURCE.into()),
        ("provisioning/dashboards/driftline.yaml".into(), PROVIDER.into()),
    ]
}

const DATASOURCE: &str = "\
# Written by `driftline dashboards export`.
apiVersion: 1
datasources:
  - name: Prometheus
    uid: prometheus
    type: prometheus
    access: proxy
    url: http://prometheus:9090
    isDefault: true
    jsonData:
      timeInterval: 5s
";

const PROVIDER: &str = "\
# Written by `driftline dashboards export`.
apiVersion: 1
providers:
  - name: driftline
    folder: Driftline
    type: file
    disableDeletion: true
    options:
      path: /var/lib/grafana/dashboards
";

fn pretty(dashboard: &Value) -> String {
    format!("{dashboard:#}\n")
}

/// How a panel draws its queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Drawing {
    Lines,
    Stat,
    Table,
    /// Distribution of a histogram's buckets.
    Heatmap,
}

#[derive(Debug, Clone)]
struct Query {
    expression: String,
    legend: &'static str,
    /// Drawn as a dashed line: a level, not a measurement.
    level: bool,
}

#[derive(Debug, Clone)]
struct Panel {
    title: &'static str,
    /// What it means and what to do about it, in the panel's tooltip.
    about: &'static str,
    drawing: Drawing,
    /// Grafana's unit id: `short`, `percentunit`, `s`, `bytes`.
    unit: &'static str,
    /// Columns of 24, and rows.
    width: u32,
    height: u32,
    queries: Vec<Query>,
}

impl Panel {
    fn new(drawing: Drawing, title: &'static str, about: &'static str) -> Self {
        let (width, height) = match drawing {
            Drawing::Stat => (4, 4),
            Drawing::Table => (12, 9),
            Drawing::Lines | Drawing::Heatmap => (12, 8),
        };
        Self { title, about, drawing, unit: "short", width, height, queries: Vec::new() }
    }

    fn lines(title: &'static str, about: &'static str) -> Self {
        Self::new(Drawing::Lines, title, about)
    }

    fn stat(title: &'static str, about: &'static str) -> Self {
        Self::new(Drawing::Stat, title, about)
    }

    fn unit(mut self, unit: &'static str) -> Self {
        self.unit = unit;
        self
    }

    fn width(mut self, width: u32) -> Self {
        self.width = width;
        self
    }

    fn query(mut self, legend: &'static str, expression: impl Into<String>) -> Self {
        self.queries.push(Query { expression: expression.into(), legend, level: false });
        self
    }

    fn level(mut self, legend: &'static str, expression: impl Into<String>) -> Self {
        self.queries.push(Query { expression: expression.into(), legend, level: true });
        self
    }
}

/// A heading, and the panels under it.
struct Row {
    title: &'static str,
    panels: Vec<Panel>,
}

/// A choice at the top of a dashboard.
struct Variable {
    name: &'static str,
    label: &'static str,
    /// `label_values(metric{...}, label)`.
    query: &'static str,
    /// Several values or all of them can be chosen.
    many: bool,
}

const MODEL: &str = "label_values(driftline_window_rows, model)";
const VERSION: &str = "label_values(driftline_window_rows{model=~\"$model\"}, version)";
const WINDOW: &str = "label_values(driftline_window_rows{model=~\"$model\", version=~\"$version\"}, window)";

fn dashboard(uid: &str, title: &str, about: &str, variables: &[Variable], rows: Vec<Row>) -> Value {
    json!({
        "uid": uid,
        "title": title,
        "description": about,
        "tags": ["driftline"],
        "schemaVersion": 39,
        "version": 1,
        "editable": true,
        "graphTooltip": 1,
        "refresh": "15s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "utc",
        "links": [{
            "type": "dashboards", "title": "Driftline", "tags": ["driftline"], "asDropdown": false,
            "includeVars": true, "keepTime": true
        }],
        "annotations": {"list": [annotation(), actions::annotation()]},
        "templating": {"list": templating(variables)},
        "panels": place(rows),
    })
}

/// Grafana marks the stretches in which the value is above zero.
fn annotation() -> Value {
    json!({
        "name": "Alerts", "enable": true, "iconColor": "red", "datasource": source(), "step": "15s",
        "expr": "max by (model, rule, severity) (driftline_alerts_firing{model=~\"$model\"})",
        "titleFormat": "{{rule}} {{severity}}", "textFormat": "{{model}}", "tagKeys": "model,rule,severity",
    })
}

fn source() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

fn templating(variables: &[Variable]) -> Vec<Value> {
    let mut list = vec![json!({
        "name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus",
        "current": {}, "hide": 0, "regex": "", "refresh": 1,
    })];
    list.extend(variables.iter().map(|variable| {
        let mut value = json!({
            "name": variable.name, "label": variable.label, "type": "query", "datasource": source(),
            "query": {"query": variable.query, "refId": variable.name}, "definition": variable.query,
            "multi": variable.many, "includeAll": variable.many, "refresh": 2, "sort": 1, "current": {},
        });
        if variable.many {
            value["allValue"] = json!(".*");
            value["current"] = json!({"selected": true, "text": ["All"], "value": ["$__all"]});
        }
        value
    }));
    list
}

/// Panels from left to right, a new line where one does not fit.
fn place(rows: Vec<Row>) -> Vec<Value> {
    const COLUMNS: u32 = 24;
    let mut placed = Vec::new();
    let mut y = 0;
    for row in rows {
        placed.push(json!({
            "id": placed.len() + 1, "type": "row", "title": row.title, "collapsed": false, "panels": [],
            "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
        }));
        y += 1;
        let (mut x, mut line_height) = (0, 0);
        for panel in row.panels {
            if x + panel.width > COLUMNS {
                y += line_height;
                (x, line_height) = (0, 0);
            }
            let mut value = draw(&panel);
            value["id"] = json!(placed.len() + 1);
            value["gridPos"] = json!({"x": x, "y": y, "w": panel.width, "h": panel.height});
            x += panel.width;
            line_height = line_height.max(panel.height);
            placed.push(value);
        }
        y += line_height;
    }
    placed
}

fn draw(panel: &Panel) -> Value {
    let instant = matches!(panel.drawing, Drawing::Stat | Drawing::Table);
    let targets: Vec<Value> = panel
        .queries
        .iter()
        .zip('A'..='Z')
        .map(|(query, id)| {
            json!({
                "refId": id.to_string(), "datasource": source(), "expr": query.expression, "legendFormat": query.legend,
                "instant": instant, "range": !instant,
                "format": match panel.drawing {
                    Drawing::Table => "table",
                    Drawing::Heatmap => "heatmap",
                    Drawing::Lines | Drawing::Stat => "time_series",
                },
            })
        })
        .collect();
    let (kind, defaults, options) = match panel.drawing {
        Drawing::Lines => (
            "timeseries",
            json!({"unit": panel.unit, "custom": {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 8, "spanNulls": false}}),
            json!({"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}),
        ),
        Drawing::Stat => (
            "stat",
            json!({"unit": panel.unit}),
            json!({"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "none", "graphMode": "none", "textMode": "value_and_name"}),
        ),
        Drawing::Table => (
            "table",
            json!({"unit": panel.unit, "decimals": 3}),
            json!({"sortBy": [{"displayName": "Value", "desc": true}]}),
        ),
        Drawing::Heatmap => (
            "heatmap",
            json!({}),
            json!({"calculate": false, "yAxis": {"unit": panel.unit}, "color": {"scheme": "Oranges", "mode": "scheme"}}),
        ),
    };
    let mut value = json!({
        "type": kind, "title": panel.title, "description": panel.about, "datasource": source(), "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": overrides(panel)}, "options": options,
    });
    if panel.drawing == Drawing::Table {
        value["transformations"] = json!([{"id": "organize", "options": {"excludeByName": {"Time": true}}}]);
    }
    value
}

fn overrides(panel: &Panel) -> Vec<Value> {
    let levels = panel.queries.iter().zip('A'..='Z').filter(|(query, _)| query.level);
    levels
        .map(|(_, id)| {
            json!({
                "matcher": {"id": "byFrameRefID", "options": id.to_string()},
                "properties": [
                    {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 6]}},
                    {"id": "custom.fillOpacity", "value": 0},
                ],
            })
        })
        .collect()
}
