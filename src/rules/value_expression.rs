//! What a model file gets wrong about the expression of its business value.

use crate::config::diagnostic::Problem;
use crate::config::model::Model;
use crate::stats::performance::profile::ValueExpression;

pub fn model_problems(model: &Model) -> Vec<Problem> {
    let Some(performance) = &model.performance else { return Vec::new() };
    let Some(sql) = performance.value.as_ref().and_then(|value| value.sql.as_deref()) else { return Vec::new() };
    match ValueExpression::plan(sql, model, performance.task) {
        Ok(_) => Vec::new(),
        Err(reason) => {
            let help = "one number from `label`, `prediction`, `score` and numeric features, such as \
                        `CASE WHEN label = 1 AND prediction = 0 THEN -amount ELSE 0 END`";
            vec![Problem::error("bad-expression", "/performance/value/sql", reason).help(help)]
        }
    }
}
