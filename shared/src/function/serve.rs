//! Serves a router until it is told to stop, and ends in time.
//!
//! Invariant: whoever is told to stop accepts nothing more, and is over after [`Grace::work`] and [`Grace::answers`].

use std::future::IntoFuture;
use std::io;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long the end may take.
#[derive(Debug, Clone, Copy)]
pub struct Grace {
    /// For the work under way; what then is not done is handed back.
    pub work: Duration,
    /// After that, for the last answers.
    pub answers: Duration,
}

/// Serves `router` until `stop` is over. Work that takes longer than the grace is ended through `hand_back`, which the
/// router's [`Terms`](super::Terms) hold: it is answered 503, and so delivered again, to another instance.
///
/// # Errors
/// When connections can no longer be accepted.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()>,
    hand_back: CancellationToken,
    grace: Grace,
) -> io::Result<()> {
    let stopping = CancellationToken::new();
    let served = axum::serve(listener, router).with_graceful_shutdown(stopping.clone().cancelled_owned());
    let mut served = pin!(served.into_future());
    tokio::select! {
        ended = &mut served => return ended,
        () = stop => stopping.cancel(),
    }
    if let Ok(ended) = timeout(grace.work, &mut served).await {
        return ended;
    }
    hand_back.cancel();
    if let Ok(ended) = timeout(grace.answers, &mut served).await {
        return ended;
    }
    tracing::warn!("connections are cut: their answers could not be sent in time");
    Ok(())
}
