//! The same over HTTP/2, for clients that agree on it in their TLS handshake. Octets as they are have no meaning here:
//! of such a reply only the body is sent, again and again.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{Request, Response};

use super::serve::{Stream, echoed};
use super::{Reply, Seen, State, locked};

/// Serves one connection to its end.
pub(super) async fn converse(stream: impl Stream, number: usize, state: &Arc<State>) -> io::Result<()> {
    let mut connection = h2::server::handshake(stream).await.map_err(io::Error::other)?;
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted.map_err(io::Error::other)?;
        let state = state.clone();
        // A stream that the client resets is its own business.
        tokio::spawn(async move { exchange(request, respond, number, &state).await.ok() });
    }
    Ok(())
}

async fn exchange(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    number: usize,
    state: &State,
) -> Result<(), h2::Error> {
    let seen = seen(request, number).await?;
    let path = seen.target.split('?').next().unwrap_or_default().to_owned();
    locked(&state.seen).push(seen.clone());
    let reply = locked(&state.replies).get(&path).cloned();
    let (status, headers, body) = match reply {
        Some(Reply::Echo) => (200, vec![], echoed(&seen)),
        Some(Reply::Page { status, headers, body }) => (status, headers, body),
        Some(Reply::Octets { piece, .. } | Reply::Stalled { piece, .. }) => {
            return endless(respond, piece.into()).await;
        }
        Some(Reply::Silent) => std::future::pending().await,
        None => (404, vec![], b"nothing here".to_vec()),
    };
    let mut response = Response::builder().status(status);
    for (name, value) in &headers {
        response = response.header(name, value);
    }
    let response = response.body(()).expect("the script's headers are headers");
    respond.send_response(response, false)?.send_data(body.into(), true)
}

async fn endless(mut respond: SendResponse<Bytes>, piece: Bytes) -> Result<(), h2::Error> {
    let mut body = respond.send_response(Response::new(()), false)?;
    loop {
        body.reserve_capacity(piece.len());
        while body.capacity() < piece.len() {
            match poll_fn(|cx| body.poll_capacity(cx)).await {
                Some(capacity) => capacity.map(drop)?,
                None => return Ok(()),
            }
        }
        body.send_data(piece.clone(), false)?;
    }
}

async fn seen(request: Request<RecvStream>, connection: usize) -> Result<Seen, h2::Error> {
    let (head, mut stream) = request.into_parts();
    let mut body = Vec::new();
    while let Some(chunk) = stream.data().await {
        let chunk = chunk?;
        body.extend_from_slice(&chunk);
        stream.flow_control().release_capacity(chunk.len())?;
    }
    let headers = head.headers.iter();
    let mut headers: Vec<_> = headers
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    headers.extend(head.uri.authority().map(|authority| (":authority".to_owned(), authority.to_string())));
    let target = head.uri.path_and_query().map_or_else(String::new, ToString::to_string);
    Ok(Seen { method: head.method.to_string(), target, headers, body, connection })
}
