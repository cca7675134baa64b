//! What is going on, in one line on a terminal.

use indicatif::{ProgressBar, ProgressStyle};
use shared::bus::{Event, Local};
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;

/// A line that follows the bus. Nothing is shown where there is no terminal.
pub(crate) struct Progress {
    bar: ProgressBar,
    task: JoinHandle<()>,
}

impl Progress {
    /// Starts to follow.
    pub(crate) fn start(bus: &Local) -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(std::time::Duration::from_millis(120));
        bar.set_message("asking the source");
        let mut events = bus.events();
        let line = bar.clone();
        let task = tokio::spawn(async move {
            let mut done = [("fetch", 0), ("land", 0), ("transform", 0)];
            loop {
                match events.recv().await {
                    Ok(Event::Delivered { subscription, .. }) => {
                        for (name, count) in &mut done {
                            *count += u32::from(*name == subscription);
                        }
                        let counts: Vec<_> = done.iter().map(|(name, count)| format!("{name} {count}")).collect();
                        line.set_message(counts.join(" · "));
                    }
                    Ok(Event::Retrying { subscription, problem, after, .. }) => {
                        let wait = after.as_secs();
                        line.set_message(format!("{subscription} waits {wait} s: {}", problem.error));
                    }
                    Ok(Event::Dead { subscription, problem, .. }) => {
                        line.println(format!("{subscription} gave a message up: {}", problem.error));
                    }
                    Err(RecvError::Lagged(_)) => (),
                    Err(RecvError::Closed) => return,
                }
            }
        });
        Self { bar, task }
    }

    /// Removes the line.
    pub(crate) fn finish(self) {
        self.task.abort();
        self.bar.finish_and_clear();
    }
}
