//! The wire of the service: reads requests, asks the ledger, answers or breaks off.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::ledger::{Asked, Ledger};
use crate::web::locked;
use crate::web::serve::{page, pause, request};

/// Serves until `stopped`, on this thread.
pub(super) fn serve(listener: TcpListener, ledger: &Arc<Mutex<Ledger>>, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).expect("the listener is one");
        let accepting = async {
            while let Ok((stream, _)) = listener.accept().await {
                let ledger = Arc::clone(ledger);
                // A client that goes away is its own business.
                tokio::spawn(async move { converse(stream, &ledger).await });
            }
        };
        tokio::select! {
            () = accepting => {}
            _ = stopped => {}
        }
    });
}

async fn converse(stream: TcpStream, ledger: &Mutex<Ledger>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(seen) = request(&mut stream).await? {
        let key = seen.header("idempotency-key").unwrap_or_default();
        let asked = Asked { method: &seen.method, target: &seen.target, key, body: &seen.body };
        let answer = locked(ledger).answer(&asked);
        pause(answer.wait_ms).await;
        if answer.is_dropped {
            return stream.get_mut().shutdown().await;
        }
        let headers = [("content-type".to_owned(), "application/json".to_owned())];
        page(stream.get_mut(), &seen, answer.status, &headers, answer.body.to_string().as_bytes()).await?;
    }
    Ok(())
}
