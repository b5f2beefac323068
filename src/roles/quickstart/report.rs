//! What the quickstart says: a line a step for people, or an object a step for machines.

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::clock::Stopwatch;
use crate::config::Output;

/// Says how far things are.
#[derive(Debug)]
pub(super) struct Report {
    output: Output,
}

impl Report {
    pub(super) fn new(output: Output) -> Self {
        Self { output }
    }

    /// A step held. `text` is for people; `facts` are for machines.
    #[expect(clippy::print_stdout, reason = "the quickstart's report is what was asked for")]
    pub(super) fn step(&self, name: &str, took: Stopwatch, text: &str, facts: Value) {
        let ms = took.elapsed_ms();
        match self.output {
            Output::Text => {
                let mut lines = text.lines();
                println!("{ms:>9.1} ms  {name:<9} {}", lines.next().unwrap_or(""));
                lines.for_each(|line| println!("{:>23} {line}", ""));
            }
            Output::Json => {
                let mut object = Map::from_iter([
                    ("step".to_owned(), json!(name)),
                    ("ok".to_owned(), json!(true)),
                    ("ms".to_owned(), json!((ms * 1e3).round() / 1e3)),
                ]);
                if let Value::Object(facts) = facts {
                    object.extend(facts);
                }
                println!("{}", Value::Object(object));
            }
        }
    }

    /// A word for people only.
    #[expect(clippy::print_stdout, reason = "the quickstart's report is what was asked for")]
    pub(super) fn aside(&self, text: &str) {
        if self.output == Output::Text {
            println!("{text}");
        }
    }

    /// The last word.
    #[expect(clippy::print_stdout, reason = "the quickstart's report is what was asked for")]
    pub(super) fn summary(&self, text: &str, facts: &Value) {
        match self.output {
            Output::Text => println!("\n{text}"),
            Output::Json => println!("{facts}"),
        }
    }
}
