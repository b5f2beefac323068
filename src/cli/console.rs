//! The operator's side: where results and remarks go, and whether somebody is there to be asked.

use std::io::BufRead;
use std::io::IsTerminal;
use std::io::Write;

use tokio::sync::oneshot;

use crate::config::Output;
use crate::config::Surroundings;

/// Where a command speaks to whoever typed it.
pub(super) struct Console {
    results: Box<dyn Write + Send>,
    remarks: Box<dyn Write + Send>,
    /// How results are shown.
    pub(super) output: Output,
    /// Whether what is shown may move.
    pub(super) is_live: bool,
    /// Who answers questions.
    pub(super) answers: Answers,
    /// What the operator is called, for a CA that does not know it otherwise.
    pub(super) operator: String,
}

/// Who answers questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answers {
    /// Nobody is there: what was typed is meant.
    Nobody,
    /// Somebody at a terminal.
    Terminal,
    /// A test.
    #[cfg(test)]
    Always(bool),
}

impl Console {
    /// The console of this process.
    pub(super) fn of_process(output: Output, around: Surroundings) -> Self {
        let (out, err) = (std::io::stdout(), std::io::stderr());
        let is_terminal = err.is_terminal();
        Self {
            is_live: output == Output::Text && !around.is_dumb && is_terminal && out.is_terminal(),
            answers: match is_terminal && std::io::stdin().is_terminal() {
                true => Answers::Terminal,
                false => Answers::Nobody,
            },
            results: Box::new(out),
            remarks: Box::new(err),
            output,
            operator: around.operator,
        }
    }

    #[cfg(test)]
    pub(super) fn of_test(
        results: impl Write + Send + 'static,
        remarks: impl Write + Send + 'static,
        output: Output,
    ) -> Self {
        Self {
            results: Box::new(results),
            remarks: Box::new(remarks),
            output,
            is_live: false,
            answers: Answers::Nobody,
            operator: "alice".to_owned(),
        }
    }

    /// What was asked for. Whoever reads may have seen enough; the exit code says the rest.
    pub(super) fn result(&mut self, text: &str) {
        let _ = self.results.write_all(text.as_bytes()).and_then(|()| self.results.flush());
    }

    /// What people want to know besides: among the results if those are for people.
    pub(super) fn tell(&mut self, text: &str) {
        match self.output {
            Output::Text => self.result(text),
            Output::Json => self.remark(text),
        }
    }

    /// What goes to standard error.
    pub(super) fn remark(&mut self, text: &str) {
        let _ = self.remarks.write_all(text.as_bytes()).and_then(|()| self.remarks.flush());
    }

    /// A result that is one text for people and another for machines.
    pub(super) fn show(&mut self, text: impl FnOnce() -> String, json: &str) {
        match self.output {
            Output::Text => self.result(&text()),
            Output::Json => self.result(&format!("{}\n", json.trim_end())),
        }
    }

    /// A refusal, as an error of the process would be said.
    pub(super) fn refuse(&mut self, why: &str) {
        self.remark(&format!("burgrave: {why}\n"));
    }

    /// Whether the operator says yes. Where nobody can be asked, what was typed is meant.
    pub(super) async fn agrees(&mut self, question: &str) -> bool {
        match self.answers {
            Answers::Nobody => true,
            #[cfg(test)]
            Answers::Always(answer) => answer,
            Answers::Terminal => {
                self.remark(&format!("{question} [y/N] "));
                let (answer, answered) = oneshot::channel();
                // A thread of its own: one that waits for a line would keep the runtime from ending.
                std::thread::spawn(move || {
                    let mut line = String::new();
                    let read = std::io::stdin().lock().read_line(&mut line);
                    let _ = answer.send(read.is_ok() && matches!(line.trim(), "y" | "Y" | "yes" | "Yes"));
                });
                answered.await.unwrap_or(false)
            }
        }
    }
}
