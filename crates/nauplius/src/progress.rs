//! The stages of a start: the server reports them as JSON lines, `up` shows them to a person, as live lines on a terminal
//! and as plain ones elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::time::Duration;

/// One line of the protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum Report {
    /// A stage has begun; it ends with the next one.
    Stage {
        /// What is being done, for a person.
        name: String,
    },
    /// The stage cannot go on yet.
    Waiting {
        /// For what, and why it is not there, for a person.
        what: String,
    },
    /// Everything works, but there is something to say.
    Warning {
        /// One line for a person.
        message: String,
    },
    /// Everything works.
    Ready,
    /// The start failed.
    Failed {
        /// One line for a person.
        message: String,
    },
}

/// The server's side: writes reports to standard output while somebody reads it.
#[derive(Debug, Clone, Copy)]
pub struct Reporter {
    enabled: bool,
}

impl Reporter {
    /// A reporter that is silent unless `enabled`.
    pub fn new(enabled: bool) -> Self {
        Self { enabled }
    }

    /// Reports; a reader that has gone away is not missed.
    pub fn report(self, report: &Report) {
        if !self.enabled {
            return;
        }
        let Ok(mut line) = serde_json::to_vec(report) else { return };
        line.push(b'\n');
        let mut out = std::io::stdout().lock();
        // `up` may have been interrupted: the server goes on without it.
        let _ = out.write_all(&line).and_then(|()| out.flush());
    }

    /// Reports what keeps the cluster from being of use.
    pub fn warn(self, message: String) {
        tracing::warn!(message, "the cluster can hardly be used");
        self.report(&Report::Warning { message });
    }

    /// Reports what the stage waits for.
    pub fn waiting(self, what: &str) {
        tracing::info!(what, "waiting");
        self.report(&Report::Waiting { what: what.to_owned() });
    }

    /// Reports the beginning of a stage.
    pub fn stage(self, name: &str) {
        tracing::info!(stage = name, "starting");
        self.report(&Report::Stage { name: name.to_owned() });
    }
}

/// The person's side.
pub struct Display {
    live: bool,
    current: Option<(String, ProgressBar, nauplius_base::time::Instant)>,
}

impl Display {
    /// Live lines if standard error is a terminal.
    pub fn new() -> Self {
        Self { live: rustix::termios::isatty(std::io::stderr()), current: None }
    }

    /// Ends the stage before and begins this one.
    pub fn stage(&mut self, name: &str) {
        self.end("✓");
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        if self.live {
            bar.set_draw_target(ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg:<34} {elapsed}") {
                bar.set_style(style);
            }
            bar.set_message(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(80));
        }
        self.current = Some((name.to_owned(), bar, nauplius_base::time::monotonic()));
    }

    /// Says what the stage waits for: on its live line as long as it lives, or on one of its own.
    pub fn waiting(&mut self, what: &str) {
        match &self.current {
            Some((name, bar, _)) if self.live => bar.set_message(format!("{name}: waiting for {what}")),
            // Whoever does not read this waits all the same.
            _ => drop(writeln!(std::io::stderr(), "  waiting for {what}")),
        }
    }

    /// Ends the last stage well.
    pub fn finish(&mut self) {
        self.end("✓");
    }

    /// Ends the last stage badly.
    pub fn fail(&mut self) {
        self.end("✗");
    }

    fn end(&mut self, mark: &str) {
        if let Some((name, bar, since)) = self.current.take() {
            bar.finish_and_clear();
            // A terminal that was closed reads nothing, and what was begun is to be ended all the same.
            let _ = writeln!(std::io::stderr(), "{mark} {name:<34} {:>6.2} s", since.elapsed().as_secs_f64());
        }
    }
}
