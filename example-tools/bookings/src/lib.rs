//! `bookings`: books flights, hotels and cars over HTTP. What differs from any HTTP client is only this: the tool that
//! changes something names the one that takes it back, and the one that finds out what became of it.

use cofferdam_tool_sdk::prelude::*;

/// Books flights, hotels and cars with the service at `BOOKINGS_URL`, a variable that the operator sets.
#[tools]
mod bookings {
    use cofferdam_tool_sdk::http::{Request, Response};
    use serde_json::{Value, json};

    /// What can be booked.
    #[derive(Clone, Copy, Debug, PartialEq, ToolType)]
    pub enum Kind {
        Flight,
        Hotel,
        Car,
    }

    /// A booking.
    #[derive(Debug, PartialEq, ToolType)]
    pub struct Booking {
        pub id: String,
        pub kind: Kind,
        pub what: String,
        pub is_cancelled: bool,
    }

    /// What became of a call of `book`.
    #[derive(Debug, PartialEq, ToolType)]
    pub enum Found {
        Done(Booking),
        NotDone,
        Unknown,
    }

    /// Books something. The service takes the same call twice as one.
    #[tool(
        effect = "idempotent",
        asks("http", "env"),
        undo = cancel(kind = input.kind, id = out.id),
        reconcile = find(kind = input.kind, key = key)
    )]
    pub fn book(
        kind: Kind,
        /// In words, like `Oslo, 3 May`.
        what: String,
    ) -> Result<Booking, ToolError> {
        // The host would set a key of its own: this one is found again by `find`.
        let request = Request::new("POST", url(kind, "")?).header("idempotency-key", context::get().idempotency_key);
        let body = json!({ "what": what }).to_string();
        booking(kind, &request.header("content-type", "application/json").body(body).send()?)
    }

    /// Cancels a booking; one that is cancelled stays so.
    #[tool(effect = "idempotent", asks("http", "env"), internal)]
    pub fn cancel(kind: Kind, id: String) -> Result<Booking, ToolError> {
        booking(kind, &Request::new("DELETE", url(kind, &format!("/{id}"))?).send()?)
    }

    /// Finds out what was booked under a key.
    #[tool(effect = "read", asks("http", "env"), internal)]
    pub fn find(
        kind: Kind,
        /// The idempotency key of the call of `book`.
        key: String,
    ) -> Result<Found, ToolError> {
        let response = Request::get(url(kind, &format!("?key={key}"))?).send()?;
        if response.status == 404 {
            return Ok(Found::NotDone);
        }
        Ok(booking(kind, &response).map_or(Found::Unknown, Found::Done))
    }

    fn url(kind: Kind, rest: &str) -> Result<String, ToolError> {
        let kinds = match kind {
            Kind::Flight => "flights",
            Kind::Hotel => "hotels",
            Kind::Car => "cars",
        };
        Ok(format!("{}/{kinds}{rest}", service()?))
    }

    #[cfg(not(test))]
    fn service() -> Result<String, ToolError> {
        let missing = |_| ToolError::new("bookings.service", "the variable BOOKINGS_URL is not set");
        std::env::var("BOOKINGS_URL").map_err(missing)
    }

    #[cfg(test)]
    #[expect(clippy::unnecessary_wraps, reason = "as where it is not tested")]
    fn service() -> Result<String, ToolError> {
        Ok("http://bookings.test".to_owned())
    }

    fn booking(kind: Kind, response: &Response) -> Result<Booking, ToolError> {
        let body: Value = serde_json::from_slice(&response.body).unwrap_or_default();
        let text = |name: &str| body[name].as_str().map(str::to_owned);
        match (response.status, text("id"), text("what")) {
            (200 | 201, Some(id), Some(what)) => {
                Ok(Booking { id, kind, what, is_cancelled: body["state"] == "cancelled" })
            }
            (429 | 500.., ..) => Err(ToolError::transient("bookings.unavailable", told(response, &body))),
            _ => Err(ToolError::new("bookings.refused", told(response, &body))),
        }
    }

    fn told(response: &Response, body: &Value) -> String {
        format!("the service answers {}: {}", response.status, body["error"].as_str().unwrap_or("no reason"))
    }
}

#[cfg(test)]
mod tests {
    use super::bookings::*;
    use cofferdam_tool_sdk::{http::Response, testing};

    fn answer(status: u16, body: &str) {
        testing::answer(Ok(Response { status, headers: vec![], body: body.into() }));
    }

    const CAR: &str = r#"{"id": "car-1", "kind": "car", "what": "small", "state": "booked"}"#;

    fn car() -> Booking {
        Booking { id: "car-1".to_owned(), kind: Kind::Car, what: "small".to_owned(), is_cancelled: false }
    }

    #[test]
    fn a_booking_carries_the_key_of_its_call() {
        answer(201, CAR);
        assert_eq!(book(Kind::Car, "small".to_owned()).unwrap(), car());
        let sent = testing::requests().remove(0);
        assert_eq!((sent.method.as_str(), sent.url.as_str()), ("POST", "http://bookings.test/cars"));
        assert!(sent.headers.contains(&("idempotency-key".to_owned(), "test-key".to_owned())));
    }

    #[test]
    fn a_booking_is_cancelled_and_found() {
        answer(200, &CAR.replace("booked", "cancelled"));
        assert!(cancel(Kind::Car, "car-1".to_owned()).unwrap().is_cancelled);
        answer(200, CAR);
        assert_eq!(find(Kind::Car, "test-key".to_owned()).unwrap(), Found::Done(car()));
        answer(404, "{}");
        assert_eq!(find(Kind::Car, "test-key".to_owned()).unwrap(), Found::NotDone);
        answer(503, "");
        assert_eq!(find(Kind::Car, "test-key".to_owned()).unwrap(), Found::Unknown);
        let urls: Vec<_> = testing::requests().into_iter().map(|sent| sent.url).collect();
        assert_eq!(urls[..2], ["http://bookings.test/cars/car-1", "http://bookings.test/cars?key=test-key"]);
    }

    #[test]
    fn a_service_that_is_down_may_be_asked_again() {
        answer(503, "");
        let error = book(Kind::Car, "small".to_owned()).unwrap_err();
        assert_eq!((error.code.as_str(), error.retryable), ("bookings.unavailable", true));
        answer(422, r#"{"error": "no"}"#);
        let error = book(Kind::Car, "small".to_owned()).unwrap_err();
        assert_eq!((error.code.as_str(), error.message.as_str()), ("bookings.refused", "the service answers 422: no"));
    }
}
