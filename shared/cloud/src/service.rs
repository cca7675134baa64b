//! Boots a service: settings, logs, ports, the socket, and the end.
//!
//! Invariant: a service that cannot do its work does not listen; one that is told to stop is gone within 10 s, and what
//! it had not finished is handed back.

pub mod settings;

use std::io;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use shared::bus::Bus;
use shared::clock::{SharedClock, System};
use shared::function::{Function, Grace, Terms, router_with, serve};
use shared::store::Store;
use shared::warehouse::Warehouse;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::{ConfigErrors, Environment};
use crate::service::settings::Settings;
use crate::token::PushTokens;
use crate::{BigQuery, Bucket, ConnectError, PubSub, RETRIES, logs};

/// Cloud Run kills the process 10 s after it told it to stop.
const GRACE: Grace = Grace { work: Duration::from_secs(8), answers: Duration::from_secs(1) };

/// What a service works with.
pub struct Ports {
    /// Where it is.
    pub environment: Environment,
    /// The lake.
    pub store: Arc<dyn Store>,
    /// The topics.
    pub bus: Arc<dyn Bus>,
    /// Time and identity.
    pub clock: SharedClock,
}

impl Ports {
    async fn connect(environment: Environment) -> Result<Self, ConnectError> {
        let emulators = &environment.emulators;
        let store = Bucket::connect(environment.bucket.clone(), emulators, RETRIES).await?;
        let bus = PubSub::connect(environment.topics.clone(), emulators, RETRIES).await?;
        Ok(Self { environment, store: Arc::new(store), bus: Arc::new(bus), clock: Arc::new(System) })
    }

    /// The warehouse, which not every service has.
    ///
    /// # Errors
    /// When there are no credentials for it.
    pub async fn warehouse(&self) -> Result<Arc<dyn Warehouse>, ConnectError> {
        let (store, clock) = (Arc::clone(&self.store), Arc::clone(&self.clock));
        Ok(Arc::new(BigQuery::connect(&self.environment, store, clock, RETRIES).await?))
    }
}

/// Why a service does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// It was told something that it cannot use.
    #[error(transparent)]
    Settings(#[from] ConfigErrors),
    /// The same, of a setting that only this service has.
    #[error("{0}")]
    Setting(String),
    /// There is no client for what it works with.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A part of it cannot be made.
    #[error("{0}")]
    Part(String),
    /// It cannot listen, or no more, or hear signals.
    #[error("{what}: {error}")]
    System {
        /// What cannot be done.
        what: &'static str,
        /// Why.
        error: io::Error,
    },
}

impl ServiceError {
    /// A setting that only this service has cannot be used.
    pub fn setting(error: impl ToString) -> Self {
        Self::Setting(error.to_string())
    }

    /// A part of the service cannot be made.
    pub fn part(error: impl ToString) -> Self {
        Self::Part(error.to_string())
    }

    /// 2 when somebody has to set something, else 1.
    fn code(&self) -> ExitCode {
        match self {
            Self::Settings(_) | Self::Setting(_) => ExitCode::from(2),
            Self::Connect(_) | Self::Part(_) | Self::System { .. } => ExitCode::FAILURE,
        }
    }
}

fn system(what: &'static str) -> impl Fn(io::Error) -> ServiceError {
    move |error| ServiceError::System { what, error }
}

/// A variable of the process's environment.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Runs the service that `build` makes until it is told to stop: the whole of a `main`.
pub fn run<F: Function>(build: impl AsyncFnOnce(Ports) -> Result<F, ServiceError>) -> ExitCode {
    match start(build) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            logs::last_words(F::NAME, &error);
            error.code()
        }
    }
}

fn start<F: Function>(build: impl AsyncFnOnce(Ports) -> Result<F, ServiceError>) -> Result<(), ServiceError> {
    let settings = Settings::from_variables(variable)?;
    logs::start(&settings.environment.project).map_err(ServiceError::Setting)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(system("no threads"))?;
    let ended = runtime.block_on(live(settings, build));
    // What still runs is waited for by nobody.
    runtime.shutdown_background();
    ended
}

async fn live<F: Function>(
    settings: Settings,
    build: impl AsyncFnOnce(Ports) -> Result<F, ServiceError>,
) -> Result<(), ServiceError> {
    let stop = told_to_stop().map_err(system("signals cannot be heard"))?;
    let Settings { port, environment, push, deadline, at_once } = settings;
    if let Some(keys) = &push.keys {
        tracing::warn!(keys, "push tokens are checked with keys that are not Google's");
    }
    let ports = Ports::connect(environment).await?;
    let clock = Arc::clone(&ports.clock);
    let tokens = PushTokens::new(push, Arc::clone(&clock));
    let function = build(ports).await?;
    let hand_back = CancellationToken::new();
    let terms =
        Terms { admission: Some(Arc::new(tokens)), deadline: Some(deadline), at_once, hand_back: hand_back.clone() };
    let router = router_with(function, clock, terms);
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await.map_err(system("the port is not free"))?;
    let port = listener.local_addr().map_err(system("the port is not known"))?.port();
    tracing::info!(service = F::NAME, port, version = env!("CARGO_PKG_VERSION"), "listening");
    serve(listener, router, stop, hand_back, GRACE).await.map_err(system("no more connections"))?;
    tracing::info!(service = F::NAME, "stopped");
    Ok(())
}

/// Hears SIGTERM and Ctrl-C from now on, and is over with the first of them.
fn told_to_stop() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "told to stop");
    })
}
