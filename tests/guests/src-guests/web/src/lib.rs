//! `web`: sends requests part by part, as no honest library would: what the host refuses cannot depend on a library.

use cofferdam_tool_sdk::prelude::*;

/// Sends odd requests.
#[tools]
mod web {
    use cofferdam_tool_sdk::http;

    /// A request in the parts that `wasi:http` knows.
    #[derive(Clone, Debug, ToolType)]
    pub struct Parts {
        pub method: String,
        pub scheme: String,
        pub authority: String,
        pub path: String,
        pub headers: Vec<(String, String)>,
        pub body: String,
        /// Sends a trailer after the body.
        pub with_trailer: bool,
        /// Milliseconds to wait for the head, and between bytes.
        pub wait_ms: Option<u64>,
    }

    /// Sends a request; what the interface does not take is told with the part that it was.
    #[tool(asks("http"))]
    pub fn send(parts: Parts) -> Result<String, ToolError> {
        super::wire::send(&parts)
    }

    /// Sends an empty object to one URL after the other, and returns what they answered.
    #[tool(asks("http"))]
    pub fn post_all(urls: Vec<String>) -> Result<Vec<String>, ToolError> {
        let send = |url: String| http::Request::new("POST", url).body("{}").send().map(|response| response.text());
        urls.into_iter().map(send).collect()
    }

    /// Sends `count` reads of one URL, all before it looks at an answer, and returns how many came.
    #[tool(effect = "read", asks("http"))]
    pub fn flood(authority: String, path: String, count: u32) -> Result<u32, ToolError> {
        super::wire::flood(&authority, &path, count)
    }

    /// Sends `count` reads one after the other, and returns how many were answered.
    #[tool(effect = "read", asks("http"))]
    pub fn crawl(url: String, count: u32) -> Result<u32, ToolError> {
        Ok((0..count).filter(|_| http::get(url.clone()).is_ok()).count() as u32)
    }

    /// Reads a URL, though it does not ask for the network.
    #[tool(effect = "pure")]
    pub fn sneak(url: String) -> Result<String, ToolError> {
        http::get(url).map(|response| response.text())
    }

    /// Holds `count` requests that it never sends, each with a `part` of `bytes`, and returns how many took it.
    #[tool(effect = "pure")]
    pub fn hoard(part: String, count: u32, bytes: u32) -> Result<u32, ToolError> {
        super::wire::hoard(&part, count, bytes)
    }

    /// Reads as many bytes of an answer as there are, and keeps none.
    #[tool(effect = "read", asks("http"))]
    pub fn drain(authority: String, path: String) -> Result<u64, ToolError> {
        super::wire::drain(&authority, &path)
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod wire {
    use cofferdam_tool_sdk::ToolError;

    fn none<T>() -> Result<T, ToolError> {
        Err(ToolError::new("web.native", "there are no parts outside of a component"))
    }

    pub fn send(_: &super::web::Parts) -> Result<String, ToolError> {
        none()
    }

    pub fn flood(_: &str, _: &str, _: u32) -> Result<u32, ToolError> {
        none()
    }

    pub fn drain(_: &str, _: &str) -> Result<u64, ToolError> {
        none()
    }

    pub fn hoard(_: &str, _: u32, _: u32) -> Result<u32, ToolError> {
        none()
    }
}

#[cfg(target_arch = "wasm32")]
mod wire {
    use cofferdam_tool_sdk::ToolError;
    use wasip2::http::outgoing_handler::handle;
    use wasip2::http::types::{
        Fields, FutureIncomingResponse, IncomingBody, Method, OutgoingBody, OutgoingRequest, RequestOptions, Scheme,
    };
    use wasip2::io::streams::{InputStream, StreamError};

    use super::web::Parts;

    fn refused(part: &str, why: impl std::fmt::Debug) -> ToolError {
        ToolError::new(format!("web.{part}"), format!("{why:?}"))
    }

    pub fn send(parts: &Parts) -> Result<String, ToolError> {
        let request = request(parts)?;
        let body = (!parts.body.is_empty() || parts.with_trailer).then(|| request.body());
        let future = handle(request, options(parts)).map_err(|error| refused("denied", error))?;
        let written = match body {
            Some(Ok(body)) => write(body, parts),
            Some(Err(())) => Err(refused("body", ())),
            None => Ok(()),
        };
        let (status, headers, _body, stream) = answer(&future)?;
        written?;
        let mut text = String::new();
        read(&stream, |bytes| text.push_str(&String::from_utf8_lossy(bytes)))?;
        Ok(format!("{status}\n{headers}\n{text}"))
    }

    pub fn flood(authority: &str, path: &str, count: u32) -> Result<u32, ToolError> {
        let parts = get(authority, path);
        let sent: Vec<_> = (0..count).filter_map(|_| handle(request(&parts).ok()?, None).ok()).collect();
        let mut answered = 0;
        for future in sent {
            let Ok((_, _, _body, stream)) = answer(&future) else { continue };
            answered += u32::from(read(&stream, |_| ()).is_ok());
        }
        Ok(answered)
    }

    pub fn drain(authority: &str, path: &str) -> Result<u64, ToolError> {
        let future = handle(request(&get(authority, path))?, None).map_err(|error| refused("denied", error))?;
        let (_, _, _body, stream) = answer(&future)?;
        let mut all = 0;
        read(&stream, |bytes| all += bytes.len() as u64)?;
        Ok(all)
    }

    pub fn hoard(part: &str, count: u32, bytes: u32) -> Result<u32, ToolError> {
        let text = "x".repeat(bytes as usize);
        let requests: Vec<_> = (0..count)
            .map(|_| {
                // As many headers as fit, all short: they take the most room beside their text.
                let header = |n: u32| (format!("{n:x}"), Vec::new());
                let headers: Vec<_> = (0..if part == "headers" { bytes / 80 } else { 0 }).map(header).collect();
                let fields = Fields::from_list(&headers).map_err(|error| refused("headers", error))?;
                let copy = fields.clone();
                let request = OutgoingRequest::new(fields);
                let taken = match part {
                    "method" => request.set_method(&Method::Other(text.clone())),
                    "scheme" => request.set_scheme(Some(&Scheme::Other(text.clone()))),
                    "authority" => request.set_authority(Some(&text)),
                    "path" => request.set_path_with_query(Some(&format!("/{text}"))),
                    _ => copy.append("y", &[]).map_err(|_| ()),
                };
                Ok((request, copy, taken.is_ok()))
            })
            .collect::<Result<_, ToolError>>()?;
        Ok(requests.iter().filter(|(_, _, is_taken)| *is_taken).count() as u32)
    }

    fn get(authority: &str, path: &str) -> Parts {
        Parts {
            method: "GET".to_owned(),
            scheme: "http".to_owned(),
            authority: authority.to_owned(),
            path: path.to_owned(),
            headers: vec![],
            body: String::new(),
            with_trailer: false,
            wait_ms: None,
        }
    }

    fn request(parts: &Parts) -> Result<OutgoingRequest, ToolError> {
        let headers: Vec<(String, Vec<u8>)> =
            parts.headers.iter().map(|(name, value)| (name.clone(), value.clone().into_bytes())).collect();
        let fields = Fields::from_list(&headers).map_err(|error| refused("headers", error))?;
        let request = OutgoingRequest::new(fields);
        let method = match parts.method.as_str() {
            "GET" => Method::Get,
            "POST" => Method::Post,
            "PUT" => Method::Put,
            "DELETE" => Method::Delete,
            "CONNECT" => Method::Connect,
            "TRACE" => Method::Trace,
            other => Method::Other(other.to_owned()),
        };
        let scheme = match parts.scheme.as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            other => Scheme::Other(other.to_owned()),
        };
        request.set_method(&method).map_err(|()| refused("method", ()))?;
        request.set_scheme(Some(&scheme)).map_err(|()| refused("scheme", ()))?;
        request.set_authority(Some(&parts.authority)).map_err(|()| refused("authority", ()))?;
        request.set_path_with_query(Some(&parts.path)).map_err(|()| refused("path", ()))?;
        Ok(request)
    }

    fn options(parts: &Parts) -> Option<RequestOptions> {
        let ns = parts.wait_ms?.saturating_mul(1_000_000);
        let options = RequestOptions::new();
        options.set_first_byte_timeout(Some(ns)).ok()?;
        options.set_between_bytes_timeout(Some(ns)).ok()?;
        Some(options)
    }

    fn write(body: OutgoingBody, parts: &Parts) -> Result<(), ToolError> {
        let stream = body.write().map_err(|()| refused("body", ()))?;
        for chunk in parts.body.as_bytes().chunks(4096) {
            stream.blocking_write_and_flush(chunk).map_err(|error| refused("write", error))?;
        }
        drop(stream);
        let trailer = parts.with_trailer.then(|| Fields::from_list(&[("x-trailer".to_owned(), b"1".to_vec())]));
        let trailer = trailer.transpose().map_err(|error| refused("trailer", error))?;
        OutgoingBody::finish(body, trailer).map_err(|error| refused("finish", error))
    }

    /// The stream last: it must go before the body that it belongs to.
    type Answer = (u16, String, IncomingBody, InputStream);

    fn answer(future: &FutureIncomingResponse) -> Result<Answer, ToolError> {
        let response = loop {
            match future.get() {
                Some(Ok(answer)) => break answer.map_err(|error| refused("failed", error))?,
                Some(Err(())) => return Err(refused("taken", ())),
                None => future.subscribe().block(),
            }
        };
        let headers = response.headers().entries().into_iter();
        let headers: Vec<_> =
            headers.map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(&value))).collect();
        let body = response.consume().map_err(|()| refused("consume", ()))?;
        let stream = body.stream().map_err(|()| refused("stream", ()))?;
        Ok((response.status(), headers.join("\n"), body, stream))
    }

    fn read(stream: &InputStream, mut each: impl FnMut(&[u8])) -> Result<(), ToolError> {
        loop {
            match stream.blocking_read(64 << 10) {
                Ok(bytes) => each(&bytes),
                Err(StreamError::Closed) => return Ok(()),
                Err(StreamError::LastOperationFailed(error)) => return Err(refused("read", error.to_debug_string())),
            }
        }
    }
}
