//! Learns the order of opens from two sessions, and predicts the third.

use walgit_prefetch::model::{Limits, Model, TaskId};

fn main() {
    let session = ["Cargo.toml", "src/main.rs", "src/lib.rs", "src/config.rs"];
    let mut model = Model::new(Limits::default());
    let task = TaskId(1);
    for _ in 0..2 {
        model.begin();
        for (at, path) in session.iter().enumerate() {
            model.opened(task, path, 0.01, at as f64 * 0.01);
        }
    }
    model.begin();
    model.opened(task, session[0], 0.01, 0.0);
    for forecast in model.forecast(task, 1.0) {
        let path = model.path(forecast.path).unwrap_or_default();
        println!("{:.2}  {path}", forecast.probability);
    }
}
