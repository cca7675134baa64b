//! The `strata` program.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use strata::cli::{Cli, Command};
use strata::problem::{Problem, Results};
use tokio::sync::watch;

fn main() -> ExitCode {
    let cli = Cli::read(std::env::args_os()).unwrap_or_else(|error| error.exit());
    match start(cli) {
        // A reader that is gone has seen enough.
        Ok(()) | Err(Problem::ReaderGone) => ExitCode::SUCCESS,
        Err(problem) => {
            // There is nowhere left to say that standard error is closed.
            let _ = writeln!(io::stderr(), "strata: {problem}");
            problem.code()
        }
    }
}

fn start(cli: Cli) -> Result<(), Problem> {
    let works = !matches!(
        cli.command,
        Command::Query { .. } | Command::Status { .. } | Command::Test { .. } | Command::Docs { .. }
    );
    let quiet = io::stderr().is_terminal() || !works;
    shared::telemetry::start(if quiet { "warn" } else { "info" }).map_err(Problem::Failed)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(async move {
            if let Err(error) = interrupted().await {
                tracing::warn!(%error, "signals cannot be heard");
                return;
            }
            stop.send_replace(true);
            // Asked twice, it does not wait for what is under way.
            if interrupted().await.is_ok() {
                std::process::exit(130);
            }
        });
        let mut out = Results(io::stdout().lock());
        let done = strata::run(cli, stopped, &mut out).await;
        let flushed = out.flush();
        done?;
        Ok(flushed?)
    })
}

/// Waits for Ctrl-C or SIGTERM.
async fn interrupted() -> io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            heard = tokio::signal::ctrl_c() => heard,
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}
