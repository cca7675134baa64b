//! `usgs-simulator`: serves a recorded catalogue as the USGS event service would.

use std::{
    error::Error,
    io::{self, IsTerminal, Write},
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    process::ExitCode,
};

use chrono::{DateTime, Utc};
use clap::Parser;
use tracing_subscriber::EnvFilter;
use usgs_simulator::{Catalogue, Clock, Rule, Simulator, Visibility};

/// Serves a recorded catalogue as the USGS event service would.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Catalogue of event versions: CSV, plain or gzip, 22 columns or with first_seen_utc and last_seen_utc before them
    #[arg(long, value_name = "FILE")]
    catalogue: PathBuf,
    /// Port to listen on; 0 for any
    #[arg(long, default_value_t = 8090)]
    port: u16,
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS", default_value_t = Ipv4Addr::LOCALHOST.into())]
    host: IpAddr,
    /// Simulated time, such as 2025-07-23T15:13:00Z; the newest time of the catalogue if not said
    #[arg(long, value_name = "TIME")]
    now: Option<DateTime<Utc>>,
    /// Let the simulated time run
    #[arg(long)]
    running_clock: bool,
    /// Most events that a query may match
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    max_events: usize,
    /// Show rows of the 22-column format from their updated on, not always
    #[arg(long)]
    from_updated: bool,
    /// Repeat the answer to a repeated address for 60 simulated seconds, as the real service does
    #[arg(long)]
    cache: bool,
    /// What goes wrong first: a status or html, truncated, appended, endless, slow, reset, stall; 503*2 for twice
    #[arg(long, value_name = "FAULT")]
    fault: Vec<Rule>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .init();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let visibility = if arguments.from_updated { Visibility::FromUpdated } else { Visibility::Always };
    let catalogue = Catalogue::from_path(&arguments.catalogue)
        .map_err(|error| format!("{}: {error}", arguments.catalogue.display()))?
        .with_visibility(visibility);
    let mut builder = Simulator::builder(catalogue).limit(arguments.max_events).cached(arguments.cache);
    if let Some(now) = arguments.now {
        builder = builder.clock(Clock::fixed(now));
    }
    if arguments.running_clock {
        builder = builder.running();
    }
    let simulator = builder.build();
    arguments.fault.into_iter().for_each(|rule| simulator.handle().fault(rule));
    tokio::runtime::Runtime::new()?.block_on(serve(&simulator, (arguments.host, arguments.port).into()))
}

async fn serve(simulator: &Simulator, address: std::net::SocketAddr) -> Result<(), Box<dyn Error>> {
    let running = simulator.serve_at(address).await.map_err(|error| format!("cannot listen on {address}: {error}"))?;
    writeln!(io::stdout(), "listening on {}", running.base_url())?;
    io::stdout().flush()?;
    tokio::signal::ctrl_c().await?;
    running.shutdown().await?;
    Ok(())
}
