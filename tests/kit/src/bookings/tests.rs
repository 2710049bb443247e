//! The service keeps its word: nothing twice under one key, ill only as it is told.

use serde_json::{Value, json};

use super::Bookings;

struct Client<'a> {
    service: &'a Bookings,
    http: reqwest::Client,
}

impl Client<'_> {
    async fn send(&self, method: &str, path: &str, key: &str, body: Value) -> Option<(u16, Value)> {
        let url = format!("{}{path}", self.service.url());
        let request = self.http.request(method.parse().expect("it is a method"), url);
        let request = if key.is_empty() { request } else { request.header("idempotency-key", key) };
        let answer = request.body(body.to_string()).send().await.ok()?;
        Some((answer.status().as_u16(), answer.json().await.expect("it answers JSON")))
    }

    async fn book(&self, kind: &str, key: &str, what: &str) -> Option<(u16, Value)> {
        self.send("POST", &format!("/{kind}s"), key, json!({"what": what})).await
    }
}

fn client(service: &Bookings) -> Client<'_> {
    Client { service, http: reqwest::Client::new() }
}

#[tokio::test]
async fn one_key_books_once_and_is_found_again() {
    let service = Bookings::start();
    let client = client(&service);
    let (status, booked) = client.book("flight", "k1", "to Oslo").await.unwrap();
    assert_eq!((status, &booked["id"], &booked["state"]), (201, &json!("flight-1"), &json!("booked")));
    assert_eq!(client.book("flight", "k1", "to Oslo").await.unwrap(), (200, booked.clone()));
    assert_eq!(client.book("flight", "k1", "to Bergen").await.unwrap().0, 422);
    assert_eq!(client.send("GET", "/flights?key=k1", "", Value::Null).await.unwrap(), (200, booked));
    assert_eq!(client.send("GET", "/flights?key=k2", "", Value::Null).await.unwrap().0, 404);
    for _ in 0..2 {
        let (status, gone) = client.send("DELETE", "/flights/flight-1", "k3", Value::Null).await.unwrap();
        assert_eq!((status, &gone["state"]), (200, &json!("cancelled")));
    }
    assert_eq!(service.effects(), [("k1".to_owned(), 1), ("k3".to_owned(), 1)].into());
    assert_eq!((service.standing().len(), service.cancelled()), (0, vec!["flight-1".to_owned()]));
    assert_eq!(service.log().len(), 7);
}

#[tokio::test]
async fn it_is_ill_as_it_is_told() {
    let service = Bookings::start();
    let client = client(&service);
    service.fail("car", 503, 1);
    assert_eq!(client.book("car", "k1", "small").await.unwrap().0, 503);
    assert_eq!(client.book("car", "k1", "small").await.unwrap().0, 201);
    service.drop_after_commit(1);
    assert_eq!(client.book("hotel", "k2", "by the sea").await, None);
    assert_eq!(client.book("hotel", "k2", "by the sea").await.unwrap().0, 200);
    assert_eq!(service.effects(), [("k1".to_owned(), 1), ("k2".to_owned(), 1)].into());
    assert_eq!(service.log()[2].status, None);
    service.forget_keys();
    assert_eq!(client.book("hotel", "k2", "by the sea").await.unwrap().0, 201);
    assert_eq!(service.effects()["k2"], 2, "it counts what was done twice");
    assert_eq!(client.send("POST", "/fail?kind=car.cancel&status=500", "", Value::Null).await.unwrap().0, 200);
    assert_eq!(client.send("DELETE", "/cars/car-1", "", Value::Null).await.unwrap().0, 500);
    assert_eq!(service.standing().len(), 3);
}
